"""Which entities of this process meet the most version conflicts; bounded, whatever the traffic."""

from __future__ import annotations

import threading

from msgspec import Struct

from holdfast.stores.fork import Renewed, follow_forks

MAX_TRACKED = 1_000


class HotSpot(Struct, frozen=True):
    """An entity that meets conflicts."""

    id: str
    conflicts: int
    """At least this many since the process began, less `overcounted`."""
    overcounted: int
    """By how much the count may be too high; 0 until more entities conflict than are tracked."""


class Guard(Renewed):
    """Holds all counts, which are touched on conflicts only."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal handler may come into what its thread does
        follow_forks(self)

    def after_fork_in_child(self) -> None:
        """Go on with the counts so far; a thread of the parent's may have held the lock."""
        self.lock = threading.RLock()


GUARD = Guard()


class Contention:
    """Counts conflicts for the entities that meet the most.

    The space-saving algorithm: when the table is full, a new entity takes over the place and the
    count of the least. Source: A. Metwally, D. Agrawal, A. El Abbadi, Efficient Computation of
    Frequent and Top-k Elements in Data Streams, ICDT 2005.
    """

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}

    def record(self, id: str) -> None:
        """Count one conflict of an entity."""
        with GUARD.lock:
            if id in self._counts or len(self._counts) < MAX_TRACKED:
                count, over = self._counts.get(id, (0, 0))
            else:
                least = min(self._counts, key=lambda key: self._counts[key][0])
                count, _ = self._counts.pop(least)
                over = count
            self._counts[id] = (count + 1, over)

    def hottest(self, limit: int) -> list[HotSpot]:
        """Return the entities with the most conflicts, most first."""
        with GUARD.lock:
            counts = sorted(self._counts.items(), key=lambda entry: (-entry[1][0], entry[0]))
        return [HotSpot(id, count, over) for id, (count, over) in counts[:limit]]
