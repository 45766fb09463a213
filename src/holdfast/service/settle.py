"""Settles calls: loads their entities, decides, and writes until it is known what became of them.

On a conflict it loads and decides again, within the limits of the `Retry`; a commit whose outcome
the store does not know is sent again, the same, until it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from holdfast.errors import CheckpointConflictError, RejectedError, VersionConflictError
from holdfast.service.attempts import Attempts, Trail
from holdfast.service.call import Call, renewed
from holdfast.service.commit import commit, first_conflict
from holdfast.service.decide import (
    Answer,
    Binding,
    Decision,
    Group,
    decide,
    decide_awaiting,
    join,
    keys_of,
)
from holdfast.service.hooks import (
    HookRaised,
    after_commit,
    after_failure,
    tried_blindly,
    with_hooks,
)
from holdfast.service.origin import is_of_handler
from holdfast.service.records import AnyMachine
from holdfast.service.requests import Begin, Commit, Load, Notify, Plan
from holdfast.stores.contract import Checkpoint, Outcome


class Begun(Struct, frozen=True):
    """Calls under way: when they began, their commands' tokens, and the conflict met so far."""

    started: float
    tokens: Sequence[str]
    conflict: VersionConflictError | None = None


class Terms(Struct, frozen=True):
    """On what terms calls are settled together."""

    atomic: bool = False
    """Whether an answer that is an error keeps everything from being written."""
    checkpoint: Checkpoint | None = None
    """Moves with what is written; an answer that is an error, and no refusal, keeps both back."""
    answer_errors: bool = False
    """Whether, beside refusals, what handlers raise keeps nothing back."""
    timeout_seconds: float | None = None
    before_commit: Callable[[list[Answer]], object] | None = None
    """Sees the answers of each attempt that is about to be committed."""

    def tolerate(self, machine: AnyMachine, answers: Sequence[Answer]) -> bool:
        """Whether no answer is an error that keeps back what was decided beside it."""
        errors = (answer for answer in answers if isinstance(answer, Exception))
        return all(self.tolerates(machine, error) for error in errors)

    def commit_of(self, binding: Binding, decision: Decision, attempts: Attempts) -> Commit:
        """Return what is asked of the store: several writes, or a checkpoint, all or nothing."""
        whole = len(decision.writes) > 1 or self.checkpoint is not None
        left = None if self.timeout_seconds is None else attempts.left_seconds
        asked = Commit(decision.writes, (), whole, self.checkpoint, left)
        return with_hooks(binding, asked, decision.decided) if decision.decided else asked

    def tolerates(self, machine: AnyMachine, error: Exception) -> bool:
        """Whether an answer that is this error keeps nothing else from being written."""
        if self.atomic or self.checkpoint is None:
            return not self.atomic
        if isinstance(error, RejectedError):
            return True
        return self.answer_errors and is_of_handler(machine, error)


USUAL = Terms()


def settle(
    binding: Binding,
    groups: Sequence[Group],
    terms: Terms = USUAL,
    begun: Begun | None = None,
    trail: Trail | None = None,
) -> Plan[list[Answer]]:
    """Return the plan that applies every group's calls, and writes what was decided in one commit.

    It answers in the order of the groups and their calls. What is not all or nothing, and has hooks
    in the transaction that writes it, is written one by one: what one raises is nobody else's.
    A `trail` is left by a single call.
    """
    hooks = binding.machine.hooks
    if hooks is None:
        return _settle(binding, groups, terms, begun, trail)
    whole = terms.atomic or terms.checkpoint is not None
    if hooks.are_inside and not whole and count_calls(groups) > 1:
        return _settle_one_by_one(binding, groups, terms, begun)
    return _settle_with_hooks(binding, groups, terms, begun, trail or Trail())


def _settle_one_by_one(
    binding: Binding, groups: Sequence[Group], terms: Terms, begun: Begun | None
) -> Plan[list[Answer]]:
    answers: list[Answer] = []
    for group in groups:
        for call in group.calls:
            alone = begun and Begun(begun.started, [begun.tokens[len(answers)]], begun.conflict)
            plan = _settle_with_hooks(binding, [Group(group.id, [call])], terms, alone, Trail())
            try:
                answers += yield from plan
            except Exception as error:  # noqa: BLE001 (it is this call's answer, and no other's)
                answers.append(error)
    return answers


def _settle_with_hooks(
    binding: Binding, groups: Sequence[Group], terms: Terms, begun: Begun | None, trail: Trail
) -> Plan[list[Answer]]:
    """Settle, then call what is to be called after a commit, or a failure."""
    try:
        answers = yield from _settle(binding, groups, terms, begun, trail)
    except Exception as error:
        decided = trail.decided or [
            tried_blindly(binding, call) for group in groups for call in group.calls
        ]
        yield from after_failure(binding, decided, [error] * len(decided))
        raise
    if trail.commit is not None:
        yield from after_commit(binding, trail.decided, trail.commit)
    yield from after_failure(binding, trail.decided, answers)
    return answers


def _settle(
    binding: Binding,
    groups: Sequence[Group],
    terms: Terms,
    begun: Begun | None,
    trail: Trail | None,
) -> Plan[list[Answer]]:
    if begun is None:
        started, tokens = yield Begin(count_calls(groups))
    else:
        started, tokens = begun.started, begun.tokens
    retry = binding.retry
    id = groups[0].id if groups else ""
    attempts = Attempts(
        retry, binding.machine.name, id, started, terms.timeout_seconds, trail=trail
    )
    failure = None
    if begun is not None and begun.conflict is not None:
        failure = yield from _late(binding, groups, attempts, begun.conflict)
        groups = [_renewed(binding, group) for group in groups]
    while failure is None:
        if retry.breaker is not None:
            yield from attempts.ask(retry.breaker)
        try:
            result = yield from _attempt(binding, groups, tokens, terms, attempts)
            if not isinstance(result, VersionConflictError):
                return result
            failure = yield from _late(binding, groups, attempts, result)
        finally:
            if retry.breaker is not None:
                attempts.release()
        groups = [_renewed(binding, group) for group in groups]
    return [failure] * count_calls(groups)


def _attempt(
    binding: Binding,
    groups: Sequence[Group],
    tokens: Sequence[str],
    terms: Terms,
    attempts: Attempts,
) -> Plan[list[Answer] | VersionConflictError]:
    """Load, decide and write once; return the answers, or the conflict that kept them back."""
    machine = binding.machine
    together = frozenset(group.id for group in groups) if len(groups) > 1 else ()
    loaded = yield Load(keys_of(machine.name, groups))
    if machine.is_async:
        decision = join((yield from decide_awaiting(binding, groups, loaded, tokens, together)))
    else:
        decided = decide(binding, groups, loaded, tokens, together)
        decision = decided[0] if len(decided) == 1 else join(decided)
    if attempts.trail is not None:
        attempts.trail.decided = decision.decided
    if decision.failed:
        yield from tell_stale(binding, groups, decision.answers, attempts)
        if not terms.tolerate(machine, decision.answers):
            return decision.answers
    if not decision.writes and terms.checkpoint is None:
        return decision.answers
    if terms.before_commit is not None:
        yield Notify(terms.before_commit, decision.answers)
    asked = terms.commit_of(binding, decision, attempts)
    outcomes = yield from commit(binding.retry, asked, attempts)
    if isinstance(outcomes, HookRaised):
        return outcomes.among(decision.answers, decision.decided)
    if terms.checkpoint is not None:
        _expect_moved(binding, terms.checkpoint, outcomes.pop())
    conflict = first_conflict(asked, outcomes)
    if conflict is None:
        attempts.succeeded(asked, outcomes)
    return conflict or decision.answers


def _late(
    binding: Binding, groups: Sequence[Group], attempts: Attempts, conflict: VersionConflictError
) -> Plan[Exception | None]:
    """Count a conflict and wait; return the error where there is no next attempt."""
    binding.contention.record(conflict.id)
    within = next(group.calls[0].within for group in groups if group.id == conflict.id)
    # The calls of a chain saw different versions: each is told of its own conflict.
    pinned = all([c.expected_version is not None for c in g.calls] == [True] for g in groups)
    # Where the entity came and went meanwhile, it is as absent as the caller expected it to be.
    pinned = pinned and conflict.expected != conflict.actual
    ends = pinned or binding.is_joined
    return (yield from attempts.failed(conflict, pinned=ends, within=within))


def tell_stale(
    binding: Binding, groups: Sequence[Group], answers: list[Answer], attempts: Attempts
) -> Plan[None]:
    """Count and tell of the calls that expected another version than the one loaded.

    What the monitoring hook raises becomes the answer of the call that it was told of.
    """
    calls = [call for group in groups for call in group.calls]
    for place, (call, answer) in enumerate(zip(calls, answers, strict=True)):
        if isinstance(answer, VersionConflictError) and _is_own(binding, call, answer):
            binding.contention.record(answer.id)
            raised = yield from attempts.tell(answer, None, attempts.made + 1, call.within)
            if raised is not None:
                answers[place] = raised


def _is_own(binding: Binding, call: Call, conflict: VersionConflictError) -> bool:
    """Whether a call met a conflict because of the version that it expected."""
    own = (conflict.machine, conflict.id) == (binding.machine.name, call.id)
    return own and conflict.expected == call.expected_version


def count_calls(groups: Sequence[Group]) -> int:
    """Return how many calls there are in all."""
    return sum([len(group.calls) for group in groups])


def _expect_moved(binding: Binding, checkpoint: Checkpoint, outcome: Outcome) -> None:
    """Raise where the checkpoint is elsewhere, and was not merely held back with its batch."""
    after = checkpoint.after or 0
    if not outcome.applied and outcome.version != after:
        raise CheckpointConflictError(binding.machine.name, checkpoint.name, after, outcome.version)


def _renewed(binding: Binding, group: Group) -> Group:
    return Group(group.id, [renewed(binding.machine, call) for call in group.calls])
