"""The connections of an SQLite store: what an interrupt or an error leaves of them, and closing."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast import StoreError, open_store
from holdfast.stores.contract import Checkpoint, CommitUncertainError, Key, Store
from holdfast.stores.sqlite import SqliteStore
from holdfast.stores.sqlite.connections import MAX_IDLE_READERS
from holdfast.testing.conformance.base import find_row, row_of, stored
from holdfast.testing.consistency import faults
from holdfast.testing.writes import write

Act = Callable[[], object]


class Scripted(sqlite3.Connection):
    """A connection in which something happens before or after a statement, once."""

    before: tuple[str, Act] | None = None
    after: tuple[str, Act] | None = None

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor that acts."""
        return super().cursor(_Acting)

    def execute(self, statement: str, parameters: Any = ()) -> Any:
        """Execute through such a cursor."""
        return self.cursor().execute(statement, parameters)

    def act(self, when: str, statement: str) -> None:
        """Do what is due."""
        due = getattr(self, when)
        if due is not None and statement.startswith(due[0]):
            setattr(self, when, None)
            due[1]()


class _Acting(sqlite3.Cursor):
    def execute(self, statement: str, parameters: Any = ()) -> Any:
        assert isinstance(self.connection, Scripted)
        self.connection.act("before", statement)
        cursor = super().execute(statement, parameters)
        self.connection.act("after", statement)
        return cursor


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[Scripted]:
    """Return a list of the connections that stores open from now on."""
    opened: list[Scripted] = []
    connect = sqlite3.connect

    def connect_and_tell(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, factory=Scripted, **options)
        opened.append(connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_tell)
    return opened


@pytest.fixture
def store(path: Path, scripted: list[Scripted]) -> Iterator[Store]:
    """Give a store that holds an entity; its connection is the first of the list."""
    with open_store(f"sqlite:///{path}?busy_timeout_seconds=1") as store:
        stored(store, write("e", "Open"))
        yield store
    with open_store(f"sqlite:///{path}") as store:
        assert faults(store) == []


def is_open(connection: sqlite3.Connection) -> bool:
    """Tell whether a connection can be used."""
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return False
    return True


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("statement", ["BEGIN", "UPDATE entity", "INSERT INTO trans", "COMMIT"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("options", [{}, {"atomic": True}, {"timeout_seconds": 0.5}], ids=str)
def test_an_interrupted_write_is_rolled_back_at_once(
    store: Store, scripted: list[Scripted], options: dict[str, Any], when: str, statement: str
) -> None:
    """Unless its end was written already; others may write, and nothing half done is read."""
    row = row_of(store, "e")
    setattr(scripted[0], when, (statement, interrupt))
    with pytest.raises(KeyboardInterrupt):
        store.commit([write("e", "Closed", on=row)], **options)
    path = store.url.removeprefix("sqlite:///")
    with closing(sqlite3.Connection(path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    assert row_of(store, "e").version == (2 if (when, statement) == ("after", "COMMIT") else 1)
    stored(store, write("e", "Open", on=row_of(store, "e")))


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_reading_ends_its_transaction(
    store: Store, scripted: list[Scripted], when: str
) -> None:
    """What is read next is what there is then."""
    setattr(scripted[0], when, ("BEGIN", interrupt))
    with pytest.raises(KeyboardInterrupt):
        store.transition_at("sample", "e", version=1)
    assert not scripted[0].in_transaction
    assert store.transition_at("sample", "e", version=1) is not None


def test_an_uncertain_commit_ends_its_connection(store: Store, scripted: list[Scripted]) -> None:
    """It tells nothing any more; the next use opens another."""

    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    scripted[0].after = ("COMMIT", fail)
    with pytest.raises(CommitUncertainError, match="whether it was stored is not known"):
        store.commit([write("f", "Open")])
    assert not is_open(scripted[0])
    assert find_row(store, "f") is not None
    assert len(scripted) == 2


def test_a_connection_that_cannot_roll_back_is_closed(
    store: Store, scripted: list[Scripted]
) -> None:
    """Which rolls back; the error that is told is the first."""

    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    scripted[0].before = ("ROLLBACK", fail)
    scripted[0].after = ("INSERT INTO entity", fail)
    with pytest.raises(StoreError, match="cannot write"):
        store.commit([write("f", "Open")])
    assert not is_open(scripted[0])
    assert find_row(store, "f") is None
    stored(store, write("f", "Open"))


class Held:
    """Readings that last until they are let go, each in a thread of its own."""

    def __init__(self, store: Store, count: int) -> None:
        assert isinstance(store, SqliteStore)
        self.connections: set[sqlite3.Connection] = set()
        self.leave = threading.Event()
        self.pool = ThreadPoolExecutor(count)
        self.done = [self.pool.submit(store.connections.read, self.read) for _ in range(count)]
        patience = time.monotonic() + 10
        while len(self.connections) < count and time.monotonic() < patience:
            time.sleep(0.001)
        assert len(self.connections) == count, "each reads on a connection of its own"

    def read(self, connection: sqlite3.Connection) -> None:
        self.connections.add(connection)
        self.leave.wait(10)

    def let_go(self) -> None:
        self.leave.set()
        self.pool.shutdown()
        for done in self.done:
            done.result()


def test_few_connections_stay_open_when_many_have_read(
    store: Store, scripted: list[Scripted]
) -> None:
    """They are there for the next readings; the others are closed."""
    Held(store, 20).let_go()
    assert len(scripted) == 20
    assert sum(map(is_open, scripted)) == 1 + MAX_IDLE_READERS
    Held(store, 1 + MAX_IDLE_READERS).let_go()
    assert len(scripted) == 20


def test_closing_closes_every_connection(store: Store, scripted: list[Scripted]) -> None:
    """Those that wait for a reading, too."""
    Held(store, 3).let_go()
    store.close()
    assert len(scripted) == 3
    assert not any(map(is_open, scripted))


def test_a_reading_that_outlasts_the_store_closes_what_it_read_on(store: Store) -> None:
    """It is read to its end, and then no connection is kept for a next one."""
    first, beside = Held(store, 1), Held(store, 1)
    first.let_go()
    store.close()
    [own] = beside.connections
    assert is_open(own)
    beside.let_go()
    assert not is_open(own)


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_opening_waits_for_others_to_let_the_file_be_switched(path: Path, lock: str) -> None:
    """A file with a rollback journal, which another is writing at that moment."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE mine (value TEXT)")
        other.execute(f"BEGIN {lock}")
        threading.Timer(0.3, other.execute, ["COMMIT"]).start()
        with open_store(f"sqlite:///{path}") as store:
            stored(store, write("e", "Open"))
            assert store.checkpoint("reader") is None


def test_a_file_that_takes_no_write_ahead_log_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers would wait for writers, and writers for readers."""

    class Rollback(sqlite3.Connection):
        def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
            return super().execute(statement.replace("= WAL", "= DELETE"), *parameters)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **o: connect(*a, factory=Rollback, **o))
    with open_store(f"sqlite:///{path}") as store:
        with pytest.raises(StoreError, match="cannot use a write-ahead log"):
            store.count("sample")
        with pytest.raises(StoreError, match="put the file on a local disk"):
            store.commit([], checkpoint=Checkpoint("reader", 1))


def test_an_sqlite_that_is_too_old_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it makes a file that it could not use."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    refused = pytest.raises(StoreError, match=r"needs a library of 3\.38\.0 or later")
    with open_store(f"sqlite:///{path}") as store, refused:
        store.load([Key("sample", "e")])
    assert not path.exists()
