"""Linearizability of a register by search, for what carries no versions; up to 8 clients at once.

A configuration is the register's value with the set of open operations that have taken effect. At
each answer the open operations are let take effect in every order until the answered one has, and
what cannot explain the answer is dropped. No configuration left: not linearizable. What has no
answer need never take effect, so that of configurations which differ in it only, the least do.
Source: G. Lowe, Testing for Linearizability, Concurrency and Computation 29, 2017 (just-in-time
linearization).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from holdfast.testing.history.malformed import contradictions_of_answer

KINDS = ("read", "write", "cas")
MAX_OPEN = 8
"""The most operations that may be open at once, those without an answer not counted."""
MAX_STEPS = 5_000_000
"""The most that is tried and compared in all, seconds of work, unless the history is long."""
MAX_STEPS_PER_OPERATION = 2_000
"""The most in a long history, for each operation of it."""


class RegisterOperation(Struct, frozen=True, kw_only=True):
    """A read, a write, or a compare-and-set of a register, and what the client was told."""

    client: str
    kind: Literal["read", "write", "cas"]
    value: Hashable = None
    """What was read, or is to be written."""
    expected: Hashable = None
    """What a compare-and-set is to find."""
    began: float
    ended: float | None = None
    told: Literal["done", "refused", "unknown"] = "unknown"
    """Of a compare-and-set, `refused` says that another value was found."""


_Configuration = tuple[Hashable, frozenset[int], frozenset[int]]
"""A value, which open operations have taken effect, and which of those that have no answer."""


def check_register(
    operations: Iterable[RegisterOperation], *, initial: Hashable = None
) -> list[str]:
    """Return why a history of one register is not linearizable; empty where it is.

    Values are the same where they are equal, and where neither is a number (NaN). Raises ValueError
    for more than 8 clients at once, where the search as a whole grows too large, and, naming it,
    for an operation that contradicts itself: done or refused without `ended`, ended before it
    began, `expected` of what compares nothing, and the like.
    """
    operations = list(operations)
    for operation in operations:
        _refuse_malformed(operation)
    asked = [o for o in operations if _matters(o)]
    search = _Search(asked, initial)
    for _, ends, place in sorted(_events(asked)):
        if not ends:
            search.open(place)
        elif not search.close(place):
            return [f"nothing explains {_described(asked[place])}, after all answers before it"]
    return []


def _refuse_malformed(operation: RegisterOperation) -> None:
    found = [*contradictions_of_answer(operation.told, operation.began, operation.ended)]
    if operation.kind not in KINDS:
        found.append(f"is none of {', '.join(KINDS)}")
    if operation.kind != "cas" and operation.expected is not None:
        found.append("compares nothing and has `expected`")
    if found:
        raise ValueError(f"{_described(operation)} {found[0]}")


def _matters(operation: RegisterOperation) -> bool:
    """Whether an operation had an effect, or tells something."""
    if operation.kind == "read":
        return operation.told == "done"
    return operation.kind == "cas" or operation.told != "refused"


class _Search:
    def __init__(self, operations: Sequence[RegisterOperation], initial: Hashable) -> None:
        self.operations = operations
        self.pending: dict[int, None] = {}
        self.answered = 0
        self.configurations: list[_Configuration] = [(initial, frozenset(), frozenset())]
        self.steps = max(MAX_STEPS, MAX_STEPS_PER_OPERATION * len(operations))

    def open(self, place: int) -> None:
        """An operation was sent: it may take effect from now on."""
        self.pending[place] = None
        self.answered += self.operations[place].told != "unknown"
        if self.answered > MAX_OPEN:
            raise ValueError(f"more than {MAX_OPEN} operations are open at once")

    def close(self, place: int) -> bool:
        """An answer came: it must have taken effect by now. Return whether that can be."""
        found, seen = _Least(), _Least()
        queue = deque(sorted(self.configurations, key=lambda configuration: len(configuration[2])))
        while queue:
            configuration = queue.popleft()
            value, effective, lost = configuration
            if place in effective:
                self._spend(found.size_of(value, effective - {place}))
                found.add((value, effective - {place}, lost))
                continue
            for following in self._following(configuration):
                self._spend(seen.size_of(*following[:2]))
                if seen.add(following):
                    # What has no answer comes last: the least configurations are found first.
                    add = queue.appendleft if following[2] == lost else queue.append
                    add(following)
        del self.pending[place]
        self.answered -= 1
        self.configurations = list(found)
        return bool(self.configurations)

    def _following(self, configuration: _Configuration) -> Iterator[_Configuration]:
        """Yield what one more operation leads to; of those alike without an answer, the first."""
        value, effective, lost = configuration
        tried: set[tuple[str, Hashable, Hashable]] = set()
        for place in self.pending:
            self._spend(1)
            operation = self.operations[place]
            if place in effective or place in lost:
                continue
            is_lost = operation.told == "unknown"
            alike = operation.kind, operation.value, operation.expected
            after = None if is_lost and alike in tried else _effect(operation, value)
            if after is None:
                continue
            if is_lost:
                tried.add(alike)
                yield after[0], effective, lost | {place}
            else:
                yield after[0], effective | {place}, lost

    def _spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise ValueError(
                "too many operations at once or without an answer; check a shorter history"
            )


class _Least:
    """Configurations, without those for which more of what has no answer took effect."""

    def __init__(self) -> None:
        self._lost: dict[tuple[Hashable, frozenset[int]], list[frozenset[int]]] = {}

    def __iter__(self) -> Iterator[_Configuration]:
        for (value, effective), least in self._lost.items():
            for lost in least:
                yield value, effective, lost

    def size_of(self, value: Hashable, effective: frozenset[int]) -> int:
        """Return with how many a configuration will be compared."""
        return len(self._lost.get((value, effective), ()))

    def add(self, configuration: _Configuration) -> bool:
        """Keep a configuration; return whether none of those kept can do all that it can."""
        value, effective, lost = configuration
        least = self._lost.setdefault((value, effective), [])
        if any(other <= lost for other in least):
            return False
        least[:] = [other for other in least if not lost <= other]
        least.append(lost)
        return True


def _effect(operation: RegisterOperation, value: Hashable) -> tuple[Hashable] | None:
    """Return the value after an operation; None where it cannot take effect on this one."""
    if operation.kind == "write":
        return (operation.value,)
    if operation.kind == "read":
        return (value,) if _same(operation.value, value) else None
    if operation.told == "refused":
        return None if _same(operation.expected, value) else (value,)
    return (operation.value,) if _same(operation.expected, value) else None


def _same(one: Hashable, other: Hashable) -> bool:
    """Whether two values are equal, or neither is so much as equal to itself, as NaN."""
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124 (NaN)


def _events(operations: Sequence[RegisterOperation]) -> Iterable[tuple[float, bool, int]]:
    """Return when operations begin and end, the former first; what is unknown never ends."""
    for place, operation in enumerate(operations):
        yield operation.began, False, place
        if operation.told != "unknown" and operation.ended is not None:
            yield operation.ended, True, place


def _described(operation: RegisterOperation) -> str:
    end = "no answer" if operation.ended is None else f"{operation.ended:g}"
    return (
        f"the {operation.kind} of {operation.value!r} by {operation.client}, "
        f"{operation.began:g} to {end}, {operation.told}"
    )
