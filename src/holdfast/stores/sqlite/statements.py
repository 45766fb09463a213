"""What the store does on a connection: loads entities, and writes them with their log."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

from holdfast.machine.canonical import format_time, parse_time
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
    Seal,
    Write,
    all_or_none,
    judge,
)
from holdfast.stores.digests import digest_of
from holdfast.stores.outcomes import KeptBack
from holdfast.stores.sql import load_queries
from holdfast.stores.sqlite.errors import code_of

QUERIES = load_queries("sqlite")
_LOAD = QUERIES["load"].positional
_LOAD_VERSION = QUERIES["load_version"].positional
_INSERT_ENTITY = QUERIES["insert_entity"].positional
_UPDATE_ENTITY = QUERIES["update_entity"].positional
_INSERT_TRANSITION = QUERIES["insert_transition"].positional


def load(connection: sqlite3.Connection, keys: Sequence[Key], clock: Clock) -> list[Loaded]:
    """Read entities, and what their keys made, as of one moment."""
    now = clock().astimezone(UTC)
    if len(keys) == 1 and not keys[0].keys:
        row = connection.execute(_LOAD, (keys[0].machine, keys[0].id)).fetchone()
        return [_loaded(row, now, {})]
    wanted = json.dumps([(key.machine, key.id) for key in keys], ensure_ascii=False)
    begin_moment(connection)
    rows = connection.execute(QUERIES["load_many"].positional, (wanted,)).fetchall()
    found = {(row[0], row[1]): row for row in rows}
    return [
        _loaded(found.get((key.machine, key.id)), now, _load_keys(connection, key)) for key in keys
    ]


def begin_moment(connection: sqlite3.Connection) -> None:
    """Have the statements from here to the end of the reading see one state of the database.

    In a caller's transaction they do.
    """
    if not connection.in_transaction:
        connection.execute("BEGIN")


def write_each(
    connection: sqlite3.Connection, writes: Sequence[Write], clock: Clock
) -> list[Outcome]:
    """Write the entities that are at the expected version, and their log rows."""
    recorded_at = format_time(clock())
    if len(writes) == 1:
        return [_write_one(connection, writes[0], _bind(writes[0], recorded_at))]
    return _write(connection, writes, recorded_at)


def rows_of(connection: sqlite3.Connection, query: str, parameters: dict[str, Any]) -> list[Any]:
    """Return the rows that a query finds."""
    return connection.execute(query, parameters).fetchall()


def rows_as_stored(
    connection: sqlite3.Connection, query: str, parameters: dict[str, Any]
) -> list[Any]:
    """Return the rows that a query finds, and of text that is no UTF-8 the bytes, as surrogates."""
    try:
        return connection.execute(query, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if code_of(error):  # else it is Python's own, of what it cannot decode
            raise
    try:
        connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        return connection.execute(query, parameters).fetchall()
    finally:
        connection.text_factory = str


class Terms(Struct, frozen=True):
    """What has to hold for a commit to happen, and what it moves along."""

    atomic: bool
    checks: Sequence[Check]
    checkpoint: Checkpoint | None


def write_on_terms(
    connection: sqlite3.Connection, writes: Sequence[Write], terms: Terms, clock: Clock
) -> list[Outcome]:
    """Write where the terms hold; raises KeptBack, which reports what does not."""
    recorded_at = format_time(clock())
    outcomes = _write(connection, writes, recorded_at) if writes else []
    outcomes += [_is_at(connection, check) for check in terms.checks]
    checkpoint = terms.checkpoint
    is_late = False
    if checkpoint is not None:
        outcomes.append(_judged(connection, checkpoint, writes))
        is_late = not outcomes[-1].applied
    if terms.atomic or terms.checks or is_late:
        settled = all_or_none(writes, outcomes)
        if settled is not None:
            raise KeptBack(settled)
    if checkpoint is not None:
        parameters = (checkpoint.name, checkpoint.position, recorded_at)
        connection.execute(QUERIES["save_checkpoint"].positional, parameters)
    return outcomes


_Bound = tuple[tuple[Any, ...], list[tuple[Any, ...]]]
"""A write as the parameters of its statements: of the entity, and of each row of the log."""


def _bind(write: Write, recorded_at: str) -> _Bound:
    """Fill in the recording time and the chain of digests."""
    digest = write.previous_digest
    log: list[tuple[Any, ...]] = []
    for row in write.log:
        digest = digest_of(digest, row, recorded_at)
        log.append(astuple(row)[1:-2] + (recorded_at, digest))  # noqa: RUF005 (half the time)
    columns = astuple(write.entity)
    if write.expected:
        return (*columns[2:-1], digest, *columns[:2], write.expected), log
    return (*columns[:-1], digest), log


def _write(
    connection: sqlite3.Connection, writes: Sequence[Write], recorded_at: str
) -> list[Outcome]:
    bound = [_bind(write, recorded_at) for write in writes]
    entities = [entity for entity, _ in bound]
    if len(writes) > 1 and _write_all_entities(connection, writes, entities):
        rows = [row for _, log in bound for row in log]
        connection.executemany(_INSERT_TRANSITION, rows)
        return [Outcome(True, write.entity.version) for write in writes]
    return [_write_one(connection, write, each) for write, each in zip(writes, bound, strict=True)]


def _write_one(connection: sqlite3.Connection, write: Write, bound: _Bound) -> Outcome:
    entity, log = bound
    statement = _UPDATE_ENTITY if write.expected else _INSERT_ENTITY
    if connection.execute(statement, entity).rowcount != 1:
        return _too_late(connection, write)
    if write.purge:
        _purge(connection, write)
    seal = None
    for row in log:
        seq = connection.execute(_INSERT_TRANSITION, row).lastrowid
        assert seq is not None
        seal = Seal(seq, *row[-2:])
    return Outcome(True, write.entity.version, seal=seal)


def _write_all_entities(
    connection: sqlite3.Connection, writes: Sequence[Write], rows: Sequence[tuple[Any, ...]]
) -> bool:
    """Update many entities in one go, or create them; where one is too late, none is written."""
    if any(write.purge for write in writes):
        return False
    if all(write.expected for write in writes):
        statement = _UPDATE_ENTITY
    elif not any(write.expected for write in writes):
        statement = _INSERT_ENTITY
    else:
        return False
    connection.execute("SAVEPOINT batch")
    done = connection.executemany(statement, rows).rowcount == len(rows)
    if not done:
        connection.execute("ROLLBACK TO batch")
    connection.execute("RELEASE batch")
    return done


def _too_late(connection: sqlite3.Connection, write: Write) -> Outcome:
    """Tell a conflict from a write that was stored before its acknowledgement was lost."""
    entity = write.entity
    version, gone = _version(connection, entity.machine, entity.id)
    if write.log and write.log[0].token is not None:
        first = write.log[0]
        parameters = (first.machine, first.id, first.version)
        stored = connection.execute(QUERIES["load_token"].positional, parameters).fetchone()
        if stored is not None and stored[0] == first.token:
            return Outcome(True, version, found=True)
    return Outcome(False, version, deleted=gone)


def _is_at(connection: sqlite3.Connection, check: Check) -> Outcome:
    """Tell whether an entity is at a version."""
    version, gone = _version(connection, check.machine, check.id)
    if version == check.version:
        return Outcome(True, version)
    return Outcome(False, version, deleted=gone)


def _version(connection: sqlite3.Connection, machine: str, id: str) -> tuple[int, bool]:
    """Return the version of an entity, 0 where it has no row, and whether it is deleted."""
    row = connection.execute(_LOAD_VERSION, (machine, id)).fetchone()
    return (0, False) if row is None else (row[0], bool(row[1]))


def _judged(
    connection: sqlite3.Connection, checkpoint: Checkpoint, writes: Sequence[Write]
) -> Outcome:
    """Tell whether a checkpoint may be moved."""
    query = QUERIES["load_checkpoint"].positional
    row = connection.execute(query, (checkpoint.name,)).fetchone()
    return judge(checkpoint, None if row is None else row[0], writes)


def _purge(connection: sqlite3.Connection, write: Write) -> None:
    entity = {"machine": write.entity.machine, "id": write.entity.id}
    connection.execute(QUERIES["begin_purge"].text, entity)
    connection.execute(QUERIES["purge"].text, {**entity, "version": write.expected})
    connection.execute(QUERIES["end_purge"].text, entity)


def _loaded(row: Any, now: datetime, applied: dict[str, Applied]) -> Loaded:
    if row is None:
        return Loaded(None, now, applied)
    entity = EntityRow(*row)
    return Loaded(entity, max(now, parse_time(entity.updated_at)), applied)


def _load_keys(connection: sqlite3.Connection, key: Key) -> dict[str, Applied]:
    applied: dict[str, Applied] = {}
    for text in key.keys:
        row = connection.execute(
            QUERIES["load_key"].positional, (key.machine, key.id, text)
        ).fetchone()
        if row is not None:
            applied[text] = with_origin(connection, LogRow(*row))
    return applied


def version_at(connection: sqlite3.Connection, machine: str, id: str, time: str) -> int:
    """Return the last version that was made at or before a time, 0 where there is none."""
    query = QUERIES["load_at"].positional

    def made_at(version: int) -> str:
        row = connection.execute(query, (machine, id, version)).fetchone()
        return "" if row is None else str(row[0])

    last, _ = _version(connection, machine, id)
    return bisect_right(range(1, last + 1), time, key=made_at)  # an entity's times never fall


def with_origin(connection: sqlite3.Connection, row: LogRow) -> Applied:
    """Add to a log row when its entity was created, and the state before."""
    parameters = {"machine": row.machine, "id": row.id, "version": row.version}
    created_at, previous = connection.execute(QUERIES["load_origin"].text, parameters).fetchone()
    return Applied(row, created_at or row.at, previous)
