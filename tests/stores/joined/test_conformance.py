"""Stores inside a transaction of their caller's: the conformance suite, and what is its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import psycopg
import pytest
from psycopg.rows import dict_row

from holdfast import open_store
from holdfast.stores.contract import MAX_PAGE, Clock, Key, Loaded, Outcome, Store, Write
from holdfast.stores.postgres.store import PostgresStore
from holdfast.testing import StoreConformance
from holdfast.testing.conformance import Opener
from holdfast.testing.conformance.base import Connect, service_on

if TYPE_CHECKING:
    from tests.stores.postgres.lending import Stores

T = TypeVar("T")

FORGETS = "what is written in a transaction is seen by nobody else before its end"
ONE_THREADS = "a transaction is one thread's"


def begun(path: Path) -> sqlite3.Connection:
    """Return a connection in a transaction, made by somebody with tastes of their own."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = lambda cursor, row: {"row": row}
    connection.text_factory = bytes
    connection.execute("BEGIN IMMEDIATE")
    return connection


class TestSqliteJoined(StoreConformance):
    forgets = FORGETS
    is_one_threads = ONE_THREADS

    @pytest.fixture
    def open(self, tmp_path: Path) -> Iterator[Opener]:
        path = tmp_path / "store.db"
        with ExitStack() as stack:

            def open(*, clock: Clock | None = None) -> Store:
                store = stack.enter_context(open_store(f"sqlite:///{path}", clock=clock))
                store.migrate()
                connection = begun(path)
                stack.callback(connection.close)
                return store.on(connection)

            yield open

    @pytest.fixture
    def connect(self) -> Connect:
        """Return what makes services that block: the other ways do not join."""
        return service_on


class OwnTransactions(PostgresStore):
    """A store whose loads and commits each join a transaction of their own."""

    def __init__(self, url: str, connection: psycopg.Connection[Any], clock: Clock | None) -> None:
        super().__init__(url, clock=clock)
        self._own = connection
        self._joining = PostgresStore(url, clock=clock).on(connection)

    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        super().read_log(limit=MAX_PAGE)  # gives the positions, which a transaction does not
        with self._own.transaction():
            return self._joining.load(keys)

    def commit(self, writes: Sequence[Write], **terms: Any) -> list[Outcome]:
        with self._own.transaction():
            return self._joining.commit(writes, **terms)

    def transact(self, act: Callable[[Store], T], *, timeout_seconds: float | None = None) -> T:
        with self._own.transaction():
            return self._joining.transact(act, timeout_seconds=timeout_seconds)

    def close(self) -> None:
        self._joining.close()
        super().close()


class TestPostgresJoined(StoreConformance):
    is_one_threads = ONE_THREADS

    @pytest.fixture
    def open(self, postgres_stores: Stores) -> Iterator[Opener]:
        with ExitStack() as stack:
            url = stack.enter_context(postgres_stores.lent())

            def open(*, clock: Clock | None = None) -> Store:
                connection: psycopg.Connection[Any] = psycopg.Connection.connect(
                    url, row_factory=cast("Any", dict_row), autocommit=True
                )
                stack.callback(connection.close)
                return stack.enter_context(OwnTransactions(url, connection, clock))

            yield open

    @pytest.fixture
    def connect(self) -> Connect:
        """Return what makes services that block: the other ways do not join."""
        return service_on
