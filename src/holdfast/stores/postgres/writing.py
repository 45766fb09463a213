"""What is written to a store in PostgreSQL, as steps.

READ COMMITTED is enough, whatever else happens at once:

- A write is conditional on the version of the entity's row, which the database compares under the
  lock of that row, as the row is then and not as it was when the statement began.
- A transition is appended for a row that was written in the same statement, and for no other.
- What else a decision rests on is named as a check, and held: an entity's row by its lock, an
  absent entity by a row of version 0 that takes its place until the end of the transaction.
- No other row is read to decide what is written, so nothing is left for a stricter level to guard.

A write that stands for itself is one statement, which waits for no row: where one is locked, the
answer is as if it had come too late, though its version is the one expected. What must not be
written without the rest, and what must wait for a row, goes into a transaction that first locks
all its rows in the order of their keys, so that no two of them wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from time import monotonic
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from holdfast.errors import StoreError
from holdfast.stores.contract import (
    Check,
    Checkpoint,
    CommitUncertainError,
    LogRow,
    Outcome,
    Seal,
    Write,
    all_or_none,
    judge,
)
from holdfast.stores.digests import digest_of
from holdfast.stores.postgres.statements import (
    Ask,
    Statements,
    Steps,
    to_array,
)

Name = tuple[str, str]
"""A machine and an id."""
Stamp = Callable[[], Steps[str]]
"""Tells the time of writing: once the rows are held, since an entity's times never fall."""

ENTRY = (
    *LogRow.__struct_fields__[1:],
    *("expected", "schema_version", "created_at", "entered_version"),
)
"""What a transition is written from; the end, of the entity's row, comes with its last one."""
Entry = tuple[str | None, ...]
_NO_END = (None, None, None, None)


class Held(NamedTuple):
    """What the locked row of an entity holds; version 0 where it only takes a place."""

    version: int
    deleted: bool


class Batch(Struct, frozen=True):
    """What is committed in one transaction, as `Store.commit` is given it."""

    writes: Sequence[Write]
    checks: Sequence[Check] = ()
    atomic: bool = False
    checkpoint: Checkpoint | None = None
    until: float | None = None
    """When to wait no longer for other transactions, in monotonic seconds."""


def write_free(sql: Statements, writes: Sequence[Write], stamp: Stamp) -> Steps[list[Outcome]]:
    """Write what is where it is expected and not locked, in one statement.

    Of several writes of one entity the first is tried. An outcome that was not applied and names
    the version expected is that of a locked row, or of a write that was not tried.
    """
    recorded_at = yield from stamp()
    if len(writes) == 1 and writes[0].log:
        entries = _entries(writes[0], recorded_at)
        if (yield _ask_to_write(sql, entries, is_commit=True)):
            return [Outcome(True, writes[0].entity.version, seal=_seal(entries))]
        return (yield from _told(sql, writes, [True]))
    firsts: dict[Name, Write] = {}
    for write in writes:
        firsts.setdefault(_name(write), write)
    entries = [entry for write in firsts.values() for entry in _entries(write, recorded_at)]
    written = set((yield _ask_to_write(sql, entries, is_commit=True))) if entries else set()
    is_late = [write is not firsts[_name(write)] or _name(write) not in written for write in writes]
    if not any(is_late):
        return [Outcome(True, write.entity.version) for write in writes]
    try:
        return (yield from _told(sql, writes, is_late))
    except StoreError as error:
        if not written:
            raise
        raise CommitUncertainError(f"what came too late is not known: {error}") from error


def write_held(sql: Statements, batch: Batch, stamp: Stamp) -> Steps[list[Outcome]]:
    """Write in a transaction that locks all its rows before it looks at any."""
    yield sql.begin
    if batch.until is not None:
        left_seconds = batch.until - monotonic()
        yield sql.ask("bound_wait", longest=max(1, round(left_seconds * 1000)))
    held = yield from _hold(sql, batch)
    recorded_at = yield from stamp()
    outcomes = yield from _judged(sql, batch, held)
    is_late = batch.checkpoint is not None and not outcomes[-1].applied
    if batch.atomic or batch.checks or is_late:
        settled = all_or_none(batch.writes, outcomes)
        if settled is not None:
            yield sql.rollback
            return settled
    due = [
        write
        for write, outcome in zip(batch.writes, outcomes, strict=False)
        if outcome.applied and not outcome.found
    ]
    seal = yield from _write(sql, due, recorded_at)
    if len(batch.writes) == len(due) == 1:
        outcomes[0] = replace(outcomes[0], seal=seal)
    yield from _release(sql, held, due)
    if batch.checkpoint is not None:
        name, position = batch.checkpoint.name, batch.checkpoint.position
        yield sql.ask("save_checkpoint", name=name, position=position, updated_at=recorded_at)
    yield sql.commit
    return outcomes


def _hold(sql: Statements, batch: Batch) -> Steps[dict[Name, Held]]:
    """Lock the rows, or the places, of all entities that a batch names; tell what they hold."""
    names = [_name(write) for write in batch.writes]
    names += [(check.machine, check.id) for check in batch.checks]
    held: dict[Name, Held] = {}
    while missing := sorted(set(names) - held.keys()):
        for machine, id, version, deleted in (yield _ask_for(sql, "hold", missing)):
            held[machine, id] = Held(version, deleted)
        absent = [name for name in missing if name not in held]
        if absent:  # one that came meanwhile is not held by this, but in the next round
            for machine, id in (yield _ask_for(sql, "hold_absent", absent)):
                held[machine, id] = Held(0, deleted=False)
    return held


def _judged(sql: Statements, batch: Batch, held: dict[Name, Held]) -> Steps[list[Outcome]]:
    """Return what becomes of the writes, the checks and the checkpoint, now that all is held."""
    is_late = [held[_name(write)].version != write.expected for write in batch.writes]
    judged = yield from _told(sql, batch.writes, is_late)
    for check in batch.checks:
        version, deleted = held[check.machine, check.id]
        is_held = version == check.version
        judged.append(Outcome(is_held, version, deleted=deleted and not is_held))
    if batch.checkpoint is not None:
        [[position]] = yield sql.ask("hold_checkpoint", name=batch.checkpoint.name)
        judged.append(judge(batch.checkpoint, position, batch.writes))
    return judged


def _told(
    sql: Statements, writes: Sequence[Write], is_late: Sequence[bool]
) -> Steps[list[Outcome]]:
    """Return the outcomes of writes; of those that came too late, some were stored before."""
    late = list(compress(writes, is_late))
    told = iter((yield from _told_late(sql, late)) if late else ())
    return [
        next(told) if late else Outcome(True, write.entity.version)
        for write, late in zip(writes, is_late, strict=True)
    ]


def _told_late(sql: Statements, writes: Sequence[Write]) -> Steps[list[Outcome]]:
    """Tell conflicts from writes that were stored and whose acknowledgement was lost."""
    rows = yield sql.ask(
        "load_tokens",
        machines=[write.entity.machine for write in writes],
        ids=[write.entity.id for write in writes],
        versions=[write.expected + 1 for write in writes],
    )
    outcomes: list[Outcome] = []
    for write, (version, deleted, token) in zip(writes, rows, strict=True):
        found = token is not None and bool(write.log) and token == write.log[0].token
        is_gone = deleted and version > 0  # else the row only takes a place
        outcomes.append(Outcome(found, version, found, is_gone and not found))
    return outcomes


def _write(sql: Statements, writes: Sequence[Write], recorded_at: str) -> Steps[Seal | None]:
    """Write rows that are held, and erase what they purge; return the last seal."""
    entries = [entry for write in writes for entry in _entries(write, recorded_at)]
    if entries:
        written = yield _ask_to_write(sql, entries)
        assert len(written) == sum(bool(write.log) for write in writes)
    for write in writes:
        if write.purge:
            machine, id = _name(write)
            yield sql.ask("begin_purge", machine=machine, id=id)
            yield sql.ask("purge", machine=machine, id=id, version=write.expected)
            yield sql.ask("end_purge", machine=machine, id=id)
    return _seal(entries)


def _seal(entries: Sequence[Entry]) -> Seal | None:
    """Return the seal of the last log row that is written; its position readers give."""
    if not entries:
        return None
    *_, recorded_at, digest = entries[-1][: -len(_NO_END)]
    assert recorded_at is not None
    assert digest is not None
    return 0, recorded_at, digest


def _release(sql: Statements, held: dict[Name, Held], written: Sequence[Write]) -> Steps[None]:
    """Leave no row behind at the places of entities that are absent still."""
    taken = {_name(write) for write in written}
    absent = [name for name, row in held.items() if row.version == 0 and name not in taken]
    if absent:
        yield _ask_for(sql, "release_absent", absent)


def _ask_to_write(sql: Statements, entries: Sequence[Entry], *, is_commit: bool = False) -> Ask:
    if len(entries) == 1:
        return sql.ask_in_order("write", entries[0], is_commit=is_commit)
    columns = [to_array(column) for column in zip(*entries, strict=True)]
    return sql.ask_in_order("write_many", columns, is_commit=is_commit)


def _entries(write: Write, recorded_at: str) -> list[Entry]:
    """Return the rows of a write as `ENTRY` names them, their digests chained."""
    digest = write.previous_digest
    rows: list[Entry] = []
    for row in write.log:
        digest = digest_of(digest, row, recorded_at)
        rows.append(_log_entry(row, recorded_at, digest))
    new = write.entity
    end = (str(write.expected), str(new.schema_version), new.created_at, str(new.entered_version))
    last = len(rows) - 1
    return [row + (end if place == last else _NO_END) for place, row in enumerate(rows)]


def _log_entry(row: LogRow, recorded_at: str, digest: str) -> Entry:
    return (
        row.machine, row.id, str(row.version), row.kind, row.from_type, row.to_type,
        row.command_type, row.command, row.events, row.state, _number(row.command_schema_version),
        _number(row.state_schema_version), row.metadata, row.key, row.token, row.at, recorded_at,
        digest,
    )  # fmt: skip


def _number(number: int | None) -> str | None:
    return None if number is None else str(number)


def _ask_for(sql: Statements, name: str, names: Sequence[Name]) -> Ask:
    return sql.ask(name, machines=[machine for machine, _ in names], ids=[id for _, id in names])


def _name(write: Write) -> Name:
    return write.entity.machine, write.entity.id
