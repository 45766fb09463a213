"""The PostgreSQL store: any number of threads and processes, durable at power loss.

What it does is written as steps, in `reading`, `writing` and `feed`; here they are driven on
connections of a pool. Threads that write at the same time share statements.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg

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
    expect_batch,
)
from holdfast.stores.fork import follow_forks
from holdfast.stores.group import GroupCommit
from holdfast.stores.postgres import feed, flaws, reading, schema
from holdfast.stores.postgres.connections import Connections
from holdfast.stores.postgres.joined import Alone, AsyncJoined, Joined, Own, Within, join
from holdfast.stores.postgres.migrations import migrate, plan
from holdfast.stores.postgres.statements import Steps, joined_statements_in, statements_in
from holdfast.stores.postgres.url import parse, url_of
from holdfast.stores.postgres.writing import Batch, write_free, write_held

T = TypeVar("T")

TIME_SECONDS = 60.0
"""How long the database's time is reckoned with before it is asked for again."""


LANES = 4
"""How many threads write at the same time: the server flushes what they commit together, and one
that waits for another transaction holds up nobody else."""


class PostgresStore(Store):
    """Keeps records and the log in a schema of a PostgreSQL database.

    With `migrate` the first use makes or migrates the tables, which takes the right to.
    """

    def __init__(self, url: str, *, migrate: bool = False, clock: Clock | None = None) -> None:
        super().__init__()
        address = parse(url)
        self.url = address.url
        self.place = address.place
        self._clock = clock
        self._told: tuple[datetime, float] | None = None  # the database's time, and when it was
        self._sql = statements_in(address.schema)
        self._connections: Connections | Joined = Connections(address, self._sql, migrate=migrate)
        self._is_joined = False
        self._group = self._new_group()
        follow_forks(self)

    def _new_group(self) -> GroupCommit:
        return GroupCommit(
            self.url, self._write_together, lambda: self._connections.is_busy, lanes=LANES
        )

    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        """See `Store.load`."""
        expect_batch(keys)
        return self._read(lambda: reading.load(self._sql, keys, self._now))

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
        expect_batch(writes, checks)
        purges = any(write.purge for write in writes)
        if (
            self._is_joined
            or purges
            or atomic
            or checks
            or checkpoint
            or timeout_seconds is not None
        ):
            until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
            return self._write_held(Batch(writes, checks, atomic, checkpoint, until))
        return self._with_locked(writes, self._group.commit(writes))

    def transact(self, act: Callable[[Store], T], *, timeout_seconds: float | None = None) -> T:
        """See `Store.transact`."""
        connections = self._connections
        if isinstance(connections, Joined):
            within: T = connections.transact(lambda joined: act(self._joined_by(joined)))
            return within
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        sql = joined_statements_in(self._sql.schema)
        return connections.transact(
            lambda connection: act(self._joined_by(Own(connection, sql, connections))),
            until=until,
        )

    def bare(self) -> Store:
        """See `Store.bare`."""
        connections = self._connections
        return self._joined_by(connections.bare()) if isinstance(connections, Joined) else self

    def history(self, machine: str, id: str, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.history`."""
        return self._read(lambda: reading.history(self._sql, machine, id, after, limit))

    def written(self, machine: str, id: str, version: int) -> LogRow | None:
        """See `Store.written`; to number the log would be a commit more."""
        return self._read(lambda: reading.as_written(self._sql, machine, id, version))

    def transition_at(
        self, machine: str, id: str, *, version: int | None = None, time: str | None = None
    ) -> Applied | None:
        """See `Store.transition_at`."""
        return self._read(lambda: reading.transition_at(self._sql, machine, id, version, time))

    def find(
        self,
        machine: str,
        *,
        state_types: Sequence[str] | None = None,
        after: str = "",
        limit: int,
    ) -> list[EntityRow]:
        """See `Store.find`."""
        return self._read(lambda: reading.find(self._sql, machine, state_types, after, limit))

    def count(self, machine: str) -> dict[str, int]:
        """See `Store.count`."""
        return self._read(lambda: reading.count(self._sql, machine))

    def entities(self, *, after: tuple[str, str] = ("", ""), limit: int) -> list[EntityRow]:
        """See `Store.entities`."""
        return self._read(lambda: reading.entities(self._sql, after, limit))

    def read_log(self, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.read_log`; what was committed before the call is read."""
        return self._read(lambda: feed.read_log(self._sql, after, limit))

    def checkpoint(self, name: str) -> int | None:
        """See `Store.checkpoint`."""
        return self._read(lambda: reading.checkpoint(self._sql, name))

    def flaws(self) -> list[str]:
        """See `Store.flaws`: what of the schema is gone, lost positions, and changed states."""
        return self._read(lambda: flaws.look(self._sql, self.url))

    def on(self, connection: object) -> Store:
        """See `Store.on`; takes a connection of psycopg 3 to the same database.

        On one that is awaited, what the verbs return is to be awaited.
        """
        here = self._connections
        home = here if isinstance(here, Connections) else here.home
        return self._joined_by(join(connection, joined_statements_in(self._sql.schema), home))

    @classmethod
    def of(
        cls,
        connection: psycopg.Connection[Any],
        clock: Clock | None = None,
        *,
        in_transaction: bool = True,
    ) -> Store:
        """Return the store of the database that a connection is to, in the transaction there.

        On a connection without one it reads, and does no more. Raises StoreError where there are no
        tables of a store.
        """
        store = cls(url_of(connection), clock=clock)
        home, name = store._connections, store._sql.schema
        assert isinstance(home, Connections)
        if in_transaction:
            joined: Joined = Within(connection, joined_statements_in(name), home)
        else:
            joined = Alone(connection, statements_in(name), home)
        joined.run(lambda: schema.expect(joined.sql, store.url), doing="open")
        return store._joined_by(joined)

    def _joined_by(self, connections: Joined) -> PostgresStore:
        joined = copy(self)
        joined._sql = connections.sql
        joined._connections = connections
        joined._is_joined = True
        joined.is_awaited = isinstance(connections, AsyncJoined)
        return joined

    def migrate(self) -> None:
        """See `Store.migrate`; needs the rights of the role holdfast_migrator."""
        self._connections.alone(lambda connection: migrate(connection, self._sql, self.url))

    def plan(self) -> str:
        """Return the SQL that `migrate` would run, without the rights to run it."""
        return self._connections.alone(lambda connection: plan(connection, self._sql, self.url))

    def close(self) -> None:
        """See `Store.close`."""
        try:
            self.finish()
        finally:
            self._connections.close()

    def before_fork(self) -> None:
        """Nothing to let go of: the parent goes on with its connections."""

    def after_fork_in_parent(self) -> None:
        """Nothing to take up again."""

    def after_fork_in_child(self) -> None:
        """Begin anew, with connections of this process."""
        self._connections.forget()
        self.under_way.clear()
        self._group = self._new_group()

    def _read(self, begin: Callable[[], Steps[T]]) -> T:
        return self._connections.run(begin, doing="read")

    def _write_together(self, writes: Sequence[Write], since: float | None) -> list[Outcome]:
        """Write in one statement what does not depend on each other."""
        if not writes:
            return []
        return self._connections.run(
            lambda: write_free(self._sql, writes, self._stamp), doing="write", since=since
        )

    def _write_held(self, batch: Batch) -> list[Outcome]:
        """Write in a transaction of its own, which waits for rows that are locked."""
        return self._connections.run(
            lambda: write_held(self._sql, batch, self._stamp), doing="write", until=batch.until
        )

    def _with_locked(self, writes: Sequence[Write], outcomes: list[Outcome]) -> list[Outcome]:
        """Write also what was passed by since its row was locked, in this thread alone."""
        places = [
            place
            for place, (write, outcome) in enumerate(zip(writes, outcomes, strict=True))
            if not outcome.applied and outcome.version == write.expected
        ]
        if not places:
            return outcomes
        try:
            waited = self._write_held(Batch([writes[place] for place in places]))
        except CommitUncertainError:
            raise
        except StoreError:
            if len(places) == len(writes):
                raise
            return outcomes  # the others are written: these are told to have come too late
        for place, outcome in zip(places, waited, strict=True):
            outcomes[place] = outcome
        return outcomes

    def _now(self, told: str) -> datetime:
        """Return the time that a load answers with: the database's, or the given clock's."""
        if self._clock is not None:
            return self._clock().astimezone(UTC)
        now = parse_time(told)
        self._told = now, time.monotonic()
        return now

    def _stamp(self) -> Steps[str]:
        """Tell the time of writing, which the digests cover, so it must be known before.

        The database's time is reckoned from when it was told last.
        """
        if self._clock is not None:
            return format_time(self._clock())
        told = self._told
        if told is None or time.monotonic() - told[1] > TIME_SECONDS:
            text = yield from reading.time(self._sql)
            told = self._told = parse_time(text), time.monotonic()
        return format_time(told[0] + timedelta(seconds=time.monotonic() - told[1]))
