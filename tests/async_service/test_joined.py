"""AsyncService on a connection of its caller's: one transaction for its work and the caller's."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from types import coroutine
from typing import Any

import psycopg
import pytest
from tests.async_service.support import Run
from tests.stores.joined.databases import NOTE, SharedDatabase, SharedFile

from holdfast import AsyncService, Command, Context, Machine, Service, State, transact
from holdfast.errors import BatchError, CommandRejectedError, StoreError, VersionConflictError
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, sample, undisturbed


class Shown(State):
    count: int = 0


class Show(Command):
    """Count after a pause."""


shows: Machine[Shown, Show, Any] = Machine("show", state=Shown, command=Show, deps=object)


@shows.on
async def show(state: Shown | None, command: Show, deps: Any, context: Context) -> Shown:
    await asyncio.sleep(deps)
    return Shown((state or Shown()).count + 1)


@pytest.fixture
def shared(postgres_url: str) -> SharedDatabase:
    """Return a database that a store shares with its users."""
    return SharedDatabase(postgres_url)


def test_what_is_committed_together_is_there_together(run: Run, shared: SharedDatabase) -> None:
    """The verbs of the service are awaited on the caller's connection."""

    async def main() -> None:
        async with (
            shared.open() as store,
            await psycopg.AsyncConnection.connect(shared.url) as connection,
        ):
            service = AsyncService(sample, store, deps=undisturbed)
            joined = service.on(connection)
            async with connection.transaction():
                await connection.execute(NOTE)
                record = await joined.handle("e", Add(), key="k")
                assert await joined.get("e") == record
                assert [change.version for change in await joined.history("e")] == [1]
                assert (await joined.preview("e", Add())).version == 2
                assert [found.id for found in await joined.find()] == ["e"]
                with pytest.raises(CommandRejectedError):
                    await joined.handle("e", Add(by=-9), timeout=1)
                with pytest.raises(BatchError):
                    await joined.handle_many([("e", Add()), ("e", Add(by=-9))], atomic=True)
                async with joined.begin() as transaction:
                    await transaction.prepare("e", Add())
                    await transaction.prepare("f", Add())
                await transact(joined, add_to_f)
                with pytest.raises(VersionConflictError):
                    await joined.handle("f", Add(), expected_version=1)
            await connection.commit()
            assert (await service.get("e")).version == 2
            assert (await service.get("f")).version == 2
            assert await service.handle("e", Add(), key="k") == record

    run(main())
    assert shared.notes() == 1


async def add_to_f(transaction: Any) -> None:
    await transaction.prepare("f", Add())


def test_a_rollback_leaves_no_trace(run: Run, shared: SharedDatabase) -> None:
    """Nor does a task that is cancelled in the midst of a command."""

    async def main() -> None:
        async with shared.open() as store:
            service = AsyncService(shows, store, deps=0.0)
            slow = AsyncService(shows, store, deps=60.0)

            async def work(joining: AsyncService[Shown, Show, Any]) -> None:
                async with await psycopg.AsyncConnection.connect(shared.url) as connection:
                    await connection.execute(NOTE)
                    assert (await service.on(connection).handle("e", Show())).version == 1
                    await joining.on(connection).handle("e", Show())
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await work(service)
            task = asyncio.create_task(work(slow))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await service.history("e") == []
            assert (await service.handle("e", Show())).version == 1
        with shared.open() as again:
            assert faults(again) == []

    run(main())
    assert shared.notes() == 0


def test_a_file_is_joined_too(run: Run, tmp_path: Path) -> None:
    """On a connection that blocks, in the event loop."""
    shared = SharedFile(tmp_path / "shared.db")

    async def main() -> None:
        async with shared.open() as store:
            service = AsyncService(sample, store, deps=undisturbed)
            with closing(sqlite3.connect(tmp_path / "shared.db")) as connection:
                connection.execute(NOTE)
                assert (await service.on(connection).handle("e", Add())).version == 1
                connection.rollback()
                connection.execute(NOTE)
                assert (await service.on(connection).handle("e", Add())).version == 1
                connection.commit()
            assert (await service.handle("e", Add())).version == 2

    run(main())
    assert shared.notes() == 1


def test_a_connection_that_is_awaited_is_for_those_who_await(
    run: Run, shared: SharedDatabase
) -> None:
    """A service that blocks says so."""

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(shared.url) as connection:
            with shared.open() as store, pytest.raises(StoreError, match="use AsyncService"):
                Service(sample, store, deps=undisturbed).on(connection)
            async with shared.open() as store:
                await connection.set_autocommit(True)
                with pytest.raises(StoreError, match="no transaction is open"):
                    await AsyncService(sample, store, deps=undisturbed).on(connection).get("e")

    run(main())


def test_tasks_take_turns_on_a_connection(run: Run, shared: SharedDatabase) -> None:
    """What one of them has to take back is not what another has done."""

    async def main() -> None:
        async with (
            shared.open() as store,
            await psycopg.AsyncConnection.connect(shared.url) as connection,
        ):
            service = AsyncService(sample, store, deps=undisturbed)
            joined = service.on(connection)
            await joined.handle("hot", Add())
            others = [service.on(connection) for _ in range(4)]
            assert [(await each.get("hot")).version for each in others] == [1] * 4
            late = [service.on(connection).begin() for _ in others]
            for count, transaction in enumerate(late):
                await transaction.prepare("hot", Add())
                await transaction.prepare(f"cold{count}", Add())
            await joined.handle("hot", Add())
            answers = await asyncio.gather(
                *(
                    each
                    for count, transaction in enumerate(late)
                    for each in (
                        others[count].handle(f"e{count}", Add()),
                        transaction.commit(),
                        joined.get("hot"),
                    )
                ),
                return_exceptions=True,
            )
            await connection.commit()
            told = [getattr(answer, "version", type(answer)) for answer in answers]
            assert told == [1, VersionConflictError, 2] * 4
            assert len(await service.get_many(f"e{n}" for n in range(4))) == 4

    run(main())


def test_a_call_that_is_cancelled_is_taken_back(run: Run, shared: SharedDatabase) -> None:
    """Wherever it was: no place is left held for the entity."""

    async def main() -> None:
        async with (
            shared.open() as store,
            await psycopg.AsyncConnection.connect(shared.url) as connection,
        ):
            service = AsyncService(sample, store, deps=undisturbed)
            joined = service.on(connection)
            steps = 0
            is_done = False
            while not is_done:
                await joined.handle("before", Add())
                task = asyncio.create_task(joined.handle(f"e{steps}", Add()))
                for _ in range(steps):
                    await asyncio.sleep(0)
                is_done = task.done()
                task.cancel()
                await asyncio.wait([task])
                await connection.commit()
                steps += 1
            for count in range(steps):
                assert (await service.handle(f"e{count}", Add())).version in (1, 2)
            assert steps > 5

    run(main())


def test_a_wait_that_is_cancelled_leaves_the_transaction_usable(
    run: Run, shared: SharedDatabase
) -> None:
    """As the timeout of a caller does that waits for a row which another one holds."""

    async def main() -> None:
        connect = psycopg.AsyncConnection.connect
        async with (
            shared.open() as store,
            await connect(shared.url) as connection,
            await connect(shared.url) as holder,
        ):
            service = AsyncService(sample, store, deps=undisturbed)
            await service.handle("e", Add())
            await service.on(holder).handle("e", Add())
            await connection.execute(NOTE)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await service.on(connection).handle("e", Add())
            await service.on(connection).handle("f", Add())
            await holder.rollback()

    run(main())
    assert shared.notes() == 1


def test_a_call_that_nobody_drives_on_ends(run: Run, shared: SharedDatabase) -> None:
    """As where its loop is closed while it waits: it asks for nothing more."""

    async def main() -> None:
        async with (
            shared.open() as store,
            await psycopg.AsyncConnection.connect(shared.url) as holder,
        ):
            service = AsyncService(sample, store, deps=undisturbed)
            await service.on(holder).handle("e", Add())
            connection = await psycopg.AsyncConnection.connect(shared.url)
            calling = service.on(connection).handle("e", Add()).__await__()

            @coroutine
            def drive() -> Generator[Any]:
                while True:
                    yield next(calling)

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(drive(), 0.3)
            calling.close()
            await connection.close()
            await holder.rollback()
            assert (await service.handle("e", Add())).version == 1

    run(main())
