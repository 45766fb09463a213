"""Chooses, of the transitions that an event names, the one to make: once the entity is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from holdfast.errors import DecodeError, InvalidTransitionError
from holdfast.machine.flow.definition import FlowType
from holdfast.machine.flow.states import FlowEvent
from holdfast.service.call import Call, with_command
from holdfast.service.draft import Draft
from holdfast.service.records import decode
from holdfast.stores.contract import LogRow


class Choice(Struct, frozen=True):
    """What becomes of an event of a flow."""

    flow: FlowType
    event: FlowEvent

    def __call__(self, draft: Draft, call: Call, object: Any) -> Call:
        """Return the call with its command; raises InvalidTransitionError.

        That is what the call's key made before, or the first transition whose guards pass; where
        none do it is the first.
        """
        made = None if call.key is None else draft.loaded.applied.get(call.key)
        earlier = None if made is None else self._earlier(draft, call, made.row)
        if earlier is not None:
            return earlier
        targets = self._targets(draft)
        if len(targets) > 1:
            for target in targets:
                if self._passes(draft, self._to(call, target), target, object):
                    return self._to(call, target)
        return self._to(call, targets[0])

    def likely(self, draft: Draft | None, call: Call) -> Call:
        """Return the call with its first command, or its only one where the state is not known.

        Without a command where that is not known either.
        """
        targets: Sequence[str] = list({to for _, to in self.flow.chart.pairs_of[self.event]})
        if draft is not None:
            with suppress(InvalidTransitionError, DecodeError):
                targets = self._targets(draft)[:1]
        return self._to(call, targets[0]) if len(targets) == 1 else call

    def command_to(self, target: str) -> Any:
        """Return the command that leads to a state and tells the event."""
        return self.flow.compiled.commands[target](event=str(self.event))

    def _earlier(self, draft: Draft, call: Call, row: LogRow) -> Call | None:
        """Return the call with the command that its key made before; None where that is no event's.

        It may lead to a state that the flow has given up since.
        """
        if row.to_type in self.flow.chart.states:
            return self._to(call, row.to_type)
        if row.command is None:
            return None
        command = decode(self.flow.machine, draft.id, row.version, "command", row.command)
        if command.event != str(self.event):
            return None
        return replace(
            call,
            command=command,
            command_type=row.command_type,
            command_text=row.command,
            choose=None,
        )

    def _to(self, call: Call, target: str) -> Call:
        return with_command(self.flow.machine, call, self.command_to(target))

    def _targets(self, draft: Draft) -> Sequence[str]:
        chart, machine = self.flow.chart, self.flow.machine
        state = str(machine.name_of(draft.state))
        targets = [to for source, to in chart.pairs_of[self.event] if source == state]
        if targets:
            return targets
        taken = [
            name
            for name, pairs in chart.pairs_of.items()
            if any(source == state for source, _ in pairs)
        ]
        advice = machine.advice(draft.state)
        raise InvalidTransitionError(machine.name, state, str(self.event), taken, draft.id, advice)

    def _passes(self, draft: Draft, call: Call, target: str, object: Any) -> bool:
        after = self.flow.compiled.states[target]()
        decided = draft.decision(call, object, draft.state, after)
        try:
            return all(decided.refusal(guard) is None for guard in decided.hooks["guard"])
        except Exception:  # noqa: BLE001 (it is asked again, where its errors are told)
            return True
