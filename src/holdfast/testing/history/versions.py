"""Which version was there when an answer came: as it tells, or as the log does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.testing.history.model import Entry, Operation


def versions_by_answer(
    entries: Sequence[Entry], operations: Sequence[Operation]
) -> Iterator[tuple[Operation, int | None]]:
    """Yield the answers about one entity, each with a version that was surely there by its end.

    That of an acknowledged write which tells none is found in the log: by its name, by its key, or
    among those that were purged; None where the log has no room for it.
    """
    named = {entry.name: entry.version for entry in reversed(entries) if entry.name is not None}
    keyed = {entry.key: entry.version for entry in reversed(entries) if entry.key is not None}
    lost: list[Operation] = []
    for operation in operations:
        if operation.version:
            if operation.ended is not None and operation.version <= len(entries):
                yield operation, operation.version
        elif is_acknowledged(operation):
            found = named.get(operation.name or "") or keyed.get(operation.key or "")
            if found is not None:
                yield operation, found
            else:
                lost.append(operation)
    if lost:
        yield from _among_purged(entries, operations, lost)


def is_acknowledged(operation: Operation) -> bool:
    """Whether an operation is a write of which the client knows that it was done."""
    return operation.kind == "write" and operation.told == "done"


def _among_purged(
    entries: Sequence[Entry], operations: Sequence[Operation], lost: Sequence[Operation]
) -> Iterator[tuple[Operation, int | None]]:
    """Yield the writes that left no name, each with a version that was purged.

    Each without a key made a version that nobody else made. So, when n of them had been answered,
    the n-th of these versions was there. Another one may have had its key from any of them.
    """
    purged = [entry.version for entry in entries if entry.purged]
    made = {o.version for o in operations if is_acknowledged(o) and o.key is None}
    free = (version for version in purged if version not in made)
    for operation in sorted(lost, key=_end):
        yield operation, next(free if operation.key is None else iter(purged), None)


def _end(operation: Operation) -> float:
    assert operation.ended is not None
    return operation.ended
