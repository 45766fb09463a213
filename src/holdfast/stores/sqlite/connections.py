"""The connections to an SQLite file: one that writes, some that read, and what a fork does to them.

Writes go through one connection a process, under `BEGIN IMMEDIATE`; reads take that connection
while it is free, which keeps its page cache warm, and otherwise one of their own.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any, TypeVar, cast

from holdfast.errors import StoreError
from holdfast.stores.contract import Clock, CommitUncertainError
from holdfast.stores.fork import forked_within
from holdfast.stores.outcomes import KeptBack
from holdfast.stores.sqlite import schema
from holdfast.stores.sqlite.errors import ERRORS, code_of, store_error
from holdfast.stores.sqlite.file import SqliteFile, Stamp, stamp_of_still
from holdfast.stores.turns import FOR_EVER, TAKEN, Taken, Turns

T = TypeVar("T")

OLDEST_SQLITE = (3, 38, 0)
MAX_IDLE_READERS = 8

_inherited: list[sqlite3.Connection] = []


class Connections:
    """Reads and writes for all threads of a process; opened at first use."""

    def __init__(self, file: SqliteFile, clock: Clock) -> None:
        self._file = file
        self._url = file.url
        self._clock = clock
        self._turns = Turns(file.url)  # at the writer
        self._is_read_only = file.mode == "ro"
        self._reads_wait = file.in_memory or self._is_read_only  # there is but one connection
        self._writer: sqlite3.Connection | None = None
        self._stamp: Stamp | None = None  # of a file that the writer takes to be still
        self._readers: list[sqlite3.Connection] = []
        self._reading: set[object] = set()  # what is read on connections of their own
        self._forking: int | None = None  # the thread whose turn lasts through a fork
        self._unusable: str | None = None

    def read(self, read: Callable[..., T], *given: Any) -> T:
        """Read on a connection that nobody else uses meanwhile; raises StoreError.

        A transaction that `read` begins ends with it.
        """
        if self._reads_wait:
            act = self._read_still if self._is_read_only else self._read_on
            return cast("T", self._turns.take(FOR_EVER, act, read, given))
        result = self._turns.take(0, self._read_on, read, given)
        return self._read_beside(read, given) if result is TAKEN else result

    def _read_on(
        self,
        read: Callable[..., T],
        given: tuple[Any, ...],
        reader: sqlite3.Connection | None = None,
    ) -> T:
        """Read on a reader, or else on the writer; end the transaction that `read` began."""
        connection = reader or self._writer or self.open_writer()
        try:
            try:
                return read(connection, *given)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except ERRORS as error:
            raise store_error("read", self._url, error) from error

    def _read_beside(self, read: Callable[..., T], given: tuple[Any, ...]) -> T:
        """Read while the writer is taken."""
        this = object()
        connection = None
        try:
            self._begin_reading(this)
            connection = self._idle_reader() or self._file.connect()
            return self._read_on(read, given, connection)
        except ERRORS as error:
            raise store_error("read", self._url, error) from error
        finally:
            try:
                if connection is None:
                    pass
                elif len(self._readers) < MAX_IDLE_READERS and self._unusable is None:
                    self._readers.append(connection)
                else:
                    connection.close()
            finally:
                self._reading.discard(this)

    def _read_still(self, read: Callable[..., T], given: tuple[Any, ...]) -> T:
        """Read; once more where the file was taken to be still, and was written meanwhile."""
        patience = time.monotonic() + self._file.busy_timeout_seconds
        while True:
            connection = self.open_writer()
            try:
                result = self._read_on(read, given, connection)
            except StoreError:
                if self._is_undisturbed():
                    raise
            else:
                if self._is_undisturbed():
                    return result
            self._drop_writer()
            if time.monotonic() > patience:
                raise StoreError(f"{self._url} was written all the time; read it again later")

    @property
    def is_busy(self) -> bool:
        """Whether the thread that asks is in the midst of a call that uses the writer."""
        return self._turns.is_own

    def write_at_once(self, apply: Callable[..., T], *given: Any) -> T | Taken:
        """Do as `write` does, unless another thread has the writer; then nothing was done."""
        if self._is_read_only:
            raise self._read_only()
        return self._turns.take(0, self._transact, apply, given)

    def write(self, timeout_seconds: float | None, apply: Callable[..., T], *given: Any) -> T:
        """Apply in a transaction, through a cursor; where `apply` raises, nothing is written.

        Waits for other writers, threads and processes together, as long as the file allows, and
        no longer than the timeout.
        """
        if self._is_read_only:
            raise self._read_only()
        patience = self._file.busy_timeout_seconds
        if timeout_seconds is None:
            result: T | Taken = self._turns.take(0, self._transact, apply, given)
            if result is not TAKEN:
                return result
        else:
            patience = min(patience, max(timeout_seconds, 0.0))
        deadline = time.monotonic() + patience
        result = self._turns.take(patience, self._transact_until, deadline, apply, given)
        if result is TAKEN:
            raise StoreError(
                f"{self._url} has been written by other threads for {patience:g} s; nothing was "
                "written, try again later"
            )
        return result

    def _read_only(self) -> StoreError:
        return StoreError(f"{self._url} is open for reading only (mode=ro); nothing was written")

    def _transact_until(
        self, deadline: float, apply: Callable[..., T], given: tuple[Any, ...]
    ) -> T:
        """Apply in a transaction that begins before a moment."""
        connection = self._writer or self.open_writer()
        usual = _busy_timeout(self._file.busy_timeout_seconds)
        try:
            connection.execute(_busy_timeout(max(0.0, deadline - time.monotonic())))
            return self._transact(apply, given)
        finally:
            if connection is self._writer:  # else it failed, and is closed
                connection.execute(usual)

    def _transact(self, apply: Callable[..., T], given: tuple[Any, ...]) -> T:
        connection = self._writer or self.open_writer()
        try:
            cursor = connection.cursor()  # one for all, as each takes time to make
            cursor.execute("BEGIN IMMEDIATE")
            result = apply(cursor, *given)
            if connection is not self._writer:
                raise forked_within(self._url)
            try:
                cursor.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._commit_error(connection, error) from error
            return result
        except KeptBack as kept:
            return cast("T", kept.result)
        except ERRORS as error:
            raise store_error("write", self._url, error) from error
        finally:
            if connection is self._writer and connection.in_transaction:
                try:
                    connection.execute("ROLLBACK")
                except sqlite3.Error:
                    # A connection that cannot roll back is beyond use; closing it rolls back.
                    self._drop_writer()

    def _commit_error(self, connection: sqlite3.Connection, error: sqlite3.Error) -> StoreError:
        """Return what to tell, having dropped a connection that tells nothing any more."""
        # A full disk takes a part of the transaction, and never the end that makes it count.
        if connection.in_transaction or code_of(error) == "SQLITE_FULL":
            return store_error("write", self._url, error)
        self._drop_writer()
        return CommitUncertainError(
            f"{self._url} failed while committing: {error}; whether it was stored is not known"
        )

    def open_writer(self) -> sqlite3.Connection:
        """Return the writer, opened and migrated; it is the caller's turn."""
        if self._writer is not None:
            return self._writer
        if self._unusable is not None:
            raise StoreError(f"{self._url} {self._unusable}")
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreError(
                f"SQLite {sqlite3.sqlite_version} is too old; this Python needs a library of "
                f"{'.'.join(map(str, OLDEST_SQLITE))} or later"
            )
        read_only = self._is_read_only
        self._stamp = stamp_of_still(self._file.path) if read_only else None
        connection = self._file.connect(still=self._stamp is not None)
        try:
            self._file.expect_utf8(connection)
            if self._file.mode != "rwc":
                schema.expect_store(connection, self._url, read_only=read_only)
            if not read_only:
                self._file.use_write_ahead_log(connection)
                schema.migrate(connection, self._url, self._clock)
        except sqlite3.Error as error:
            connection.close()
            raise store_error("open", self._url, error) from error
        except BaseException:
            connection.close()
            raise
        self._writer = connection
        return connection

    def close(self) -> None:
        """See `Store.close`. Waits for what is under way."""
        self._turns.take(FOR_EVER, self._close)

    def _close(self) -> None:
        self._unusable = "is closed; open it again with open_store"
        self._drop_writer()
        self._drop_readers()

    def before_fork(self) -> None:
        """Wait, with a bound, for what is under way, and close every connection to a file."""
        patience = time.monotonic() + self._file.busy_timeout_seconds
        if not self._turns.hold(self._file.busy_timeout_seconds):
            return
        self._forking = get_ident()
        if not self._file.in_memory:
            self._drop_writer()
            while self._reading and time.monotonic() < patience:
                time.sleep(0.001)
            self._drop_readers()

    def after_fork_in_parent(self) -> None:
        """Let the threads go on; the next use opens the file again."""
        if self._forking == get_ident():
            self._forking = None
            self._turns.let_go()

    def after_fork_in_child(self) -> None:
        """Begin anew, or refuse to where the parent's connections could not be closed before."""
        held = [*self._readers, *([self._writer] if self._writer else [])]
        if held:
            import ctypes

            for connection in held:  # never closed: that would be done with the parent's locks
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
            _inherited.extend(held)
        quiet = self._forking == get_ident() and not self._reading
        if (held or not quiet) and self._unusable is None:
            self._unusable = (
                "was opened before a fork and stayed with the parent process"
                if self._file.in_memory
                else "was in use by another thread during a fork and stayed with the parent "
                "process; fork before threads use it"
            )
        self._turns = Turns(self._url)
        self._forking = None
        self._writer = None
        self._readers = []
        self._reading = set()

    def _is_undisturbed(self) -> bool:
        return self._stamp is None or self._stamp == stamp_of_still(self._file.path)

    def _begin_reading(self, this: object) -> None:
        """Enter what is read, which a fork waits for, once there is a file to read."""
        self._reading.add(this)
        while self._writer is None:  # being opened by another thread, or closed for a fork
            self._reading.discard(this)
            self._turns.take(FOR_EVER, self.open_writer)
            self._reading.add(this)

    def _idle_reader(self) -> sqlite3.Connection | None:
        try:
            return self._readers.pop()
        except IndexError:
            return None

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _drop_readers(self) -> None:
        while self._readers:
            self._readers.pop().close()


def _busy_timeout(seconds: float) -> str:
    """Return the statement that bounds the wait for other processes' writes."""
    return f"PRAGMA busy_timeout = {seconds * 1000:.0f}"
