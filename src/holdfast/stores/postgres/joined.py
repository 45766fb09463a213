"""A caller's connection to PostgreSQL: what is done on it joins the transaction open there.

Each write is a savepoint, so that one which is refused, or comes too late, leaves the caller's
transaction as it was. Nothing is numbered in it: the log's order is given to what is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from holdfast.errors import StoreError
from holdfast.stores.postgres import schema
from holdfast.stores.postgres.drive import FAILURES, Doing, advance, failure, has_rows
from holdfast.stores.postgres.statements import Ask, Row, Statements, Steps

T = TypeVar("T")


class Joined:
    """Drives steps on a caller's connection, in the caller's transaction.

    Does for a store what its `Connections` do otherwise.
    """

    is_busy = False

    def __init__(self, connection: psycopg.Connection[Any], sql: Statements, url: str) -> None:
        self._connection = connection
        self._sql = sql
        self._url = url
        self._is_known = False
        self._is_closed = False

    def run(
        self,
        begin: Callable[[], Steps[T]],
        *,
        doing: Doing,
        since: float | None = None,
        until: float | None = None,
    ) -> Any:
        """Drive the steps to their end, once; `until` they bound their waits for themselves."""
        self._expect_transaction(self._connection)
        steps = self._in_transaction(begin(), doing, bounded=until is not None)
        return advance(steps, lambda ask: self._fetch(ask, doing))

    def alone(self, act: Callable[..., T]) -> T:
        """Refuse what needs a connection of its own."""
        raise StoreError(f"{self._url} is not migrated in a transaction of its caller's")

    def close(self) -> None:
        """Leave the connection to the caller."""
        self._is_closed = True

    def forget(self) -> None:
        """Leave the connection as it is over a fork: it is the caller's."""

    def _expect_transaction(self, connection: Any) -> None:
        """Raise StoreError unless a transaction is open, or is opened by the next statement."""
        status = connection.pgconn.transaction_status
        if self._is_closed:
            raise StoreError(f"{self._url} is closed; join it again with on(connection)")
        if status == TransactionStatus.INERROR:
            raise StoreError(
                f"the transaction that {self._url} is joined to has failed before; nothing was "
                "written: roll it back"
            )
        if status == TransactionStatus.IDLE and connection.autocommit:
            raise StoreError(
                f"no transaction is open on the connection that {self._url} is joined on; nothing "
                "was done: open one, as `with connection.transaction():` does"
            )

    def _fetch(self, ask: Ask, doing: Doing) -> list[Row]:
        cursor = psycopg.RawCursor(self._connection, row_factory=tuple_row)
        try:
            cursor.execute(ask.text, ask.parameters or None)
            return cursor.fetchall() if has_rows(cursor) else []
        except FAILURES as error:
            raise failure(error, self._url, doing, lost=self._connection.closed) from error

    def _in_transaction(self, steps: Steps[T], doing: Doing, *, bounded: bool) -> Steps[T]:
        """Take the steps, and leave the caller's transaction as it was where a writing fails."""
        if not self._is_known:
            yield from schema.expect(self._sql, self._url)
            self._is_known = True
        if doing != "write":
            return (yield from steps)
        try:
            [[usual]] = (yield self._sql.ask("longest_wait")) if bounded else [[None]]
            result = yield from steps
            if bounded:
                yield self._sql.ask("bound_wait", longest=usual)
        except Exception:
            with suppress(StoreError):  # the connection is lost, and the transaction with it
                yield self._sql.rollback
            raise
        return result


class AsyncJoined(Joined):
    """Drives steps on a connection that is awaited: what is run is to be awaited."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], sql: Statements, url: str) -> None:
        self._connection_async = connection
        self._sql = sql
        self._url = url
        self._is_known = False
        self._is_closed = False

    def run(
        self,
        begin: Callable[[], Steps[T]],
        *,
        doing: Doing,
        since: float | None = None,
        until: float | None = None,
    ) -> Coroutine[Any, Any, T]:
        """Return what drives the steps to their end, once."""
        self._expect_transaction(self._connection_async)
        steps = self._in_transaction(begin(), doing, bounded=until is not None)
        return self._drive(steps, doing)

    async def _drive(self, steps: Steps[T], doing: Doing) -> T:
        try:
            ask = next(steps)
            while True:
                try:
                    rows = await self._fetch_async(ask, doing)
                except StoreError as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(rows)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # (what the steps return)

    async def _fetch_async(self, ask: Ask, doing: Doing) -> list[Row]:
        cursor = psycopg.AsyncRawCursor(self._connection_async, row_factory=tuple_row)
        try:
            await cursor.execute(ask.text, ask.parameters or None)
            return await cursor.fetchall() if has_rows(cursor) else []
        except FAILURES as error:
            lost = self._connection_async.closed
            raise failure(error, self._url, doing, lost=lost) from error


def join(connection: object, sql: Statements, url: str) -> Joined:
    """Return what drives steps on a connection; raises StoreError for what is no connection."""
    if isinstance(connection, psycopg.AsyncConnection):
        return AsyncJoined(connection, sql, url)
    if isinstance(connection, psycopg.Connection):
        return Joined(connection, sql, url)
    raise StoreError(
        f"{url} is joined on a connection of psycopg 3 to its database, not on {connection!r:.80}"
    )
