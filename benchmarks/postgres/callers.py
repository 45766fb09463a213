"""Measures what concurrent callers get on PostgreSQL: coroutines, and those of one hot entity."""

from __future__ import annotations

from contextlib import ExitStack, closing
from statistics import quantiles
from time import perf_counter

from tests.servers.databases import Databases

from benchmarks.concurrent import CALLERS, HOT_CALLS, AwaitedOrders, each_of, timed
from benchmarks.handle import OURS, OurOrders, ids_of
from benchmarks.measure import Effort, join, take_turns
from benchmarks.postgres.places import place
from benchmarks.report import Row, duration, faster

ONE = "one caller that blocks"


class TimedOrders(AwaitedOrders):
    """Keeps how long each call took, too."""

    def __init__(self, url: str, ids: list[str]) -> None:
        super().__init__(url, ids)
        self.seconds: list[float] = []

    async def _handle(self, id: str) -> None:
        began = perf_counter()
        await super()._handle(id)
        self.seconds.append(perf_counter() - began)


def measure_coroutines(effort: Effort, databases: Databases) -> list[Row]:
    """Compare 64 coroutines, each calling `handle`, with one caller that blocks."""
    ids = ids_of(effort)
    runs, seconds = [], []
    for _ in range(effort.runs):
        with ExitStack() as stack:
            urls = [stack.enter_context(place(databases)) for _ in range(2)]
            ours = stack.enter_context(closing(TimedOrders(urls[0], ids)))
            one = stack.enter_context(closing(OurOrders(urls[1], ids)))
            samples = {
                OURS: timed(lambda ours=ours: ours.handle_all(ids, CALLERS), len(ids)),  # type: ignore[misc]
                ONE: timed(lambda one=one: each_of(one, ids), len(ids)),  # type: ignore[misc]
            }
            runs.append(take_turns(samples, effort.rounds))
            seconds += ours.seconds
    what = f"{CALLERS} coroutines"
    waits = [duration(quantiles(seconds, n=100)[place - 1]) for place in (50, 99)]
    return [
        faster(what, join(runs), OURS, ONE, 5),
        Row(f"{what}, wait of a call", "", ours=f"{waits[0]}, p99 {waits[1]}"),
    ]


def measure_hot(effort: Effort, databases: Databases) -> list[Row]:
    """Compare 1,000 concurrent commands for one entity with one caller that blocks."""
    calls = min(HOT_CALLS, effort.calls * 3)
    hot = ["hot"] * calls
    runs = []
    for _ in range(effort.runs):
        with ExitStack() as stack:
            urls = [stack.enter_context(place(databases)) for _ in range(2)]
            ours = stack.enter_context(closing(AwaitedOrders(urls[0], ["hot"])))
            one = stack.enter_context(closing(OurOrders(urls[1], ["hot"])))
            samples = {
                OURS: timed(lambda ours=ours: ours.handle_hot(calls), calls),  # type: ignore[misc]
                ONE: timed(lambda one=one: each_of(one, hot), calls),  # type: ignore[misc]
            }
            runs.append(take_turns(samples, effort.rounds))
    return [faster(f"{calls:,} for a hot id", join(runs), OURS, ONE, 3)]
