"""What was decided for one command, as hooks see it; guards are asked here."""

from __future__ import annotations

from types import NoneType
from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

from holdfast.errors import CommandRejectedError, DefinitionError, GuardFailedError
from holdfast.machine.hooks import NO_HOOKS, ByKind, Hook
from holdfast.record import Change
from holdfast.service.call import Call
from holdfast.service.records import AnyMachine


class Decided(Struct, frozen=True):
    """What a call came to, or what was tried for it where it failed."""

    machine: AnyMachine
    deps: Any
    call: Call
    change: Change[Any, Any]
    failed: bool = False
    """Whether an error came of it."""
    has_before: bool = True
    """Whether the state before is known."""
    has_after: bool = True
    """Whether the state after is known; else it is what the command aims at, as far as it does."""

    hooks: ByKind = NO_HOOKS
    """Those that belong to it."""

    def __post_init__(self) -> None:
        """Find the hooks."""
        machine, change = self.machine, self.change
        if machine.hooks is not None:
            command = type(change.command)
            source = _type_of(change.before) if self.has_before else None
            target = _type_of(change.after) if self.has_after else machine.aim_of(command)
            known = None if command is NoneType else command
            force_setattr(self, "hooks", machine.hooks.of(source, known, target))

    def ask_guards(self) -> None:
        """Raise GuardFailedError where a guard refuses, DefinitionError where one answers neither.

        What a guard raises beside CommandRejectedError goes on as it is.
        """
        for hook in self.hooks["guard"]:
            refusal = self.refusal(hook)
            if refusal is not None:
                raise refusal

    def refusal(self, hook: Hook) -> GuardFailedError | None:
        """Ask a guard; return its refusal, if it refuses."""
        change = self.change
        try:
            passes = hook.call(deps=self.deps, change=change)
        except CommandRejectedError as error:
            refused = GuardFailedError(change.machine, change.id, hook.name, str(error))
            refused.__cause__ = error
            return refused
        if passes is True:
            return None
        if passes is False or passes is None:
            return GuardFailedError(change.machine, change.id, hook.name, hook.reason)
        raise DefinitionError(
            f"{hook.location}: a guard returns True or False, not {passes!r:.80}; nothing was "
            "written"
        )


def _type_of(value: object) -> type:
    return NoneType if value is None else type(value)
