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
    Write,
    all_or_none,
    expect_batch,
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
    if len(keys) == 1:
        key = keys[0]
        if not key.keys:
            row = connection.execute(_LOAD, (key.machine, key.id)).fetchone()
            return [_loaded(row, now, {})]
    expect_batch(keys)
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


def write_each(cursor: sqlite3.Cursor, writes: Sequence[Write], clock: Clock) -> list[Outcome]:
    """Write the entities that are at the expected version, and their log rows."""
    recorded_at = format_time(clock())
    if len(writes) == 1:
        return [_write_one(cursor, writes[0], recorded_at)]
    return _write(cursor, writes, recorded_at)


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
    cursor: sqlite3.Cursor, writes: Sequence[Write], terms: Terms, clock: Clock
) -> list[Outcome]:
    """Write where the terms hold; raises KeptBack, which reports what does not."""
    recorded_at = format_time(clock())
    outcomes = _write(cursor, writes, recorded_at) if writes else []
    outcomes += [_is_at(cursor, check) for check in terms.checks]
    checkpoint = terms.checkpoint
    is_late = False
    if checkpoint is not None:
        outcomes.append(_judged(cursor, checkpoint, writes))
        is_late = not outcomes[-1].applied
    if terms.atomic or terms.checks or is_late:
        settled = all_or_none(writes, outcomes)
        if settled is not None:
            raise KeptBack(settled)
    if checkpoint is not None:
        parameters = (checkpoint.name, checkpoint.position, recorded_at)
        cursor.execute(QUERIES["save_checkpoint"].positional, parameters)
    return outcomes


_Bound = tuple[str, tuple[Any, ...], list[tuple[Any, ...]]]
"""The statement that writes an entity, its parameters, and those of each row of the log."""


def _bind(write: Write, recorded_at: str) -> _Bound:
    """Fill in the recording time and the chain of digests."""
    digest = write.previous_digest
    log: list[tuple[Any, ...]] = []
    for row in write.log:
        digest = digest_of(digest, row, recorded_at)
        log.append(astuple(row)[1:-2] + (recorded_at, digest))  # noqa: RUF005 (half the time)
    entity = write.entity
    if not write.expected:
        return _INSERT_ENTITY, (*astuple(entity)[:-1], digest), log
    parameters = (
        entity.version,
        entity.state_type,
        entity.state,
        entity.schema_version,
        entity.created_at,
        entity.updated_at,
        entity.entered_version,
        digest,
        entity.machine,
        entity.id,
        write.expected,
    )
    return _UPDATE_ENTITY, parameters, log


def _write(cursor: sqlite3.Cursor, writes: Sequence[Write], recorded_at: str) -> list[Outcome]:
    if len(writes) > 1 and _are_alike(writes):
        bound = [_bind(write, recorded_at) for write in writes]
        if _write_all_entities(cursor, bound[0][0], [entity for _, entity, _ in bound]):
            rows = [row for _, _, log in bound for row in log]
            cursor.executemany(_INSERT_TRANSITION, rows)
            return [Outcome(True, write.entity.version) for write in writes]
    return [_write_one(cursor, write, recorded_at) for write in writes]


def _write_one(cursor: sqlite3.Cursor, write: Write, recorded_at: str) -> Outcome:
    statement, entity, log = _bind(write, recorded_at)
    if cursor.execute(statement, entity).rowcount != 1:
        return _too_late(cursor, write)
    if write.purge:
        _purge(cursor, write)
    seal = None
    for row in log:
        seq = cursor.execute(_INSERT_TRANSITION, row).lastrowid
        assert seq is not None
        seal = seq, recorded_at, row[-1]
    return Outcome(True, write.entity.version, False, False, seal)


def _are_alike(writes: Sequence[Write]) -> bool:
    """Whether all update an entity, or all create one, and none purges its log."""
    if any(write.purge for write in writes):
        return False
    return len({write.expected > 0 for write in writes}) == 1


def _write_all_entities(
    cursor: sqlite3.Cursor, statement: str, rows: Sequence[tuple[Any, ...]]
) -> bool:
    """Update many entities in one go, or create them; where one is too late, none is written."""
    cursor.execute("SAVEPOINT batch")
    done = cursor.executemany(statement, rows).rowcount == len(rows)
    if not done:
        cursor.execute("ROLLBACK TO batch")
    cursor.execute("RELEASE batch")
    return done


def _too_late(cursor: sqlite3.Cursor, write: Write) -> Outcome:
    """Tell a conflict from a write that was stored before its acknowledgement was lost."""
    entity = write.entity
    version, gone = _version(cursor, entity.machine, entity.id)
    if write.log and write.log[0].token is not None:
        first = write.log[0]
        parameters = (first.machine, first.id, first.version)
        stored = cursor.execute(QUERIES["load_token"].positional, parameters).fetchone()
        if stored is not None and stored[0] == first.token:
            return Outcome(True, version, found=True)
    return Outcome(False, version, deleted=gone)


def _is_at(cursor: sqlite3.Cursor, check: Check) -> Outcome:
    """Tell whether an entity is at a version."""
    version, gone = _version(cursor, check.machine, check.id)
    if version == check.version:
        return Outcome(True, version)
    return Outcome(False, version, deleted=gone)


def _version(
    source: sqlite3.Connection | sqlite3.Cursor, machine: str, id: str
) -> tuple[int, bool]:
    """Return the version of an entity, 0 where it has no row, and whether it is deleted."""
    row = source.execute(_LOAD_VERSION, (machine, id)).fetchone()
    return (0, False) if row is None else (row[0], bool(row[1]))


def _judged(cursor: sqlite3.Cursor, checkpoint: Checkpoint, writes: Sequence[Write]) -> Outcome:
    """Tell whether a checkpoint may be moved."""
    query = QUERIES["load_checkpoint"].positional
    row = cursor.execute(query, (checkpoint.name,)).fetchone()
    return judge(checkpoint, None if row is None else row[0], writes)


def _purge(cursor: sqlite3.Cursor, write: Write) -> None:
    entity = {"machine": write.entity.machine, "id": write.entity.id}
    cursor.execute(QUERIES["begin_purge"].text, entity)
    cursor.execute(QUERIES["purge"].text, {**entity, "version": write.expected})
    cursor.execute(QUERIES["end_purge"].text, entity)


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
