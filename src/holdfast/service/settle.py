"""Settles calls: loads their entities, decides, and writes until it is known what became of them.

On a conflict it loads and decides again, within the limits of the `Retry`; a commit whose outcome
the store does not know is sent again, the same, until it is known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from operator import attrgetter
from types import GeneratorType
from typing import Any

from msgspec import Struct

from holdfast.errors import (
    CheckpointConflictError,
    DefinitionError,
    OutcomeUnknownError,
    RejectedError,
    StoreError,
    VersionConflictError,
    entity_name,
)
from holdfast.machine.definition import Machine
from holdfast.service.attempts import Attempts
from holdfast.service.call import Call, renewed
from holdfast.service.contention import Contention
from holdfast.service.decide import Answer, Decision, await_decision, decide
from holdfast.service.lockstep import together
from holdfast.service.requests import Begin, Commit, Load, Notify, Plan, Random, Sleep
from holdfast.service.retry import Retry
from holdfast.stores.contract import (
    Check,
    Checkpoint,
    CommitUncertainError,
    Key,
    Loaded,
    Outcome,
    Write,
)

_APPLIED = attrgetter("applied")


class Group(Struct, frozen=True):
    """The calls for one entity, in the order they are to be applied."""

    id: str
    calls: Sequence[Call]


class Binding:
    """A machine with what its handlers take and how conflicts are answered."""

    def __init__(self, machine: Machine[Any, Any, Any], deps: Any, retry: Retry) -> None:
        self.machine = machine
        self.deps = deps
        self.retry = retry
        self.contention = Contention()
        self.deciding: str | None = None
        """The entity whose handler was last begun, by any thread: a hint where to look closer."""


class Begun(Struct, frozen=True):
    """A call under way: when it began, its commands' tokens, and the conflict it met so far."""

    started: float
    tokens: Sequence[str]
    conflict: VersionConflictError


class Terms(Struct, frozen=True):
    """On what terms calls are settled together."""

    atomic: bool = False
    """Whether an answer that is an error keeps everything from being written."""
    checkpoint: Checkpoint | None = None
    """Moves with what is written; an answer that is an error, and no refusal, keeps both back."""
    timeout_seconds: float | None = None
    before_commit: Callable[[list[Answer]], object] | None = None
    """Sees the answers of each attempt that is about to be committed."""

    def allow(self, answers: Sequence[Answer]) -> bool:
        """Whether answers of which some are errors let the rest be written."""
        if self.atomic:
            return False
        errors = (answer for answer in answers if isinstance(answer, Exception))
        return self.checkpoint is None or all(isinstance(error, RejectedError) for error in errors)


USUAL = Terms()


def settle(
    binding: Binding, groups: Sequence[Group], terms: Terms = USUAL, begun: Begun | None = None
) -> Plan[list[Answer]]:
    """Apply every group's calls, and write all that was decided in one commit.

    Answers in the order of the groups and their calls.
    """
    if begun is None:
        started, tokens = yield Begin(_count(groups))
    else:
        started, tokens = begun.started, begun.tokens
    id = groups[0].id if groups else ""
    attempts = Attempts(binding.retry, binding.machine.name, id, started, terms.timeout_seconds)
    failure = None
    if begun is not None:
        failure = yield from _late(binding, groups, attempts, begun.conflict)
    breaker = binding.retry.breaker
    while failure is None:
        if breaker is not None:
            yield from attempts.ask(breaker)
        try:
            answers, conflict = yield from _attempt(binding, groups, tokens, terms, attempts)
            if conflict is None:
                return answers
            failure = yield from _late(binding, groups, attempts, conflict)
        finally:
            attempts.release()
        groups = [_renewed(binding, group) for group in groups]
    return [failure] * _count(groups)


def _attempt(
    binding: Binding,
    groups: Sequence[Group],
    tokens: Sequence[str],
    terms: Terms,
    attempts: Attempts,
) -> Plan[tuple[list[Answer], VersionConflictError | None]]:
    """Load, decide and write once; answer with the answers, and the conflict that undid them."""
    loaded = yield Load([_key(binding, group) for group in groups])
    decisions = (
        decided(binding, groups, loaded, tokens)
        if not binding.machine.is_async
        else (yield from awaited(binding, groups, loaded, tokens))
    )
    answers, writes, failed = _joined(decisions)
    if failed:
        yield from _tell_stale(binding, groups, answers, attempts)
        if not terms.allow(answers):
            return answers, None
    checkpoint = terms.checkpoint
    if not writes and checkpoint is None:
        return answers, None
    if terms.before_commit is not None:
        yield Notify(terms.before_commit, answers)
    whole = len(writes) > 1 or checkpoint is not None
    asked = Commit(writes, (), whole, checkpoint, attempts.left_seconds)
    outcomes = yield from commit(binding, asked)
    if checkpoint is not None:
        _expect_moved(binding, checkpoint, outcomes.pop())
    conflict = first_conflict(asked, outcomes)
    if conflict is None:
        attempts.succeeded()
    return answers, conflict


def settle_each(binding: Binding, groups: Sequence[Group]) -> Plan[list[list[Answer]]]:
    """Apply every group's calls for itself, sharing one load and one commit.

    Answers with each group's own answers. A group that comes too late goes on alone.
    """
    if binding.retry.breaker is not None or binding.machine.is_async:
        alone = yield from together([settle(binding, (group,)) for group in groups])
        return [_each(group, result) for group, result in zip(groups, alone, strict=True)]
    begun = yield from begin_each(binding, groups)
    going_on = [place for place, result in enumerate(begun) if isinstance(result, GeneratorType)]
    ended = yield from together([begun[place] for place in going_on])
    for place, result in zip(going_on, ended, strict=True):
        begun[place] = _each(groups[place], result)
    return begun


def begin_each(binding: Binding, groups: Sequence[Group]) -> Plan[list[Any]]:
    """Make the first attempt for every group, sharing one load and one commit.

    Answers with each group's own answers, or, where it came too late, with the plan by which it
    goes on alone. Takes neither a breaker nor handlers that are awaited.
    """
    started, tokens = yield Begin(_count(groups))
    keys = [_key(binding, group) for group in groups]
    decisions = decided(binding, groups, (yield Load(keys)), tokens)
    late = yield from _commit_each(binding, decisions)
    attempts = Attempts(binding.retry, binding.machine.name, "", started)
    settled: list[Any] = []
    start = 0
    for place, (group, decision) in enumerate(zip(groups, decisions, strict=True)):
        end = start + len(group.calls)
        error = late.get(place)
        if error is None:
            settled.append(decision.answers)
        elif isinstance(error, VersionConflictError):
            begun = Begun(started, tokens[start:end], error)
            settled.append(settle(binding, (group,), begun=begun))
        else:
            settled.append([error] * len(group.calls))
        if any(isinstance(answer, Exception) for answer in decision.answers):
            yield from _tell_stale(binding, (group,), decision.answers, attempts)
        start = end
    return settled


def _commit_each(binding: Binding, decisions: Sequence[Decision]) -> Plan[dict[int, Exception]]:
    """Commit what was decided in one; return, by place, what was not written and why."""
    places = [place for place, decision in enumerate(decisions) if decision.write is not None]
    writes = [decision.write for decision in decisions if decision.write is not None]
    if not writes:
        return {}
    try:
        outcomes = yield from commit(binding, Commit(writes))
    except OutcomeUnknownError as error:
        return dict.fromkeys(places, error)
    except StoreError as error:
        if len(writes) == 1:
            return {places[0]: error}
        return (yield from _commit_one_by_one(binding, places, writes))
    return _late_ones(places, writes, outcomes)


def _commit_one_by_one(
    binding: Binding, places: Sequence[int], writes: Sequence[Write]
) -> Plan[dict[int, Exception]]:
    """Commit each write alone, so that a bad one fails alone.

    The second that fails shows that the store itself does, and the rest are not tried any more.
    """
    failed: dict[int, Exception] = {}
    errors: list[StoreError] = []
    for place, write in zip(places, writes, strict=True):
        if len(errors) == 2:
            failed[place] = errors[1]
            continue
        try:
            outcomes = yield from commit(binding, Commit((write,)))
        except StoreError as error:
            errors.append(error)
            failed[place] = error
        else:
            failed.update(_late_ones((place,), (write,), outcomes))
    return failed


def _late_ones(
    places: Sequence[int], writes: Sequence[Write], outcomes: Sequence[Outcome]
) -> dict[int, Exception]:
    return {
        place: _conflict(write, outcome)
        for place, write, outcome in zip(places, writes, outcomes, strict=True)
        if not outcome.applied
    }


def _conflict(write: Write, outcome: Outcome) -> VersionConflictError:
    entity = write.entity
    return VersionConflictError(entity.machine, entity.id, write.expected, outcome.version)


def _each(group: Group, result: list[Answer] | Exception) -> list[Answer]:
    """Return the answers of a group's plan; what the plan raised answers each call."""
    return [result] * len(group.calls) if isinstance(result, Exception) else result


def _late(
    binding: Binding, groups: Sequence[Group], attempts: Attempts, conflict: VersionConflictError
) -> Plan[VersionConflictError | None]:
    """Count a conflict and wait; return the error where there is no next attempt."""
    binding.contention.record(conflict.id)
    # The calls of a chain saw different versions: each is told of its own conflict.
    pinned = all([c.expected_version is not None for c in g.calls] == [True] for g in groups)
    return (yield from attempts.failed(conflict, pinned=pinned))


def _tell_stale(
    binding: Binding, groups: Sequence[Group], answers: Sequence[Answer], attempts: Attempts
) -> Plan[None]:
    """Count and tell of the calls that expected another version than the one loaded."""
    for stale in _stale(binding, groups, answers):
        binding.contention.record(stale.id)
        yield from attempts.tell(stale, None, attempts.made + 1)


def _count(groups: Sequence[Group]) -> int:
    count = 0
    for group in groups:
        count += len(group.calls)
    return count


def _joined(decisions: Sequence[Decision]) -> tuple[list[Answer], list[Write], bool]:
    """Return all answers, all writes, and whether an answer is an error."""
    answers: list[Answer] = []
    writes: list[Write] = []
    failed = False
    for decision in decisions:
        for answer in decision.answers:
            answers.append(answer)
            failed = failed or isinstance(answer, Exception)
        if decision.write is not None:
            writes.append(decision.write)
    return answers, writes, failed


def decided(
    binding: Binding, groups: Sequence[Group], loaded: Sequence[Loaded], tokens: Sequence[str]
) -> list[Decision]:
    """Decide the calls of every group on its entity as loaded."""
    decisions = []
    start = 0
    outer = binding.deciding
    for group, entity in zip(groups, loaded, strict=True):
        if group.id == outer:
            _expect_outermost(binding, group.id)
        end = start + len(group.calls)
        binding.deciding = group.id
        decisions.append(
            decide(binding.machine, binding.deps, entity, group.calls, tokens[start:end])
        )
        start = end
    binding.deciding = outer
    return decisions


def awaited(
    binding: Binding, groups: Sequence[Group], loaded: Sequence[Loaded], tokens: Sequence[str]
) -> Plan[list[Decision]]:
    """Decide as `decided` does, where handlers are awaited."""
    decisions = []
    start = 0
    for group, entity in zip(groups, loaded, strict=True):
        end = start + len(group.calls)
        decision = yield from await_decision(
            binding.machine, binding.deps, entity, group.calls, tokens[start:end]
        )
        decisions.append(decision)
        start = end
    return decisions


def _expect_outermost(binding: Binding, id: str) -> None:
    """Raise DefinitionError in a call that a handler of the same entity makes, in this thread."""
    frame = sys._getframe(2).f_back  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_code is decided.__code__:
            names = frame.f_locals
            if names["binding"] is binding and names["group"].id == id:
                raise DefinitionError(
                    f"a handler of {entity_name(binding.machine.name, id)} sent a command to that "
                    "entity itself; nothing was written: return the state that it leads to, or "
                    "send the command once the call has returned"
                )
        frame = frame.f_back


def commit(binding: Binding, asked: Commit) -> Plan[list[Outcome]]:
    """Commit; where the store does not know the outcome, send the same again until it does.

    Raises OutcomeUnknownError where it does not come to know within the attempts of the `Retry`.
    """
    try:
        outcomes: list[Outcome] = yield asked
    except CommitUncertainError as error:
        outcomes = yield from _commit_again(binding, asked, error)
    return outcomes


def _commit_again(
    binding: Binding, asked: Commit, uncertain: CommitUncertainError
) -> Plan[list[Outcome]]:
    retry = binding.retry
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


def _expect_moved(binding: Binding, checkpoint: Checkpoint, outcome: Outcome) -> None:
    """Raise where the checkpoint is elsewhere, and was not merely held back with its batch."""
    after = checkpoint.after or 0
    if not outcome.applied and outcome.version != after:
        raise CheckpointConflictError(binding.machine.name, checkpoint.name, after, outcome.version)


def _key(binding: Binding, group: Group) -> Key:
    keys: dict[str, None] = {}
    for call in group.calls:
        if call.key is not None:
            keys[call.key] = None
    return Key(binding.machine.name, group.id, tuple(keys))


def _stale(
    binding: Binding, groups: Sequence[Group], answers: Sequence[Answer]
) -> list[VersionConflictError]:
    """Return the conflicts of calls that expected another version than the one loaded."""
    calls = (call for group in groups for call in group.calls)
    return [
        answer
        for call, answer in zip(calls, answers, strict=True)
        if isinstance(answer, VersionConflictError)
        and (answer.machine, answer.id) == (binding.machine.name, call.id)
        and answer.expected == call.expected_version
    ]


def _renewed(binding: Binding, group: Group) -> Group:
    return Group(group.id, [renewed(binding.machine, call) for call in group.calls])
