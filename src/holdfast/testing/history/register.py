"""Linearizability of a register by search, for what carries no versions; up to 8 clients at once.

A configuration is the register's value with the set of open operations that have taken effect. At
each answer the open operations are let take effect in every order until the answered one has, and
what cannot explain the answer is dropped. No configuration left: not linearizable.
Source: G. Lowe, Testing for Linearizability, Concurrency and Computation 29, 2017 (just-in-time
linearization).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Literal

from msgspec import Struct

from holdfast.testing.history.malformed import contradictions_of_answer

KINDS = ("read", "write", "cas")
MAX_OPEN = 8
"""The most operations that may be open at once, those without an answer not counted."""
MAX_CONFIGURATIONS = 1_000_000


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


_Configuration = tuple[Hashable, frozenset[int]]


def check_register(
    operations: Iterable[RegisterOperation], *, initial: Hashable = None
) -> list[str]:
    """Return why a history of one register is not linearizable; empty where it is.

    Raises ValueError for more than 8 clients at once, where the search grows too large, and, naming
    it, for an operation that contradicts itself: done or refused without `ended`, ended before it
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
        self.pending: set[int] = set()
        self.configurations: set[_Configuration] = {(initial, frozenset())}

    def open(self, place: int) -> None:
        """An operation was sent: it may take effect from now on."""
        self.pending.add(place)
        answered = [p for p in self.pending if self.operations[p].told != "unknown"]
        if len(answered) > MAX_OPEN:
            raise ValueError(f"more than {MAX_OPEN} operations are open at once")

    def close(self, place: int) -> bool:
        """An answer came: it must have taken effect by now. Return whether that can be."""
        found: set[_Configuration] = set()
        seen = set(self.configurations)
        stack = list(seen)
        while stack:
            value, effective = stack.pop()
            if place in effective:
                found.add((value, effective - {place}))
                continue
            for other in self.pending - effective:
                after = _effect(self.operations[other], value)
                if after is None:
                    continue
                following = after[0], effective | {other}
                if following not in seen:
                    seen.add(following)
                    stack.append(following)
            if len(seen) > MAX_CONFIGURATIONS:
                raise ValueError("too many operations without an answer; check a shorter history")
        self.pending.discard(place)
        self.configurations = found
        return bool(found)


def _effect(operation: RegisterOperation, value: Hashable) -> tuple[Hashable] | None:
    """Return the value after an operation; None where it cannot take effect on this one."""
    if operation.kind == "write":
        return (operation.value,)
    if operation.kind == "read":
        return (value,) if operation.value == value else None
    if operation.told == "refused":
        return (value,) if operation.expected != value else None
    return (operation.value,) if operation.expected == value else None


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
