"""Hooks of generated machines, and what must hold between what they saw and what the log says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

from holdfast.errors import CommandRejectedError
from holdfast.machine.definition import Machine
from holdfast.record import Change, Transition
from holdfast.stores.contract import LogRow
from holdfast.testing.history import Entry, Operation


class HookFailedError(Exception):
    """What hooks raise on their own account, as a broken one would."""


class Sightings:
    """What hooks saw, by the names of the writes that they were called for, and the versions."""

    def __init__(self) -> None:
        self.refused: set[tuple[str, int]] = set()
        """By a guard."""
        self.before: set[tuple[str, int]] = set()
        self.after: set[tuple[str, int]] = set()
        """In a transaction that they let commit."""
        self.undone: set[tuple[str, int]] = set()
        """In one that they had rolled back."""
        self.followed: Counter[str] = Counter()
        """After a commit."""
        self.failed: Counter[str] = Counter()
        self.strange: list[str] = []
        self.may_be_away = False
        """Whether the store was away at times, so that what follows a commit could not be told."""


def declare_hooks(machine: Machine[Any, Any, Any]) -> None:
    """Give a generated machine hooks, which refuse and fail at times."""
    machine.guard(_guard)
    machine.before(_before)
    machine.after(_after)
    machine.after_commit(_follow)
    machine.on_failure(_fail)


def _guard(change: Change, deps: Any) -> bool:
    name, chance = _drawn(change)
    if chance % 19 == 0:
        deps.hooks.refused.add((name, change.version))
        if chance % 2:
            raise CommandRejectedError(f"{name} is refused by a guard")
        return False
    return True


def _before(change: Change, deps: Any) -> None:
    name, chance = _drawn(change)
    deps.hooks.before.add((name, change.version))
    if chance % 29 == 0:
        deps.hooks.undone.add((name, change.version))
        raise HookFailedError(f"{name} fails before it is written")


def _after(change: Change, transition: Transition, deps: Any) -> None:
    name, chance = _drawn(change)
    if (transition.version, transition.metadata.get("name")) != (change.version, name):
        deps.hooks.strange.append(f"{name} saw the transition {transition}")
    if chance % 31 == 0:
        deps.hooks.undone.add((name, change.version))
        raise HookFailedError(f"{name} fails once it is written")
    deps.hooks.after.add((name, change.version))


def _follow(change: Change, transition: Transition, deps: Any) -> None:
    deps.hooks.followed[transition.metadata.get("name")] += 1


def _fail(change: Change, error: Exception, deps: Any) -> None:
    deps.hooks.failed[_drawn(change)[0]] += 1


def hook_faults(
    hooks: Sightings,
    hooked: set[str],
    operations: Sequence[Operation],
    log: Sequence[LogRow],
    entries: Sequence[Entry],
) -> Iterator[str]:
    """Tell where hooks were not called for what was written, or were for what was not."""
    yield from hooks.strange
    written = {
        (entry.name, row.version)
        for row, entry in zip(log, entries, strict=True)
        if row.machine in hooked and row.command_type is not None and entry.name
    }
    for name, version in sorted(written - hooks.before | written - hooks.after):
        yield f"{name} was written as version {version} without the hooks in its transaction"
    for name, version in sorted(written & (hooks.undone | hooks.refused)):
        yield f"{name} was written as version {version}, which a hook had refused, or undone"
    names = {name for name, _ in written}
    erased = {row.id for row in log if row.kind == "purged"}
    for name, times in sorted(hooks.followed.items()):
        if times > 1 or (name not in names and not erased):
            yield f"{name} was followed {times} times, and is in the log: {name in names}"
    for operation in operations:
        if operation.kind == "write" and operation.name in names and operation.told == "done":
            if hooks.followed[operation.name] != 1 and not hooks.may_be_away:
                yield f"{operation.name} was acknowledged, and nothing followed its commit"
            if hooks.failed[operation.name]:
                yield f"{operation.name} was acknowledged, and a failure hook was told of it"


def _drawn(change: Change) -> tuple[str, int]:
    """Return the name of the write that a change is made by, and what its hooks draw lots with."""
    name = str(change.metadata.get("name"))
    return name, crc32(f"{name} {change.id} {change.version}".encode())
