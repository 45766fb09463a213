"""A small machine that the conformance suite drives: it counts, is closed, and can be removed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from holdfast.errors import CommandRejectedError
from holdfast.machine.definition import Machine
from holdfast.machine.model import Command, State
from holdfast.record import Context


class Open(State):
    """Counts, and holds a value of each kind that has rules of its own."""

    count: int = 0
    note: str = ""
    tags: frozenset[str] = frozenset()
    due: datetime | None = None
    weights: tuple[float, ...] = ()


class Closed(State):
    """Counts no more."""

    count: int


class Create(Command):
    """Make an entity with these values."""

    note: str = ""
    tags: frozenset[str] = frozenset()
    due: datetime | None = None
    weights: tuple[float, ...] = ()


class Add(Command):
    """Count; what would make the count negative is refused."""

    by: int = 1


class Close(Command):
    """Stop counting."""


class Remove(Command):
    """Delete the entity."""


Interrupt = Callable[[Context], object]
"""Called by every handler before it decides: a test's chance to come in between."""

sample: Machine[Open | Closed, Create | Add | Close | Remove, Interrupt] = Machine(
    "sample", state=Open | Closed, command=Create | Add | Close | Remove, deps=Interrupt
)


def undisturbed(context: Context) -> None:
    """Let the handler decide at once."""


@sample.on
def create(state: None, command: Create, deps: Interrupt, context: Context) -> Open:
    """Start at 0."""
    deps(context)
    return Open(0, command.note, command.tags, command.due, command.weights)


@sample.on
def add(state: Open | None, command: Add, deps: Interrupt, context: Context) -> Open:
    """Count, from 0 where there is nothing yet."""
    deps(context)
    before = state or Open()
    count = before.count + command.by
    if count < 0:
        raise CommandRejectedError(f"the count cannot become {count}")
    return Open(count, before.note, before.tags, before.due, before.weights)


@sample.on
def close(state: Open, command: Close, deps: Interrupt, context: Context) -> Closed:
    """Keep the count."""
    deps(context)
    return Closed(state.count)


@sample.on
def remove(state: Open | Closed, command: Remove, deps: Interrupt, context: Context) -> None:
    """Leave nothing but the log."""
    deps(context)
