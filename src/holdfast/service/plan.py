"""What a service does, written once as plans; runners make them blocking, async or batched.

A plan loads, decides and writes. On a conflict it loads and decides again, within the limits of
the `Retry`; a commit whose outcome the store does not know is sent again, the same, until it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct

from holdfast.errors import (
    CircuitOpenError,
    NotFoundError,
    OutcomeUnknownError,
    QueryError,
    RejectedError,
    RetriesExhaustedError,
    StoreError,
    VersionConflictError,
    entity_name,
)
from holdfast.machine.codec import format_time
from holdfast.machine.definition import Machine
from holdfast.record import Change, Page, Record, Transition
from holdfast.service.call import Call, check_id, check_time
from holdfast.service.contention import Contention
from holdfast.service.decide import (
    Answer,
    Decision,
    decide,
    decode_transition,
    preview,
    record_from,
    record_of,
)
from holdfast.service.requests import Begin, Clock, Commit, Load, Notify, Plan, Random, Read, Sleep
from holdfast.service.retry import Conflict, Retry
from holdfast.stores.contract import (
    MAX_PAGE,
    Checkpoint,
    CommitUncertainError,
    EntityRow,
    Key,
    Loaded,
    Outcome,
    Store,
    Write,
)

S = TypeVar("S")
C = TypeVar("C")
D = TypeVar("D")


class Group(Struct, frozen=True):
    """The calls for one entity, in the order they are to be applied."""

    id: str
    calls: Sequence[Call]


class Plans(Generic[S, C, D]):
    """The plans of one machine with its dependencies."""

    def __init__(self, machine: Machine[S, C, D], deps: D, retry: Retry) -> None:
        self.machine = machine
        self.deps = deps
        self.retry = retry
        self.contention = Contention()

    def settle(
        self,
        groups: Sequence[Group],
        *,
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        timeout_seconds: float | None = None,
    ) -> Plan[list[Answer]]:
        """Apply every group's calls, and write all that was decided in one commit.

        Answers in the order of the groups and their calls. With `atomic` an answer that is an
        error keeps everything from being written; with a checkpoint, one that is no refusal does.
        """
        started, tokens = yield Begin(sum(len(group.calls) for group in groups))
        keys = [self._key(group) for group in groups]
        attempts = _Attempts(self, groups, started, timeout_seconds)
        while True:
            yield from attempts.begin()
            try:
                decisions = self._decide(groups, (yield Load(keys)), tokens)
                answers = [answer for decision in decisions for answer in decision.answers]
                writes = [d.write for d in decisions if d.write is not None]
                if _hindered(answers, atomic=atomic, checkpoint=checkpoint) or not (
                    writes or checkpoint
                ):
                    return answers
                commit = Commit(writes, len(writes) > 1, checkpoint, attempts.left_seconds)
                conflict = _first_conflict(writes, (yield from self._commit(commit)))
                if conflict is None:
                    attempts.succeeded()
                    return answers
                failure = yield from attempts.failed(conflict)
            finally:
                attempts.release()
            if failure is not None:
                return [failure for _ in answers]

    def preview(self, call: Call) -> Plan[Change[S, C]]:
        """Decide a call and write nothing."""
        _, tokens = yield Begin(1)
        loaded = yield Load([Key(self.machine.name, call.id)])
        return preview(self.machine, self.deps, loaded[0], call, tokens[0])

    def get(self, id: str) -> Plan[Record[S]]:
        """Load one live entity."""
        [loaded] = yield Load([Key(self.machine.name, check_id(id))])
        if loaded.entity is None or loaded.entity.state_type is None:
            raise NotFoundError(self.machine.name, id)
        return record_from(self.machine, loaded.entity)

    def get_many(self, ids: Sequence[str]) -> Plan[dict[str, Record[S]]]:
        """Load live entities, as of one moment."""
        wanted = [Key(self.machine.name, check_id(id)) for id in dict.fromkeys(ids)]
        found = yield Load(wanted)
        rows = [loaded.entity for loaded in found if loaded.entity is not None]
        live = [row for row in rows if row.state_type is not None]
        return {row.id: record_from(self.machine, row) for row in live}

    def history(self, id: str, after: int, limit: int) -> Plan[list[Transition[S, C]]]:
        """Read a page of an entity's transitions."""
        name = self.machine.name
        check_id(id)
        rows = yield Read(lambda store: store.history(name, id, after=after, limit=limit))
        return [decode_transition(self.machine, row) for row in rows]

    def at(self, id: str, version: int | None, time: Any) -> Plan[Record[S]]:
        """Read an entity as it was."""
        if (version is None) == (time is None):
            raise QueryError("at() takes either version= or time=")
        name = self.machine.name
        check_id(id)
        text = None if time is None else format_time(check_time("time", time))

        def query(store: Store) -> Any:
            return store.transition_at(name, id, version=version, time=text)

        applied = yield Read(query)
        when = f"version {version}" if time is None else f"{time.isoformat()}"
        if applied is None:
            raise NotFoundError(name, id, f"did not exist at {when}")
        if applied.row.kind in ("deletion", "purged"):
            raise NotFoundError(name, id, f"{_PAST[applied.row.kind]} at {when}")
        return record_of(self.machine, applied)

    def find(self, states: Sequence[str] | None, after: str, limit: int) -> Plan[Page[S]]:
        """Read a page of live entities."""
        if not 1 <= limit <= MAX_PAGE:
            raise QueryError(f"limit is from 1 to {MAX_PAGE:,}, not {limit}")
        name = self.machine.name

        def query(store: Store) -> Any:
            return store.find(name, state_types=states, after=after, limit=limit + 1)

        rows = yield Read(query)
        records = [record_from(self.machine, row) for row in rows[:limit]]
        return Page(records, rows[limit - 1].id if len(rows) > limit else None)

    def count(self) -> Plan[dict[str, int]]:
        """Count live entities by state."""
        name = self.machine.name
        counts: dict[str, int] = yield Read(lambda store: store.count(name))
        return counts

    def allowed(self, id: str) -> Plan[tuple[type[C], ...]]:
        """Load an entity and ask the machine what it takes."""
        [loaded] = yield Load([Key(self.machine.name, check_id(id))])
        row: EntityRow | None = loaded.entity
        if row is None or row.state_type is None:
            return self.machine.allowed(None)
        return self.machine.allowed(record_from(self.machine, row).state)

    def _key(self, group: Group) -> Key:
        keys = [call.key for call in group.calls if call.key is not None]
        return Key(self.machine.name, group.id, tuple(dict.fromkeys(keys)))

    def _decide(
        self, groups: Sequence[Group], loaded: Sequence[Loaded], tokens: Sequence[str]
    ) -> list[Decision]:
        decisions = []
        start = 0
        for group, entity in zip(groups, loaded, strict=True):
            own = tokens[start : start + len(group.calls)]
            decisions.append(decide(self.machine, self.deps, entity, group.calls, own))
            start += len(group.calls)
        return decisions

    def _commit(self, commit: Commit) -> Plan[list[Outcome]]:
        """Commit; where the store does not know the outcome, send the same again until it does."""
        outcomes: list[Outcome]
        try:
            outcomes = yield commit
            return outcomes
        except CommitUncertainError as error:
            uncertain = error
        for attempt in range(1, self.retry.attempts + 1):
            yield Sleep(self.retry.delay_seconds(attempt, (yield Random())))
            try:
                outcomes = yield commit
                return outcomes
            except StoreError:
                continue
        names = ", ".join(entity_name(w.entity.machine, w.entity.id) for w in commit.writes[:3])
        raise OutcomeUnknownError(
            f"whether the transition of {names} was stored is not known: {uncertain}; once the "
            "store is back, send the command again with the same key, or look at the history"
        ) from uncertain


class _Attempts:
    """The attempts of one call: when to stop, how long to wait, whom to tell."""

    def __init__(
        self,
        plans: Plans[Any, Any, Any],
        groups: Sequence[Group],
        started: float,
        timeout_seconds: float | None,
    ) -> None:
        self.plans = plans
        self.groups = groups
        self.retry = plans.retry
        self.breaker = plans.retry.breaker
        self.started = started
        self.timeout_seconds = timeout_seconds
        self.made = 0
        self.elapsed = 0.0
        self.admitted = False

    def begin(self) -> Plan[None]:
        """Start an attempt; raises CircuitOpenError where the breaker refuses it."""
        self.made += 1
        if self.breaker is None or not self.groups:
            return
        wait = self.breaker.admit((yield Clock()))
        if wait > 0:
            conflict = self.breaker.last_conflict
            assert conflict is not None
            raise CircuitOpenError(self.plans.machine.name, self.groups[0].id, conflict, wait)
        self.admitted = True

    @property
    def left_seconds(self) -> float | None:
        """What the caller's timeout leaves for waiting on other writers."""
        return None if self.timeout_seconds is None else self.timeout_seconds - self.elapsed

    def succeeded(self) -> None:
        """End the attempt with a write."""
        self.admitted = False
        if self.breaker is not None:
            self.breaker.succeeded()

    def release(self) -> None:
        """End the attempt, unless it has ended, with neither a write nor a conflict."""
        if self.admitted and self.breaker is not None:
            self.admitted = False
            self.breaker.released()

    def failed(self, conflict: VersionConflictError) -> Plan[VersionConflictError | None]:
        """End the attempt with a conflict; wait, or return the error where there is no next one."""
        now: float = yield Clock()
        self.elapsed = now - self.started
        self.admitted = False
        if self.breaker is not None:
            self.breaker.failed(conflict, now)
        self.plans.contention.record(conflict.id)
        delay = self.retry.delay_seconds(self.made, (yield Random()))
        failure = self._failure(conflict, delay)
        if self.retry.on_conflict is not None:
            yield Notify(
                self.retry.on_conflict,
                Conflict(
                    conflict.machine,
                    conflict.id,
                    conflict.expected,
                    conflict.actual,
                    conflict.gap,
                    self.made,
                    delay if failure is None else None,
                ),
            )
        if failure is None:
            yield Sleep(delay)
            self.elapsed += delay
        return failure

    def _failure(self, conflict: VersionConflictError, delay: float) -> VersionConflictError | None:
        """Return why there is no next attempt; None where there is one."""
        if all(call.expected_version is not None for group in self.groups for call in group.calls):
            return conflict  # the callers decided on what they saw
        if self.made >= self.retry.attempts:
            return RetriesExhaustedError(conflict, self.made, f"{self.made} are allowed")
        budget = min(self.retry.budget_seconds, self.timeout_seconds or self.retry.budget_seconds)
        if self.elapsed + delay > budget:
            return RetriesExhaustedError(conflict, self.made, f"{budget:g} s are allowed")
        return None


_PAST = {"deletion": "was deleted", "purged": "is purged"}


def _hindered(answers: Sequence[Answer], *, atomic: bool, checkpoint: Checkpoint | None) -> bool:
    """Whether an answer keeps everything from being written."""
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if atomic:
        return bool(errors)
    return checkpoint is not None and any(not isinstance(e, RejectedError) for e in errors)


def _first_conflict(
    writes: Sequence[Write], outcomes: Sequence[Outcome]
) -> VersionConflictError | None:
    """Return the first conflict of a commit; one that was merely held back comes last."""
    late = [
        VersionConflictError(w.entity.machine, w.entity.id, w.expected, outcome.version)
        for w, outcome in zip(writes, outcomes, strict=True)
        if not outcome.applied
    ]
    late.sort(key=lambda conflict: conflict.gap == 0)
    return late[0] if late else None
