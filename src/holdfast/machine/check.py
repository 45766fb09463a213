"""What a reviewer would ask about a machine: commands forgotten, states never reached."""

from __future__ import annotations

from msgspec import Struct

from holdfast.machine.graph import Graph


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


def check(graph: Graph) -> Check:
    """Look for what was forgotten; the annotations are taken at their word."""
    final, handled = set(graph.final), set(graph.handled)
    sources = [None, *(state for state in graph.states if state not in final)]
    reached = _reachable(graph)
    used = {command for _, command in handled}
    return Check(
        graph.machine,
        tuple(
            (source, command)
            for source in sources
            for command in graph.commands
            if (source, command) not in handled
        ),
        tuple(state for state in graph.states if state not in reached),
        tuple(command for command in graph.commands if command not in used),
    )


def _reachable(graph: Graph) -> set[str | None]:
    targets: dict[str | None, set[str | None]] = {}
    for edge in graph.edges:
        targets.setdefault(edge.source, set()).add(edge.target)
    reached: set[str | None] = set()
    pending: set[str | None] = {None}
    while pending:
        reached |= pending
        pending = {target for source in pending for target in targets.get(source, ())} - reached
    return reached
