"""The connections of a store that blocks: opened at first use, and driven by its steps."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from threading import get_ident
from typing import TypeVar, cast

import psycopg

from holdfast.errors import StoreError
from holdfast.stores.fork import forked_within
from holdfast.stores.outcomes import KeptBack, TransientError
from holdfast.stores.postgres import migrations, schema
from holdfast.stores.postgres.drive import OPTIONS, Connection, Doing, drive, fetch, has_failed
from holdfast.stores.postgres.errors import connect_error
from holdfast.stores.postgres.pool import Pool, PoolClosedError
from holdfast.stores.postgres.statements import Statements, Steps
from holdfast.stores.postgres.url import Address
from holdfast.stores.turns import in_the_midst

T = TypeVar("T")

ATTEMPTS = 4
"""How often steps are begun that wrote nothing when they failed, and may succeed."""

_inherited: list[Pool] = []


class Connections:
    """What steps are driven on, for a store with an address. Safe for threads."""

    def __init__(self, address: Address, sql: Statements, *, migrate: bool) -> None:
        self.url = address.url
        self._address = address
        self._sql = sql
        self._migrate = migrate
        self._lock = threading.RLock()  # a signal handler may close the store
        self._busy: set[int] = set()  # threads
        self._pool: Pool | None = None
        self._closed = False

    @property
    def is_busy(self) -> bool:
        """Whether the thread that asks is in the midst of a call that uses a connection."""
        return get_ident() in self._busy

    def run(
        self,
        begin: Callable[[], Steps[T]],
        *,
        doing: Doing,
        since: float | None = None,
        until: float | None = None,
    ) -> T:
        """Drive the steps to their end; begin anew where they failed and wrote nothing.

        `since` is when the wait for a connection began, if not now; `until` is when to wait no
        longer for anything. Both are in monotonic seconds.
        """
        return self._insist(
            lambda since: self._run_once(begin(), doing, since, until), since, until
        )

    def transact(self, act: Callable[[Connection], T], *, until: float | None = None) -> T:
        """Do something in a transaction; begin anew where the database undid it for others' sake.

        `act` raises KeptBack to have it rolled back and return a result.
        """
        return self._insist(lambda _: self._transact_once(act, until), None, until)

    def _insist(
        self, attempt: Callable[[float | None], T], since: float | None, until: float | None
    ) -> T:
        """Attempt what wrote nothing where it failed; the next wait from then on."""
        thread = get_ident()
        if thread in self._busy:  # a pool is no place for a signal handler
            raise in_the_midst(self.url)
        try:
            self._busy.add(thread)
            for number in range(1, ATTEMPTS):
                try:
                    return attempt(since)
                except TransientError:
                    pause = random.uniform(0.5, 1) * 0.02 * number
                    if until is not None and time.monotonic() + pause > until:
                        raise
                    time.sleep(pause)
                    since = None
            return attempt(since)
        finally:
            self._busy.discard(thread)

    def _transact_once(self, act: Callable[[Connection], T], until: float | None) -> T:
        pool = self._pool or self._open()
        patience = time.monotonic() + self._address.wait_seconds
        try:
            connection = pool.take(patience if until is None else min(patience, until))
            fetch(connection, self._sql.begin, self.url, "write")
            result = act(connection)
            if pool in _inherited:
                raise forked_within(self.url)
            if has_failed(connection):
                raise StoreError(
                    f"{self.url} refused a statement in the midst of the transaction, and a hook "
                    "passed its error over; nothing was written: let such errors through"
                )
            fetch(connection, self._sql.commit, self.url, "write")
        except KeptBack as kept:
            return cast("T", kept.result)
        except PoolClosedError:
            raise self._closed_error() from None
        finally:
            if pool not in _inherited:
                pool.give_back()  # what was not committed is rolled back
        return result

    def identify(self) -> str:
        """Tell which store it is, in words that are no other's."""
        return self.run(lambda: schema.identity(self._sql), doing="read")

    def alone(self, act: Callable[[Connection], T]) -> T:
        """Do something on a connection that is closed afterwards."""
        self._expect_open()
        with self._connect() as connection:
            return act(connection)

    def close(self) -> None:
        """Close all connections; those in use by other threads, when these are done."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def forget(self) -> None:
        """Leave the connections to the process that this one was forked from."""
        if self._pool is not None:
            _inherited.append(self._pool)  # never collected: that would end the parent's sessions
        self._lock = threading.RLock()
        self._busy = set()
        self._pool = None

    def _run_once(
        self, steps: Steps[T], doing: Doing, since: float | None, until: float | None
    ) -> T:
        pool = self._pool or self._open()
        patience = (since or time.monotonic()) + self._address.wait_seconds
        try:
            connection = pool.take(patience if until is None else min(patience, until))
            return drive(steps, connection, self.url, doing)
        except PoolClosedError:
            raise self._closed_error() from None
        finally:
            pool.give_back()

    def _open(self) -> Pool:
        """Open the pool, once the schema is found to be one that this code runs on."""
        with self._lock:
            self._expect_open()
            if self._pool is None:
                with self._connect() as connection:
                    if self._migrate:
                        migrations.migrate(connection, self._sql, self.url)
                    drive(schema.expect(self._sql, self.url), connection, self.url, "open")
                self._expect_open()
                self._pool = Pool(self._address, self._connect)
            return self._pool

    def _connect(self) -> Connection:
        try:
            connection = Connection.connect(self._address.conninfo, **OPTIONS)
        except psycopg.Error as error:
            raise connect_error(self.url, error) from error
        try:
            drive(schema.prepare(self._sql, self.url), connection, self.url, "open")
        except BaseException:
            connection.close()
            raise
        return connection

    def _expect_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> StoreError:
        return StoreError(f"{self.url} is closed; open it again with open_store")
