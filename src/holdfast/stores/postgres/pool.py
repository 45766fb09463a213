"""A pool of connections that callers who block share, and those that it cannot give in time."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from holdfast.errors import StoreError
from holdfast.stores.postgres.drive import Connection
from holdfast.stores.postgres.url import Address

RECONNECT_SECONDS = 5.0
"""How long the pool tries for itself, less and less often, before the next caller has it try."""
SLICE_SECONDS = 0.5
"""How long a pool is waited for that could have more connections, before one is opened beside it.

So a server that was away is found again soon, however seldom the pool looks for it by then.
"""
OPTIONS: dict[str, Any] = {"autocommit": True, "cursor_factory": psycopg.RawCursor}


class Pool:
    """Lends connections, no more at a time than its size. Safe for threads.

    `connect` opens and prepares a connection, or raises StoreError; `prepare` prepares one.
    """

    def __init__(
        self,
        address: Address,
        connect: Callable[[], Connection],
        prepare: Callable[[Connection], None],
    ) -> None:
        self._address = address
        self._connect = connect
        self._lent: dict[Connection, bool] = {}  # and whether it is of the pool
        self._pool = ConnectionPool[Connection](
            address.conninfo,
            kwargs=OPTIONS,
            configure=prepare,
            min_size=0,
            max_size=address.pool_size,
            reconnect_timeout=RECONNECT_SECONDS,
            open=False,
            name=address.url,
        )
        self._pool.open()

    def take(self, patience: float) -> Connection:
        """Lend a connection that is not known to be lost.

        Raises StoreError where there is none by the time that patience ends, in monotonic seconds,
        and PoolClosed once the pool is closed.
        """
        while True:
            left = patience - time.monotonic()
            seconds = left if self._is_exhausted() else min(left, SLICE_SECONDS)
            connection = self._take(seconds) or self._open(patience)
            if connection is not None:
                return connection

    def give_back(self, connection: Connection) -> None:
        """Take a connection back; what it left open is rolled back."""
        _leave_transaction(connection)
        if self._lent.pop(connection):
            self._pool.putconn(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close what is not lent, and the rest when it is given back."""
        self._pool.close()

    def _is_exhausted(self) -> bool:
        return len(self._lent) >= self._address.pool_size

    def _take(self, seconds: float) -> Connection | None:
        """Lend a connection of the pool, if it has one in time."""
        until = time.monotonic() + seconds
        while True:
            try:
                left = max(0.001, until - time.monotonic())  # 0 gives none
                connection = self._pool.getconn(timeout=left)
            except PoolTimeout:
                return None
            if _is_alive(connection):
                self._lent[connection] = True
                return connection
            self._pool.putconn(connection)

    def _open(self, patience: float) -> Connection | None:
        """Lend a connection of its own; None where there is time left to wait for one."""
        is_over = time.monotonic() >= patience
        if self._is_exhausted():
            if is_over:
                raise self._exhausted_error()
            return None
        try:
            connection = self._connect()
        except StoreError:
            if is_over:
                raise
            return None
        self._lent[connection] = False
        return connection

    def _exhausted_error(self) -> StoreError:
        return StoreError(
            f"all {self._address.pool_size} connections to {self._address.url} are in use, and "
            "none was given back in time; nothing was written, try again later, or raise "
            "holdfast_pool_size"
        )


def _is_alive(connection: Connection) -> bool:
    """Whether the server has not ended a connection; what waits for nothing hears little else."""
    try:
        while _has_news(connection.fileno()):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        connection.close()
    return connection.pgconn.status == ConnStatus.OK


def _has_news(socket: int) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([socket], [], [], 0)[0])
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))


def _leave_transaction(connection: Connection) -> None:
    """Roll back what was left open by an error."""
    status = connection.pgconn.transaction_status
    if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        try:
            connection.rollback()
        except psycopg.Error:
            connection.close()
