"""What happens at one moment: commits that are all or none, and reads of several entities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import inf

from holdfast.testing.history.cuts import Cuts
from holdfast.testing.history.model import Entry, Named, Operation

Logs = Mapping[Named, Sequence[Entry]]


def faults_of_moment(
    label: str,
    operations: Sequence[Operation],
    logs: Logs,
    by_name: Mapping[str, Entry],
    commits: Sequence[Sequence[Entry]],
    *,
    cuts: Cuts | None,
) -> Iterator[str]:
    """Tell whether a commit was written in part, and of reads that no one moment explains.

    Cuts say what a moment is where the positions of the log do not.
    """
    written, missing, erased = _written(operations, logs, by_name)
    if written and missing:
        names = ", ".join(str(operation.name) for operation in missing)
        yield f"{label} was written in part: {names} is not in the log, and the rest is"
    reads = [o for o in operations if o.kind == "read" and o.version is not None]
    if not reads or erased or (cuts is not None and cuts.explain(reads, written)):
        return
    spans = [list(_spans(read, logs.get((read.machine, read.id), ()))) for read in reads]
    if written:
        moments = [min(entry.position for entry in written) - 0.5]
    else:
        read_of = {(read.machine, read.id) for read in reads}
        starts = [start for read in spans for start, _ in read]
        moments = [start for start in starts if not _is_amid(start, commits, read_of)]
    if cuts is not None or not any(_hold(spans, moment) for moment in moments):
        told = ", ".join(f"{read.id!r:.40} at {read.version}" for read in reads)
        when = "right before what it wrote" if written else "at any one moment"
        yield f"{label} read {told}, which was not so {when}"


def _written(
    operations: Sequence[Operation], logs: Logs, by_name: Mapping[str, Entry]
) -> tuple[list[Entry], list[Operation], bool]:
    """Return the entries that a commit made, which of its writes made none, if some may be erased.

    A write whose key was used before makes none; those of entities that were purged are not known.
    """
    entries: list[Entry] = []
    missing: list[Operation] = []
    erased = False
    for operation in operations:
        entry = by_name.get(operation.name or "")
        if entry is not None:
            entries.append(entry)
        elif operation.kind == "write":
            log = logs.get((operation.machine, operation.id), ())
            if any(e.purged for e in log):
                erased = True
            elif operation.key is None or all(e.key != operation.key for e in log):
                missing.append(operation)
    return entries, missing, erased


def _spans(read: Operation, log: Sequence[Entry]) -> Iterator[tuple[float, float]]:
    """Return from which positions to which an entity was as a read tells."""
    ends = [*(float(entry.position) for entry in log[1:]), inf]
    if read.version == 0:
        yield 0.0, float(log[0].position) if log else inf
    for entry, end in zip(log, ends, strict=False):
        if entry.version == read.version or (read.version == 0 and entry.state is None):
            yield float(entry.position), end


def _is_amid(
    moment: float, commits: Sequence[Sequence[Entry]], read_of: AbstractSet[Named]
) -> bool:
    """Whether a commit would be there in part, as far as it is of what is read."""
    parts = ({e.position <= moment for e in c if (e.machine, e.id) in read_of} for c in commits)
    return any(len(part) > 1 for part in parts)


def _hold(spans: Sequence[Sequence[tuple[float, float]]], moment: float) -> bool:
    return all(any(start <= moment < end for start, end in read) for read in spans)
