"""Measures what concurrent callers get on SQLite: coroutines beside raw group commit, one hot row.

The raw side is the least that group commit takes: coroutines that hand their ids to one thread,
which sends the same statements for all that wait, commits, and answers.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, closing
from queue import SimpleQueue
from threading import Thread
from time import perf_counter

from benchmarks.handle import OurOrders, sqlite
from benchmarks.measure import Effort, Sample, Times, join, spread, take_turns
from benchmarks.order import CIRCLE, OrderCommand, order
from benchmarks.raw import METADATA, NEXT, RawOrders
from benchmarks.report import Row, bracketed, duration, faster
from holdfast import AsyncService, open_store

CALLERS = 64
HOT_CALLS = 1_000
TARGET_MICROSECONDS = 120

OURS = "holdfast"
RAW = "raw group commit"
SYNC = "Service.handle"
IN_THREAD = "Service.handle in an executor"


def measure_coroutines(effort: Effort, directory: str) -> list[Row]:
    """Compare 64 coroutines, each calling `handle`, with as many that use raw group commit."""
    ids = [f"o-{number:06}" for number in range(max(effort.entities, CALLERS))]
    runs: list[Times] = []
    for _ in range(effort.runs):
        with ExitStack() as stack, tempfile.TemporaryDirectory(dir=directory) as folder:
            ours = stack.enter_context(
                closing(AwaitedOrders(sqlite(f"{folder}/a.db", "FULL"), ids))
            )
            raw = stack.enter_context(closing(RawGroupCommit(f"{folder}/b.db", ids)))
            samples = {
                OURS: timed(lambda ours=ours: ours.handle_all(ids, CALLERS), len(ids)),  # type: ignore[misc]
                RAW: timed(lambda raw=raw: raw.handle_all(ids, CALLERS), len(ids)),  # type: ignore[misc]
            }
            runs.append(take_turns(samples, effort.rounds))
    return [faster(f"{CALLERS} coroutines, FULL", join(runs), OURS, RAW, 0.6)]


def measure_lone(effort: Effort, directory: str) -> list[Row]:
    """Compare one coroutine that calls alone with a caller that blocks, here and in a thread.

    What a thread more costs, and its way there and back, is the machine's and the event loop's.
    """
    ids = [f"o-{number:06}" for number in range(effort.entities)]
    runs: list[Times] = []
    for _ in range(effort.runs):
        with ExitStack() as stack, tempfile.TemporaryDirectory(dir=directory) as folder:
            urls = [sqlite(f"{folder}/{name}.db", "NORMAL") for name in "abc"]
            ours = stack.enter_context(closing(AwaitedOrders(urls[0], ids)))
            sync = stack.enter_context(closing(OurOrders(urls[1], ids)))
            threaded = stack.enter_context(closing(OurOrders(urls[2], ids)))
            runner = stack.enter_context(asyncio.Runner())
            samples = {
                OURS: timed(lambda ours=ours: ours.handle_all(ids, 1), len(ids)),  # type: ignore[misc]
                SYNC: timed(lambda sync=sync: each_of(sync, ids), len(ids)),  # type: ignore[misc]
                IN_THREAD: timed(
                    lambda run=runner.run, threaded=threaded: run(_each_in_thread(threaded, ids)),  # type: ignore[misc]
                    len(ids),
                ),
            }
            runs.append(take_turns(samples, effort.rounds))
    times = join(runs)
    more = spread([(a - b) * 1e6 for a, b in zip(times[OURS], times[SYNC], strict=True)])
    medians = (duration(spread(times[OURS]).middle), duration(spread(times[SYNC]).middle))
    target = f"at most {TARGET_MICROSECONDS} µs"
    met = more.middle <= TARGET_MICROSECONDS
    row = Row("a lone call, NORMAL, µs more", SYNC, *medians, bracketed(more))
    return [
        row._replace(target=target, met=met),
        faster("a lone call, NORMAL", times, OURS, IN_THREAD),
    ]


def measure_hot(effort: Effort, directory: str) -> list[Row]:
    """Compare 1,000 concurrent commands for one entity with one caller that blocks."""
    calls = min(HOT_CALLS, effort.calls * 3)
    runs: list[Times] = []
    for _ in range(effort.runs):
        with ExitStack() as stack, tempfile.TemporaryDirectory(dir=directory) as folder:
            ours = stack.enter_context(
                closing(AwaitedOrders(sqlite(f"{folder}/a.db", "FULL"), ["hot"]))
            )
            sync = stack.enter_context(
                closing(OurOrders(sqlite(f"{folder}/b.db", "FULL"), ["hot"]))
            )
            hot = ["hot"] * calls
            samples = {
                OURS: timed(lambda ours=ours, hot=hot: ours.handle_hot(len(hot)), calls),  # type: ignore[misc]
                SYNC: timed(lambda sync=sync, hot=hot: each_of(sync, hot), calls),  # type: ignore[misc]
            }
            runs.append(take_turns(samples, effort.rounds))
    return [faster(f"{calls:,} for a hot id, FULL", join(runs), OURS, SYNC, 5)]


class AwaitedOrders:
    """The order service for coroutines, in an event loop that stays."""

    def __init__(self, url: str, ids: Sequence[str]) -> None:
        OurOrders(url, ids).close()
        self.store = open_store(url)
        self.service = AsyncService(order, self.store)
        self.runner = asyncio.Runner()
        self.commands: dict[str, OrderCommand] = dict.fromkeys(ids, CIRCLE[0])

    def handle_all(self, ids: Sequence[str], callers: int) -> None:
        """Move every order on once, by so many coroutines."""
        waiting = iter(ids)

        async def caller() -> None:
            for id in waiting:
                await self._handle(id)

        self.runner.run(_gather([caller() for _ in range(callers)]))

    def handle_hot(self, calls: int) -> None:
        """Move the one order on, so many times at once."""
        self.runner.run(_gather([self._handle("hot") for _ in range(calls)]))

    def close(self) -> None:
        self.runner.close()
        self.store.close()

    async def _handle(self, id: str) -> None:
        command = self.commands[id]
        self.commands[id] = NEXT[command]
        await self.service.handle(id, command, metadata=METADATA)


class RawGroupCommit:
    """Coroutines, a queue, and a thread that writes for all who wait."""

    def __init__(self, path: str, ids: Sequence[str]) -> None:
        RawOrders(path, "FULL", ids).close()
        self.path = path
        self.runner = asyncio.Runner()
        self.queue: SimpleQueue[tuple[str, asyncio.Future[None]] | None] = SimpleQueue()
        self.thread = Thread(target=self._write, args=(self.runner.get_loop(),))
        self.thread.start()

    def handle_all(self, ids: Sequence[str], callers: int) -> None:
        """Move every order on once, by so many coroutines."""
        waiting = iter(ids)

        async def caller() -> None:
            loop = asyncio.get_running_loop()
            for id in waiting:
                done = loop.create_future()
                self.queue.put((id, done))
                await done

        self.runner.run(_gather([caller() for _ in range(callers)]))

    def close(self) -> None:
        self.queue.put(None)
        self.thread.join()
        self.runner.close()

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        with ExitStack() as stack:
            orders: RawOrders | None = None
            while (first := self.queue.get()) is not None:
                group = [first]
                while not self.queue.empty():
                    more = self.queue.get()
                    assert more is not None
                    group.append(more)
                waiting = [done for _, done in group]
                try:
                    if orders is None:
                        orders = stack.enter_context(closing(RawOrders(self.path, "FULL", [])))
                    orders.handle_many([id for id, _ in group])
                except Exception as error:  # noqa: BLE001 (told to all who wait, else they wait on)
                    loop.call_soon_threadsafe(_fail, waiting, error)
                else:
                    loop.call_soon_threadsafe(_answer, waiting)


def _answer(waiting: Sequence[asyncio.Future[None]]) -> None:
    for done in waiting:
        if not done.done():  # its caller may have been cancelled, for another failed
            done.set_result(None)


def _fail(waiting: Sequence[asyncio.Future[None]], error: Exception) -> None:
    for done in waiting:
        if not done.done():
            done.set_exception(error)


async def _each_in_thread(orders: OurOrders, ids: Sequence[str]) -> None:
    """Move every order on once, each in a thread of the event loop's."""
    loop = asyncio.get_running_loop()
    for id in ids:
        await loop.run_in_executor(None, orders.handle, id)


async def _gather(work: Sequence[Awaitable[None]]) -> None:
    await asyncio.gather(*work)


def each_of(orders: OurOrders, ids: Sequence[str]) -> None:
    """Move every order on, one after the other."""
    for id in ids:
        orders.handle(id)


def timed(work: Callable[[], None], calls: int) -> Sample:
    """Return a sample of work that consists of so many calls."""

    def sample() -> float:
        began = perf_counter()
        work()
        return (perf_counter() - began) / calls

    return sample
