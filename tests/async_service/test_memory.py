"""What was answered is let go of: calls of every kind leave nothing behind in memory."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from pathlib import Path

from tests.async_service.support import Run, outcome, service_on
from tests.async_service.test_async_handlers import Count, Counting, at_once, tally

from holdfast import AsyncService, open_store
from holdfast.testing.sample import Add


def test_memory_is_flat_over_many_calls(run: Run, tmp_path: Path) -> None:
    """Applied, refused and cancelled ones, with handlers of both kinds, for new ids and old."""
    with open_store(f"sqlite:///{tmp_path / 'store.db'}?synchronous=NORMAL") as store:
        plain = service_on(store)
        awaited: Counting = AsyncService(tally, store, deps=at_once)

        async def hasty(number: int) -> None:
            task = asyncio.create_task(plain.handle(f"p-{number % 9}", Add()))
            await asyncio.sleep(0)
            task.cancel()
            await outcome(_wait_for(task))

        async def some(start: int) -> None:
            for number in range(start, start + 600, 50):
                await asyncio.gather(
                    *(plain.handle(f"p-{n}", Add()) for n in range(number, number + 50)),
                    *(outcome(plain.handle(f"r-{n}", Add(-n - 1))) for n in range(20)),
                    *(awaited.handle(f"a-{n % 9}", Count()) for n in range(30)),
                    *(outcome(awaited.handle(f"b-{n}", Count(-1))) for n in range(10)),
                    *(hasty(n) for n in range(10)),
                )
            await plain.drain()

        async def measured(start: int) -> int:
            await some(start)
            await asyncio.sleep(0.01)  # the step that was woken with the answers holds them
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        async def scene() -> list[int]:
            return [await measured(start) for start in range(0, 3_600, 600)]

        tracemalloc.start()
        try:
            figures = run(scene())
        finally:
            tracemalloc.stop()
        assert figures[-1] - figures[2] < 40_000, figures  # over 4,320 calls


async def _wait_for(task: asyncio.Task[object]) -> object:
    return await task
