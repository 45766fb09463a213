"""Reads the log of a store as the checker of histories takes it."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.machine.codec import decode_metadata
from holdfast.stores.contract import MAX_PAGE, LogRow, Store
from holdfast.testing.history.model import Entry


def name_in_metadata(row: LogRow) -> str | None:
    """Return what the metadata of a transition hold under `name`."""
    name: str | None = decode_metadata(row.metadata).get("name")
    return name


def log_entries(
    store: Store, *, name: Callable[[LogRow], str | None] = name_in_metadata
) -> list[Entry]:
    """Return the whole log of a store; `name` finds the name of the write that made a row."""
    entries: list[Entry] = []
    after = 0
    while rows := store.read_log(after=after, limit=MAX_PAGE):
        entries += [entry_of(row, name(row)) for row in rows]
        after = rows[-1].seq
    return entries


def entry_of(row: LogRow, name: str | None) -> Entry:
    """Return a row of the log as the checker of histories takes it."""
    return Entry(
        position=row.seq,
        machine=row.machine,
        id=row.id,
        version=row.version,
        name=name,
        key=row.key,
        state=row.state,
        state_type=row.to_type,
        purged=row.kind == "purged",
    )
