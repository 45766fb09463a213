"""Reads of several entities at one moment, where the log is not in the order of its commits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product

from holdfast.testing.history.model import Entry, Named, Operation
from holdfast.testing.history.order import Order

MAX_CUTS = 1_000
"""How many ways to understand a read of deleted entities are looked at."""


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
        """Whether what was read may have been there at one moment, that of what was written."""
        named = [(read.machine, read.id) for read in reads]
        versions = [list(self._versions(read)) for read in reads]
        cuts = islice(product(*versions), MAX_CUTS)
        return any(self._holds(dict(zip(named, cut, strict=True)), written) for cut in cuts)

    def _versions(self, read: Operation) -> Iterator[int]:
        """Yield the versions that a read may have seen: there are several without an entity."""
        if read.version:
            yield read.version
            return
        yield 0
        for entry in self._log((read.machine, read.id)):
            if entry.state is None:
                yield entry.version

    def _holds(self, cut: Mapping[Named, int], written: Sequence[Entry]) -> bool:
        for commit in self._commits:
            parts = {e.version <= cut[e.machine, e.id] for e in commit if (e.machine, e.id) in cut}
            if len(parts) > 1:
                return False
        there = [self._log(named)[version - 1] for named, version in cut.items() if version]
        following = [e for named, version in cut.items() for e in self._log(named)[version:][:1]]
        others = [entry for entry in following if entry not in written]
        return not any(self._is_before(late, e) for late in others for e in (*there, *written))

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
