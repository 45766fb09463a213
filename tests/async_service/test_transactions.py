"""Transactions of coroutines: staged one by one, committed all or none, done again on conflicts."""

from __future__ import annotations

import asyncio
import threading
from typing import Literal

import pytest
from tests.async_service.support import (
    AsyncSample,
    Run,
    SampleCommand,
    SampleState,
    WatchedStore,
    rival_on,
    service_on,
    total,
    until,
)

from holdfast import (
    AsyncService,
    AsyncTransaction,
    CommandRejectedError,
    Context,
    DefinitionError,
    Machine,
    NotFoundError,
    Record,
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


def test_a_verb_beside_another_is_refused(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """What was staged and what is answered are the same."""

    async def scene() -> None:
        transaction = service.begin()
        first, second = await asyncio.gather(
            transaction.prepare("a", Add(1)),
            transaction.prepare("a", Add(2)),
            return_exceptions=True,
        )
        assert isinstance(first, Record)
        assert isinstance(second, DefinitionError)
        assert (await transaction.prepare("a", Add(4))).state == Open(5)
        assert [record.version for record in await transaction.commit()] == [1, 2]

    run(scene())
    assert total(store, "a") == 5


@pytest.mark.parametrize("kind", ["plain", "awaited"])
def test_a_verb_that_is_cancelled_stages_nothing(
    run: Run, store: WatchedStore, kind: Literal["plain", "awaited"]
) -> None:
    """Though its handler may run on, in a thread."""
    machine, begun, go_on = held_machine(kind)
    service = AsyncService(machine, store)

    async def scene() -> None:
        transaction = service.begin()
        preparing = asyncio.create_task(transaction.prepare("a", Add(7)))
        await until(begun.is_set)
        preparing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await preparing
        go_on.set()
        assert (await transaction.prepare("b", Add(1))).version == 1
        assert [record.id for record in await transaction.commit()] == ["b"]
        assert [record.id for record in await service.find()] == ["b"]

    run(scene())


@pytest.mark.parametrize("kind", ["plain", "awaited"])
def test_a_commit_waits_for_no_verb(
    run: Run, store: WatchedStore, kind: Literal["plain", "awaited"]
) -> None:
    """Beside one it is refused, and may be called again once that is done."""
    machine, begun, go_on = held_machine(kind)
    service = AsyncService(machine, store)

    async def scene() -> None:
        transaction = service.begin()
        preparing = asyncio.create_task(transaction.prepare("a", Add(7)))
        await until(begun.is_set)
        with pytest.raises(DefinitionError, match="one thing at a time"):
            await transaction.commit()
        go_on.set()
        assert [await preparing] == await transaction.commit()
        assert (await service.get("a")).version == 1

    run(scene())


@pytest.mark.parametrize("kind", ["plain", "awaited"])
def test_a_verb_that_outlives_its_transaction_says_so(
    run: Run, store: WatchedStore, kind: Literal["plain", "awaited"]
) -> None:
    """A block that ends beside it writes nothing."""
    machine, begun, go_on = held_machine(kind)
    service = AsyncService(machine, store)

    async def block(tasks: list[asyncio.Task[Record[Open]]]) -> None:
        async with service.begin() as transaction:
            await transaction.prepare("b", Add(1))
            tasks.append(asyncio.create_task(transaction.prepare("a", Add(7))))
            await until(begun.is_set)

    async def scene() -> None:
        tasks: list[asyncio.Task[Record[Open]]] = []
        with pytest.raises(DefinitionError, match="one thing at a time"):
            await block(tasks)
        go_on.set()
        with pytest.raises(TransactionClosedError):
            await tasks[0]
        assert len(await service.find()) == 0

    run(scene())


def held_machine(
    kind: Literal["plain", "awaited"],
) -> tuple[Machine[Open, Add, None], threading.Event, threading.Event]:
    """Return a machine whose handler of entity a tells when it begins, and waits to go on."""
    begun, go_on = threading.Event(), threading.Event()
    machine = Machine("held", state=Open, command=Add)

    def add(state: Open | None, command: Add, context: Context) -> Open:
        if context.id == "a":
            begun.set()
            assert go_on.wait(20)
        return Open((state or Open()).count + command.by)

    async def add_later(state: Open | None, command: Add, context: Context) -> Open:
        if context.id == "a":
            begun.set()
            await until(go_on.is_set)
        return Open((state or Open()).count + command.by)

    machine.on(add if kind == "plain" else add_later)
    return machine, begun, go_on


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
