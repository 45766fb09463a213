"""A pool of connections that callers who block share: opened on demand, by those who need them.

It has no thread of its own. A caller has one connection at a time, so what an interrupt kept it
from giving back is found when it comes again.
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from threading import get_ident

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from holdfast.errors import StoreError
from holdfast.stores.postgres.drive import Connection
from holdfast.stores.postgres.url import Address

RETRY_SECONDS = 0.1
"""How long a server that is away is let alone between two attempts to connect."""
IDLE_SECONDS = 600.0
"""How long a connection is kept that nobody uses."""


class PoolClosedError(Exception):
    """The pool was closed."""


class Pool:
    """Lends connections, no more at a time than its size. Safe for threads.

    `connect` opens and prepares a connection, or raises StoreError.
    """

    def __init__(self, address: Address, connect: Callable[[], Connection]) -> None:
        self._address = address
        self._connect = connect
        self._returned = threading.Condition(threading.Lock())
        self._idle: list[tuple[Connection, float]] = []  # since when, the last used at the end
        self._lent: dict[int, Connection | None] = {}  # by thread; None while it is being opened
        self._closed = False
        self._end = weakref.finalize(self, _close_own, self._idle, os.getpid())

    def take(self, patience: float) -> Connection:
        """Lend a connection that is not known to be lost.

        Raises StoreError where there is none by the time that patience ends, in monotonic seconds,
        and PoolClosedError once the pool is closed.
        """
        thread = get_ident()
        connection = self._take_place(thread, patience)
        try:
            while connection is not None and not _is_alive(connection):
                connection = self._take_idle(thread)
            if connection is None:
                connection = self._lent[thread] = self._open(patience)
        except BaseException:
            self._leave(thread)
            raise
        return connection

    def give_back(self) -> None:
        """Take back what the calling thread has; what it left open is rolled back."""
        thread = get_ident()
        connection = self._lent.get(thread)
        if connection is not None:
            _leave_transaction(connection)
        self._leave(thread, connection)

    def close(self) -> None:
        """Close what is not lent, and the rest when it is given back."""
        with self._returned:
            self._closed = True
            self._returned.notify_all()
        self._end()

    def _take_place(self, thread: int, patience: float) -> Connection | None:
        """Wait for one of so many places; return the idle connection that it gets, if there is."""
        with self._returned:
            left_over = self._lent.pop(thread, None)
            while not self._closed and len(self._lent) >= self._address.pool_size:
                left_seconds = patience - time.monotonic()
                if left_seconds <= 0 or not self._returned.wait(left_seconds):
                    raise self._exhausted_error()
            if self._closed:
                raise PoolClosedError
            connection = self._lent[thread] = self._idle.pop()[0] if self._idle else None
        if left_over is not None:  # an interrupt came before it was given back
            left_over.close()
        return connection

    def _take_idle(self, thread: int) -> Connection | None:
        """Return the connection that was used last, if there is one."""
        with self._returned:
            self._lent[thread] = connection = self._idle.pop()[0] if self._idle else None
        return connection

    def _open(self, patience: float) -> Connection:
        """Open a connection, as soon as the server lets us."""
        while True:
            try:
                return self._connect()
            except StoreError:
                if self._closed or time.monotonic() + RETRY_SECONDS > patience:
                    raise
            time.sleep(RETRY_SECONDS)

    def _leave(self, thread: int, connection: Connection | None = None) -> None:
        """Leave the place to another thread, and the connection to whoever is next."""
        now = time.monotonic()
        done = []
        with self._returned:
            if connection is not None and not self._closed:
                self._idle.append((connection, now))
            elif connection is not None:
                done.append(connection)
            while self._idle and self._idle[0][1] < now - IDLE_SECONDS:
                done.append(self._idle.pop(0)[0])
            self._lent.pop(thread, None)
            self._returned.notify()
        for each in done:
            each.close()

    def _exhausted_error(self) -> StoreError:
        return StoreError(
            f"all {self._address.pool_size} connections to {self._address.url} are in use, and "
            "none was given back in time; nothing was written, try again later, or raise "
            "holdfast_pool_size"
        )


def _close_own(idle: list[tuple[Connection, float]], process: int) -> None:
    """Close connections, unless they belong to the process that this one was forked from."""
    if os.getpid() == process:
        while idle:
            idle.pop()[0].close()


def _is_alive(connection: Connection) -> bool:
    """Whether the server has not ended a connection; what waits for nothing hears little else."""
    try:
        while connection.pgconn.status == ConnStatus.OK and _has_news(connection.pgconn.socket):
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
    """Roll back what an error left open; close what an interrupt left in the midst of a query."""
    status = connection.pgconn.transaction_status
    if status == TransactionStatus.IDLE:
        return
    try:
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            connection.rollback()
        else:
            connection.close()
    except psycopg.Error:
        connection.close()
