"""The graph of a machine as its annotations declare it, and its text as a Mermaid diagram."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import NoneType

from msgspec import Struct

from holdfast.machine.annotations import Signature
from holdfast.machine.codec import tag_of

_KEYWORD = re.compile(
    "acc(descr|title)|as|class(def)?|default|direction|end|hide|note|scale|state(diagram)?|style",
    re.IGNORECASE,
)
"""What Mermaid does not take for the name of a state."""


class Edge(Struct, frozen=True):
    """One way a command may lead; None as source creates, None as target deletes."""

    source: str | None
    command: str
    target: str | None
    handler: str


class Graph(Struct, frozen=True):
    """Names of states and commands in the order of their definition, and how they lead on."""

    machine: str
    states: tuple[str, ...]
    commands: tuple[str, ...]
    handled: tuple[tuple[str | None, str], ...]
    """The pairs of a state (None: no entity) and a command that have a handler."""
    edges: tuple[Edge, ...]

    @property
    def final(self) -> tuple[str, ...]:
        """The states that no command leads out of, nor deletes."""
        sources = {source for source, _ in self.handled}
        return tuple(state for state in self.states if state not in sources)

    def mermaid(self) -> str:
        """Return the text of a Mermaid state diagram."""
        lines = ["stateDiagram-v2"]
        for state in self.states:
            node = _node(state)
            lines.append(
                f"    {node}" if node == state else f'    state "{_text(state)}" as {node}'
            )
        arrows: dict[tuple[str | None, str | None], list[str]] = {}
        for edge in self.edges:
            arrows.setdefault((edge.source, edge.target), []).append(edge.command)
        for (source, target), commands in arrows.items():
            label = ", ".join(_text(command) for command in dict.fromkeys(commands))
            lines.append(f"    {_node(source)} --> {_node(target)} : {label}")
        lines += [f"    {_node(state)} --> [*]" for state in self.final]
        return "\n".join(lines) + "\n"


def graph_of(
    machine: str,
    states: Sequence[type],
    commands: Sequence[type],
    handlers: Sequence[Signature],
    initial: type | None = None,
) -> Graph:
    """Read a graph off the annotations of handlers.

    Where there is an initial state, what begins elsewhere leads on from there, and is drawn so.
    """
    pairs = [
        (signature, source, tag_of(command))
        for signature in handlers
        for source in signature.sources
        for command in signature.commands
    ]
    return Graph(
        machine,
        tuple(tag_of(cls) for cls in states),
        tuple(tag_of(cls) for cls in commands),
        tuple((_name(source), command) for _, source, command in pairs),
        tuple(
            Edge(_name(source), command, _name(target), signature.name)
            for signature, source, command in pairs
            for target in signature.targets_from(source)
            if initial in (None, target) or source is not NoneType
        ),
    )


def _name(cls: type) -> str | None:
    return None if cls is NoneType else tag_of(cls)


def _node(state: str | None) -> str:
    if state is None:
        return "[*]"
    plain = state.isidentifier() and not state.startswith("s_")
    return state if plain and not _KEYWORD.fullmatch(state) else "s_" + state.encode().hex()


def _text(text: str) -> str:
    """Return text with every character that could mean something to Mermaid as an entity."""
    return "".join(c if c.isalnum() or c in " _.-" else f"#{ord(c)};" for c in text)
