"""A caller's connection to PostgreSQL: what is done on it joins the transaction open there.

Each write is a savepoint, so that one which is refused, or comes too late, leaves the caller's
transaction as it was. Savepoints are nested, so those who share a connection take turns. Nothing is
numbered in it: the log's order is given to what is committed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from holdfast.errors import StoreError
from holdfast.stores.outcomes import KeptBack
from holdfast.stores.postgres import schema
from holdfast.stores.postgres.connections import Connections
from holdfast.stores.postgres.drive import FAILURES, Doing, advance, failure, fetch, has_rows
from holdfast.stores.postgres.statements import Ask, Row, Statements, Steps

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")


class Shared:
    """What all who are joined on one connection share: whose turn it is, and the stores there."""

    def __init__(self, turn: Any, stores: WeakSet[Connections] | None = None) -> None:
        self.turn = turn
        self.stores: WeakSet[Connections] = WeakSet() if stores is None else stores


_shared: WeakKeyDictionary[object, Shared] = WeakKeyDictionary()


class Joined:
    """Drives steps on a caller's connection, in the caller's transaction.

    Does for a store what its `Connections` do otherwise; `home` are these, which tell the store.
    """

    is_busy = False
    new_turn: Callable[[], Any] = staticmethod(threading.RLock)

    def __init__(self, connection: Any, sql: Statements, home: Connections) -> None:
        self._connection = connection
        self._shared = _shared.setdefault(connection, Shared(self.new_turn()))
        self.sql = sql
        self._url = home.url
        self.home = home
        self._is_closed = False
        self._is_bare = False

    def bare(self) -> Self:
        """Return the same, where a writing is no savepoint."""
        same = copy(self)
        same._is_bare = True
        return same

    def run(
        self,
        begin: Callable[[], Steps[T]],
        *,
        doing: Doing,
        since: float | None = None,
        until: float | None = None,
    ) -> Any:
        """Drive the steps to their end, once; `until` they bound their waits for themselves."""
        with self._shared.turn:
            self._expect_transaction()
            store = self._store_to_find()
            steps = self._in_transaction(begin(), doing, store, bounded=until is not None)
            return advance(steps, lambda ask: self._answer(ask, doing))

    def transact(self, act: Callable[[Self], Any]) -> Any:
        """Do something within a savepoint, which is undone where it raises, or keeps back."""
        with self._shared.turn:
            self._expect_transaction()
            advance(self._begin_within(self._store_to_find()), self._write)
            try:
                result = act(self)
                self._write(self.sql.commit)
            except BaseException as error:
                with suppress(StoreError):  # the connection is lost, and the transaction with it
                    self._write(self.sql.rollback)
                if isinstance(error, KeptBack):
                    return error.result
                raise
            return result

    def alone(self, act: Callable[..., T]) -> T:
        """Refuse what needs a connection of its own."""
        raise StoreError(f"{self._url} is not migrated in a transaction of its caller's")

    def close(self) -> None:
        """Leave the connection to the caller."""
        self._is_closed = True

    def forget(self) -> None:
        """Leave the connection as it is over a fork: it is the caller's."""

    @property
    def _is_known(self) -> bool:
        """Whether the store was found on the connection before."""
        return self.home in self._shared.stores

    def _store_to_find(self) -> str | None:
        """Return the store that is to be found on the connection, unless it was."""
        return None if self._is_known else self.home.identify()

    def _begin_within(self, store: str | None) -> Steps[None]:
        if store is not None:
            yield from self._expect_store(store)
        yield self.sql.begin

    def _answer(self, ask: Ask, doing: Doing) -> list[Row]:
        return [] if self._leaves_out(ask) else self._fetch(ask, doing)

    def _leaves_out(self, ask: Ask) -> bool:
        """Whether a statement only begins or ends a savepoint that nobody needs."""
        return self._is_bare and ask in (self.sql.begin, self.sql.commit, self.sql.rollback)

    def _write(self, ask: Ask) -> list[Row]:
        return self._fetch(ask, "write")

    def _expect_transaction(self) -> None:
        """Raise StoreError unless a transaction is open, or is opened by the next statement."""
        status = self._connection.pgconn.transaction_status
        if self._is_closed:
            raise StoreError(f"{self._url} is closed; join it again with on(connection)")
        if self._connection.closed:
            raise StoreError(
                f"the connection that {self._url} is joined on is closed; nothing was written, "
                "and what its transaction did before is rolled back"
            )
        if self._connection.pgconn.pipeline_status != PipelineStatus.OFF:
            raise StoreError(
                f"the connection that {self._url} is joined on is in pipeline mode; nothing was "
                "done: leave the pipeline before"
            )
        encoding = self._connection.pgconn.parameter_status(b"client_encoding")
        if encoding != b"UTF8":
            raise StoreError(
                f"the connection that {self._url} is joined on is for text in "
                f"{(encoding or b'?').decode()}; nothing was done: connect with "
                "client_encoding=UTF8"
            )
        if status == TransactionStatus.INERROR:
            raise StoreError(
                f"the transaction that {self._url} is joined to has failed before; nothing was "
                "written: roll it back"
            )
        if status == TransactionStatus.IDLE and self._connection.autocommit:
            raise StoreError(
                f"no transaction is open on the connection that {self._url} is joined on; nothing "
                "was done: open one, as `with connection.transaction():` does"
            )

    def _fetch(self, ask: Ask, doing: Doing) -> list[Row]:
        cursor = psycopg.RawCursor(self._connection, row_factory=tuple_row)
        try:
            cursor.execute(ask.text, ask.parameters or None, prepare=_prepare(ask))
            return cursor.fetchall() if has_rows(cursor) else []
        except FAILURES as error:
            raise failure(error, self._url, doing, lost=self._connection.closed) from error

    def _in_transaction(
        self, steps: Steps[T], doing: Doing, store: str | None, *, bounded: bool
    ) -> Steps[T]:
        """Take the steps, and leave the caller's transaction as it was where a writing fails."""
        if store is not None:
            yield from self._expect_store(store)
        if doing != "write":
            return (yield from steps)
        [[usual]] = (yield self.sql.ask("longest_wait")) if bounded else [[None]]
        try:
            result = yield from steps
        except GeneratorExit:  # nobody drives on
            raise
        except BaseException:
            with suppress(StoreError):  # the connection is lost, and the transaction with it
                yield self.sql.rollback
            raise
        if bounded:
            yield self.sql.ask("set_wait", longest=usual)
        return result

    def _expect_store(self, store: str) -> Steps[None]:
        """Raise StoreError where the connection is not to the store's database."""
        is_there = bool((yield from schema.applied(self.sql, self._url)))
        if not is_there or (yield from schema.identity(self.sql)) != store:
            there = self._connection.info
            raise StoreError(
                f"{self._url} is joined on a connection to its own database, and this one is to "
                f"{there.dbname!r} on {there.host or 'a socket'}; nothing was done"
            )
        self._shared.stores.add(self.home)


class Within(Joined):
    """Drives steps in a transaction that the store itself has open."""

    @property
    def _is_known(self) -> bool:
        return True


class Own(Within):
    """The same, on a connection of the store's."""

    def _fetch(self, ask: Ask, doing: Doing) -> list[Row]:
        return fetch(self._connection, ask, self._url, doing)


class Alone(Within):
    """Reads on a connection that has no transaction open: what is read may be numbered before."""

    def _expect_transaction(self) -> None:
        """Read as the connection is."""


class AsyncJoined(Joined):
    """Drives steps on a connection that is awaited: what is run is to be awaited."""

    new_turn = staticmethod(asyncio.Lock)

    async def run(
        self,
        begin: Callable[[], Steps[T]],
        *,
        doing: Doing,
        since: float | None = None,
        until: float | None = None,
    ) -> T:
        """Drive the steps to their end, once."""
        async with self._shared.turn:
            self._expect_transaction()
            store = None if self._is_known else await asyncio.to_thread(self.home.identify)
            steps = self._in_transaction(begin(), doing, store, bounded=until is not None)
            return await self._drive(steps, doing)

    async def transact(self, act: Callable[[Self], Any]) -> Any:
        """Do as `Joined.transact` does, where what `act` returns is to be awaited."""
        async with self._shared.turn:
            self._expect_transaction()
            store = None if self._is_known else await asyncio.to_thread(self.home.identify)
            await self._drive(self._begin_within(store), "write")
            within = copy(self)
            within._shared = Shared(asyncio.Lock(), self._shared.stores)
            try:
                result = await act(within)
                await self._fetch_async(self.sql.commit, "write")
            except BaseException as error:
                with suppress(StoreError):  # the connection is lost, and the transaction with it
                    await self._fetch_async(self.sql.rollback, "write")
                if isinstance(error, KeptBack):
                    return error.result
                raise
            return result

    async def _drive(self, steps: Steps[T], doing: Doing) -> T:
        try:
            ask = next(steps)
            while True:
                try:
                    leaves_out = self._leaves_out(ask)
                    rows = [] if leaves_out else await self._fetch_async(ask, doing)
                except BaseException as error:  # noqa: BLE001 (raised inside the steps)
                    ask = steps.throw(error)
                else:
                    ask = steps.send(rows)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # (what the steps return)

    async def _fetch_async(self, ask: Ask, doing: Doing) -> list[Row]:
        cursor = psycopg.AsyncRawCursor(self._connection, row_factory=tuple_row)
        try:
            await cursor.execute(ask.text, ask.parameters or None, prepare=_prepare(ask))
            return await cursor.fetchall() if has_rows(cursor) else []
        except FAILURES as error:
            raise failure(error, self._url, doing, lost=self._connection.closed) from error


def join(connection: object, sql: Statements, home: Connections) -> Joined:
    """Return what drives steps on a connection; raises StoreError for what is no connection."""
    if isinstance(connection, psycopg.AsyncConnection):
        return AsyncJoined(connection, sql, home)
    if isinstance(connection, psycopg.Connection):
        return Joined(connection, sql, home)
    raise StoreError(
        f"{home.url} is joined on a connection of psycopg 3 to its database, not on "
        f"{connection!r:.80}"
    )


def _prepare(ask: Ask) -> bool | None:
    """Leave it to the caller's connection, but for what may be several statements at once."""
    return False if ask.is_control else None
