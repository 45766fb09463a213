"""Measures that an entity with a long history costs what one with a short history costs."""

from __future__ import annotations

import tempfile
from itertools import count, cycle, islice
from time import perf_counter
from typing import Any

from benchmarks.measure import Effort, Sample, join, take_turns
from benchmarks.order import CIRCLE, PLACE, OrderCommand, order
from benchmarks.report import Row, dearer
from holdfast import Service, open_store

LONG = "on a long history"
SHORT = "on 1 transition"
ENTITIES = 10
"""Entities of each kind, their ids mingled; each is handled once in a turn."""
TURNS = 10
"""Turns for each round of other measurements, as one is short."""
GETS = 20
"""How often each entity is got in a turn."""
MOST = 1.1


def measure_history(effort: Effort, directory: str) -> list[Row]:
    """Compare `handle` and `get` on many transitions with the same on one transition."""
    handled, got = [], []
    for _ in range(effort.runs):
        with (
            tempfile.TemporaryDirectory(dir=directory) as folder,
            open_store(f"sqlite:///{folder}/a.db?synchronous=NORMAL") as store,
        ):
            orders = Histories(Service(order, store), effort.transitions)
            rounds = effort.rounds * TURNS
            got.append(take_turns(orders.gets(), rounds))
            handled.append(take_turns(orders.handles(), rounds))
    many = f"{effort.transitions:,} transitions"
    return [
        dearer(f"handle on {many}, NORMAL", join(handled), LONG, SHORT, MOST),
        dearer(f"get on {many}", join(got), LONG, SHORT, MOST),
    ]


class Histories:
    """Entities that have gone round the circle often, and fresh ones beside them."""

    def __init__(self, service: Service[Any, OrderCommand, None], transitions: int) -> None:
        self.service = service
        self.fresh = count(1)
        self.long = [f"o-{number:04}-{0:06}" for number in range(ENTITIES)]
        for id in self.long:
            moves = islice(cycle(CIRCLE), transitions - transitions % len(CIRCLE))
            self._apply([(id, PLACE), *((id, command) for command in moves)])

    def handles(self) -> dict[str, Sample]:
        """Return what pays orders: the same long ones again and again, and new ones.

        Both are measured right after a batch, with what runs as warm as it leaves it.
        """
        self._apply([(id, CIRCLE[0]) for id in self.long])

        def sample_long() -> float:
            self._apply([(id, command) for command in CIRCLE[1:] for id in self.long])
            return self._time_handle(self.long)

        return {LONG: sample_long, SHORT: lambda: self._time_handle(self._place())}

    def gets(self) -> dict[str, Sample]:
        """Return what gets orders."""
        short = self._place()
        return {LONG: lambda: self._time_get(self.long), SHORT: lambda: self._time_get(short)}

    def _time_handle(self, ids: list[str]) -> float:
        handle = self.service.handle
        began = perf_counter()
        for id in ids:
            handle(id, CIRCLE[0])
        return (perf_counter() - began) / len(ids)

    def _time_get(self, ids: list[str]) -> float:
        get = self.service.get
        began = perf_counter()
        for _ in range(GETS):
            for id in ids:
                get(id)
        return (perf_counter() - began) / len(ids) / GETS

    def _place(self) -> list[str]:
        """Make fresh orders, each beside a long one."""
        turn = next(self.fresh)
        ids = [f"o-{number:04}-{turn:06}" for number in range(ENTITIES)]
        self._apply([(id, PLACE) for id in ids])
        return ids

    def _apply(self, requests: list[tuple[str, OrderCommand]]) -> None:
        for answer in self.service.handle_many(requests):
            if isinstance(answer, Exception):
                raise answer
