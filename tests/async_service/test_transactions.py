"""Transactions of coroutines: staged one by one, committed all or none, done again on conflicts."""

from __future__ import annotations

import asyncio

import pytest
from tests.async_service.support import (
    AsyncSample,
    Run,
    SampleCommand,
    SampleState,
    WatchedStore,
    rival_on,
    service_on,
)

from holdfast import (
    AsyncTransaction,
    CommandRejectedError,
    NotFoundError,
    RetriesExhaustedError,
    Retry,
    TransactionClosedError,
    ValidationError,
    VersionConflictError,
    open_store,
    transact,
)
from holdfast.testing.sample import Add, Open

Work = AsyncTransaction[SampleState, SampleCommand]


async def withdraw_too_much(transaction: Work) -> None:
    """Stage one command that is accepted and one that is not."""
    async with transaction:
        await transaction.prepare("a", Add(1))
        await transaction.prepare("b", Add(-41))


def test_all_or_none(run: Run, store: WatchedStore, service: AsyncSample) -> None:
    """The block's end commits; an error abandons."""

    async def scene() -> None:
        async with service.begin() as transaction:
            await transaction.prepare("a", Add(1))
            assert (await transaction.prepare("a", Add(2))).state == Open(3)
            await transaction.prepare_only("b", Open(40))
            assert (await transaction.read("a")).version == 2
            with pytest.raises(NotFoundError):
                await transaction.read("c")
            with pytest.raises(NotFoundError):
                await service.get("a")
        assert (await service.get("a")).state == Open(3)
        assert (await service.get("b")).state == Open(40)
        refused = service.begin()
        with pytest.raises(CommandRejectedError):
            await withdraw_too_much(refused)
        with pytest.raises(TransactionClosedError):
            await refused.commit()
        assert (await service.get("a")).version == 2

    run(scene())
    assert store.commits == [{"a": 2, "b": 1}]


def test_a_cancelled_block_writes_nothing(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """Neither the one that was cancelled while it staged nor any part of it."""

    async def block() -> None:
        async with service.begin() as transaction:
            await transaction.prepare("a", Add(1))
            await asyncio.sleep(20)

    async def scene() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await block()

    run(scene())
    assert rival_on(store).history("a") == []


def test_a_conflict_is_told(run: Run, store: WatchedStore, service: AsyncSample) -> None:
    """What was only read counts too."""

    async def scene() -> None:
        await service.handle("a", Add(1))
        transaction = service.begin()
        await transaction.read("a")
        await transaction.prepare("b", Add())
        await service.handle("a", Add(1))
        with pytest.raises(VersionConflictError) as caught:
            await transaction.commit()
        assert (caught.value.id, caught.value.expected, caught.value.actual) == ("a", 1, 2)

    run(scene())
    assert rival_on(store).history("b") == []


def test_transact_runs_again_until_it_is_through(run: Run, store: WatchedStore) -> None:
    """Many that move between two entities lose nothing and make nothing."""
    service = service_on(store, retry=Retry(attempts=200, initial_seconds=0.001, cap_seconds=0.02))

    async def move(transaction: Work) -> int:
        source = await transaction.read("a")
        await transaction.prepare("a", Add(-1))
        await transaction.prepare("b", Add(1))
        return source.version

    async def scene() -> None:
        await service.handle("a", Add(30))
        seen = await asyncio.gather(*(transact(service, move) for _ in range(30)))
        assert sorted(seen) == list(range(1, 31))
        assert (await service.get("a")).state == Open(0)
        assert (await service.get("b")).state == Open(30)

    run(scene())


def test_transact_gives_up(run: Run, store: WatchedStore) -> None:
    """Within the limits of the service's `Retry`; nothing is written."""
    service = service_on(store, retry=Retry(attempts=3, initial_seconds=0.001))

    async def work(transaction: Work) -> None:
        await transaction.prepare("a", Add(1))
        await service.handle("a", Add(10))

    async def scene() -> None:
        with pytest.raises(RetriesExhaustedError):
            await transact(service, work)
        assert (await service.get("a")).state == Open(30)

    run(scene())


def test_services_join_on_one_store(run: Run, store: WatchedStore, service: AsyncSample) -> None:
    """And only there."""
    other = service_on(store)

    async def scene() -> None:
        async with service.begin() as transaction:
            await transaction.prepare("a", Add())
            await transaction.join(other).prepare("b", Add())
        assert (await other.get("b")).version == 1
        with open_store("memory://") as elsewhere, pytest.raises(ValidationError):
            service.begin().join(service_on(elsewhere))

    run(scene())
