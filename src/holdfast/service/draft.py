"""An entity while commands for it are decided, one after the other, each on what the last made.

Pure but for what handlers do with their dependencies.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from copy import copy
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from holdfast.errors import (
    DecodeError,
    DefinitionError,
    InvalidTransitionError,
    NotFoundError,
    ValidationError,
    VersionConflictError,
    entity_name,
)
from holdfast.machine.canonical import format_time, parse_time
from holdfast.machine.codec import tag_of
from holdfast.record import Change, Context, Kind, Record
from holdfast.service.call import Call, Choose
from holdfast.service.decided import Decided
from holdfast.service.keys import made_by
from holdfast.service.origin import named, note
from holdfast.service.records import AnyMachine, decode_state
from holdfast.stores.contract import Applied, EntityRow, Loaded, LogRow, Write

SCHEMA_VERSION = 1
"""Goes with every payload, for the migrations that upcasting will do."""
_ABSENT = None, None, SCHEMA_VERSION, "", "", 0, ""


class Draft(Struct, eq=False):
    """An entity while commands for it are decided: first as loaded, then as each leaves it."""

    machine: AnyMachine
    id: str
    loaded: Loaded
    row: EntityRow
    """The entity as it is so far; its digest is that of the last version that is stored."""
    together: Container[str] = ()
    """The ids of those that are written with it or not at all."""
    log: list[LogRow] = []
    made: dict[str, tuple[Call, Record[Any]]] = {}
    """What was decided under a key."""
    purged: bool = False
    asked: Decided | None = None
    chosen: Call | None = None
    """What a call without a command was completed to."""
    decided: list[Decided] = []
    """What was decided, where hooks are to see it."""

    @classmethod
    def of(
        cls, machine: AnyMachine, id: str, loaded: Loaded, together: Container[str] = ()
    ) -> Draft:
        """Return the entity as it was loaded."""
        row = loaded.entity or EntityRow(machine.name, id, 0, *_ABSENT)
        return cls(machine, id, loaded, row, together)

    def copy(self) -> Draft:
        """Return the entity as it is so far; what is decided on the one, the other never sees."""
        own = copy(self)
        own.log = self.log.copy()
        own.made = self.made.copy()
        own.decided = self.decided.copy()
        return own

    def learn(self, applied: Mapping[str, Applied]) -> None:
        """Take note of what further keys made."""
        self.loaded = replace(self.loaded, applied={**self.loaded.applied, **applied})

    @property
    def is_live(self) -> bool:
        """Whether there is an entity, so far."""
        return self.row.state_type is not None

    @property
    def live_version(self) -> int:
        """The version that callers know: 0 where there is no live entity."""
        return 0 if self.row.state_type is None else self.row.version

    @property
    def state(self) -> Any:
        """The state, None where there is no entity; raises DecodeError.

        It is decoded anew each time: what a handler does to it, its caller or its successor
        never sees.
        """
        row = self.row
        return None if row.state_type is None else decode_state(self.machine, row)

    def answer(self, call: Call, deps: Any, token: str) -> Record[Any]:
        """Decide one command and take its result over."""
        if call.choose is not None:
            call = self._choose(call, call.choose, deps)
        if call.key is not None or call.command_type is None:
            record = self.settled(call, token)
            if record is not None:
                return record
        context = self.context(call, token)
        row = self.row
        before = None if row.state_type is None else decode_state(self.machine, row)
        try:
            state = self.machine.step(before, call.command, deps, context)
            if self.machine.hooks is not None:
                self.ask_guards(call, deps, before, state)
        except InvalidTransitionError as error:
            raise named(error, self.machine, self.id) from None
        except Exception as error:
            note(error, self.machine, self.id, call)
            raise
        return self._take(call, state, token, context.now)

    def _choose(self, call: Call, choose: Choose, deps: Any) -> Call:
        """Complete a call for the entity as it is; what its key made counts before its version."""
        self.chosen = None
        if call.key not in self.loaded.applied:
            self._expect(call)
        self.chosen = choose(self, call, deps)
        return self.chosen

    async def answer_async(self, call: Call, deps: Any, token: str) -> Record[Any]:
        """Decide as `answer` does, awaiting the handler, in a task of its own.

        Where that was cancelled nothing is taken over, whatever the handler made of it.
        """
        from asyncio import CancelledError, current_task

        record = self.settled(call, token)
        if record is not None:
            return record
        context = self.context(call, token)
        before = self.state
        try:
            state = await self.machine.astep(before, call.command, deps, context)
            if (task := current_task()) is not None and task.cancelling():
                raise CancelledError
            if self.machine.hooks is not None:
                self.ask_guards(call, deps, before, state)
        except InvalidTransitionError as error:
            raise named(error, self.machine, self.id) from None
        except Exception as error:
            note(error, self.machine, self.id, call)
            raise
        return self._take(call, state, token, context.now)

    def ask_guards(self, call: Call, deps: Any, before: Any, after: Any) -> None:
        """Raise GuardFailedError where a guard refuses what was decided; else take note of it."""
        decided = self.asked = self.decision(call, deps, before, after)
        decided.ask_guards()
        self.decided.append(decided)

    def decision(self, call: Call, deps: Any, before: Any, after: Any) -> Decided:
        """Return what guards are asked about where a call leads from one state to another."""
        to_state = None if after is None else self.machine.name_of(after)
        return Decided(self.machine, deps, call, self._change(call, before, after, to_state))

    def failed(self, call: Call, deps: Any) -> Decided:
        """Return what failure hooks are told of a call that raised."""
        if self.asked is not None and self.asked.call is call:
            return replace(self.asked, failed=True)
        try:
            before, is_read = self.state, True
        except DecodeError:
            before, is_read = None, False
        aim = self.machine.aim_of(type(call.command))
        change = self._change(call, before, None, None if aim is None else tag_of(aim))
        if not is_read:
            change = replace(change, from_state=self.row.state_type)
        return Decided(
            self.machine, deps, call, change, failed=True, has_before=is_read, has_after=False
        )

    def _change(
        self, call: Call, before: Any, after: Any, to_state: str | None
    ) -> Change[Any, Any]:
        return Change(
            self.machine.name,
            self.id,
            self.row.version + 1,
            before,
            call.command,
            after,
            call.metadata,
            call.at or self.loaded.now,
            self.machine.name_of(before),
            to_state,
        )

    def settled(self, call: Call, token: str) -> Record[Any] | None:
        """Return the answer to a call that no handler decides: its key was used, or it purges."""
        if call.key is not None:
            earlier = made_by(self, call, call.key)
            if earlier is not None:
                return earlier
        return self._purge(call, token) if call.purge else None

    def context(self, call: Call, token: str) -> Context:
        """Return what the handler is told; raises what forbids the command whatever it says."""
        now = self.loaded.now
        if call.expected_version is not None or call.at is not None:
            self._expect(call)
            now = call.at or now
        row = self.row
        version = 0 if row.state_type is None else row.version
        return Context(now, token, self.id, version, call.metadata)

    def _expect(self, call: Call) -> None:
        """Raise what forbids the command whatever its handler says."""
        if call.expected_version is not None and call.expected_version != self.live_version:
            raise VersionConflictError(
                self.machine.name, self.id, call.expected_version, self.live_version
            )
        if call.at is not None:
            self._expect_time(call.at)

    def _expect_time(self, at: datetime) -> None:
        """Raise ValidationError unless a time lies between the last transition and now."""
        entity = entity_name(self.machine.name, self.id)
        updated_at = self.row.updated_at
        if updated_at and at < parse_time(updated_at):
            raise ValidationError(
                f"at={at.isoformat()} is before the last transition of {entity}, at {updated_at}"
            )
        if at > self.loaded.now:
            raise ValidationError(
                f"at={at.isoformat()} is later than the store's time, "
                f"{format_time(self.loaded.now)}; it says when something happened to {entity}, "
                "whose times never fall"
            )

    def record(self) -> Record[Any]:
        """Return the entity, which must be live, as it is so far."""
        row = self.row
        created_at, updated_at = parse_time(row.created_at), parse_time(row.updated_at)
        return Record(self.machine.name, self.id, row.version, self.state, created_at, updated_at)

    def writes(self) -> list[Write]:
        """Return what makes the answers true: one write, or none where nothing changes."""
        if not self.log:
            return []
        row, stored = self.row, self.loaded.entity
        expected = 0 if stored is None else stored.version
        return [Write(expected, row.digest, row, tuple(self.log), self.purged)]

    def stage(self, call: Call, state: Any, token: str) -> Record[Any]:
        """Take over a state that no handler decided; the log says that it was staged."""
        return self._take(call, state, token, self.loaded.now, "staged")

    def _purge(self, call: Call, token: str) -> Record[Any]:
        if self.loaded.entity is None:
            raise NotFoundError(self.machine.name, self.id)
        self.purged = True
        return self._take(call, None, token, self.loaded.now)

    def _take(
        self, call: Call, state: Any, token: str, now: datetime, kind: Kind = "command"
    ) -> Record[Any]:
        """Take over what a call leads to, None being a deletion; return the record of it."""
        before = self.row
        machine = before.machine
        version = before.version + 1
        at = created_at = format_time(now)
        created = now
        if state is None:
            if before.state_type is None and not call.purge:
                raise self._nothing_to_delete(call)
            shown = None if call.purge else self.state
            to_type = text = text_version = None
            kind = "deletion"
        else:
            codec = self.machine.state_codec
            try:
                text, shown = codec.encode(state)
            except ValidationError as error:
                raise self._unstorable(call, error) from error
            to_type, text_version = codec.names[type(shown)], SCHEMA_VERSION
        if state is None or before.state_type is not None:
            created_at = before.created_at
            created = parse_time(created_at)
        self.row = EntityRow(
            machine,
            self.id,
            version,
            to_type,
            text,
            SCHEMA_VERSION,
            created_at,
            at,
            before.entered_version if to_type == before.state_type else version,
            before.digest,
        )
        self.log.append(
            LogRow(
                0,
                machine,
                self.id,
                version,
                kind,
                before.state_type,
                to_type,
                call.command_type,
                call.command_text,
                None,
                text,
                None if call.command_text is None else SCHEMA_VERSION,
                text_version,
                call.metadata_text,
                call.key,
                token,
                at,
                "",
                "",
            )
        )
        record = Record(machine, self.id, version, shown, created, now, state is None)
        if call.key is not None:
            self.made[call.key] = call, record
        return record

    def _nothing_to_delete(self, call: Call) -> DefinitionError:
        return DefinitionError(
            f"the handler of {call.command_type} returned None where there is no "
            f"{self.machine.name} to delete; to refuse, raise CommandRejectedError"
        )

    def _unstorable(self, call: Call, error: ValidationError) -> ValidationError:
        entity = entity_name(self.machine.name, self.id)
        what = f"{call.command_type} would leave" if call.command_type else "this would leave"
        return ValidationError(
            f"{what} {entity} in a state that cannot be stored: {error}; nothing was written",
            error.path,
        )
