"""A service on a connection of its caller's: one transaction for its work and the caller's."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.stores.joined.databases import NOTE, Shared, SharedDatabase, SharedFile

from holdfast import Request, Retry, Service, open_store, transact
from holdfast.errors import (
    BatchError,
    CommandRejectedError,
    NotFoundError,
    StoreError,
    VersionConflictError,
)
from holdfast.record import Context
from holdfast.stores.contract import Key, Store, WriteRefusedError
from holdfast.testing.sample import Add, Close, Create, Remove, sample, undisturbed
from holdfast.testing.writes import write


@pytest.fixture
def old(service: Any) -> str:
    """Return the id of an entity that was there before the transaction began."""
    service.handle("old", Create())
    return "old"


def test_what_is_committed_together_is_there_together(
    shared: Shared, service: Any, connection: Any
) -> None:
    """A row of the caller's and a transition: nobody sees the one without the other."""
    connection.execute(NOTE)
    record = service.on(connection).handle("e", Add(), key="k")
    assert (record.version, record.state.count) == (1, 1)
    [text] = connection.execute("SELECT text FROM note").fetchone().values()
    assert text in ((b"of the caller",), "of the caller")  # as the caller wants rows and texts
    with pytest.raises(NotFoundError):
        service.get("e")
    assert shared.notes() == 0
    connection.commit()
    assert service.get("e") == record
    assert service.handle("e", Add(), key="k") == record
    assert shared.notes() == 1


def test_a_rollback_leaves_no_trace(
    shared: Shared, store: Store, service: Any, old: str, connection: Any
) -> None:
    """Not of the entity, nor of its log, its key, or its version."""
    joined = service.on(connection)
    connection.execute(NOTE)
    assert joined.handle("e", Add(), key="k").version == 1
    assert joined.handle("old", Add()).version == 2
    joined.purge("old")
    connection.rollback()
    assert shared.notes() == 0
    assert service.history("e") == []
    assert service.get("old").version == 1
    assert [row.id for row in store.read_log(limit=9)] == ["old"]
    assert service.handle("e", Add(by=5), key="k").state.count == 5
    assert service.contention() == []


def test_it_sees_what_it_has_done(service: Any, old: str, connection: Any) -> None:
    """By every verb, before it is committed."""
    joined = service.on(connection)
    assert joined.handle("e", Add()).version == 1
    assert joined.handle("e", Add(), expected_version=1).version == 2
    assert joined.get("e").state.count == 2
    assert set(joined.get_many(["e", old])) == {"e", old}
    assert [transition.version for transition in joined.history("e")] == [1, 2]
    assert joined.at("e", version=1).state.count == 1
    assert [record.id for record in joined.find()] == ["e", old]
    assert joined.count_by_state()["Open"] == 2
    assert joined.preview("e", Close()).version == 3
    assert joined.allowed("e") == service.allowed(old)
    connection.commit()


def test_a_conflict_leaves_the_transaction_as_it_was(
    shared: Shared, service: Any, connection: Any
) -> None:
    """It is raised at the first attempt, and the caller may go on and commit."""
    attempts: list[int] = []
    joined = service.on(connection)

    def interrupt(context: Context) -> None:
        attempts.append(context.version)
        if len(attempts) == 1:
            joined.handle("e", Add(by=10))

    watched = Service(sample, service.store, deps=interrupt, retry=Retry(attempts=9))
    joined.handle("e", Add())
    connection.execute(NOTE)
    with pytest.raises(VersionConflictError) as caught:
        watched.on(connection).handle("e", Add())
    assert type(caught.value) is VersionConflictError
    assert (caught.value.expected, caught.value.actual, attempts) == (1, 2, [1])
    assert joined.handle("e", Add()).state.count == 12
    connection.commit()
    assert shared.notes() == 1
    assert [spot.id for spot in watched.contention()] == ["e"]


def test_the_conflict_with_another_transaction(postgres_url: str) -> None:
    """Given a writer who commits meanwhile, the caller's transaction goes on."""
    shared = SharedDatabase(postgres_url)
    with shared.open() as store, closing(shared.begin()) as connection:
        outside = Service(sample, store, deps=undisturbed)
        outside.handle("e", Add())
        calls: list[int] = []

        def interrupt(context: Context) -> None:
            calls.append(outside.handle("e", Add()).version)

        joined = Service(sample, store, deps=interrupt).on(connection)
        connection.execute(NOTE)
        with pytest.raises(VersionConflictError):
            joined.handle("e", Add())
        assert calls == [2]
        connection.execute(NOTE)
        connection.commit()
        assert shared.notes() == 2
        assert outside.get("e").version == 2


def test_what_is_refused_leaves_the_transaction_as_it_was(
    shared: Shared, service: Any, connection: Any
) -> None:
    """By the rules, by the store, or because of another command of an atomic batch."""
    joined = service.on(connection)
    connection.execute(NOTE)
    joined.handle("e", Add(), key="k")
    with pytest.raises(CommandRejectedError):
        joined.handle("e", Add(by=-5))
    with pytest.raises(BatchError):
        joined.handle_many([("e", Add()), ("f", Add()), ("g", Add(by=-1))], atomic=True)
    row = joined.store.load([Key("sample", "e")])[0].entity
    with pytest.raises(WriteRefusedError):
        joined.store.commit([write("e", "Closed", on=row, keys=["k"])])
    assert joined.get("e").version == 1
    answers = joined.handle_many(
        [("e", Add()), Request("f", Add(), expected_version=7), ("f", Create())]
    )
    assert [type(answer).__name__ for answer in answers] == [
        "Record", "VersionConflictError", "Record",
    ]  # fmt: skip
    connection.commit()
    assert (service.get("e").version, service.get("f").version) == (2, 1)
    assert shared.notes() == 1


def test_a_batch_is_all_or_nothing_within_it(service: Any, connection: Any) -> None:
    """What it does comes to the caller's transaction whole, and so does a transaction of verbs."""
    joined = service.on(connection)
    joined.handle_many([("a", Add()), ("b", Add())], atomic=True)
    with joined.begin() as transaction:
        transaction.prepare("a", Add(by=-1))
        transaction.prepare("b", Add())
    late = joined.begin()
    late.read("b")
    late.prepare("a", Close())
    joined.handle("b", Add())
    with pytest.raises(VersionConflictError):
        late.commit()
    connection.commit()
    assert {id: service.get(id).state.count for id in "ab"} == {"a": 0, "b": 3}


def test_a_function_in_a_transaction_is_run_once(service: Any, connection: Any) -> None:
    """What it met is the conflict itself, since nothing was tried again."""
    joined = service.on(connection)
    runs: list[int] = []

    def work(transaction: Any) -> None:
        runs.append(transaction.prepare("e", Add()).version)
        joined.handle("e", Add(by=5))

    with pytest.raises(VersionConflictError) as caught:
        transact(joined, work)
    assert type(caught.value) is VersionConflictError
    assert runs == [1]
    connection.commit()
    assert service.get("e").state.count == 5


def test_a_life_ends_and_begins_anew(service: Any, connection: Any) -> None:
    """Deletions, purges and creations in one transaction are those of any other."""
    joined = service.on(connection)
    joined.handle("e", Add())
    assert joined.handle("e", Remove()).deleted
    assert joined.handle("e", Create()).version == 3
    joined.purge("e")
    connection.commit()
    assert [transition.kind for transition in service.history("e")] == ["purged"] * 3 + ["deletion"]


def test_waits_are_the_callers(shared: Shared, service: Any, connection: Any) -> None:
    """A timeout bounds one command, and what the caller has set holds afterwards."""
    setting = "PRAGMA busy_timeout" if isinstance(shared, SharedFile) else "SHOW lock_timeout"
    change = (
        "PRAGMA busy_timeout = 1234"
        if isinstance(shared, SharedFile)
        else "SET LOCAL lock_timeout = '1234ms'"
    )
    connection.execute(change)
    joined = service.on(connection)
    joined.handle("e", Add(), timeout=0.5)
    with pytest.raises(CommandRejectedError):
        joined.handle("e", Add(by=-9), timeout=0.5)
    [value] = connection.execute(setting).fetchone().values()
    assert value in ((1234,), "1234ms")
    connection.commit()


def test_a_lock_is_waited_for_no_longer_than_the_timeout(postgres_url: str) -> None:
    """The caller's transaction goes on, with what it did before."""
    shared = SharedDatabase(postgres_url)
    with (
        shared.open() as store,
        closing(shared.begin()) as holder,
        closing(shared.begin()) as connection,
    ):
        service = Service(sample, store, deps=undisturbed)
        service.handle("e", Add())
        service.on(holder).handle("e", Add())
        connection.execute(NOTE)
        with pytest.raises(StoreError, match="locked it for longer"):
            service.on(connection).handle("e", Add(), timeout=0.2)
        service.on(connection).handle("f", Add())
        connection.commit()
        holder.rollback()
        assert shared.notes() == 1
        assert service.get("e").version == 1


def test_readers_of_the_log_are_not_held_up(postgres_url: str) -> None:
    """An open transaction gives no positions: others read on, and it is read when it is over."""
    shared = SharedDatabase(postgres_url)
    with shared.open() as store, closing(shared.begin()) as connection:
        service = Service(sample, store, deps=undisturbed)
        joined = service.on(connection)
        joined.handle("e", Add())
        assert joined.history("e")[0].position == 0
        service.handle("f", Add())
        assert [(row.seq, row.id) for row in store.read_log(limit=9)] == [(1, "f")]
        assert joined.store.read_log(limit=9) == store.read_log(limit=9)
        connection.commit()
        assert [(row.seq, row.id) for row in store.read_log(limit=9)] == [(1, "f"), (2, "e")]


def test_without_a_transaction_it_is_refused(shared: Shared, service: Any) -> None:
    """Else each command would be committed at once, whatever its caller rolls back later."""
    with closing(shared.begin()) as connection:
        connection.rollback()
        if isinstance(connection, psycopg.Connection):
            connection.autocommit = True
        with pytest.raises(StoreError, match="no transaction is open"):
            service.on(connection).handle("e", Add())
    assert service.history("e") == []


def test_after_the_end_of_the_transaction_it_is_refused(shared: Shared, service: Any) -> None:
    """The service belongs to the transaction that it joined, or to the next one there."""
    with closing(shared.begin()) as connection:
        joined = service.on(connection)
        joined.handle("e", Add())
        connection.commit()
        if isinstance(connection, psycopg.Connection):
            connection.autocommit = True
        with pytest.raises(StoreError, match="no transaction is open"):
            joined.handle("e", Add())
    assert service.get("e").version == 1


def test_the_wrong_connection_is_refused(
    shared: Shared, service: Any, tmp_path: Path, connection: Any
) -> None:
    """Another database's, and what is none."""
    with closing(sqlite3.connect(tmp_path / "other.db", isolation_level=None)) as other:
        other.execute("BEGIN")
        with pytest.raises(StoreError, match="is joined on a"):
            service.on(other)
    with pytest.raises(StoreError, match="is joined on a"):
        service.on(shared.url)
    in_memory = Service(sample, open_store("memory://"), deps=undisturbed)
    with pytest.raises(StoreError, match="to join a transaction"):
        in_memory.on(connection)


def test_a_failed_transaction_is_refused(postgres_url: str) -> None:
    """PostgreSQL answers nothing there any more."""
    shared = SharedDatabase(postgres_url)
    with shared.open() as store, closing(shared.begin()) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nothing_of_the_kind")
        with pytest.raises(StoreError, match="has failed before"):
            Service(sample, store, deps=undisturbed).on(connection).get("e")


def test_a_transaction_that_python_began_is_joined(tmp_path: Path) -> None:
    """The module's own way: the first statement that writes begins it, the block commits."""
    shared = SharedFile(tmp_path / "shared.db")
    with shared.open() as store, closing(sqlite3.connect(tmp_path / "shared.db")) as connection:
        service = Service(sample, store, deps=undisturbed)
        with connection:
            connection.execute(NOTE)
            service.on(connection).handle("e", Add())
        assert (service.get("e").version, shared.notes()) == (1, 1)
        with suppress(ZeroDivisionError), connection:
            connection.execute(NOTE)
            assert service.on(connection).handle("e", Add()).version == 2
            raise ZeroDivisionError
        assert (service.get("e").version, shared.notes()) == (1, 1)
