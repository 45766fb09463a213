"""Finds what is wrong between a store's entities and its log, from the contract's text alone.

It shares no code with what writes the rows: the recipe of the digests is written here again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import TypeVar

from msgspec.structs import astuple

from holdfast.stores.contract import MAX_PAGE, EntityRow, LogRow, Store

Row = TypeVar("Row")


def faults(store: Store) -> list[str]:
    """Return what contradicts itself in a store, a sentence each; empty where it is sound.

    Reads everything, while nobody writes.
    """
    log = all_log_rows(store)
    entities = all_entities(store)
    by_entity: dict[tuple[str, str], list[LogRow]] = {}
    for row in log:
        by_entity.setdefault((row.machine, row.id), []).append(row)
    found = list(_faults_of_log(log))
    for entity in entities:
        rows = by_entity.pop((entity.machine, entity.id), [])
        name = f"{entity.machine} {entity.id!r}"
        found += [f"{name}: {fault}" for fault in _faults_of_chain(rows)]
        found += [f"{name}: {fault}" for fault in _faults_of_entity(entity, rows)]
        if rows != all_transitions(store, entity.machine, entity.id):
            found.append(f"{name}: its history is not what the log holds")
    found += [f"{machine} {id!r} is in the log and has no row" for machine, id in by_entity]
    return found + list(_faults_of_queries(store, entities))


def all_log_rows(store: Store) -> list[LogRow]:
    """Return the whole log, read in pages."""
    return _pages(lambda last: store.read_log(after=last.seq if last else 0, limit=MAX_PAGE))


def all_entities(store: Store) -> list[EntityRow]:
    """Return the rows of all entities, read in pages."""
    return _pages(
        lambda last: store.entities(after=(last.machine, last.id) if last else ("", ""), limit=100)
    )


def all_transitions(store: Store, machine: str, id: str) -> list[LogRow]:
    """Return the whole history of an entity, read in pages."""
    return _pages(
        lambda last: store.history(machine, id, after=last.version if last else 0, limit=MAX_PAGE)
    )


def digest_by_recipe(previous: str, row: LogRow) -> str:
    """Return SHA-256 over the previous digest and all columns but `seq` and `digest`.

    The columns are separated by NUL, in the order of the row, `recorded_at` being the last.
    """
    columns = [previous, *astuple(row)[1:-1]]
    text = "\0".join("" if column is None else str(column) for column in columns)
    return sha256(text.encode()).hexdigest()


def _faults_of_log(log: list[LogRow]) -> Iterator[str]:
    if [row.seq for row in log] != list(range(1, len(log) + 1)):
        yield "the log has gaps or is out of order"
    keys = Counter((row.machine, row.id, row.key) for row in log if row.key is not None)
    yield from (f"{name} is in the log {times} times" for name, times in keys.items() if times > 1)


def _faults_of_chain(rows: list[LogRow]) -> Iterator[str]:
    if [row.version for row in rows] != list(range(1, len(rows) + 1)):
        yield f"its versions are {[row.version for row in rows]}"
    before: LogRow | None = None
    for row in rows:
        if row.kind != "purged":
            yield from _faults_of_row(before, row)
        elif any(
            (
                row.from_type,
                row.to_type,
                row.command,
                row.state,
                row.metadata,
                row.events,
            )
        ):
            yield f"version {row.version} is purged and holds more than a stub"
        before = row
    if before is not None and before.kind == "purged":
        yield "it ends with a stub, and no purge is recorded"


def _faults_of_row(before: LogRow | None, row: LogRow) -> Iterator[str]:
    previous = before.digest if before else ""
    if row.digest != digest_by_recipe(previous, row):
        yield f"the digest of version {row.version} does not follow from the row"
    if before is not None and row.at < before.at:
        yield f"version {row.version} happened before the version below it"
    records_purge = (row.kind, row.command_type) == ("deletion", None)
    if before is not None and before.kind == "purged" and not records_purge:
        yield f"version {row.version} follows a stub, and records no purge"
    left = before.to_type if before and before.kind != "purged" else row.from_type
    if row.from_type != left:
        yield f"version {row.version} starts from {row.from_type}, which is not {left}"
    if (row.to_type is None) != (row.state is None) or (row.to_type is None) != (
        row.kind == "deletion"
    ):
        yield f"version {row.version} is a {row.kind} that leaves {row.to_type}"


def _faults_of_entity(entity: EntityRow, rows: list[LogRow]) -> Iterator[str]:
    if not rows:
        yield "it has a row and no log"
        return
    last = rows[-1]
    stored = (entity.version, entity.state_type, entity.state, entity.updated_at, entity.digest)
    if stored != (last.version, last.to_type, last.state, last.at, last.digest):
        yield f"its row is {stored}, which is not what the log ends with"
    purged = {row.version for row in rows if row.kind == "purged"}
    entries = [row.version for row in rows if row.from_type != row.to_type]
    if not purged and entries[-1:] != [entity.entered_version]:
        yield f"it entered its state at version {entries[-1:]}, not {entity.entered_version}"
    lives = [row.at for row in rows if row.from_type is None and row.to_type is not None]
    if not purged and lives[-1:] != [entity.created_at]:
        yield f"it was created at {lives[-1:]}, not {entity.created_at}"


def _faults_of_queries(store: Store, entities: list[EntityRow]) -> Iterator[str]:
    for machine in {entity.machine for entity in entities}:
        live = [e for e in entities if e.machine == machine and e.state_type is not None]
        if store.count(machine) != dict(Counter(e.state_type for e in live)):
            yield f"{machine}: its entities are not counted as they are stored"
        found = _pages(
            lambda last, machine=machine: store.find(  # type: ignore[misc]  # (a default cannot be inferred)
                machine, after=last.id if last else "", limit=MAX_PAGE
            )
        )
        if found != live:
            yield f"{machine}: its live entities are not all found, or not in order"


def _pages(read: Callable[[Row | None], list[Row]]) -> list[Row]:
    rows: list[Row] = []
    while page := read(rows[-1] if rows else None):
        assert page[-1:] != rows[-1:], f"a page ends where the one before did: {page[-1]}"
        rows += page
    return rows
