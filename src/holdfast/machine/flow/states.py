"""Names of states and of events, which are text, and their declarations in the body of a flow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Never, Self

from msgspec import Struct

from holdfast.errors import DefinitionError
from holdfast.machine.annotations import caller

if TYPE_CHECKING:
    from holdfast.machine.flow.chart import Chart

Pair = tuple[str, str]
"""A state, and one that it leads to."""


class Declaration(Struct, frozen=True, eq=False):
    """What `Flow.state` and `Flow.event` return to the body of a flow, which gives it its name."""

    location: str
    name: str | None = None
    initial: bool = False
    transitions: tuple[Transitions, ...] | None = None
    """Those of an event; None for a state."""

    def to(self, *states: object, **options: object) -> Never:
        """Raise DefinitionError: no flow has made a state of it."""
        raise DefinitionError(
            f"{self.location}: a state that is declared here has no rules: declare it in the body "
            "of a flow, class …(Flow)"
        )


class Transitions(Struct, frozen=True):
    """The transitions that one rule allows; an event may name them."""

    chart: Chart
    pairs: tuple[Pair, ...]


class Name(str):
    """Text that belongs to a flow."""

    __slots__ = ("chart",)
    chart: Chart

    def __new__(cls, name: str, chart: Chart) -> Self:
        """Name a part of a flow."""
        made = super().__new__(cls, name)
        made.chart = chart
        return made

    def __repr__(self) -> str:
        return f"{self.chart.flow}.{self}"

    @property
    def name(self) -> str:
        """The name, as plain text."""
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as plain text: the flow is code."""
        return str, (str(self),)


class FlowState(Name):
    """A state of a flow; equal to its name."""

    __slots__ = ()

    def to(self, *states: str, **misspelt: Never) -> Transitions:
        """Allow the transitions from this state to others; raises DefinitionError."""
        location = caller()
        expect_options("to", misspelt, (), location)
        if not states:
            raise DefinitionError(f"{location}: {self!r}.to() names no state to lead to")
        return (body_around() or self.chart).allow([self], states, location)


class FlowEvent(Name):
    """An event of a flow: a name for several transitions; equal to that name."""

    __slots__ = ()


def body_around(depth: int = 2) -> Chart | None:
    """Return the chart of the flow whose body called what calls this; None elsewhere."""
    body = sys._getframe(depth).f_locals  # pyright: ignore[reportPrivateUsage] (public in all but name)
    return getattr(body, "chart", None)


def expect_options(
    what: str, misspelt: dict[str, Never], known: tuple[str, ...], location: str
) -> None:
    """Raise DefinitionError for options that there are not."""
    for option in misspelt:
        takes = ", ".join(known) or "no options"
        raise DefinitionError(f"{location}: {what} takes {takes}; {option!r} is none of them")


def expect_named(what: str, unnamed: Sequence[object], location: str) -> None:
    """Raise DefinitionError for states that are given by their places."""
    if unnamed:
        raise DefinitionError(
            f"{location}: {what} takes states by names, from_=… and to=…, not {unnamed[0]!r:.80}"
        )
