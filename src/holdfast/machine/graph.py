"""The graph of a machine as its annotations declare it, and its text as a Mermaid diagram."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from holdfast.machine.codec import tag_of

if TYPE_CHECKING:
    from holdfast.machine.definition import Machine


class Edge(Struct, frozen=True):
    """One way a command may lead; None as source creates, None as target deletes."""

    source: str | None
    command: str
    target: str | None
    handler: str


class Graph(Struct, frozen=True):
    """States and the edges between them, by name, in the order of their definition."""

    machine: str
    states: tuple[str, ...]
    edges: tuple[Edge, ...]
    final: tuple[str, ...]

    def mermaid(self) -> str:
        """Return the text of a Mermaid state diagram."""
        lines = ["stateDiagram-v2"]
        lines += [f"    {state}" for state in self.states if state.isidentifier()]
        lines += [
            f"    state {_quoted(s)} as {_node(s)}" for s in self.states if not s.isidentifier()
        ]
        arrows: dict[tuple[str | None, str | None], list[str]] = {}
        for edge in self.edges:
            arrows.setdefault((edge.source, edge.target), []).append(edge.command)
        for (source, target), commands in arrows.items():
            label = ", ".join(dict.fromkeys(commands))
            lines.append(f"    {_node(source)} --> {_node(target)} : {label}")
        lines += [f"    {_node(state)} --> [*]" for state in self.final]
        return "\n".join(lines) + "\n"


def graph_of(machine: Machine[Any, Any, Any]) -> Graph:
    """Read the graph of a machine off its handlers' annotations."""
    machine.compile()
    edges = [
        Edge(_name(source), tag_of(command), _name(target), signature.name)
        for signature in machine.handlers
        for source in signature.sources
        for command in signature.commands
        for target in signature.targets
    ]
    return Graph(
        machine.name,
        tuple(tag_of(cls) for cls in machine.states),
        tuple(edges),
        tuple(tag_of(cls) for cls in machine.final),
    )


def _name(cls: type) -> str | None:
    return None if cls is NoneType else tag_of(cls)


def _node(state: str | None) -> str:
    if state is None:
        return "[*]"
    return state if state.isidentifier() else "s_" + state.encode().hex()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "#quot;") + '"'
