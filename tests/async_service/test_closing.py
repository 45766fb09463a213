"""Closing a store finishes what was accepted, as far as that can be done by who closes it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.async_service.support import Run, WatchedStore, outcome, service_on, unanswered, until
from tests.async_service.test_async_handlers import Count, Gate, on

from holdfast import Record, StoreError
from holdfast.testing.sample import Add


def test_closing_in_the_event_loop_finishes_what_threads_do(run: Run, store: WatchedStore) -> None:
    """Given calls with plain handlers in mid-flight, each caller has its record."""

    async def scene() -> None:
        service = service_on(store, lambda context: time.sleep(0.01))
        calls = [asyncio.create_task(service.handle(f"e-{n}", Add())) for n in range(5)]
        await until(lambda: unanswered(service) == 5)
        store.close()
        assert {record.version for record in await asyncio.gather(*calls)} == {1}
        with pytest.raises(StoreError, match="is closed"):
            await service.handle("e-1", Add())

    run(scene())


def test_closing_in_the_event_loop_does_not_wait_for_what_that_would_have_to_do(
    run: Run, store: WatchedStore
) -> None:
    """Given handlers that are awaited, their callers are told."""

    async def scene() -> None:
        gate = Gate()
        service = on(store, gate)
        await service.count_by_state()
        call = asyncio.create_task(outcome(service.handle("e", Count(), metadata={"waits": True})))
        await until(lambda: gate.here)
        began = time.monotonic()
        store.close()
        assert time.monotonic() - began < 3
        gate.through.set()
        assert "is closed" in str(await call)

    run(scene())


@pytest.mark.parametrize("way", ["handle", "handle_many", "transaction"])
def test_closing_in_another_thread_finishes_what_the_event_loop_does(
    run: Run, store: WatchedStore, way: str
) -> None:
    """As `async with` does: given handlers that are awaited, their callers have their records."""

    async def scene() -> None:
        gate = Gate()
        service = on(store, gate)

        async def call() -> Any:
            if way == "handle":
                return await service.handle("e", Count(), metadata={"waits": True})
            if way == "handle_many":
                [answer] = await slow.handle_many([("e", Count())])
                return answer
            return await slow.begin().prepare("e", Count())

        async def wait(command: Count, context: Any) -> None:
            gate.here.append(command.by)
            await gate.through.wait()

        slow = on(store, wait)
        async with store:
            calling = asyncio.create_task(call())
            await until(lambda: gate.here)
            asyncio.get_running_loop().call_later(0.05, gate.through.set)
        assert isinstance(await calling, Record)

    run(scene())
