"""Connections of callers that a service is joined on: what they may be, and what they stay."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.servers.databases import Databases
from tests.stores.joined.databases import SharedDatabase, SharedFile

from holdfast import Retry, Service, open_store
from holdfast.errors import StoreError, VersionConflictError
from holdfast.testing.sample import Add, sample, undisturbed


@pytest.fixture
def shared(postgres_url: str) -> SharedDatabase:
    """Return a database that a store shares with its users."""
    return SharedDatabase(postgres_url)


def test_another_database_with_a_store_is_refused(
    service: Any, postgres_databases: Databases
) -> None:
    """Else the transition would be in a store that nobody asked for it."""
    database = postgres_databases.take()
    try:
        with open_store(database.url(), migrate=True) as other:
            with closing(psycopg.connect(database.url())) as connection:
                with pytest.raises(StoreError, match="to its own database, and this one is to"):
                    service.on(connection).handle("e", Add())
                assert connection.execute("SELECT 1").fetchone() == (1,)
                connection.commit()
            assert other.read_log(limit=9) == []
    finally:
        postgres_databases.give_back(database)


def test_another_store_in_the_same_database_is_told_by_its_schema(
    shared: SharedDatabase, service: Any, connection: Any
) -> None:
    """Two stores are joined on one connection, and each finds its own tables."""
    with open_store(shared.url + "?holdfast_schema=second", migrate=True) as second:
        second.migrate()
        both = service, Service(sample, second, deps=undisturbed)
        for count, each in enumerate(both, 1):
            for _ in range(count):
                each.on(connection).handle("e", Add())
        connection.commit()
        assert [each.get("e").version for each in both] == [1, 2]


@pytest.mark.parametrize("threshold", [0, 5, None])
def test_statements_are_prepared_as_the_caller_likes(
    service: Any, connection: Any, threshold: int | None
) -> None:
    """All that can be, from the first time on, or none."""
    connection.prepare_threshold = threshold
    joined = service.on(connection)
    for count in range(1, 8):
        late = joined.begin()
        late.prepare("e", Add())
        assert joined.handle("e", Add()).version == count
        with pytest.raises(VersionConflictError):
            late.commit()
    connection.commit()
    assert service.get("e").version == 7


def test_in_a_pipeline_it_is_refused(service: Any, connection: Any) -> None:
    """There a statement is answered later, and a command needs the answer."""
    with connection.pipeline():
        with pytest.raises(StoreError, match="leave the pipeline"):
            service.on(connection).handle("e", Add())
        connection.execute("SELECT 1")
    assert service.on(connection).handle("e", Add()).version == 1


@pytest.mark.parametrize("encoding", ["latin1", "sql_ascii"])
def test_a_connection_that_is_not_for_all_text_is_refused(
    service: Any, connection: Any, encoding: str
) -> None:
    """It could not read what others have stored, and would find out in the midst."""
    connection.execute(f"SET client_encoding = {encoding}")
    with pytest.raises(StoreError, match="client_encoding=UTF8"):
        service.on(connection).handle("e", Add())
    connection.execute("SET client_encoding = 'UTF8'")
    assert service.on(connection).handle("e", Add()).version == 1


def test_a_closed_connection_is_refused(service: Any, connection: Any) -> None:
    """To try again there would not help."""
    connection.close()
    with pytest.raises(StoreError, match="is joined on is closed"):
        service.on(connection).get("e")


def test_a_timeout_makes_no_wait_longer(
    shared: SharedDatabase, service: Any, connection: Any
) -> None:
    """Given a shorter `lock_timeout` of the caller's, that one ends the wait."""
    service.handle("e", Add())
    with closing(shared.begin()) as holder:
        service.on(holder).handle("e", Add())
        connection.execute("SET LOCAL lock_timeout = '100ms'")
        begun = time.monotonic()
        with pytest.raises(StoreError, match="locked it for longer"):
            service.on(connection).handle("e", Add(), timeout=60)
        with open_store(shared.url + "?options=-clock_timeout%3D100ms") as hasty:
            once = Service(sample, hasty, deps=undisturbed, retry=Retry(attempts=1))
            with pytest.raises(StoreError, match="locked it for longer"):
                once.handle("e", Add(), timeout=60)
        assert time.monotonic() - begun < 20
        holder.rollback()


def test_threads_take_turns_on_a_connection(service: Any, connection: Any) -> None:
    """What one of them has to take back is not what another has done."""
    connection.execute("SELECT 1")
    joined = service.on(connection)
    joined.handle("hot", Add())
    barrier = threading.Barrier(4)
    done: list[str] = []

    def write(name: str) -> None:
        for count in range(10):
            late = service.on(connection).begin()
            late.prepare("hot", Add())
            barrier.wait(20)
            if name == "a":
                joined.handle("hot", Add())
            barrier.wait(20)
            done.append(joined.handle(f"{name}{count}", Add()).id)
            with pytest.raises(VersionConflictError):
                late.commit()

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    connection.commit()
    assert set(service.get_many(done)) == set(done)


def test_an_interrupt_leaves_the_transaction_as_it_was(
    service: Any, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the place that was held for an entity, which would be one at version 0."""
    joined = service.on(connection)
    joined.handle("e", Add())
    execute = psycopg.RawCursor.execute

    def interrupted(cursor: Any, query: Any, *given: Any, **options: Any) -> Any:
        if b"INSERT INTO holdfast.transition" in query:
            raise KeyboardInterrupt
        return execute(cursor, query, *given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.RawCursor, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            joined.handle("f", Add())
    connection.commit()
    assert service.get("e").version == 1
    assert service.handle("f", Add()).version == 1


def test_what_is_wrong_with_a_connection_to_a_file_is_told(tmp_path: Path) -> None:
    """That it is closed, or another thread's."""
    shared = SharedFile(tmp_path / "shared.db")
    told: list[str] = []
    with shared.open() as store:
        service = Service(sample, store, deps=undisturbed)

        def tell(connection: sqlite3.Connection) -> None:
            with pytest.raises(StoreError) as caught:
                service.on(connection)
            told.append(str(caught.value))

        connection = shared.begin()
        thread = threading.Thread(target=tell, args=(connection,))
        thread.start()
        thread.join()
        connection.close()
        tell(connection)
    assert "same thread" in told[0]
    assert "closed database" in told[1]


def test_a_transaction_that_read_too_early_is_told_to_begin_anew(tmp_path: Path) -> None:
    """SQLite refuses its writes, however often they are tried."""
    shared = SharedFile(tmp_path / "shared.db")
    with (
        shared.open() as store,
        closing(sqlite3.connect(tmp_path / "shared.db", isolation_level=None)) as connection,
    ):
        service = Service(sample, store, deps=undisturbed)
        service.handle("e", Add())
        connection.execute("BEGIN")
        assert service.on(connection).get("e").version == 1
        service.handle("e", Add())
        with pytest.raises(StoreError, match="begin it with BEGIN IMMEDIATE"):
            service.on(connection).handle("e", Add())


def test_a_stricter_transaction_is_told_to_begin_anew(service: Any, connection: Any) -> None:
    """What others have changed since it began stays so in it."""
    service.handle("e", Add())
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.execute("SELECT 1")
    service.handle("e", Add())
    with pytest.raises(StoreError, match="in a new transaction"):
        service.on(connection).handle("e", Add())
    assert service.on(connection).get("e").version == 1


def test_a_connection_is_looked_at_once(
    service: Any, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever joins on it again has the round trips of its commands alone."""
    asked: list[bytes] = []
    execute = psycopg.RawCursor.execute

    def counted(cursor: Any, query: Any, *given: Any, **options: Any) -> Any:
        asked.append(query)
        return execute(cursor, query, *given, **options)

    service.on(connection).history("e")
    monkeypatch.setattr(psycopg.RawCursor, "execute", counted)
    service.on(connection).history("e")
    assert len(asked) == 1
    service.on(connection).handle("e", Add())
    told = [query.split()[0] for query in asked[2:]]
    assert told in (
        [b"SAVEPOINT", b"SELECT", b"INSERT", b"WITH", b"RELEASE"],
        [b"SAVEPOINT", b"SELECT", b"INSERT", b"SELECT", b"WITH", b"RELEASE"],  # asks for the time
    )


def test_threads_take_turns_on_a_connection_to_a_file(tmp_path: Path) -> None:
    """As those do that may share one: what one takes back is not what another has done."""
    shared = SharedFile(tmp_path / "shared.db")
    path = tmp_path / "shared.db"
    sharing = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    usual = sys.getswitchinterval()
    with shared.open() as store, closing(sharing) as connection:
        service = Service(sample, store, deps=undisturbed)
        connection.execute("BEGIN IMMEDIATE")

        def write(name: str) -> list[str]:
            done = []
            for count in range(25):
                joined = service.on(connection)
                late = joined.begin()
                late.prepare(name, Add())
                late.prepare(f"late-{name}{count}", Add())
                joined.handle(name, Add())
                with pytest.raises(VersionConflictError):
                    late.commit()
                done.append(joined.handle(f"{name}{count}", Add()).id)
            return done

        try:
            sys.setswitchinterval(1e-5)
            with ThreadPoolExecutor(4) as pool:
                done = [id for ids in pool.map(write, "abcd") for id in ids]
        finally:
            sys.setswitchinterval(usual)
        connection.execute("COMMIT")
        assert set(service.get_many(done)) == set(done)
        assert service.get("a").version == 25
