"""Settles calls: loads their entities, decides, and writes until it is known what became of them.

On a conflict it loads and decides again, within the limits of the `Retry`; a commit whose outcome
the store does not know is sent again, the same, until it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from holdfast.errors import (
    CheckpointConflictError,
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
from holdfast.service.decide import Answer, Decision, decide
from holdfast.service.requests import Begin, Commit, Load, Notify, Plan, Random, Sleep
from holdfast.service.retry import Retry
from holdfast.stores.contract import (
    Check,
    Checkpoint,
    CommitUncertainError,
    Key,
    Loaded,
    Outcome,
)


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

    def attempts(
        self, id: str, started: float, timeout_seconds: float | None = None, *, pinned: bool = False
    ) -> Attempts:
        """Return the attempts that a call which began at `started` may make."""
        return Attempts(
            self.retry,
            self.machine.name,
            id,
            started=started,
            timeout_seconds=timeout_seconds,
            pinned=pinned,
        )


def settle(
    binding: Binding,
    groups: Sequence[Group],
    *,
    atomic: bool = False,
    checkpoint: Checkpoint | None = None,
    timeout_seconds: float | None = None,
    before_commit: Callable[[list[Answer]], object] | None = None,
) -> Plan[list[Answer]]:
    """Apply every group's calls, and write all that was decided in one commit.

    Answers in the order of the groups and their calls. With `atomic` an answer that is an error
    keeps everything from being written; with a checkpoint, one that is no refusal does.
    `before_commit` sees the answers of each attempt that is about to be committed.
    """
    started, tokens = yield Begin(sum(len(group.calls) for group in groups))
    keys = [_key(binding, group) for group in groups]
    attempts = binding.attempts(
        groups[0].id if groups else "",
        started,
        timeout_seconds,
        # The calls of a chain saw different versions: each is told of its own conflict.
        pinned=all([c.expected_version is not None for c in g.calls] == [True] for g in groups),
    )
    while True:
        yield from attempts.begin()
        try:
            decisions = yield from decided(binding, groups, (yield Load(keys)), tokens)
            answers = [answer for decision in decisions for answer in decision.answers]
            writes = [d.write for d in decisions if d.write is not None]
            for stale in _stale(binding, groups, answers):
                binding.contention.record(stale.id)
                yield from attempts.tell(stale, None)
            if _hindered(answers, atomic=atomic, checkpoint=checkpoint):
                return answers
            if not writes and checkpoint is None:
                return answers
            if before_commit is not None:
                yield Notify(before_commit, answers)
            asked = Commit(
                writes,
                atomic=len(writes) > 1 or checkpoint is not None,
                checkpoint=checkpoint,
                timeout_seconds=attempts.left_seconds,
            )
            outcomes = yield from commit(binding, asked)
            if checkpoint is not None:
                _expect_moved(binding, checkpoint, outcomes.pop())
            conflict = first_conflict(asked, outcomes)
            if conflict is None:
                attempts.succeeded()
                return answers
            binding.contention.record(conflict.id)
            failure = yield from attempts.failed(conflict)
        finally:
            attempts.release()
        if failure is not None:
            return [failure for _ in answers]
        groups = [_renewed(binding, group) for group in groups]


def decided(
    binding: Binding, groups: Sequence[Group], loaded: Sequence[Loaded], tokens: Sequence[str]
) -> Plan[list[Decision]]:
    """Decide the calls of every group on its entity as loaded."""
    decisions = []
    start = 0
    for group, entity in zip(groups, loaded, strict=True):
        own = tokens[start : start + len(group.calls)]
        decision = yield from decide(binding.machine, binding.deps, entity, group.calls, own)
        decisions.append(decision)
        start += len(group.calls)
    return decisions


def commit(binding: Binding, asked: Commit) -> Plan[list[Outcome]]:
    """Commit; where the store does not know the outcome, send the same again until it does.

    Raises OutcomeUnknownError where it does not come to know within the attempts of the `Retry`.
    """
    outcomes: list[Outcome]
    try:
        outcomes = yield asked
        return outcomes
    except CommitUncertainError as error:
        uncertain = error
    retry = binding.retry
    for attempt in range(1, retry.attempts + 1):
        yield Sleep(retry.delay_seconds(attempt, (yield Random())))
        try:
            outcomes = yield asked
            return outcomes
        except StoreError:
            continue
    names = ", ".join(entity_name(w.entity.machine, w.entity.id) for w in asked.writes[:3])
    raise OutcomeUnknownError(
        f"whether the transition of {names} was stored is not known: {uncertain}; once the "
        "store is back, send the command again with the same key, or look at the history"
    ) from uncertain


def first_conflict(commit: Commit, outcomes: Sequence[Outcome]) -> VersionConflictError | None:
    """Return the first conflict of a commit; an entity that was merely held back comes last."""
    writes = [Check(w.entity.machine, w.entity.id, w.expected) for w in commit.writes]
    late = [
        VersionConflictError(check.machine, check.id, check.version, outcome.version)
        for check, outcome in zip([*writes, *commit.checks], outcomes, strict=True)
        if not outcome.applied
    ]
    late.sort(key=lambda conflict: conflict.gap == 0)
    return late[0] if late else None


def _expect_moved(binding: Binding, checkpoint: Checkpoint, outcome: Outcome) -> None:
    """Raise where the checkpoint is elsewhere, and was not merely held back with its batch."""
    after = checkpoint.after or 0
    if not outcome.applied and outcome.version != after:
        raise CheckpointConflictError(binding.machine.name, checkpoint.name, after, outcome.version)


def _key(binding: Binding, group: Group) -> Key:
    keys = [call.key for call in group.calls if call.key is not None]
    return Key(binding.machine.name, group.id, tuple(dict.fromkeys(keys)))


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


def _hindered(answers: Sequence[Answer], *, atomic: bool, checkpoint: Checkpoint | None) -> bool:
    """Whether an answer keeps everything from being written."""
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if atomic:
        return bool(errors)
    return checkpoint is not None and any(not isinstance(e, RejectedError) for e in errors)
