"""One callback of a flow: which transitions it is for, and what is left of it on a removal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from holdfast.errors import DefinitionError
from holdfast.machine.flow.states import Pair

if TYPE_CHECKING:
    from holdfast.machine.hooks import Hook

Names = frozenset[str]


class Callback(Struct, frozen=True):
    """A function that is called around transitions; None stands for every state."""

    hook: Hook
    from_: Names | None
    to: Names | None

    @property
    def function(self) -> Callable[..., Any]:
        """What is called."""
        return self.hook.function

    def covers(self, source: str | None, target: str) -> bool:
        """Whether it is for a transition; None as the source is before any state."""
        return (self.from_ is None or source in self.from_) and (
            self.to is None or target in self.to
        )

    def without(self, state: str) -> Callback | None:
        """Return what is left of it where a state is removed: None where nothing is."""
        from_, to = _without(self.from_, state), _without(self.to, state)
        if (from_ is not None and not from_) or (to is not None and not to):
            return None
        return replace(self, from_=from_, to=to)

    def united(self, other: Callback) -> Callback:
        """Return the same callback for all that it covers in either of two templates."""
        return replace(self, from_=_united(self.from_, other.from_), to=_united(self.to, other.to))

    def expect_possible(self, pairs: Collection[Pair], initial: str | None) -> None:
        """Raise DefinitionError where it is for what no rule allows.

        Failures are told of that too: what no rule allows is refused.
        """
        if self.hook.kind == "on_failure":
            return
        if self.from_ is not None and self.to is not None:
            wanted = [(source, target) for source in self.from_ for target in self.to]
            self._refuse(
                f"nothing leads from {source} to {target}"
                for source, target in sorted(wanted)
                if (source, target) not in pairs
            )
        elif self.from_ is not None:
            sources = {source for source, _ in pairs}
            self._refuse(
                f"{state} is final: nothing leads out of it" for state in self.from_ - sources
            )
        elif self.to is not None:
            targets = {target for _, target in pairs}
            self._refuse(
                f"nothing leads to {state}" + (", the initial state" if state == initial else "")
                for state in self.to - targets
            )

    def _refuse(self, reasons: Iterable[str]) -> None:
        for reason in sorted(reasons):
            raise DefinitionError(
                f"{self.hook.location}: this {self.hook.kind} would never be called: {reason}"
            )


def _without(names: Names | None, state: str) -> Names | None:
    return None if names is None else names - {state}


def _united(names: Names | None, others: Names | None) -> Names | None:
    return None if names is None or others is None else names | others
