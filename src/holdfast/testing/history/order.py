"""Linearizability by the versions that replies carry, for one entity, in O(n log n).

The versions give the order of the writes; what is left to find is a moment for each. A version
cannot be there before its own write began, nor before something began that still saw an older one;
and it must be there when the first answer came that tells of it or of a newer one, or by then
acknowledged a write that the log has there. Moments exist if, and only if, no version has to be
there before it can be. What tells of a state, or of no entity, tells of some version that was so.
Source: P. Gibbons, E. Korach, Testing Shared Memories, SIAM J. Comput. 26, 1997 (reads mapped to
writes whose order is given).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from math import inf

from holdfast.testing.history.model import Entry, Operation
from holdfast.testing.history.versions import is_acknowledged, versions_by_answer

Bound = tuple[float, Operation | None]


class Order:
    """When each version of an entity came to be there, as far as the answers tell."""

    def __init__(
        self,
        entries: Sequence[Entry],
        operations: Sequence[Operation],
        writers: Mapping[str, Operation],
    ) -> None:
        count = len(entries)
        self.earliest: list[Bound] = [(-inf, None)] * (count + 2)
        self.latest: list[Bound] = [(inf, None)] * (count + 2)
        self._entries = entries
        self._told = [o for o in operations if _state_told(o) is not None and o.ended is not None]
        for entry in entries:
            writer = writers.get(entry.name) if entry.name is not None else None
            if writer is not None:
                self._not_before(entry.version, writer)
        self._lost: list[Operation] = []
        for operation, version in versions_by_answer(entries, operations):
            if version is None:
                self._lost.append(operation)
            else:
                self._take(operation, version)
        self._settled = self.earliest, self.latest
        self.settle()

    def settle(self) -> bool:
        """Let each version be there before the next; return whether anything was learned."""
        before = self._settled
        self.earliest = list(accumulate(self.earliest, later))
        self.latest = list(accumulate(reversed(self.latest), earlier))[::-1]
        self._settled = self.earliest.copy(), self.latest.copy()
        return self._settled != before

    def narrow(self) -> None:
        """Learn from answers that tell no version of which versions they can tell."""
        for operation, versions, last in list(self._fitting()):
            if versions[0] <= last:
                self._not_after(versions[0], operation)
                self._not_before(versions[-1] + 1, operation)

    def faults(self) -> Iterator[str]:
        """Tell of what is not there, and of a version that had to be there before it could be."""
        for operation in self._lost:
            yield f"acknowledged {operation.name}, and it is not in the log"
        for version in range(1, len(self._entries) + 1):
            start, late = self.earliest[version]
            end, early = self.latest[version]
            if start > end and late is not None and early is not None:
                yield (
                    f"version {version} was told of by {end:g} ({self._described(early)}), and "
                    f"could not be there before {start:g} ({self._described(late)})"
                )
                return

    def faults_of_states(self) -> Iterator[str]:
        """Tell of each answer of a state, or of no entity, given while it surely was not so."""
        for operation, (lowest, _), last in self._fitting():
            if lowest > last:
                state = _state_told(operation)
                what = f"to be {state}" if state else "not to exist"
                yield f"was told {what} while it was not so ({described(operation)})"

    def _fitting(self) -> Iterator[tuple[Operation, tuple[int, int], int]]:
        """Yield what tells of a state, the first and last version that fit, and the last there.

        The first is behind the last one there where none fits.
        """
        if not self._told:
            return
        starts = [start for start, _ in self.earliest]
        ends = [end for end, _ in self.latest]
        absent, erased, by_state = self._versions_by_state()
        surely, seen = 0, dict.fromkeys(range(len(self._told)), 0)
        for moment, is_end, place in sorted(_events(self._told)):
            operation, state = self._told[place], _state_told(self._told[place])
            if is_end:
                surely = max(surely, seen[place])
                continue
            last = bisect_right(starts, operation.ended or moment, hi=len(ends) - 1) - 1
            first = max(bisect_left(ends, moment, lo=1, hi=len(ends) - 1) - 1, surely)
            fitting = [absent] if not state else [by_state.get(state, []), by_state.get(None, [])]
            found = [_next(first, versions) for versions in (erased, *fitting)]
            lowest = min(version for version in (*found, last + 1) if version is not None)
            highest = max(_last(last, versions) for versions in (erased, *fitting))
            seen[place] = lowest if lowest <= last else 0
            yield operation, (lowest, highest), last

    def _versions_by_state(self) -> tuple[list[int], list[int], dict[str | None, list[int]]]:
        """Return the versions without an entity, those that were purged, and the others by state.

        Under None are those of which the log does not tell the name of the state.
        """
        absent: list[int] = [0]
        erased: list[int] = []
        by_state: dict[str | None, list[int]] = {}
        for entry in self._entries:
            if entry.purged:
                erased.append(entry.version)
            elif entry.state is None:
                absent.append(entry.version)
            else:
                by_state.setdefault(entry.state_type, []).append(entry.version)
        return absent, erased, by_state

    def _take(self, operation: Operation, version: int) -> None:
        self._not_after(version, operation)
        if operation.kind == "read" or operation.told == "refused":
            self._not_before(version + 1, operation)
        elif is_acknowledged(operation) and operation.version and operation.key is None:
            self._not_before(version, operation)

    def _not_before(self, version: int, operation: Operation) -> None:
        if operation.began > self.earliest[version][0]:
            self.earliest[version] = operation.began, operation

    def _not_after(self, version: int, operation: Operation) -> None:
        assert operation.ended is not None
        if operation.ended < self.latest[version][0]:
            self.latest[version] = operation.ended, operation

    def _described(self, operation: Operation) -> str:
        """Return an operation in a few words, and on what it was if on another entity."""
        own = {(entry.machine, entry.id) for entry in self._entries[:1]}
        where = f", on {operation.machine} {operation.id!r:.40}"
        return described(operation) + (
            where if (operation.machine, operation.id) not in own else ""
        )


def _state_told(operation: Operation) -> str | None:
    """Return the name of the state that an answer tells of, empty for no entity."""
    if operation.version == 0 and operation.kind != "past":  # at first there was none of any entity
        return ""
    return operation.saw


def _events(operations: Sequence[Operation]) -> Iterator[tuple[float, bool, int]]:
    """Yield when each was sent and answered; what is sent at a time comes before its answers."""
    for place, operation in enumerate(operations):
        assert operation.ended is not None
        yield operation.began, False, place
        yield operation.ended, True, place


def _next(first: int, versions: Sequence[int]) -> int | None:
    """Return the first of the versions, which rise, that is not below another."""
    place = bisect_left(versions, first)
    return versions[place] if place < len(versions) else None


def _last(last: int, versions: Sequence[int]) -> int:
    """Return the last of the versions, which rise, that is not above another; else -1."""
    place = bisect_right(versions, last)
    return versions[place - 1] if place else -1


def later(one: Bound, other: Bound) -> Bound:
    """Return which of two times, before which a version cannot be there, comes later."""
    return other if other[0] > one[0] else one


def earlier(one: Bound, other: Bound) -> Bound:
    """Return which of two times, at which a version must be there, comes earlier."""
    return other if other[0] < one[0] else one


def described(operation: Operation) -> str:
    """Return an operation in a few words."""
    end = "no answer" if operation.ended is None else f"{operation.ended:g}"
    name = f" {operation.name}" if operation.name else ""
    version = "" if operation.version is None else f", version {operation.version}"
    return (
        f"{operation.kind}{name} by {operation.client}, {operation.began:g} to {end}, "
        f"{operation.told}{version}"
    )
