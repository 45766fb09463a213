"""The connections to an SQLite file: one that writes, some that read, and what a fork does to them.

Writes go through one connection a process, under `BEGIN IMMEDIATE`; reads take that connection
while it is free, which keeps its page cache warm, and otherwise one of their own.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from holdfast.errors import StoreError
from holdfast.stores.contract import Clock, CommitUncertainError
from holdfast.stores.sqlite import schema
from holdfast.stores.sqlite.errors import code_of, store_error
from holdfast.stores.sqlite.file import SqliteFile, Stamp, stamp_of_still

T = TypeVar("T")
G = TypeVar("G")

OLDEST_SQLITE = (3, 38, 0)
MAX_IDLE_READERS = 8

_inherited: list[sqlite3.Connection] = []


class Connections:
    """Reads and writes for all threads of a process; opened at first use."""

    def __init__(self, file: SqliteFile, clock: Clock) -> None:
        self._file = file
        self._url = file.url
        self._clock = clock
        self._lock = threading.Lock()  # holds the writer
        self._writer: sqlite3.Connection | None = None
        self._stamp: Stamp | None = None  # of a file that the writer takes to be still
        self._readers: list[sqlite3.Connection] = []
        self._reading: set[int] = set()  # threads that read on a connection of their own
        self._forking: int | None = None  # the thread that holds the lock for a fork
        self._unusable: str | None = None

    def read(self, read: Callable[..., T], *given: Any) -> T:
        """Read on a connection that nobody else uses meanwhile; raises StoreError."""
        if self._file.mode == "ro":
            return self._read_only(lambda connection: read(connection, *given))
        connection = self._take_reader()
        try:
            return read(connection, *given)
        except sqlite3.Error as error:
            raise store_error("read", self._url, error) from error
        finally:
            self._give_back(connection)

    def _read_only(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Read; once more where the file was taken to be still, and was written meanwhile."""
        patience = time.monotonic() + self._file.busy_timeout_seconds
        with self._lock:
            while True:
                connection = self.open_writer()
                try:
                    result = read(connection)
                except sqlite3.Error as error:
                    if self._is_undisturbed():
                        raise store_error("read", self._url, error) from error
                else:
                    if self._is_undisturbed():
                        return result
                self._drop_writer()
                if time.monotonic() > patience:
                    raise StoreError(f"{self._url} was written all the time; read it again later")

    def write(
        self,
        apply: Callable[[sqlite3.Connection, G], T],
        bound: G,
        timeout_seconds: float | None,
    ) -> T:
        """Apply in a transaction, which `apply` may end; where it raises, nothing is written."""
        if self._file.mode == "ro":
            raise StoreError(f"{self._url} is open for reading only (mode=ro); nothing was written")
        patience = self._file.busy_timeout_seconds
        if timeout_seconds is not None:
            patience = min(patience, max(timeout_seconds, 0.001))
        if not self._lock.acquire(timeout=patience):
            raise StoreError(
                f"{self._url} has been written by other threads for {patience:g} s; nothing was "
                "written, try again later"
            )
        try:
            connection = self._writer or self.open_writer()
            if timeout_seconds is None:
                return self._transact(connection, apply, bound)
            _wait_for_others(connection, patience)
            try:
                return self._transact(connection, apply, bound)
            finally:
                if connection is self._writer:  # else it failed, and is closed
                    _wait_for_others(connection, self._file.busy_timeout_seconds)
        finally:
            self._lock.release()

    def _transact(
        self,
        connection: sqlite3.Connection,
        apply: Callable[[sqlite3.Connection, G], T],
        bound: G,
    ) -> T:
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = apply(connection, bound)
        except BaseException as error:
            self._roll_back(connection)
            if isinstance(error, sqlite3.Error):
                raise store_error("write", self._url, error) from error
            raise
        if connection.in_transaction:
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._commit_error(connection, error) from error
            except BaseException:
                self._roll_back(connection)
                raise
        return result

    def _commit_error(self, connection: sqlite3.Connection, error: sqlite3.Error) -> StoreError:
        """Roll back where that can still be done, and return what to tell."""
        # A full disk takes a part of the transaction, and never the end that makes it count.
        if connection.in_transaction or code_of(error) == "SQLITE_FULL":
            self._roll_back(connection)
            return store_error("write", self._url, error)
        self._drop_writer()
        return CommitUncertainError(
            f"{self._url} failed while committing: {error}; whether it was stored is not known"
        )

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # A connection that cannot roll back is beyond use; closing it rolls back.
            self._drop_writer()

    def open_writer(self) -> sqlite3.Connection:
        """Return the writer, opened and migrated; the caller holds the lock."""
        if self._writer is not None:
            return self._writer
        if self._unusable is not None:
            raise StoreError(f"{self._url} {self._unusable}")
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreError(
                f"SQLite {sqlite3.sqlite_version} is too old; this Python needs a library of "
                f"{'.'.join(map(str, OLDEST_SQLITE))} or later"
            )
        read_only = self._file.mode == "ro"
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
        """See `Store.close`. Waits for a write that is under way."""
        with self._lock:
            self._unusable = "is closed; open it again with open_store"
            self._drop_writer()
            self._drop_readers()

    def before_fork(self) -> None:
        """Wait, with a bound, for what is under way, and close every connection to a file."""
        patience = time.monotonic() + self._file.busy_timeout_seconds
        if not self._lock.acquire(timeout=self._file.busy_timeout_seconds):
            return
        self._forking = threading.get_ident()
        if not self._file.in_memory:
            self._drop_writer()
            while self._reading and time.monotonic() < patience:
                time.sleep(0.001)
            self._drop_readers()

    def after_fork_in_parent(self) -> None:
        """Let the threads go on; the next use opens the file again."""
        if self._forking == threading.get_ident():
            self._forking = None
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew, or refuse to where the parent's connections could not be closed before."""
        held = [*self._readers, *([self._writer] if self._writer else [])]
        if held:
            import ctypes

            for connection in held:  # never closed: that would be done with the parent's locks
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
            _inherited.extend(held)
        quiet = self._forking == threading.get_ident() and not self._reading
        if (held or not quiet) and self._unusable is None:
            self._unusable = (
                "was opened before a fork and stayed with the parent process"
                if self._file.in_memory
                else "was in use by another thread during a fork and stayed with the parent "
                "process; fork before threads use it"
            )
        self._lock = threading.Lock()
        self._forking = None
        self._writer = None
        self._readers = []
        self._reading = set()

    def _is_undisturbed(self) -> bool:
        return self._stamp is None or self._stamp == stamp_of_still(self._file.path)

    def _take_reader(self) -> sqlite3.Connection:
        if self._lock.acquire(blocking=self._file.in_memory):
            try:
                return self._writer or self.open_writer()
            except BaseException:
                self._lock.release()
                raise
        self._begin_reading()
        try:
            return self._idle_reader() or self._file.connect()
        except BaseException:
            self._reading.discard(threading.get_ident())
            raise

    def _idle_reader(self) -> sqlite3.Connection | None:
        try:
            return self._readers.pop()
        except IndexError:
            return None

    def _begin_reading(self) -> None:
        """Enter the threads that read, which a fork waits for, once there is a file to read."""
        thread = threading.get_ident()
        self._reading.add(thread)
        while self._writer is None:  # being opened by another thread, or closed for a fork
            self._reading.discard(thread)
            with self._lock:
                self.open_writer()
            self._reading.add(thread)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if connection is self._writer:
            self._lock.release()
            return
        if len(self._readers) < MAX_IDLE_READERS and self._unusable is None:
            self._readers.append(connection)
        else:
            connection.close()
        self._reading.discard(threading.get_ident())

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _drop_readers(self) -> None:
        while self._readers:
            self._readers.pop().close()


def _wait_for_others(connection: sqlite3.Connection, seconds: float) -> None:
    """Bound the wait for other processes' writes."""
    connection.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
