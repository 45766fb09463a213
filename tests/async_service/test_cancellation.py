"""A caller that is cancelled gets its cancellation; nobody else does, and bounds hold."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from tests.async_service.support import (
    AsyncSample,
    Run,
    WatchedStore,
    outcome,
    rival_on,
    service_on,
    total,
    unanswered,
    until,
)

from holdfast import Record
from holdfast.service.intake import Ticket
from holdfast.testing.sample import Add


async def cancelled(task: asyncio.Task[Any]) -> bool:
    """Cancel a task, and tell whether it ended so."""
    task.cancel()
    return isinstance(await outcome(_wait_for(task)), asyncio.CancelledError)


async def _wait_for(task: asyncio.Task[Any]) -> object:
    return await task


def test_cancelled_before_it_began_is_not_sent(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """And those that wait with it are applied."""

    async def scene() -> None:
        store.hold()
        first = asyncio.create_task(service.handle("e", Add(1)))
        await until(lambda: store.commits)
        before = asyncio.create_task(service.handle("e", Add(10)))
        given_up = asyncio.create_task(service.handle("e", Add(100)))
        alone = asyncio.create_task(service.handle("other", Add(100)))
        after = asyncio.create_task(service.handle("e", Add(1000)))
        await asyncio.sleep(0.01)
        assert await cancelled(given_up)
        assert await cancelled(alone)
        store.release()
        records = await asyncio.gather(first, before, after)
        assert [record.version for record in records] == [1, 2, 3]

    run(scene())
    assert total(store, "e") == 1011
    assert rival_on(store).history("other") == []


def test_cancelled_while_it_is_written_stays_written(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """The caller has its cancellation at once; those of the same commit have their records."""

    async def scene() -> None:
        store.hold()
        first = asyncio.create_task(service.handle("first", Add()))
        await until(lambda: store.commits)
        calls = [asyncio.create_task(service.handle("e", Add(10**n))) for n in range(3)]
        other = asyncio.create_task(service.handle("other", Add()))
        await asyncio.sleep(0.01)
        store.release()  # the first commit, and no other
        store.hold()
        await first
        await until(lambda: len(store.commits) == 2)
        assert await cancelled(calls[1])
        assert not calls[0].done()
        store.release()
        assert [(await call).version for call in (calls[0], calls[2])] == [1, 3]
        assert (await other).version == 1

    run(scene())
    assert total(store, "e") == 111


def test_a_timeout_around_a_call_bounds_all_of_its_wait(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """The queue included; the call is not sent any more."""

    async def scene() -> None:
        store.hold()
        first = asyncio.create_task(service.handle("e", Add(1)))
        await until(lambda: store.commits)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await service.handle("e", Add(10))
        store.release()
        await first

    run(scene())
    assert total(store, "e") == 1


def test_a_full_queue_makes_callers_wait(
    run: Run, store: WatchedStore, service: AsyncSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more calls are accepted than the limit says, and each is served in the end."""
    monkeypatch.setattr("holdfast.service.intake.MAX_UNANSWERED", 4)

    async def scene() -> None:
        store.hold()
        calls = [asyncio.create_task(service.handle(f"e-{n % 3}", Add())) for n in range(40)]
        await until(lambda: store.commits)
        await asyncio.sleep(0.02)
        assert unanswered(service) == 4
        store.release()
        await asyncio.gather(*calls)
        assert unanswered(service) == 0

    run(scene())
    assert max(sum(commit.values()) for commit in store.commits) <= 4
    assert sum(total(store, f"e-{n}") for n in range(3)) == 40


def test_cancelled_callers_leave_neither_places_nor_gaps(
    run: Run, store: WatchedStore, service: AsyncSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a full queue, those accepted and those waiting may go; nobody waits for ever for it."""
    monkeypatch.setattr("holdfast.service.intake.MAX_UNANSWERED", 4)
    before = sum(isinstance(thing, Ticket) for thing in gc.get_objects())

    async def scene() -> None:
        store.hold()
        calls = [asyncio.create_task(service.handle(f"e-{n}", Add())) for n in range(12)]
        await until(lambda: store.commits)
        await asyncio.sleep(0.02)
        for given_up in (1, 2, 3, 4, 5, 6, 8, 9, 10):
            assert await cancelled(calls[given_up])
        for number in range(50):
            hasty = asyncio.create_task(service.handle(f"hasty-{number}", Add()))
            await asyncio.sleep(0)
            assert await cancelled(hasty)
        assert unanswered(service) <= 4
        assert sum(isinstance(thing, Ticket) for thing in gc.get_objects()) - before <= 4
        store.release()
        left = [await calls[place] for place in (0, 7, 11)]
        assert [type(record) for record in left] == [Record] * 3
        await until(lambda: unanswered(service) == 0)
        assert (await service.handle("last", Add())).version == 1

    run(scene())
    assert rival_on(store).count_by_state()["Open"] <= 4 + 4


def test_a_caller_that_is_cancelled_as_its_place_comes_free_passes_it_on(
    run: Run, store: WatchedStore, service: AsyncSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one gets it."""
    monkeypatch.setattr("holdfast.service.intake.MAX_UNANSWERED", 1)

    async def scene() -> None:
        for _ in range(20):
            store.hold()
            first = asyncio.create_task(service.handle("e", Add()))
            await until(lambda: unanswered(service))
            second = asyncio.create_task(service.handle("e", Add()))
            third = asyncio.create_task(service.handle("e", Add()))
            await asyncio.sleep(0)
            first.add_done_callback(lambda _, task=second: task.cancel())  # type: ignore[misc]
            store.release()
            await first
            await third
            await outcome(_wait_for(second))

    run(scene())


def test_cancelling_many_at_random_moments_harms_none_of_the_others(
    run: Run, store: WatchedStore
) -> None:
    """Every other caller has its record, and versions are without a gap."""
    service = service_on(store)

    async def call(number: int) -> Record[Any] | None:
        await asyncio.sleep(number % 13 / 10_000)
        task = asyncio.create_task(service.handle(f"e-{number % 3}", Add()))
        if number % 2:
            await asyncio.sleep(number % 7 / 5_000)
            if not task.done():
                await cancelled(task)
                return None
        return await task

    async def scene() -> list[Record[Any] | None]:
        return await asyncio.gather(*(call(number) for number in range(300)))

    records = [record for record in run(scene()) if record is not None]
    assert len({(record.id, record.version) for record in records}) == len(records) >= 150
    assert sum(total(store, f"e-{n}") for n in range(3)) >= len(records)
