"""Commits until it is known what became of it, and tells which conflict kept it from happening."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from holdfast.errors import OutcomeUnknownError, StoreError, VersionConflictError, entity_name
from holdfast.service.requests import Commit, Plan, Random, Sleep
from holdfast.service.retry import Retry
from holdfast.stores.contract import Check, CommitUncertainError, Outcome

_APPLIED = attrgetter("applied")


def commit(retry: Retry, asked: Commit) -> Plan[list[Outcome]]:
    """Commit; where the store does not know the outcome, send the same again until it does.

    Raises OutcomeUnknownError where it does not come to know within the attempts of the `Retry`.
    """
    try:
        outcomes: list[Outcome] = yield asked
    except CommitUncertainError as error:
        outcomes = yield from _commit_again(retry, asked, error)
    return outcomes


def _commit_again(
    retry: Retry, asked: Commit, uncertain: CommitUncertainError
) -> Plan[list[Outcome]]:
    for attempt in range(1, retry.attempts + 1):
        yield Sleep(retry.delay_seconds(attempt, (yield Random())))
        try:
            outcomes: list[Outcome] = yield asked
        except StoreError:
            continue
        return outcomes
    names = ", ".join(entity_name(w.entity.machine, w.entity.id) for w in asked.writes[:3])
    raise OutcomeUnknownError(
        f"whether the transition of {names} was stored is not known: {uncertain}; once the "
        "store is back, send the command again with the same key, or look at the history"
    ) from uncertain


def first_conflict(commit: Commit, outcomes: Sequence[Outcome]) -> VersionConflictError | None:
    """Return the first conflict of a commit; an entity that was merely held back comes last."""
    if all(map(_APPLIED, outcomes)):
        return None
    writes = [Check(w.entity.machine, w.entity.id, w.expected) for w in commit.writes]
    late = [
        VersionConflictError(check.machine, check.id, check.version, outcome.version)
        for check, outcome in zip([*writes, *commit.checks], outcomes, strict=True)
        if not outcome.applied
    ]
    return min(late, key=lambda conflict: conflict.gap == 0)
