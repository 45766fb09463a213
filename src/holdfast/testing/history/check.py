"""Holds what clients were told against the log: it has what was acknowledged, and no more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf
from operator import itemgetter

from holdfast.testing.history.commits import Commits
from holdfast.testing.history.cuts import Cuts
from holdfast.testing.history.malformed import refuse_malformed
from holdfast.testing.history.model import Entry, Named, Operation
from holdfast.testing.history.moments import faults_of_moment
from holdfast.testing.history.order import Order, described


def check_history(
    operations: Iterable[Operation], log: Iterable[Entry], *, in_commit_order: bool = True
) -> list[str]:
    """Return what contradicts itself in a history, a sentence each; empty where it is sound.

    The versions of every entity are 1..n without hole or repeat; every acknowledged write is in
    the log exactly once, at the version and with the state that it was told; a refused one is not,
    and nothing is that nobody issued; the answers about each entity are linearizable; commits are
    all or none; what was read together was so at one moment; and what was acknowledged before a
    write was sent is in the log before it.

    Positions rise in the order of the commits, as those of SQLite do. Those of PostgreSQL only put
    a cause before its effects: with `in_commit_order=False` a moment is one at which commits were
    there as a whole, with all that was acknowledged before they were sent.

    Raises ValueError, naming it, for an operation that contradicts itself, of which something would
    go unchecked: done or refused without `ended`, ended before it began, a version below 0, a state
    without a version, an acknowledged write of version 0, a read without a version, a write without
    a name, and the like; and for two writes of one name.
    """
    return list(_History(operations, log).faults(in_commit_order=in_commit_order))


_first = itemgetter(0)


class _History:
    """Operations and entries, by entity and by name."""

    def __init__(self, operations: Iterable[Operation], log: Iterable[Entry]) -> None:
        self.logs: dict[Named, list[Entry]] = defaultdict(list)
        self.by_name: dict[str, Entry] = {}
        self.repeated: list[Entry] = []
        for entry in sorted(log, key=lambda entry: (entry.version, entry.position)):
            self.logs[entry.machine, entry.id].append(entry)
            if entry.name is not None and self.by_name.setdefault(entry.name, entry) is not entry:
                self.repeated.append(entry)
        self.operations: dict[Named, list[Operation]] = defaultdict(list)
        self.writers: dict[str, Operation] = {}
        self.together: dict[str, list[Operation]] = defaultdict(list)
        self.orders: dict[Named, Order] = {}
        for operation in operations:
            refuse_malformed(operation)
            self.operations[operation.machine, operation.id].append(operation)
            if operation.kind == "write" and operation.name is not None:
                if operation.name in self.writers:
                    raise ValueError(f"two writes have the name {operation.name!r}")
                self.writers[operation.name] = operation
            if operation.together is not None:
                self.together[operation.together].append(operation)

    def faults(self, *, in_commit_order: bool) -> Iterator[str]:
        """Tell of everything."""
        for entry in self.repeated:
            yield f"{_named(entry)}: {entry.name} is in the log twice"
        for named in self.logs | self.operations:
            log = self.logs.get(named, [])
            yield from (f"{_of(named)} {fault}" for fault in self._faults(named, log))
        commits = self._commits()
        ordered = Commits(commits, self.logs)
        yield from ordered.faults()
        ordered.tighten(self.orders)
        for named, order in self.orders.items():
            found = [*order.faults(), *order.faults_of_states()]
            yield from (f"{_of(named)} {fault}" for fault in found)
        yield from self._faults_of_positions(in_commit_order=in_commit_order)
        cuts = None if in_commit_order else Cuts(self.logs, commits, self.orders)
        for label, operations in self.together.items():
            yield from faults_of_moment(
                label, operations, self.logs, self.by_name, commits, cuts=cuts
            )

    def _faults_of_positions(self, *, in_commit_order: bool) -> Iterator[str]:
        """Tell of the first entry that was surely there before one that the log puts before it."""
        entries = [entry for named in self.orders for entry in self.logs[named]]
        last: tuple[float, Entry] | None = None
        for entry in sorted(entries, key=lambda entry: entry.position):
            order = self.orders[entry.machine, entry.id]
            if last is not None and order.latest[entry.version][0] < last[0]:
                yield (
                    f"{_named(entry)}: version {entry.version} is in the log behind version "
                    f"{last[1].version} of {_named(last[1])}, and was there before it"
                )
                return
            start = order.earliest[entry.version][0] if in_commit_order else self._sent(entry)
            last = max(last or (-inf, entry), (start, entry), key=_first)

    def _sent(self, entry: Entry) -> float:
        writer = self.writers.get(entry.name or "")
        return -inf if writer is None else writer.began

    def _commits(self) -> list[list[Entry]]:
        """Return the entries of each commit that was to be all or none."""
        found = [[self.by_name.get(o.name or "") for o in each] for each in self.together.values()]
        commits = [[entry for entry in commit if entry is not None] for commit in found]
        return [commit for commit in commits if len(commit) > 1]

    def _faults(self, named: Named, log: Sequence[Entry]) -> Iterator[str]:
        versions = [entry.version for entry in log]
        if versions != list(range(1, len(log) + 1)):
            yield f"has the versions {_runs(versions)}"
            return
        operations = self.operations.get(named, [])
        yield from _faults_of_places(log)
        yield from _faults_of_keys(log)
        for entry in log:
            yield from self._fault_of_entry(entry)
        keyed = {entry.key: entry for entry in log if entry.key is not None}
        for operation in operations:
            yield from self._faults_of_answer(operation, log, keyed)
        self.orders[named] = Order(log, operations, self.writers)

    def _fault_of_entry(self, entry: Entry) -> Iterator[str]:
        if entry.purged:
            return
        writer = None if entry.name is None else self.writers.get(entry.name)
        if writer is None:
            yield f"has version {entry.version} ({entry.name}), which nobody issued"
        elif (writer.machine, writer.id) != (entry.machine, entry.id):
            yield f"has version {entry.version} of {writer.machine} {writer.id!r:.40}"
        elif writer.key != entry.key:
            yield f"has version {entry.version} with the key {entry.key!r}, not {writer.key!r}"
        elif writer.expected is not None and writer.expected not in _before(
            entry, self.logs[entry.machine, entry.id]
        ):
            yield f"has version {entry.version}, which was to follow {writer.expected}"

    def _faults_of_answer(
        self, operation: Operation, log: Sequence[Entry], keyed: Mapping[str, Entry]
    ) -> Iterator[str]:
        entry = self.by_name.get(operation.name or "")
        if operation.told == "refused":
            if entry is not None:
                yield f"was refused {operation.name}, and version {entry.version} holds it"
            met = operation.version
            if met is not None and met > len(log):
                yield f"has no version {met}, as was told ({described(operation)})"
        elif operation.told == "done" and operation.version is not None:
            if operation.version > len(log):
                yield f"has no version {operation.version}, as was told ({described(operation)})"
            elif operation.version > 0:
                told = log[operation.version - 1]
                yield from _faults_of_told(operation, entry, told, keyed)


def _faults_of_told(
    operation: Operation, entry: Entry | None, told: Entry, keyed: Mapping[str, Entry]
) -> Iterator[str]:
    """Compare an answer with the entry of the version that it tells."""
    if told.purged:
        return
    if operation.kind == "write" and entry is not told:
        by_key = keyed.get(operation.key) if operation.key is not None else None
        if entry is not None or by_key is not told:
            where = "is not in the log" if entry is None else f"is version {entry.version}"
            yield f"acknowledged {operation.name} as version {told.version}, and it {where}"
            return
    if operation.state != told.state:
        yield (
            f"was told to be {operation.state!r:.120} at version {told.version}, and the log "
            f"says {told.state!r:.120} ({described(operation)})"
        )


def _faults_of_places(log: Sequence[Entry]) -> Iterator[str]:
    for before, entry in pairwise(log):
        if before.position >= entry.position:
            yield f"has version {entry.version} at {entry.position}, not after {before.position}"


def _faults_of_keys(log: Sequence[Entry]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for entry in log:
        if entry.key is not None and seen.setdefault(entry.key, entry.version) != entry.version:
            yield f"has the key {entry.key!r} at {seen[entry.key]} and at {entry.version}"


def _before(entry: Entry, log: Sequence[Entry]) -> tuple[int, ...]:
    """Return the version that an entry followed, 0 for no live entity; both if it was purged."""
    if entry.version == 1:
        return (0,)
    before = log[entry.version - 2]
    if before.purged:
        return 0, before.version
    return (before.version if before.state is not None else 0,)


def _named(entry: Entry) -> str:
    return _of((entry.machine, entry.id))


def _of(named: Named) -> str:
    return f"{named[0]} {named[1]!r:.40}"


def _runs(versions: Sequence[int]) -> str:
    shown = ", ".join(map(str, versions[:40]))
    return f"{shown} …" if len(versions) > 40 else shown
