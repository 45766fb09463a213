"""A caller's connection to an SQLite file: what is done on it joins the transaction open there.

Each write is a savepoint, so that one which is refused, or comes too late, leaves the caller's
transaction as it was. Savepoints are nested, so threads that share a connection take turns.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from holdfast.errors import StoreError
from holdfast.stores.outcomes import KeptBack
from holdfast.stores.sql import load_migrations
from holdfast.stores.sqlite import schema
from holdfast.stores.sqlite.errors import ERRORS, store_error
from holdfast.stores.sqlite.file import SqliteFile

T = TypeVar("T")


class Turn:
    """Whose turn it is on a connection, for all who are joined on it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


_turns: WeakValueDictionary[int, Turn] = WeakValueDictionary()  # by the id of the connection
_turns_lock = threading.Lock()


def _turn_of(connection: sqlite3.Connection) -> Turn:
    with _turns_lock:
        return _turns.setdefault(id(connection), Turn())


class Joined:
    """Reads and writes on a caller's connection, and neither commits nor rolls back there.

    Does for a store what its `Connections` do otherwise.
    """

    is_busy = False

    def __init__(self, file: SqliteFile, connection: object) -> None:
        if not isinstance(connection, sqlite3.Connection):
            raise StoreError(
                f"{file.url} is joined on a sqlite3.Connection to its file, not on "
                f"{connection!r:.80}"
            )
        self._join(file, connection)
        self.read(_expect_store, file)

    def _join(
        self, file: SqliteFile, connection: sqlite3.Connection, turn: Turn | None = None
    ) -> None:
        self._file = file
        self._url = file.url
        self._connection = connection
        self._turn = turn or _turn_of(connection)
        self._is_closed = False

    def read(self, read: Callable[..., T], *given: Any) -> T:
        """Read what the caller's transaction sees; raises StoreError."""
        try:
            with self._borrowed() as connection:
                return read(connection, *given)
        except ERRORS as error:
            raise store_error("read", self._url, error) from error

    def write(self, timeout_seconds: float | None, apply: Callable[..., T], *given: Any) -> T:
        """Apply in a savepoint; where it raises, or keeps its work back, nothing is written."""
        try:
            with self._borrowed() as connection, _patience(connection, timeout_seconds):
                return _apply(connection.cursor(), apply, given)
        except ERRORS as error:
            raise store_error("write", self._url, error) from error

    def transact(self, act: Callable[..., T], *given: Any) -> T:
        """Do something within a savepoint, which leaves the connection as its owner has it."""
        try:
            self._expect_open()
            with self._turn.lock:
                return _apply(_cursor(self._connection), lambda _: act(*given), ())
        except ERRORS as error:
            raise store_error("write", self._url, error) from error

    def close(self) -> None:
        """Leave the connection to the caller."""
        self._is_closed = True

    def let_alone(self) -> None:
        """Leave the connection as it is over a fork: it is the caller's."""

    before_fork = after_fork_in_parent = after_fork_in_child = let_alone

    @contextmanager
    def _borrowed(self) -> Generator[sqlite3.Connection]:
        """Lend the connection as statements expect one, whatever its caller made of it."""
        self._expect_open()
        with self._turn.lock:
            text_factory = self._connection.text_factory
            try:
                self._connection.text_factory = str
                yield cast("sqlite3.Connection", _Borrowed(self._connection))
            finally:
                self._connection.text_factory = text_factory

    def _expect_open(self) -> None:
        """Raise StoreError where the connection is given back, or its transaction over."""
        if self._is_closed:
            raise StoreError(f"{self._url} is closed; join it again with on(connection)")
        if not self._connection.in_transaction:
            raise StoreError(
                f"no transaction is open on the connection that {self._url} is joined on; nothing "
                'was done: execute "BEGIN IMMEDIATE" there before'
            )


class Within(Joined):
    """Reads and writes in a transaction that the store itself has open on a connection."""

    def __init__(
        self,
        file: SqliteFile,
        connection: sqlite3.Connection,
        turn: Turn | None = None,
        *,
        is_bare: bool = False,
    ) -> None:
        self._join(file, connection, turn or Turn())  # nobody else can be joined on it
        self._is_bare = is_bare

    def bare(self) -> Within:
        """Return the same, where a writing is no savepoint."""
        return Within(self._file, self._connection, self._turn, is_bare=True)

    def read(self, read: Callable[..., T], *given: Any) -> T:
        """Read what the transaction sees, on the connection as the store has it."""
        try:
            with self._turn.lock:
                self._expect_open()
                return read(self._connection, *given)
        except ERRORS as error:
            raise store_error("read", self._url, error) from error

    def write(self, timeout_seconds: float | None, apply: Callable[..., T], *given: Any) -> T:
        """Apply in a savepoint; there is nobody to wait for."""
        try:
            with self._turn.lock:
                self._expect_open()
                cursor = self._connection.cursor()
                return apply(cursor, *given) if self._is_bare else _apply(cursor, apply, given)
        except KeptBack as kept:
            return cast("T", kept.result)
        except ERRORS as error:
            raise store_error("write", self._url, error) from error


class Found(Joined):
    """Reads and writes in the transaction on a connection that tells by itself where it leads."""

    def __init__(self, file: SqliteFile, connection: sqlite3.Connection) -> None:
        self._join(file, connection)
        self.read(_expect_schema, file)


class _Borrowed:
    """A connection whose rows are tuples, whatever its owner has them made."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    @property
    def text_factory(self) -> Any:
        return self._connection.text_factory

    @text_factory.setter
    def text_factory(self, factory: Any) -> None:
        self._connection.text_factory = factory

    def cursor(self) -> sqlite3.Cursor:
        return _cursor(self._connection)

    def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        return self.cursor().execute(statement, parameters)


def _cursor(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """Return a cursor as statements expect one, whatever the connection's owner has them made."""
    cursor = connection.cursor(sqlite3.Cursor)
    cursor.row_factory = None
    return cursor


def _apply(cursor: sqlite3.Cursor, apply: Callable[..., T], given: tuple[Any, ...]) -> T:
    connection = cursor.connection
    connection.execute("SAVEPOINT holdfast")
    is_kept = False
    try:
        result = apply(cursor, *given)
        is_kept = True
    except KeptBack as kept:
        return cast("T", kept.result)
    finally:
        if connection.in_transaction:  # else SQLite has rolled all of it back
            if not is_kept:
                connection.execute("ROLLBACK TO holdfast")
            connection.execute("RELEASE holdfast")
    return result


@contextmanager
def _patience(connection: sqlite3.Connection, timeout_seconds: float | None) -> Generator[None]:
    """Wait for other writers no longer than the timeout, and no longer than the caller would."""
    if timeout_seconds is None:
        yield
        return
    usual = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    patience = max(0, min(usual, round(timeout_seconds * 1000)))
    connection.execute(f"PRAGMA busy_timeout = {patience}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {usual}")


def _expect_store(connection: sqlite3.Connection, file: SqliteFile) -> None:
    """Raise StoreError unless the connection is to the store's file and its tables are in order."""
    _expect_file(connection, file)
    _expect_schema(connection, file)


def _expect_schema(connection: sqlite3.Connection, file: SqliteFile) -> None:
    newest = load_migrations("sqlite")[-1].number
    number = schema.schema_version(connection, file.url)
    if number < newest:
        raise StoreError(
            f"{file.url} has schema {number}, and this code needs schema {newest}: call "
            "migrate() of the store before the transaction begins"
        )
    connection.execute("PRAGMA secure_delete = ON")  # a purge leaves nothing in free pages


def _expect_file(connection: sqlite3.Connection, file: SqliteFile) -> None:
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    if file.in_memory or not path or not os.path.samefile(path, file.path):
        raise StoreError(
            f"{file.url} is joined on a connection to its own file, and this one is to "
            f"{path or 'a database in memory'!r}"
        )
