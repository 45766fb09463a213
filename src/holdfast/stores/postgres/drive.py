"""Drives the steps of a store on a connection that blocks."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from functools import cached_property, partial
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import psycopg
from psycopg import generators
from psycopg.adapt import Transformer
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import RowFactory, tuple_row

from holdfast.errors import StoreError
from holdfast.stores.contract import WriteRefusedError
from holdfast.stores.postgres.errors import statement_error
from holdfast.stores.postgres.statements import Ask, Row, Steps

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

T = TypeVar("T")
Doing = Literal["open", "read", "write", "migrate"]

OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "cursor_factory": psycopg.RawCursor,
    "prepare_threshold": None,
}
"""How a store connects: a statement outside of BEGIN and COMMIT is a transaction of its own.

psycopg prepares nothing: at the next ROLLBACK it would drop all that is prepared, ours too.
"""


class Connection(psycopg.Connection[Row]):
    """A connection that prepares the statements of steps and sends them without a cursor.

    That would take a third of the time of a short one.
    """

    _process = 0  # where an interrupt keeps it from being known

    def __init__(self, pgconn: PGconn, row_factory: RowFactory[Row] = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self._names: dict[bytes, bytes] = {}  # of what is prepared
        self._numbers = count()
        self._reader = Transformer(self)
        self._process = os.getpid()

    def __del__(self, *given: Any) -> None:
        """Complain of one that was not closed, but for a child that leaves it to its parent."""
        if os.getpid() == self._process:
            super().__del__(*given)

    def fetch(self, ask: Ask) -> list[Row]:
        """Execute a statement and return its rows; raises psycopg.Error, UnicodeEncodeError."""
        if ask.is_control:
            self.pgconn.send_query(ask.text)
            return self._rows()
        name = self._names.get(ask.text) or self._prepare(ask.text)
        if "\0" in "".join(filter(None, ask.parameters)):
            raise psycopg.DataError("text cannot contain NUL")  # it would end there
        parameters = [None if each is None else each.encode() for each in ask.parameters]
        self.pgconn.send_query_prepared(name, parameters)
        try:
            return self._rows()
        except (FeatureNotSupported, InvalidSqlStatementName):
            self._names.clear()  # the tables have changed, or somebody dropped what was prepared
            raise

    def _prepare(self, text: bytes) -> bytes:
        # Behind a pooler the name may be known already: it must never stand for another statement.
        digest = sha256(text).hexdigest()[:16].encode()
        name = b"holdfast_%s_%d" % (digest, next(self._numbers))
        self.pgconn.send_prepare(name, text)
        self._rows()
        self._names[text] = name
        return name

    def _rows(self) -> list[Row]:
        """Wait for the answer to what was sent."""
        results = self.wait(generators.execute(self.pgconn))
        for result in results:
            if result.status not in _DONE:
                raise error_from_result(result)
        self._reader.set_pgresult(results[-1])
        rows = self._reader.load_rows(0, results[-1].ntuples, tuple)
        self._reader.set_pgresult(None)
        return rows

    @cached_property
    def has_news(self) -> Callable[[], Any]:
        """Return what tells, without waiting, whether the server has sent something."""
        socket = self.fileno()
        if not hasattr(select, "poll"):
            return lambda: select.select([socket], [], [], 0)[0]
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        return partial(poll.poll, 0)


_DONE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)

FAILURES = (psycopg.Error, UnicodeEncodeError)
"""What a statement may raise."""


def drive(steps: Steps[T], connection: Connection, url: str, doing: Doing) -> T:
    """Drive steps to their end; where a statement fails, StoreError is raised inside them."""
    return advance(steps, lambda ask: fetch(connection, ask, url, doing))


def advance(steps: Steps[T], answer: Callable[[Ask], list[Row]]) -> T:
    """Drive steps to their end by what answers them; what it raises is raised inside them."""
    try:
        ask = next(steps)
        while True:
            try:
                rows = answer(ask)
            except BaseException as error:  # noqa: BLE001 (raised inside the steps)
                ask = steps.throw(error)
            else:
                ask = steps.send(rows)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # (what the steps return)


def fetch(connection: Connection, ask: Ask, url: str, doing: Doing) -> list[Row]:
    """Execute a statement and return its rows."""
    try:
        return connection.fetch(ask)
    except FAILURES as error:
        lost = connection.closed
        raise failure(error, url, doing, lost=lost, is_commit=ask.is_commit) from error


def has_failed(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether a statement failed in the open transaction.

    The server takes its COMMIT for a ROLLBACK then, without a word.
    """
    return connection.info.transaction_status == TransactionStatus.INERROR


def has_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    """Whether a statement answers with rows, be it none."""
    result = cursor.pgresult
    return result is not None and bool(result.nfields)


def failure(
    error: psycopg.Error | UnicodeEncodeError,
    url: str,
    doing: Doing,
    *,
    lost: bool,
    is_commit: bool = False,
) -> StoreError:
    """Return what to raise where a statement failed."""
    if isinstance(error, UnicodeEncodeError):
        kind = WriteRefusedError if doing == "write" else StoreError
        return kind(f"cannot {doing} {url}: {error}; nothing was written")
    return statement_error(url, error, doing=doing, lost=lost, is_commit=is_commit)
