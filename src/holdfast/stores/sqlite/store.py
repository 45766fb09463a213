"""The store's verbs on an SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from copy import copy
from time import monotonic
from typing import Any, TypeVar, cast

from holdfast.stores import url_of
from holdfast.stores.contract import (
    Applied,
    Check,
    Checkpoint,
    Clock,
    EntityRow,
    Key,
    Loaded,
    LogRow,
    Outcome,
    Store,
    Write,
    expect_batch,
)
from holdfast.stores.fork import follow_forks
from holdfast.stores.group import GroupCommit
from holdfast.stores.sqlite import schema
from holdfast.stores.sqlite.connections import Connections
from holdfast.stores.sqlite.file import Mode, SqliteFile, Synchronous
from holdfast.stores.sqlite.joined import Found, Joined, Within
from holdfast.stores.sqlite.statements import (
    QUERIES,
    Terms,
    begin_moment,
    load,
    rows_as_stored,
    rows_of,
    version_at,
    with_origin,
    write_each,
    write_on_terms,
)
from holdfast.stores.turns import TAKEN

T = TypeVar("T")


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
        self.url = url_of(path)
        self.place = None if path == ":memory:" else os.path.realpath(path)
        self._clock = clock
        self._file = SqliteFile(
            path if path == ":memory:" else os.path.abspath(path),
            self.url,
            synchronous,
            busy_timeout_seconds,
            mode,
        )
        self._patience = busy_timeout_seconds
        self.connections: Connections | Joined = Connections(self._file, clock)
        self._group = self._new_group()
        self._rows = rows_of
        follow_forks(self)

    def _new_group(self) -> GroupCommit:
        return GroupCommit(self.url, self._write_together, lambda: self.connections.is_busy)

    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        """See `Store.load`."""
        return self.connections.read(load, keys, self._clock)

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
        if len(writes) != 1 or checks:
            expect_batch(writes, checks)
        connections = self.connections
        if atomic or checks or checkpoint is not None:
            terms = Terms(atomic, checks, checkpoint)
            return connections.write(timeout_seconds, write_on_terms, writes, terms, self._clock)
        if timeout_seconds is not None or isinstance(connections, Joined):
            return connections.write(timeout_seconds, write_each, writes, self._clock)
        if not self._group.leaders:
            outcomes = connections.write_at_once(write_each, writes, self._clock)
            if outcomes is not TAKEN:
                return outcomes
        return self._group.commit(writes)

    def _write_together(self, writes: Sequence[Write], since: float | None) -> list[Outcome]:
        """Write in one transaction what does not depend on each other."""
        left = None if since is None else self._patience - (monotonic() - since)
        return self.connections.write(left, write_each, writes, self._clock)

    def transact(self, act: Callable[[Store], T], *, timeout_seconds: float | None = None) -> T:
        """See `Store.transact`."""
        connections = self.connections
        if isinstance(connections, Joined) and not isinstance(connections, Within):
            return connections.transact(act, self)
        return cast("T", connections.write(timeout_seconds, self._act_within, act))

    def _act_within(self, cursor: sqlite3.Cursor, act: Callable[[Store], T]) -> T:
        within = self._joined(Within(self._file, cursor.connection))
        try:
            return act(within)
        finally:
            within.connections.close()

    def bare(self) -> Store:
        """See `Store.bare`."""
        connections = self.connections
        return self._joined(connections.bare()) if isinstance(connections, Within) else self

    def history(self, machine: str, id: str, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.history`."""
        rows = self._fetch("history", machine=machine, id=id, after=after, limit=limit)
        return [LogRow(*row) for row in rows]

    def transition_at(
        self, machine: str, id: str, *, version: int | None = None, time: str | None = None
    ) -> Applied | None:
        """See `Store.transition_at`."""

        def find(connection: sqlite3.Connection) -> Applied | None:
            begin_moment(connection)
            last = version_at(connection, machine, id, time or "") if version is None else version
            query = QUERIES["transition_at_version"].positional
            row = connection.execute(query, (machine, id, last)).fetchone()
            return row and with_origin(connection, LogRow(*row))

        return self.connections.read(find)

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
            query = QUERIES["find_in_state"].text
            begin_moment(connection)
            return [
                EntityRow(*row)
                for state_type in dict.fromkeys(state_types)
                for row in connection.execute(query, {**page, "state_type": state_type})
            ]

        return sorted(self.connections.read(find), key=lambda row: row.id)[:limit]

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
        return self.connections.read(schema.flaws, self.url)

    def on(self, connection: object) -> Store:
        """See `Store.on`; takes a `sqlite3.Connection` to the same file."""
        return self._joined(Joined(self._file, connection))

    @classmethod
    def of(cls, connection: sqlite3.Connection, clock: Clock) -> Store:
        """Return the store of the database that a connection is to, in the transaction there.

        Takes databases in memory too. Raises StoreError where there are no tables of a store.
        """
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        store = cls(path or ":memory:", clock=clock)
        return store._joined(Found(store._file, connection))

    def _joined(self, connections: Joined) -> SqliteStore:
        """Return the same on other connections, whose commits are shared by nobody."""
        joined = object.__new__(type(self))  # `copy` takes several times as long
        vars(joined).update(vars(self))
        joined.connections = connections
        return joined

    def as_stored(self) -> Store:
        """See `Store.as_stored`."""
        same = copy(self)
        same._rows = rows_as_stored
        return same

    def migrate(self) -> None:
        """See `Store.migrate`; every opening does it."""
        self.connections.read(lambda connection: None)

    def close(self) -> None:
        """See `Store.close`."""
        try:
            self.finish()
        finally:
            self.connections.close()

    def before_fork(self) -> None:
        """Wait, with a bound, for what is under way, and close every connection to a file."""
        self.connections.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let the threads go on; the next use opens the file again."""
        self.connections.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Begin anew, or refuse to where the parent's connections could not be closed before."""
        self.connections.after_fork_in_child()
        self.under_way.clear()
        self._group = self._new_group()

    def _fetch(self, query: str, **parameters: Any) -> list[Any]:
        rows: list[Any] = self.connections.read(self._rows, QUERIES[query].text, parameters)
        return rows
