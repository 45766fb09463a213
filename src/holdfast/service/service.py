"""The service: a machine bound to a store and its dependencies, for callers that block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Any, Generic, TypeVar, cast, overload

from holdfast.errors import BatchError, DefinitionError, QueryError, RejectedError, ValidationError
from holdfast.machine.definition import Machine
from holdfast.record import Change, Page, Record, Request, Transition
from holdfast.service.call import Call, check_commandless, check_request
from holdfast.service.contention import HotSpot
from holdfast.service.decide import Answer
from holdfast.service.plan import Group, Plans
from holdfast.service.requests import Plan
from holdfast.service.retry import Retry
from holdfast.service.runner import SyncWorld, run, run_together
from holdfast.service.transaction import Stage, Transaction
from holdfast.stores.contract import MAX_BATCH, MAX_PAGE, Checkpoint, Store

S = TypeVar("S")
C = TypeVar("C")
D = TypeVar("D")
S0 = TypeVar("S0")
C0 = TypeVar("C0")
T = TypeVar("T")


DEFAULT_RETRY = Retry()


class Service(Generic[S, C, D]):
    """Applies commands to entities, and answers questions about them.

    Safe for threads; services may share a store. `deps` is what the machine's handlers take;
    `retry` says what happens on conflicts. Raises DefinitionError where they do not fit.
    """

    @overload
    def __init__(
        self: Service[S0, C0, None],
        machine: Machine[S0, C0, None],
        store: Store,
        *,
        deps: None = None,
        retry: Retry = ...,
    ) -> None: ...
    @overload
    def __init__(
        self, machine: Machine[S, C, D], store: Store, *, deps: D, retry: Retry = ...
    ) -> None: ...
    def __init__(
        self,
        machine: Machine[Any, Any, Any],
        store: Store,
        *,
        deps: Any = None,
        retry: Retry = DEFAULT_RETRY,
    ) -> None:
        machine.compile()
        if machine.deps is not None and deps is None:
            raise DefinitionError(
                f"{machine.name} takes deps: Service({machine.name}, store, deps=…)"
            )
        self.machine: Machine[S, C, D] = machine
        self.store = store
        self.plans: Plans[S, C, D] = Plans(machine, deps, retry)
        self.world = SyncWorld(store)

    def __repr__(self) -> str:
        return f"<Service {self.machine.name} on {self.store.url}>"

    def handle(
        self,
        id: str,
        command: C,
        *,
        expected_version: int | None = None,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        at: datetime | None = None,
        timeout: float | None = None,
    ) -> Record[S]:
        """Apply a command to an entity and return it as it is afterwards.

        `expected_version` is the version the caller decided on, 0 for none: on a conflict the call
        raises at once instead of deciding again. `key` is an idempotency key: the same command with
        the same key is applied once and answered with the first result. `metadata` is JSON, kept
        with the transition. `at`, for imports, is when it happened. `timeout`, in seconds, bounds
        retries and waits for other writers; a handler that runs is not interrupted.

        Raises RejectedError, VersionConflictError, CircuitOpenError, StoreError, and what the
        handler raises; except for OutcomeUnknownError nothing is written then.
        """
        request = Request(id, command, key, metadata, at, expected_version)
        group = Group(id, (check_request(self.machine, request),))
        answer = self._run(self.plans.settle((group,), timeout_seconds=_checked(timeout)))[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def handle_many(
        self,
        requests: Iterable[tuple[str, C] | Request[C]],
        *,
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        before_commit: Callable[[list[Record[S] | Exception]], object] | None = None,
    ) -> list[Record[S] | Exception]:
        """Apply many commands with few commits; answers in the order given.

        Commands for one entity are applied in their order. What is refused or fails is answered
        with its error, and keeps nothing else from being written. Large inputs are cut into
        batches of 1,000.

        With `atomic` all commands are written in one commit or none is. With a `checkpoint` all
        that is not refused is written in one commit together with the reader's new position, so
        that a reader which starts from there applies nothing twice; an error that is no refusal
        writes nothing. Both take at most 1,000 commands, and raise BatchError, which holds the
        errors by index. With either, `before_commit` is called with the answers that are about to
        be committed, again after each conflict; what it raises keeps everything from being written.
        """
        iterator = iter(requests)
        answers: list[Record[S] | Exception] = []
        if atomic or checkpoint is not None:
            batch = list(iterator)
            if len(batch) > MAX_BATCH:
                raise ValidationError(
                    f"{len(batch):,} commands cannot be one commit; the limit is {MAX_BATCH:,}"
                )
            return self._handle_at_once(
                batch, atomic=atomic, checkpoint=checkpoint, before_commit=before_commit
            )
        if before_commit is not None:
            raise ValidationError("before_commit= goes with atomic or a checkpoint")
        while batch := list(islice(iterator, MAX_BATCH)):
            answers += self._handle_batch(batch)
        return answers

    def preview(
        self,
        id: str,
        command: C,
        *,
        expected_version: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> Change[S, C]:
        """Decide as `handle` would, and write nothing; raises what `handle` would raise."""
        request = Request(id, command, None, metadata, at, expected_version)
        return self._run(self.plans.preview(check_request(self.machine, request)))

    def begin(self) -> Transaction[S, C]:
        """Begin a transaction over several entities: stage commands, then commit all or none."""
        return Transaction(self.plans, Stage(self.world))

    def get(self, id: str) -> Record[S]:
        """Return an entity; raises NotFoundError."""
        return self._run(self.plans.get(id))

    def get_many(self, ids: Iterable[str]) -> dict[str, Record[S]]:
        """Return entities by id, as of one moment; ids that do not exist are left out.

        At most 1,000 at once; raises QueryError beyond.
        """
        wanted = list(ids)
        if len(wanted) > MAX_BATCH:
            raise QueryError(f"get_many takes at most {MAX_BATCH:,} ids, not {len(wanted):,}")
        return self._run(self.plans.get_many(wanted)) if wanted else {}

    def history(
        self, id: str, *, after: int = 0, limit: int | None = None
    ) -> list[Transition[S, C]]:
        """Return an entity's transitions with versions above `after`, oldest first.

        The history of an id that never existed is empty.
        """
        if after < 0 or (limit is not None and limit < 0):
            raise QueryError("history takes after= and limit= from 0")
        found: list[Transition[S, C]] = []
        while limit is None or len(found) < limit:
            wanted = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(found))
            page = self._run(self.plans.history(id, after, wanted))
            found += page
            if len(page) < wanted:
                break
            after = page[-1].version
        return found

    def at(self, id: str, *, version: int | None = None, time: datetime | None = None) -> Record[S]:
        """Return an entity as it was at a version, or at a time; raises NotFoundError."""
        return self._run(self.plans.at(id, version, time))

    def find(
        self,
        *,
        state: type[S] | str | Sequence[type[S] | str] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[S]:
        """Return entities ordered by id, all or those in a state or in one of several.

        `after` is the `next` of the page before. Raises QueryError for a state that is none.
        """
        return self._run(self.plans.find(self._state_names(state), after or "", limit))

    def count_by_state(self) -> dict[str, int]:
        """Return how many entities are in each state, by the state's name; none are left out."""
        return self._run(self.plans.count())

    def allowed(self, id: str) -> tuple[type[C], ...]:
        """Return the commands that have a handler in the entity's state, or that create it."""
        return self._run(self.plans.allowed(id))

    def purge(self, id: str, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Delete an entity and erase its history for good; stubs of version, digest and key stay.

        The deletion itself is recorded, with `metadata`. Versions go on rising if the id comes
        back. Raises NotFoundError for an id that never existed.
        """
        group = Group(id, (check_commandless(id, metadata),))
        answer = self._run(self.plans.settle((group,)))[0]
        if isinstance(answer, Exception):
            raise answer

    def contention(self, limit: int = 10) -> list[HotSpot]:
        """Return the entities that met the most version conflicts in this process, most first."""
        return self.plans.contention.hottest(limit)

    def _run(self, plan: Plan[T]) -> T:
        return run(plan, self.world)

    def _handle_batch(
        self, batch: Sequence[tuple[str, C] | Request[C]]
    ) -> list[Record[S] | Exception]:
        answers, groups, places = self._grouped(batch)
        settled = run_together([self.plans.settle((group,)) for group in groups], self.world)
        for own, result in zip(places, settled, strict=True):
            each = [result] * len(own) if isinstance(result, Exception) else result
            for place, answer in zip(own, each, strict=True):
                answers[place] = answer
        return cast("list[Record[S] | Exception]", answers)

    def _handle_at_once(
        self,
        batch: Sequence[tuple[str, C] | Request[C]],
        *,
        atomic: bool,
        checkpoint: Checkpoint | None,
        before_commit: Callable[[list[Record[S] | Exception]], object] | None,
    ) -> list[Record[S] | Exception]:
        answers, groups, places = self._grouped(batch)

        def take(settled: Sequence[Answer]) -> None:
            for place, answer in zip(chain.from_iterable(places), settled, strict=True):
                answers[place] = answer

        def tell(settled: Sequence[Answer]) -> None:
            take(settled)
            if before_commit is not None:
                before_commit(cast("list[Record[S] | Exception]", answers.copy()))

        if not (atomic and any(isinstance(answer, Exception) for answer in answers)):
            plan = self.plans.settle(
                groups, atomic=atomic, checkpoint=checkpoint, before_commit=tell
            )
            take(self._run(plan))
        tolerated = () if atomic else RejectedError
        failures = {
            place: answer
            for place, answer in enumerate(answers)
            if isinstance(answer, Exception) and not isinstance(answer, tolerated)
        }
        if failures:
            raise BatchError(
                f"{len(failures)} of {len(batch)} commands failed; nothing was written", failures
            )
        return cast("list[Record[S] | Exception]", answers)

    def _grouped(
        self, batch: Sequence[tuple[str, C] | Request[C]]
    ) -> tuple[list[Answer | None], list[Group], list[list[int]]]:
        """Check requests and group them by entity; return errors by place, groups, their places."""
        answers: list[Answer | None] = [None] * len(batch)
        calls: dict[str, list[Call]] = {}
        places: dict[str, list[int]] = {}
        for place, item in enumerate(batch):
            try:
                request = item if isinstance(item, Request) else Request(*item)
                call = check_request(self.machine, request)
            except ValidationError as error:
                answers[place] = error
            else:
                calls.setdefault(call.id, []).append(call)
                places.setdefault(call.id, []).append(place)
        groups = [Group(id, own) for id, own in calls.items()]
        return answers, groups, list(places.values())

    def _state_names(
        self, state: type[S] | str | Sequence[type[S] | str] | None
    ) -> list[str] | None:
        if state is None:
            return None
        wanted = [state] if isinstance(state, str | type) else list(state)
        names = self.machine.state_codec.names
        known = {*names.values()}
        found = [one if isinstance(one, str) else names.get(one, repr(one)) for one in wanted]
        for name in found:
            if name not in known:
                names_known = ", ".join(sorted(known))
                raise QueryError(f"{name} is no state of {self.machine.name}; use {names_known}")
        return list(dict.fromkeys(found))


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and not timeout > 0:
        raise ValidationError(f"timeout is a number of seconds above 0, not {timeout!r}")
    return timeout
