"""What was answered is let go of: calls of every kind leave nothing behind in memory."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from pathlib import Path

import pytest
from tests.async_service.support import Run, outcome, service_on
from tests.async_service.test_async_handlers import Count, Counting, at_once, tally

from holdfast import AsyncService, open_store
from holdfast.stores.contract import Store
from holdfast.testing.sample import Add

ROUND = 120
"""How many calls a round makes."""


def test_memory_is_flat_over_many_calls(run: Run, tmp_path: Path) -> None:
    """Applied, refused and cancelled ones, with handlers of both kinds, for new ids and old."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}?synchronous=NORMAL") as store:

        async def measured(callers: Callers) -> int:
            for _ in range(12):
                await callers.round()
            await callers.settled()
            return tracemalloc.get_traced_memory()[0]

        async def scene() -> list[int]:
            callers = Callers(store)
            return [await measured(callers) for _ in range(6)]

        tracemalloc.start()
        try:
            figures = run(scene())
        finally:
            tracemalloc.stop()
        assert figures[-1] - figures[2] < 40_000, figures  # over 4,320 calls


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="the size of the process is read from /proc")
def test_memory_is_flat_over_a_million_calls(tmp_path: Path) -> None:
    """As the system counts it, from the first tenth on."""
    rounds = 1_000_000 // ROUND
    sizes: list[int] = []
    with open_store(f"sqlite:///{tmp_path / 'store.db'}?synchronous=NORMAL") as store:

        async def scene() -> None:
            callers = Callers(store)
            for number in range(rounds + 1):
                if number % (rounds // 10) == 0:
                    await callers.settled()
                    sizes.append(resident_bytes())
                await callers.round()

        asyncio.run(scene())
    print("resident MB at each tenth:", *(f"{size / 1e6:.1f}" for size in sizes))
    assert max(sizes[2:]) - sizes[1] < 5_000_000, sizes


class Callers:
    """Coroutines that call two services, one of them with handlers that are awaited."""

    def __init__(self, store: Store) -> None:
        self.plain = service_on(store)
        self.awaited: Counting = AsyncService(tally, store, deps=at_once)
        self.rounds = 0

    async def round(self) -> None:
        """Make the calls of a round, some for entities that are new."""
        first, plain, awaited = self.rounds * 50, self.plain, self.awaited
        self.rounds += 1
        await asyncio.gather(
            *(plain.handle(f"p-{n}", Add()) for n in range(first, first + 50)),
            *(outcome(plain.handle(f"r-{n}", Add(-n - 1))) for n in range(20)),
            *(awaited.handle(f"a-{n % 9}", Count()) for n in range(30)),
            *(outcome(awaited.handle(f"b-{n}", Count(-1))) for n in range(10)),
            *(self._give_up(n) for n in range(10)),
        )

    async def settled(self) -> None:
        """Wait until nothing is under way, and nothing is held that can be let go of."""
        await self.plain.drain()
        await asyncio.sleep(0.01)  # the step that was woken with the answers holds them
        gc.collect()

    async def _give_up(self, number: int) -> None:
        task = asyncio.create_task(self.plain.handle(f"p-{number % 9}", Add()))
        await asyncio.sleep(0)
        task.cancel()
        await outcome(_wait_for(task))


async def _wait_for(task: asyncio.Task[object]) -> object:
    return await task


def resident_bytes() -> int:
    """Return how much memory this process occupies."""
    [line] = [
        line
        for line in Path("/proc/self/status").read_text("ascii").splitlines()
        if line.startswith("VmRSS:")
    ]
    return int(line.split()[1]) * 1024
