"""Settles calls that share one load and one commit, each group of them for itself.

What comes too late goes on alone; what the store refuses fails alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import GeneratorType
from typing import Any

from holdfast.errors import StoreError, VersionConflictError
from holdfast.service.attempts import Attempts
from holdfast.service.commit import commit, conflict_of, each_alone
from holdfast.service.decide import Answer, Binding, Decision, Group, decide, keys_of
from holdfast.service.lockstep import together
from holdfast.service.requests import Begin, Commit, Load, Plan
from holdfast.service.settle import Begun, count_calls, settle, tell_stale
from holdfast.stores.contract import Outcome, Write, WriteRefusedError


def settle_each(binding: Binding, groups: Sequence[Group]) -> Plan[list[list[Answer]]]:
    """Apply every group's calls for itself, sharing one load and one commit.

    Answers with each group's own answers. A group that comes too late goes on alone.
    """
    if not binding.is_plain:
        alone = yield from together([settle(binding, (group,)) for group in groups])
        return [_each(group, result) for group, result in zip(groups, alone, strict=True)]
    begun = yield from begin_each(binding, groups)
    going_on = [place for place, result in enumerate(begun) if isinstance(result, GeneratorType)]
    ended = yield from together([begun[place] for place in going_on])
    for place, result in zip(going_on, ended, strict=True):
        begun[place] = _each(groups[place], result)
    return begun


def begin_each(
    binding: Binding, groups: Sequence[Group], begun: Begun | None = None
) -> Plan[list[Any]]:
    """Make the first attempt for every group, sharing one load and one commit.

    Answers with each group's own answers, or, where it came too late, with the plan by which it
    goes on alone. Takes neither a breaker, nor handlers that are awaited, nor hooks.
    """
    if begun is None:
        begun = Begun(*(yield Begin(count_calls(groups))))
    started, tokens = begun.started, begun.tokens
    loaded = yield Load(keys_of(binding.machine.name, groups))
    decisions = decide(binding, groups, loaded, tokens)
    attempts = Attempts(binding.retry, binding.machine.name, None, started)
    for group, decision in zip(groups, decisions, strict=True):
        if decision.failed:
            yield from tell_stale(binding, (group,), decision.answers, attempts)
    late = yield from _commit_each(binding, decisions, attempts)
    settled: list[Any] = []
    start = 0
    for place, (group, decision) in enumerate(zip(groups, decisions, strict=True)):
        end = start + len(group.calls)
        error = late.get(place)
        if error is None:
            settled.append(decision.answers)
        elif isinstance(error, VersionConflictError):
            late_one = Begun(started, tokens[start:end], error)
            settled.append(settle(binding, (group,), begun=late_one))
        else:
            settled.append([error] * len(group.calls))
        start = end
    return settled


def _commit_each(
    binding: Binding, decisions: Sequence[Decision], attempts: Attempts
) -> Plan[dict[int, Exception]]:
    """Commit what was decided in one; return, by place, what was not written and why."""
    places = [place for place, decision in enumerate(decisions) if decision.writes]
    writes = [write for decision in decisions for write in decision.writes]
    if not writes:
        return {}
    try:
        outcomes = yield from commit(binding.retry, Commit(writes), attempts)
    except StoreError as error:
        if len(writes) == 1 or not isinstance(error, WriteRefusedError):
            return dict.fromkeys(places, error)
        return (yield from _commit_one_by_one(binding, places, writes, attempts))
    return _late_ones(places, writes, outcomes)


def _commit_one_by_one(
    binding: Binding, places: Sequence[int], writes: Sequence[Write], attempts: Attempts
) -> Plan[dict[int, Exception]]:
    """Commit each write alone, so that what was refused fails alone."""
    failed: dict[int, Exception] = {}
    asks = [Commit((write,)) for write in writes]
    answers = yield from each_alone(asks, lambda asked: commit(binding.retry, asked, attempts))
    for place, write, answer in zip(places, writes, answers, strict=True):
        if isinstance(answer, StoreError):
            failed[place] = answer
        else:
            failed.update(_late_ones((place,), (write,), answer))
    return failed


def _late_ones(
    places: Sequence[int], writes: Sequence[Write], outcomes: Sequence[Outcome]
) -> dict[int, Exception]:
    return {
        place: conflict_of(write, outcome)
        for place, write, outcome in zip(places, writes, outcomes, strict=True)
        if not outcome.applied
    }


def _each(group: Group, result: list[Answer] | Exception) -> list[Answer]:
    """Return the answers of a group's plan; what the plan raised answers each call."""
    return [result] * len(group.calls) if isinstance(result, Exception) else result
