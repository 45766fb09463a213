"""Reads of several entities at one moment, where the log is not in the order of its commits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from holdfast.testing.history.model import Entry, Named, Operation
from holdfast.testing.history.order import Order


class Cuts:
    """What was there at one moment: commits as a whole, and all that came before what was there."""

    def __init__(
        self,
        logs: Mapping[Named, Sequence[Entry]],
        commits: Sequence[Sequence[Entry]],
        orders: Mapping[Named, Order],
    ) -> None:
        self._logs = logs
        self._commits = commits
        self._orders = orders

    def explain(self, reads: Sequence[Operation], written: Sequence[Entry]) -> bool:
        """Whether what was read may have been there at one moment, that of what was written.

        The earliest moment is looked for. What forbids one version of an entity forbids it at
        every later moment too, so that nothing is tried twice and no way is left out.
        """
        candidates: dict[Named, list[int]] = {}
        for read in reads:
            named = read.machine, read.id
            versions = set(self._versions(read)) & set(candidates.get(named, self._all(named)))
            ends = [e.version for e in written if (e.machine, e.id) == named]
            known = (v for v in versions if v < min(ends, default=v + 1))
            candidates[named] = sorted(known, reverse=True)
        while all(candidates.values()):
            cut = {named: versions[-1] for named, versions in candidates.items()}
            early = self._too_early(cut, written)
            if early is None:
                return True
            candidates[early].pop()
        return False

    def _versions(self, read: Operation) -> Iterator[int]:
        """Yield the versions that a read may have seen: there are several without an entity."""
        if read.version:
            yield read.version
            return
        yield 0
        for entry in self._log((read.machine, read.id)):
            if entry.state is None:
                yield entry.version

    def _all(self, named: Named) -> range:
        return range(len(self._log(named)) + 1)

    def _too_early(self, cut: Mapping[Named, int], written: Sequence[Entry]) -> Named | None:
        """Return an entity that must be further on, given that no other one is less far."""
        for commit in self._commits:
            read = [entry for entry in commit if (entry.machine, entry.id) in cut]
            missing = [entry for entry in read if entry.version > cut[entry.machine, entry.id]]
            if 0 < len(missing) < len(read):
                return missing[0].machine, missing[0].id
        there = [self._log(named)[version - 1] for named, version in cut.items() if version]
        for named, version in cut.items():
            for late in self._log(named)[version:][:1]:
                known = late not in written
                if known and any(self._is_before(late, e) for e in (*there, *written)):
                    return named
        return None

    def _is_before(self, first: Entry, second: Entry) -> bool:
        """Whether one was surely there before the other."""
        if (first.machine, first.id) == (second.machine, second.id):
            return first.version < second.version
        one = self._orders.get((first.machine, first.id))
        other = self._orders.get((second.machine, second.id))
        if one is None or other is None:
            return False  # its versions are not sound, which is told
        return one.latest[first.version][0] < other.earliest[second.version][0]

    def _log(self, named: Named) -> Sequence[Entry]:
        return self._logs.get(named, ())
