"""What the harness wants to know of a store: where it is, where to die in it, what disturbs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from tests.crash.traps import REQUESTS, Trap

from holdfast.stores.contract import Store

End = Callable[[], object]
"""Ends a disturbance."""
Disturbance = Callable[[], End]
DISTURBED_SECONDS = (0.15, 0.75)
"""How long a disturbance lasts: less than others wait, or more."""


class Place(ABC):
    """Where the workers' store is."""

    points: Sequence[str] = REQUESTS
    """At which a worker is killed."""
    in_commit_order = True
    """Whether the positions of the log are in the order of the commits."""

    @property
    @abstractmethod
    def url(self) -> str:
        """What a program opens that is no worker."""

    @abstractmethod
    def open(self, trap: Trap) -> Store:
        """Open the store of a worker, with a trap in it."""

    @abstractmethod
    def disturbances(self) -> Mapping[str, Disturbance]:
        """Return what goes wrong there, by what it is counted as."""

    def lasting(self, disturbance: str) -> tuple[float, float]:
        """Return how many seconds a disturbance lasts, at least and at most."""
        return DISTURBED_SECONDS

    def will_pass(self, point: str) -> bool:
        """Whether a worker that begins now will come by a point."""
        return True

    def flaws(self) -> list[str]:
        """Return what is wrong with it beneath the store, once nobody uses it."""
        return []
