"""Commits until it is known what became of it, and tells which conflict kept it from happening."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from msgspec.structs import replace

from holdfast.errors import OutcomeUnknownError, StoreError, VersionConflictError, entity_name
from holdfast.service.attempts import Attempts
from holdfast.service.requests import Clock, Commit, Plan, Random, Sleep
from holdfast.service.retry import Retry
from holdfast.stores.contract import Check, CommitUncertainError, Outcome, Write, WriteRefusedError
from holdfast.stores.outcomes import left_out

A = TypeVar("A")

_APPLIED = attrgetter("applied")


def commit(retry: Retry, asked: Commit, attempts: Attempts | None = None) -> Plan[list[Outcome]]:
    """Commit; where the store does not know the outcome, send the same again until it does.

    Raises OutcomeUnknownError where it does not come to know within the limits of the `Retry` and
    of the attempts of the call; without a call the budget begins now.
    """
    try:
        outcomes: list[Outcome] = yield asked
    except CommitUncertainError as error:
        outcomes = yield from commit_again(retry, asked, error, attempts)
    return outcomes


def commit_again(
    retry: Retry, asked: Commit, uncertain: CommitUncertainError, attempts: Attempts | None
) -> Plan[list[Outcome]]:
    """Send a commit again whose outcome the store did not know; raises OutcomeUnknownError."""
    now: float = yield Clock()
    ends_at = now + retry.budget_seconds if attempts is None else attempts.ends_at
    for attempt in range(1, retry.attempts + 1):
        delay = retry.delay_seconds(attempt, (yield Random()))
        left = ends_at - (yield Clock()) - delay
        if left < 0:
            break
        yield Sleep(delay)
        again = asked if asked.timeout_seconds is None else replace(asked, timeout_seconds=left)
        try:
            outcomes: list[Outcome] = yield again
        except StoreError:
            continue
        return outcomes
    names = ", ".join(entity_name(w.entity.machine, w.entity.id) for w in asked.writes[:3])
    raise OutcomeUnknownError(
        f"whether the transition of {names} was stored is not known: {uncertain}; once the "
        "store is back, send the command again with the same key, or look at the history"
    ) from uncertain


def each_alone(
    asks: Sequence[A], perform: Callable[[A], Plan[Any]]
) -> Plan[list[Any | StoreError]]:
    """Ask for each by itself, after all together were refused; answer with what came of each.

    What is refused is its own error. Where the store fails, the rest are not asked any more.
    """
    answers: list[Any | StoreError] = []
    for ask in asks:
        try:
            answers.append((yield from perform(ask)))
        except WriteRefusedError as error:
            answers.append(error)
        except StoreError as error:
            answers.append(error)
            return answers + [left_out(error) for _ in asks[len(answers) :]]
    return answers


def first_conflict(commit: Commit, outcomes: Sequence[Outcome]) -> VersionConflictError | None:
    """Return the first conflict of a commit; an entity that was merely held back comes last."""
    if all(map(_APPLIED, outcomes)):
        return None
    asked: list[Write | Check] = [*commit.writes, *commit.checks]
    late = [
        conflict_of(each, outcome)
        for each, outcome in zip(asked, outcomes, strict=True)
        if not outcome.applied
    ]
    return min(late, key=lambda conflict: conflict.gap == 0)


def conflict_of(asked: Write | Check, outcome: Outcome) -> VersionConflictError:
    """Return the conflict of what came too late, in the versions of live entities."""
    if isinstance(asked, Check):
        machine, id, expected = asked.machine, asked.id, asked.version
        decided_on = 0 if asked.deleted else expected
    else:
        machine, id, expected = asked.entity.machine, asked.entity.id, asked.expected
        is_new = not asked.log or asked.log[0].from_type is None  # one that is gone has no log
        decided_on = 0 if is_new else expected
    actual = 0 if outcome.deleted else outcome.version
    return VersionConflictError(machine, id, decided_on, actual, outcome.version - expected)
