"""What a reviewer would ask about a machine: commands forgotten, states never reached."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from holdfast.machine.codec import tag_of

if TYPE_CHECKING:
    from holdfast.machine.definition import Machine


class Check(Struct, frozen=True):
    """The findings, by name. Pairs may be missing on purpose; the rest are mistakes."""

    machine: str
    unhandled: tuple[tuple[str | None, str], ...]
    """Pairs of a state (None: no entity) and a command it refuses; final states are left out."""
    unreachable: tuple[str, ...]
    """States that no path of commands leads to."""
    unused: tuple[str, ...]
    """Commands that no state takes."""

    @property
    def sound(self) -> bool:
        """True where every state can be reached and every command is taken somewhere."""
        return not self.unreachable and not self.unused


def check(machine: Machine[Any, Any, Any]) -> Check:
    """Look for what was forgotten; the annotations are taken at their word."""
    machine.compile()
    sources = [NoneType, *(cls for cls in machine.states if cls not in machine.final)]
    handled = {
        (source, command)
        for signature in machine.handlers
        for source in signature.sources
        for command in signature.commands
    }
    unhandled = [
        (None if source is NoneType else tag_of(source), tag_of(command))
        for source in sources
        for command in machine.commands
        if (source, command) not in handled
    ]
    reached = _reachable(machine)
    used = {command for _, command in handled}
    return Check(
        machine.name,
        tuple(unhandled),
        tuple(tag_of(cls) for cls in machine.states if cls not in reached),
        tuple(tag_of(cls) for cls in machine.commands if cls not in used),
    )


def _reachable(machine: Machine[Any, Any, Any]) -> set[type]:
    reached: set[type] = set()
    pending: list[type] = [NoneType]
    while pending:
        source = pending.pop()
        if source in reached:
            continue
        reached.add(source)
        for signature in machine.handlers:
            if source in signature.sources:
                pending += signature.targets
    return reached
