"""The SQLite store: one file, safe for several threads and processes, durable at power loss.

Writes go through one connection a process, under `BEGIN IMMEDIATE`; reads take that connection
while it is free, which keeps its page cache warm, and otherwise one of their own.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import astuple

from holdfast.errors import StoreError
from holdfast.machine.canonical import format_time, parse_time
from holdfast.stores.contract import (
    Applied,
    Check,
    Checkpoint,
    Clock,
    CommitUncertainError,
    EntityRow,
    Key,
    Loaded,
    LogRow,
    Outcome,
    Store,
    Write,
    all_or_none,
    digest_of,
    judge,
)
from holdfast.stores.fork import follow_forks
from holdfast.stores.group import GroupCommit
from holdfast.stores.sql import Migration, load_migrations, load_queries
from holdfast.stores.sqlite_file import Mode, Stamp, stamp_of_still, uri_of

Synchronous = Literal["NORMAL", "FULL", "EXTRA"]
SYNCHRONOUS: dict[str, Synchronous] = {"NORMAL": "NORMAL", "FULL": "FULL", "EXTRA": "EXTRA"}
T = TypeVar("T")

OLDEST_SQLITE = (3, 38, 0)
MAX_IDLE_READERS = 8

_QUERIES = load_queries("sqlite")
_LOAD = _QUERIES["load"].positional
_INSERT_ENTITY = _QUERIES["insert_entity"].positional
_UPDATE_ENTITY = _QUERIES["update_entity"].positional
_INSERT_TRANSITION = _QUERIES["insert_transition"].positional

_inherited: list[sqlite3.Connection] = []


class SqliteStore(Store):
    """Keeps records and the log in an SQLite file, or in memory for `:memory:`.

    With `synchronous="NORMAL"` acknowledged transitions can vanish when the power fails (all
    since the last checkpoint of the write-ahead log); a crash of the process loses nothing.
    """

    def __init__(
        self,
        path: str,
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout_seconds: float = 5.0,
        mode: Mode = "rwc",
        clock: Clock,
    ) -> None:
        super().__init__()
        self.url = f"sqlite:///{path}"
        self._in_memory = path == ":memory:"
        # Absolute, so that the file stays the same when the process goes to another folder.
        self._path = path if self._in_memory else os.path.abspath(path)
        self._synchronous = synchronous
        self._busy_timeout_seconds = busy_timeout_seconds
        self._mode: Mode = mode
        self._clock = clock
        self._lock = threading.Lock()  # holds the writer
        self._writer: sqlite3.Connection | None = None
        self._stamp: Stamp | None = None  # of a file that the writer takes to be still
        self._readers: list[sqlite3.Connection] = []
        self._reading: set[int] = set()  # threads that read on a connection of their own
        self._forking: int | None = None  # the thread that holds the lock for a fork
        self._unusable: str | None = None
        self._group = GroupCommit(self._write_together)
        follow_forks(self)

    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        """See `Store.load`."""
        return self._read(self._load, keys)

    def commit(
        self,
        writes: Sequence[Write],
        *,
        checks: Sequence[Check] = (),
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        timeout_seconds: float | None = None,
    ) -> list[Outcome]:
        """See `Store.commit`."""
        if not (atomic or checks or checkpoint or timeout_seconds):
            return self._group.commit(writes)
        recorded_at = format_time(self._clock())
        bound = [_bind(write, recorded_at) for write in writes]

        def apply(connection: sqlite3.Connection, bound: list[_Bound]) -> list[Outcome]:
            outcomes = _write_entities(connection, bound)
            outcomes += [_checked(connection, check) for check in checks]
            is_late = False
            if checkpoint is not None:
                outcomes.append(_judged(connection, checkpoint, writes))
                is_late = not outcomes[-1].applied
            if atomic or checks or is_late:
                settled = all_or_none(writes, outcomes)
                if settled is not None:
                    connection.execute("ROLLBACK")
                    return settled
            if checkpoint is not None:
                connection.execute(
                    _QUERIES["save_checkpoint"].text,
                    {
                        "name": checkpoint.name,
                        "position": checkpoint.position,
                        "updated_at": recorded_at,
                    },
                )
            return outcomes

        return self._write(apply, bound, timeout_seconds)

    def _write_together(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write in one transaction what does not depend on each other."""
        recorded_at = format_time(self._clock())
        bound = [_bind(write, recorded_at) for write in writes]
        return self._write(_write_entities, bound, None)

    def history(self, machine: str, id: str, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.history`."""
        rows = self._fetch("history", machine=machine, id=id, after=after, limit=limit)
        return [LogRow(*row) for row in rows]

    def transition_at(
        self, machine: str, id: str, *, version: int | None = None, time: str | None = None
    ) -> Applied | None:
        """See `Store.transition_at`."""

        def find(connection: sqlite3.Connection) -> Applied | None:
            name = "transition_at_time" if version is None else "transition_at_version"
            parameters = {"machine": machine, "id": id, "version": version, "time": time}
            with _one_moment(connection):
                row = connection.execute(_QUERIES[name].text, parameters).fetchone()
                return row and _with_origin(connection, LogRow(*row))

        return self._read(find)

    def find(
        self,
        machine: str,
        *,
        state_types: Sequence[str] | None = None,
        after: str = "",
        limit: int,
    ) -> list[EntityRow]:
        """See `Store.find`."""
        page = {"machine": machine, "after": after, "limit": limit}
        if state_types is None:
            return [EntityRow(*row) for row in self._fetch("find", **page)]

        def find(connection: sqlite3.Connection) -> list[EntityRow]:
            query = _QUERIES["find_in_state"].text
            with _one_moment(connection):
                return [
                    EntityRow(*row)
                    for state_type in dict.fromkeys(state_types)
                    for row in connection.execute(query, {**page, "state_type": state_type})
                ]

        return sorted(self._read(find), key=lambda row: row.id)[:limit]

    def count(self, machine: str) -> dict[str, int]:
        """See `Store.count`."""
        return dict(self._fetch("count", machine=machine))

    def entities(self, *, after: tuple[str, str] = ("", ""), limit: int) -> list[EntityRow]:
        """See `Store.entities`."""
        rows = self._fetch("entities", machine=after[0], id=after[1], limit=limit)
        return [EntityRow(*row) for row in rows]

    def read_log(self, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.read_log`."""
        return [LogRow(*row) for row in self._fetch("read_log", after=after, limit=limit)]

    def checkpoint(self, name: str) -> int | None:
        """See `Store.checkpoint`."""
        rows = self._fetch("load_checkpoint", name=name)
        return rows[0][0] if rows else None

    def flaws(self) -> list[str]:
        """See `Store.flaws`: what of the schema is gone, and positions that are."""

        def look(connection: sqlite3.Connection) -> list[str]:
            with _one_moment(connection):
                number = self._schema_version(connection)
                stored = connection.execute(_QUERIES["definitions"].text).fetchall()
                given, last = connection.execute(_QUERIES["last_positions"].text).fetchone()
            same = number == load_migrations("sqlite")[-1].number
            gone = _definitions() - set(stored) if same else set()
            found = [f"the {kind} {name} is not there as it was made" for kind, name, _ in gone]
            return sorted(found) + _misplaced(given, last)

        return self._read(look)

    def migrate(self) -> None:
        """See `Store.migrate`; every opening does it."""
        self._read(lambda connection: None)

    def close(self) -> None:
        """See `Store.close`. Waits for a write that is under way."""
        with self._lock:
            self._unusable = "is closed; open it again with open_store"
            self._drop_writer()
            self._drop_readers()

    def before_fork(self) -> None:
        """Wait, with a bound, for what is under way, and close every connection to a file."""
        patience = time.monotonic() + self._busy_timeout_seconds
        if not self._lock.acquire(timeout=self._busy_timeout_seconds):
            return
        self._forking = threading.get_ident()
        if not self._in_memory:
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
                if self._in_memory
                else "was in use by another thread during a fork and stayed with the parent "
                "process; fork before threads use it"
            )
        self._lock = threading.Lock()
        self._group = GroupCommit(self._write_together)
        self._forking = None
        self._writer = None
        self._readers = []
        self._reading = set()

    # Connections

    def _read(self, read: Callable[..., T], *given: Any) -> T:
        if self._mode == "ro":
            return self._read_only(lambda connection: read(connection, *given))
        connection = self._take_reader()
        try:
            return read(connection, *given)
        except sqlite3.Error as error:
            raise self._store_error("read", error) from error
        finally:
            self._give_back(connection)

    def _read_only(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Read; once more where the file was taken to be still, and was written meanwhile."""
        patience = time.monotonic() + self._busy_timeout_seconds
        with self._lock:
            while True:
                connection = self._open_writer()
                try:
                    result = read(connection)
                except sqlite3.Error as error:
                    if self._is_undisturbed():
                        raise self._store_error("read", error) from error
                else:
                    if self._is_undisturbed():
                        return result
                self._drop_writer()
                if time.monotonic() > patience:
                    raise StoreError(f"{self.url} was written all the time; read it again later")

    def _is_undisturbed(self) -> bool:
        return self._stamp is None or self._stamp == stamp_of_still(self._path)

    def _fetch(self, query: str, **parameters: Any) -> list[Any]:
        text = _QUERIES[query].text
        return self._read(lambda connection: connection.execute(text, parameters).fetchall())

    def _take_reader(self) -> sqlite3.Connection:
        if self._lock.acquire(blocking=self._in_memory):
            try:
                return self._writer or self._open_writer()
            except BaseException:
                self._lock.release()
                raise
        self._begin_reading()
        try:
            return self._idle_reader() or self._connect()
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
                self._open_writer()
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

    def _write(
        self,
        apply: Callable[[sqlite3.Connection, list[_Bound]], T],
        bound: list[_Bound],
        timeout_seconds: float | None,
    ) -> T:
        if self._mode == "ro":
            raise StoreError(f"{self.url} is open for reading only (mode=ro); nothing was written")
        patience = self._busy_timeout_seconds
        if timeout_seconds is not None:
            patience = min(patience, max(timeout_seconds, 0.001))
        if not self._lock.acquire(timeout=patience):
            raise StoreError(
                f"{self.url} has been written by other threads for {patience:g} s; nothing was "
                "written, try again later"
            )
        try:
            connection = self._writer or self._open_writer()
            if timeout_seconds is None:
                return self._transact(connection, apply, bound)
            _wait_for_others(connection, patience)
            try:
                return self._transact(connection, apply, bound)
            finally:
                if connection is self._writer:  # else it failed, and is closed
                    _wait_for_others(connection, self._busy_timeout_seconds)
        finally:
            self._lock.release()

    def _transact(
        self,
        connection: sqlite3.Connection,
        apply: Callable[[sqlite3.Connection, list[_Bound]], T],
        bound: list[_Bound],
    ) -> T:
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = apply(connection, bound)
        except BaseException as error:
            self._roll_back(connection)
            if isinstance(error, sqlite3.Error):
                raise self._store_error("write", error) from error
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
        if connection.in_transaction or _code(error) == "SQLITE_FULL":
            self._roll_back(connection)
            return self._store_error("write", error)
        self._drop_writer()
        return CommitUncertainError(
            f"{self.url} failed while committing: {error}; whether it was stored is not known"
        )

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # A connection that cannot roll back is beyond use; closing it rolls back.
            self._drop_writer()

    def _open_writer(self) -> sqlite3.Connection:
        """Return the writer, opened and migrated; the caller holds the lock."""
        if self._writer is not None:
            return self._writer
        if self._unusable is not None:
            raise StoreError(f"{self.url} {self._unusable}")
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreError(
                f"SQLite {sqlite3.sqlite_version} is too old; this Python needs a library of "
                f"{'.'.join(map(str, OLDEST_SQLITE))} or later"
            )
        connection = self._connect()
        try:
            self._expect_utf8(connection)
            if self._mode != "rwc":
                self._expect_store(connection)
            if self._mode != "ro":
                self._use_write_ahead_log(connection)
                self._migrate(connection)
        except sqlite3.Error as error:
            connection.close()
            raise self._store_error("open", error) from error
        except BaseException:
            connection.close()
            raise
        self._writer = connection
        return connection

    def _expect_utf8(self, connection: sqlite3.Connection) -> None:
        encoding = connection.execute("PRAGMA encoding").fetchone()[0]
        if encoding != "UTF-8":
            raise StoreError(
                f"{self.url} keeps text in {encoding}, where ids do not sort by their bytes; use "
                "another file"
            )

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path if self._mode == "rwc" else self._existing(self._mode),
                timeout=self._busy_timeout_seconds,
                isolation_level=None,
                check_same_thread=False,
                uri=self._mode != "rwc",
            )
        except sqlite3.Error as error:
            raise self._store_error("open", error) from error
        if self._mode == "ro":
            return connection
        try:
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute("PRAGMA secure_delete = ON")  # a purge leaves nothing in free pages
        except sqlite3.Error as error:
            connection.close()
            raise self._store_error("open", error) from error
        return connection

    def _existing(self, mode: Mode) -> str:
        """Return what to open a file by that must be there."""
        if not os.path.exists(self._path):
            raise StoreError(
                f"{self.url} does not exist; check the path, mode={mode} makes no file"
            )
        self._stamp = stamp_of_still(self._path) if mode == "ro" else None
        return uri_of(self._path, mode, still=self._stamp is not None)

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        """Switch the file to WAL; SQLite does not wait for other processes here, so this does."""
        patience = time.monotonic() + self._busy_timeout_seconds
        mode = None
        while mode is None:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError as error:
                if _code(error) != "SQLITE_BUSY" or time.monotonic() > patience:
                    raise
                time.sleep(0.005)
        if mode != "wal" and not self._in_memory:
            raise StoreError(
                f"{self.url} cannot use a write-ahead log (its journal mode is {mode}); put the "
                "file on a local disk that this process may write"
            )

    # The schema

    def _expect_store(self, connection: sqlite3.Connection) -> None:
        """Refuse a file that is no store, and to read one that must be migrated first."""
        if not connection.execute(_QUERIES["is_store"].text).fetchone()[0]:
            raise StoreError(f"{self.url} is no Holdfast store: it has no tables of one")
        number, newest = self._schema_version(connection), load_migrations("sqlite")[-1].number
        if self._mode == "ro" and number < newest:
            raise StoreError(
                f"{self.url} has schema {number}, and this code reads schema {newest}: open it "
                "once without mode=ro, which migrates it"
            )

    def _migrate(self, connection: sqlite3.Connection) -> None:
        migrations = load_migrations("sqlite")
        newest = migrations[-1].number
        if self._schema_version(connection) >= newest:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            applied = self._schema_version(connection)
            if applied == 0:
                connection.execute(_QUERIES["create_migration_table"].text)
            for migration in migrations[applied:]:
                self._apply_migration(connection, migration)
            connection.execute("COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise

    def _apply_migration(self, connection: sqlite3.Connection, migration: Migration) -> None:
        for statement in _statements(migration.script):
            connection.execute(statement)
        connection.execute(
            _QUERIES["record_migration"].text,
            {
                "number": migration.number,
                "name": migration.name,
                "oldest_code": migration.oldest_code,
                "applied_at": format_time(self._clock()),
            },
        )

    def _schema_version(self, connection: sqlite3.Connection) -> int:
        if not connection.execute(_QUERIES["has_schema"].text).fetchone()[0]:
            return 0
        number, oldest_code = connection.execute(_QUERIES["schema_version"].text).fetchone()
        known = load_migrations("sqlite")[-1].number
        if oldest_code > known:
            raise StoreError(
                f"{self.url} has schema {number}, which needs code that knows schema "
                f"{oldest_code}; this one knows {known}: upgrade holdfast"
            )
        return int(number)

    def _load(self, connection: sqlite3.Connection, keys: Sequence[Key]) -> list[Loaded]:
        now = self._clock().astimezone(UTC)
        if len(keys) == 1 and not keys[0].keys:
            row = connection.execute(_LOAD, (keys[0].machine, keys[0].id)).fetchone()
            return [_loaded(row, now, {})]
        wanted = json.dumps([(key.machine, key.id) for key in keys])
        with _one_moment(connection):
            rows = connection.execute(_QUERIES["load_many"].positional, (wanted,)).fetchall()
            found = {(row[0], row[1]): row for row in rows}
            return [
                _loaded(found.get((key.machine, key.id)), now, _load_keys(connection, key))
                for key in keys
            ]

    def _store_error(self, doing: str, error: sqlite3.Error) -> StoreError:
        code = _code(error)
        advice = next((text for prefix, text in _ADVICE if code.startswith(prefix)), "")
        return StoreError(f"cannot {doing} {self.url}: {error}; nothing was written{advice}")


_ADVICE = (
    ("SQLITE_BUSY", ", another process is writing: try again, or raise busy_timeout_seconds"),
    ("SQLITE_LOCKED", ", another connection is writing: try again"),
    ("SQLITE_FULL", ", the disk is full: free some space"),
    (
        "SQLITE_READONLY",
        ", the file or its folder is read-only: allow this process to write there, "
        "or read it with ?mode=ro",
    ),
    ("SQLITE_CANTOPEN", ", check that the folder exists and that this process may write there"),
    ("SQLITE_NOTADB", ", the file is no SQLite database: check the path"),
    ("SQLITE_CORRUPT", ", the file is damaged: restore a backup, or salvage it with .recover"),
    ("SQLITE_IOERR", ", the disk failed: check it"),
)


def _wait_for_others(connection: sqlite3.Connection, seconds: float) -> None:
    """Bound the wait for other processes' writes."""
    connection.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Generator[None]:
    """Have several statements read one state of the database, whoever writes meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class _Bound(Struct, frozen=True):
    """A write as the parameters of its statements."""

    write: Write
    entity: tuple[Any, ...]
    log: list[tuple[Any, ...]]


def _bind(write: Write, recorded_at: str) -> _Bound:
    """Fill in the recording time and the chain of digests."""
    digest = write.previous_digest
    log: list[tuple[Any, ...]] = []
    for row in write.log:
        digest = digest_of(digest, row, recorded_at)
        log.append(astuple(row)[1:-2] + (recorded_at, digest))  # noqa: RUF005 (half the time)
    columns = astuple(write.entity)
    if write.expected:
        return _Bound(write, (*columns[2:-1], digest, *columns[:2], write.expected), log)
    return _Bound(write, (*columns[:-1], digest), log)


def _write_entities(connection: sqlite3.Connection, bound: Sequence[_Bound]) -> list[Outcome]:
    """Write the entities that are at the expected version, and their log rows."""
    if len(bound) > 1 and _write_all_entities(connection, bound):
        rows = [row for each in bound for row in each.log]
        connection.executemany(_INSERT_TRANSITION, rows)
        return [Outcome(True, each.write.entity.version) for each in bound]
    outcomes: list[Outcome] = []
    rows = []
    for each in bound:
        write = each.write
        statement = _UPDATE_ENTITY if write.expected else _INSERT_ENTITY
        if connection.execute(statement, each.entity).rowcount == 1:
            rows += each.log
            outcomes.append(Outcome(True, write.entity.version))
            if write.purge:
                _purge(connection, write)
        else:
            outcomes.append(_too_late(connection, write))
    if len(rows) == 1:
        connection.execute(_INSERT_TRANSITION, rows[0])
    else:
        connection.executemany(_INSERT_TRANSITION, rows)
    return outcomes


def _write_all_entities(connection: sqlite3.Connection, bound: Sequence[_Bound]) -> bool:
    """Update many entities in one go, or create them; where one is too late, none is written."""
    if any(each.write.purge for each in bound):
        return False
    if all(each.write.expected for each in bound):
        statement = _UPDATE_ENTITY
    elif not any(each.write.expected for each in bound):
        statement = _INSERT_ENTITY
    else:
        return False
    connection.execute("SAVEPOINT batch")
    rows = [each.entity for each in bound]
    done = connection.executemany(statement, rows).rowcount == len(bound)
    if not done:
        connection.execute("ROLLBACK TO batch")
    connection.execute("RELEASE batch")
    return done


def _too_late(connection: sqlite3.Connection, write: Write) -> Outcome:
    """Tell a conflict from a write that was stored before its acknowledgement was lost."""
    entity = write.entity
    row = connection.execute(_LOAD, (entity.machine, entity.id)).fetchone()
    version = 0 if row is None else row[2]
    if write.log and write.log[0].token is not None:
        first = write.log[0]
        parameters = (first.machine, first.id, first.version)
        stored = connection.execute(_QUERIES["load_token"].positional, parameters).fetchone()
        if stored is not None and stored[0] == first.token:
            return Outcome(True, version, found=True)
    return Outcome(False, version)


def _checked(connection: sqlite3.Connection, check: Check) -> Outcome:
    row = connection.execute(_LOAD, (check.machine, check.id)).fetchone()
    version = 0 if row is None else row[2]
    return Outcome(version == check.version, version)


def _judged(
    connection: sqlite3.Connection, checkpoint: Checkpoint, writes: Sequence[Write]
) -> Outcome:
    query = _QUERIES["load_checkpoint"].positional
    row = connection.execute(query, (checkpoint.name,)).fetchone()
    return judge(checkpoint, None if row is None else row[0], writes)


def _purge(connection: sqlite3.Connection, write: Write) -> None:
    entity = {"machine": write.entity.machine, "id": write.entity.id}
    connection.execute(_QUERIES["begin_purge"].text, entity)
    connection.execute(_QUERIES["purge"].text, {**entity, "version": write.expected})
    connection.execute(_QUERIES["end_purge"].text, entity)


def _loaded(row: Any, now: datetime, applied: dict[str, Applied]) -> Loaded:
    if row is None:
        return Loaded(None, now, applied)
    entity = EntityRow(*row)
    return Loaded(entity, max(now, parse_time(entity.updated_at)), applied)


def _load_keys(connection: sqlite3.Connection, key: Key) -> dict[str, Applied]:
    applied: dict[str, Applied] = {}
    for text in key.keys:
        row = connection.execute(
            _QUERIES["load_key"].positional, (key.machine, key.id, text)
        ).fetchone()
        if row is not None:
            applied[text] = _with_origin(connection, LogRow(*row))
    return applied


def _with_origin(connection: sqlite3.Connection, row: LogRow) -> Applied:
    parameters = {"machine": row.machine, "id": row.id, "version": row.version}
    created_at, previous = connection.execute(_QUERIES["load_origin"].text, parameters).fetchone()
    return Applied(row, created_at or row.at, previous)


def _definitions() -> set[tuple[str, str, str]]:
    """Return the kind, the name and the text of all that the migrations make."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(_QUERIES["create_migration_table"].text)
        for migration in load_migrations("sqlite"):
            connection.executescript(migration.script)
        return set(connection.execute(_QUERIES["definitions"].text).fetchall())


def _misplaced(given: int, last: int) -> list[str]:
    if given > last:
        return [
            f"the log ends at position {last}, and position {given} was given out: what came "
            "after was deleted or moved"
        ]
    if given < last:
        return [f"the log ends at position {last}, and only {given} were given out"]
    return []


def _statements(script: str) -> list[str]:
    """Split a script at the semicolons that end statements, not at those inside triggers."""
    statements: list[str] = []
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements


def _code(error: sqlite3.Error) -> str:
    """Return the library's name of the error, without the extension: SQLITE_BUSY."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])
