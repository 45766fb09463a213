"""What a service does, written once as plans; runners make them blocking, async or batched.

A plan loads, decides and writes. On a conflict it loads and decides again, within the limits of
the `Retry`; a commit whose outcome the store does not know is sent again, the same, until it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct

from holdfast.errors import (
    NotFoundError,
    OutcomeUnknownError,
    QueryError,
    RejectedError,
    StoreError,
    VersionConflictError,
    entity_name,
)
from holdfast.machine.canonical import format_time
from holdfast.machine.definition import Machine
from holdfast.record import Change, Page, Record, Transition
from holdfast.service.attempts import Attempts
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
from holdfast.service.requests import Begin, Commit, Load, Notify, Plan, Random, Read, Sleep
from holdfast.service.retry import Retry
from holdfast.stores.contract import (
    MAX_PAGE,
    Check,
    Checkpoint,
    CommitUncertainError,
    EntityRow,
    Key,
    Loaded,
    Outcome,
    Store,
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
        before_commit: Callable[[list[Answer]], object] | None = None,
    ) -> Plan[list[Answer]]:
        """Apply every group's calls, and write all that was decided in one commit.

        Answers in the order of the groups and their calls. With `atomic` an answer that is an
        error keeps everything from being written; with a checkpoint, one that is no refusal does.
        `before_commit` sees the answers of each attempt that is about to be committed.
        """
        started, tokens = yield Begin(sum(len(group.calls) for group in groups))
        keys = [self._key(group) for group in groups]
        attempts = self.attempts(
            groups[0].id if groups else "",
            started,
            timeout_seconds,
            pinned=all(c.expected_version is not None for group in groups for c in group.calls),
        )
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
                if before_commit is not None:
                    yield Notify(before_commit, answers)
                commit = Commit(
                    writes,
                    atomic=len(writes) > 1,
                    checkpoint=checkpoint,
                    timeout_seconds=attempts.left_seconds,
                )
                conflict = first_conflict(commit, (yield from self.commit(commit)))
                if conflict is None:
                    attempts.succeeded()
                    return answers
                self.contention.record(conflict.id)
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

    def commit(self, commit: Commit) -> Plan[list[Outcome]]:
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


_PAST = {"deletion": "was deleted", "purged": "is purged"}


def _hindered(answers: Sequence[Answer], *, atomic: bool, checkpoint: Checkpoint | None) -> bool:
    """Whether an answer keeps everything from being written."""
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if atomic:
        return bool(errors)
    return checkpoint is not None and any(not isinstance(e, RejectedError) for e in errors)


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
