"""Reads of several entities at one moment, where the log is not in the order of its commits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product

from holdfast.testing.history.model import Entry, Named, Operation

MAX_CUTS = 1_000
"""How many ways to understand a read of deleted entities are looked at."""


class Cuts:
    """What was there at one moment: commits as a whole, and all that came before what was there."""

    def __init__(
        self,
        logs: Mapping[Named, Sequence[Entry]],
        commits: Sequence[Sequence[Entry]],
        writers: Mapping[str, Operation],
    ) -> None:
        self._logs = logs
        self._commits = [commit for commit in commits if len(commit) > 1]
        self._writers = writers

    def explain(self, reads: Sequence[Operation]) -> bool:
        """Whether what was read may have been there at one moment."""
        named = [(read.machine, read.id) for read in reads]
        versions = [list(self._versions(read)) for read in reads]
        cuts = islice(product(*versions), MAX_CUTS)
        return any(self._holds(dict(zip(named, cut, strict=True))) for cut in cuts)

    def _versions(self, read: Operation) -> Iterator[int]:
        """Yield the versions that a read may have seen: there are several without an entity."""
        if read.version:
            yield read.version
            return
        yield 0
        for entry in self._log((read.machine, read.id)):
            if entry.state is None:
                yield entry.version

    def _holds(self, cut: Mapping[Named, int]) -> bool:
        for commit in self._commits:
            parts = {e.version <= cut[e.machine, e.id] for e in commit if (e.machine, e.id) in cut}
            if len(parts) > 1:
                return False
        there = [self._log(named)[version - 1] for named, version in cut.items() if version]
        following = [e for named, version in cut.items() for e in self._log(named)[version:][:1]]
        return not any(self._is_before(late, entry) for late in following for entry in there)

    def _is_before(self, first: Entry, second: Entry) -> bool:
        """Whether one was acknowledged before the other was sent."""
        one, other = (self._writers.get(entry.name or "") for entry in (first, second))
        if one is None or other is None or one.told != "done" or one.ended is None:
            return False
        return one.ended < other.began

    def _log(self, named: Named) -> Sequence[Entry]:
        return self._logs.get(named, ())
