"""Named points of a store at which a worker kills or stops itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

from holdfast.stores.contract import Store

S = TypeVar("S", bound=Store)
REQUESTS = ("load", "loaded", "commit", "committed")
"""Points that lie before and after what a service asks of any store."""


class Trap(Struct):
    """A point, the passing at which it takes effect, and the signal that a worker sends itself."""

    point: str
    passing: int
    signal: int

    def pass_by(self, point: str) -> None:
        """Count a passing of a point."""
        if point == self.point:
            self.passing -= 1
            if self.passing == 0:
                os.kill(os.getpid(), self.signal)


NO_TRAP = Trap("", 0, 0)


def trapped(store: S, trap: Trap) -> S:
    """Return a store, with a trap around its requests."""
    around: list[tuple[str, str]] = [("load", "loaded"), ("commit", "committed")]
    for before, after in around:
        setattr(store, before, _between(getattr(store, before), trap, before, after))
    return store


def _between(
    request: Callable[..., Any], trap: Trap, before: str, after: str
) -> Callable[..., Any]:
    def ask(*given: Any, **options: Any) -> Any:
        trap.pass_by(before)
        answer = request(*given, **options)
        trap.pass_by(after)
        return answer

    return ask
