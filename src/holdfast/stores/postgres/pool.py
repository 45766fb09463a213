"""A pool of connections that callers who block share: opened on demand, by those who need them.

It has no thread of its own. A caller has one connection at a time, so what an interrupt kept it
from giving back is found when it comes again.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
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
LOOK_SECONDS = 60.0
"""How often those are looked for."""


class PoolClosedError(Exception):
    """The pool was closed."""


class Pool:
    """Lends connections, no more at a time than its size, to those who wait in their order.

    `connect` opens and prepares a connection, or raises StoreError. Where nobody waits, an idle
    connection is lent and taken back without the lock: lists and dicts change as a whole, a place
    is taken before places are counted, and it is left before those are looked for who wait.
    """

    def __init__(self, address: Address, connect: Callable[[], Connection]) -> None:
        self._address = address
        self._connect = connect
        self._lock = threading.RLock()  # a signal handler may close the pool
        self._waiting: list[_Waiter] = []
        self._idle: list[tuple[Connection, float]] = []  # since when, the last used at the end
        self._lent: dict[int, Connection | None] = {}  # by thread; None while it is being opened
        self._closed = False
        self._next_look = 0.0
        self._end = weakref.finalize(self, _close_own, self._idle, os.getpid())

    def take(self, patience: float) -> Connection:
        """Lend a connection that is not known to be lost.

        Raises StoreError where there is none by the time that patience ends, in monotonic seconds,
        and PoolClosedError once the pool is closed.
        """
        thread = get_ident()
        if self._idle and not self._waiting and thread not in self._lent and not self._closed:
            self._lent[thread] = None
            if len(self._lent) <= self._address.pool_size:
                connection = self._lent[thread] = self._next_idle()
                if connection is not None and _is_alive(connection):
                    return connection
        return self._take_in_order(thread, patience)

    def give_back(self) -> None:
        """Take back what the calling thread has; what it left open is rolled back."""
        thread = get_ident()
        connection = self._lent.get(thread)
        now = time.monotonic()
        if connection is not None:
            _leave_transaction(connection)
            self._lent[thread] = None
            self._idle.append((connection, now))
        self._lent.pop(thread, None)
        if self._waiting:
            self._let_in()
        if self._closed:
            _close_own(self._idle, os.getpid())
        elif now > self._next_look:
            self._close_unused(now)

    def close(self) -> None:
        """Close what is not lent, and the rest when it is given back."""
        with self._lock:
            self._closed = True
            for waiter in self._waiting:
                waiter.told.release()
            self._waiting.clear()
        self._end()

    def _take_in_order(self, thread: int, patience: float) -> Connection:
        """Lend a connection after those who wait already; what an interrupt left is closed."""
        left_over = self._lent.pop(thread, None)
        if left_over is not None:
            left_over.close()
        connection = self._wait_for_place(thread, patience)
        while connection is not None and not _is_alive(connection):
            connection = self._lent[thread] = self._next_idle()
        if connection is None:
            connection = self._lent[thread] = self._open(patience)
        return connection

    def _wait_for_place(self, thread: int, patience: float) -> Connection | None:
        """Wait for one of so many places; return the idle connection that it gets, if there is."""
        waiter = _Waiter(thread)
        try:
            with self._lock:
                if self._closed:
                    raise PoolClosedError
                self._waiting.append(waiter)
            self._let_in()
            in_time = waiter.told.acquire(timeout=max(0.0, patience - time.monotonic()))
        finally:
            with self._lock:
                self._waiting = [other for other in self._waiting if other is not waiter]
        if self._closed:
            raise PoolClosedError
        if not in_time and thread not in self._lent:
            raise self._exhausted_error()
        return self._lent[thread]

    def _let_in(self) -> None:
        """Give the places that are free to those who wait longest."""
        with self._lock:
            while self._waiting:
                waiter = self._waiting[0]
                self._lent[waiter.thread] = None
                if len(self._lent) > self._address.pool_size:
                    del self._lent[waiter.thread]
                    return
                del self._waiting[0]
                self._lent[waiter.thread] = self._next_idle()
                waiter.told.release()

    def _next_idle(self) -> Connection | None:
        """Return the connection that was used last, if there is one."""
        try:
            return self._idle.pop()[0]
        except IndexError:
            return None

    def _close_unused(self, now: float) -> None:
        """Close the connections that nobody has used for long, and look again after a while."""
        with self._lock:
            self._next_look = now + LOOK_SECONDS
            with suppress(IndexError):  # others may have taken them
                while self._idle[0][1] < now - IDLE_SECONDS:
                    self._idle.pop(0)[0].close()

    def _open(self, patience: float) -> Connection:
        """Open a connection, as soon as the server lets us."""
        while True:
            try:
                return self._connect()
            except StoreError:
                if self._closed or time.monotonic() + RETRY_SECONDS > patience:
                    raise
            time.sleep(RETRY_SECONDS)

    def _exhausted_error(self) -> StoreError:
        return StoreError(
            f"all {self._address.pool_size} connections to {self._address.url} are in use, and "
            "none was given back in time; nothing was written, try again later, or raise "
            "holdfast_pool_size"
        )


class _Waiter:
    """A thread that waits for a place, until it is told that it has one."""

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.told = threading.Lock()
        self.told.acquire()


def _close_own(idle: list[tuple[Connection, float]], process: int) -> None:
    """Close connections, unless they belong to the process that this one was forked from."""
    with suppress(IndexError):
        while os.getpid() == process:
            idle.pop()[0].close()


def _is_alive(connection: Connection) -> bool:
    """Whether the server has not ended a connection; what waits for nothing hears little else."""
    try:
        while connection.pgconn.status == ConnStatus.OK and connection.has_news():
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        connection.close()
    return connection.pgconn.status == ConnStatus.OK


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
