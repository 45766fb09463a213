"""Tells where an error arose: at which entity, in a handler or in what is around it.

A handler may raise what a store or a service raises as well, so the type alone does not tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import CodeType, FunctionType, TracebackType
from typing import cast

from holdfast.errors import (
    DefinitionError,
    GuardFailedError,
    HoldfastError,
    InvalidTransitionError,
    VersionConflictError,
    entity_name,
)
from holdfast.machine.hooks import code_of
from holdfast.service.call import Call
from holdfast.service.records import AnyMachine

_NOTE = ": nothing written"
"""Ends the note that an error carries; one that is raised many times has it once."""


def note(error: Exception, machine: AnyMachine, id: str, call: Call) -> None:
    """Tell on a handler's own exception, which goes on as it is, whose it was last."""
    entity = entity_name(machine.name, id)
    with suppress(Exception):  # an error that takes no note goes on without one
        notes = getattr(error, "__notes__", [])
        notes[:] = [note for note in notes if not note.endswith(_NOTE)]
        error.add_note(f"{call.command_type} on {entity}{_NOTE}")


def named(error: InvalidTransitionError, machine: AnyMachine, id: str) -> InvalidTransitionError:
    """Return a refusal with its entity's id, unless it is another machine's."""
    own = error.machine == machine.name and error.id is None
    return error.on(id) if own else error


def is_of_handler(machine: AnyMachine, error: BaseException) -> bool:
    """Whether a handler raised an error, or broke its declaration."""
    if isinstance(error, DefinitionError) or not isinstance(error, HoldfastError):
        return True
    return passed_handler(machine, error)


def is_own_refusal(machine: AnyMachine, id: str, error: BaseException) -> bool:
    """Whether an entity's own rules refused, and not those of another that a hook asked."""
    return (
        isinstance(error, InvalidTransitionError | GuardFailedError)
        and (error.machine, error.id) == (machine.name, id)
        and not passed_hook(machine, error)
    )


def is_own_conflict(machine: AnyMachine, id: str, error: VersionConflictError) -> bool:
    """Whether it is an entity's own conflict, and not that of another that a hook met."""
    return (error.machine, error.id) == (machine.name, id) and not passed_hook(machine, error)


def passed_hook(machine: AnyMachine, error: BaseException) -> bool:
    """Whether an error came out of a hook, which raised it or let it pass."""
    hooks = {code_of(hook.function) for hook in machine.hooks or ()} - {None}
    return bool(hooks) and any(code in hooks for code in _passed(error.__traceback__))


def passed_handler(machine: AnyMachine, error: BaseException) -> bool:
    """Whether an error came out of a handler, which raised it or let it pass."""
    handlers = {cast("FunctionType", handler.function).__code__ for handler in machine.handlers}
    return any(code in handlers for code in _passed(error.__traceback__))


def _passed(traceback: TracebackType | None) -> Iterator[CodeType]:
    """Return the code that an error came through."""
    while traceback is not None:
        yield traceback.tb_frame.f_code
        traceback = traceback.tb_next
