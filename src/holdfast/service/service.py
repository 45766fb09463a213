"""The service: a machine bound to a store and its dependencies, for callers that block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from holdfast.errors import DefinitionError, StoreError
from holdfast.machine.definition import Machine
from holdfast.record import Change, Page, Record, Request, Transition
from holdfast.service.call import check_call
from holdfast.service.contention import HotSpot
from holdfast.service.plan import Plans, check_fit
from holdfast.service.requests import Plan, unwrap
from holdfast.service.retry import Retry
from holdfast.service.runner import SyncWorld, run
from holdfast.service.transaction import Stage, Transaction
from holdfast.service.within import innermost
from holdfast.stores.contract import Checkpoint, OnCommit, Store

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
        check_fit(machine, store)
        if machine.is_async:
            raise DefinitionError(
                f"{machine.name} has handlers that are coroutine functions; bind it with "
                "AsyncService"
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
        with the transition. `at`, for imports, is when it happened, not later than
        now. `timeout`, in seconds, bounds retries and waits for other writers; a handler that runs
        is not interrupted.

        Raises RejectedError, VersionConflictError, CircuitOpenError, StoreError, and what the
        handler raises; except for OutcomeUnknownError nothing is written then.
        """
        here = self.here()
        call = check_call(self.machine, id, command, expected_version, key, metadata, at)
        [answer] = run(here.plans.handle(call, timeout), here.world)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def handle_many(
        self,
        requests: Iterable[tuple[str, C] | Request[C]],
        *,
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        answer_errors: bool = False,
        before_commit: Callable[[list[Record[S] | Exception]], object] | None = None,
    ) -> list[Record[S] | Exception]:
        """Apply many commands with few commits; answers in the order given.

        Commands for one entity are applied in their order. What is refused or fails is answered
        with its error, and keeps nothing else from being written. Large inputs are cut into
        batches of 1,000, each written before the next is drawn: where `requests` is an iterator
        that raises, those drawn a batch or more before are written, and their answers lost.

        With `atomic` all commands are written in one commit or none is. With a `checkpoint` all
        that is not refused is written in one commit together with the reader's new position,
        where it still stands `after` the position that the reader started from: a reader that
        starts from it applies nothing twice, nor do two, of which one meets
        CheckpointConflictError. An error that is no refusal writes nothing; with `answer_errors`
        what a handler raises is answered like a refusal. Both take at most 1,000 commands, and
        raise BatchError, which holds the errors by index. With either, `before_commit` is called
        with the answers that are about to be committed, again after each conflict; what it raises
        keeps everything from being written.
        """
        here = self.here()
        answers = here._run(
            here.plans.handle_many(
                requests,
                atomic=atomic,
                checkpoint=checkpoint,
                answer_errors=answer_errors,
                before_commit=before_commit,
            )
        )
        return unwrap(answers)

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
        return unwrap(self._run(self.plans.preview(request)))

    def begin(self) -> Transaction[S, C]:
        """Begin a transaction over several entities: stage commands, then commit all or none."""
        self.plans.expect_object()
        here = self.here()
        return Transaction(
            here.plans, Stage(here.store, is_joined=here.plans.binding.is_joined), here.world
        )

    def on(self, connection: object, *, on_commit: OnCommit | None = None) -> Service[S, C, D]:
        """Return the service inside the transaction that is open on a connection of the caller's.

        `connection` is a `sqlite3.Connection` to the store's file, or a `Connection` of psycopg 3
        to its database. What the service writes there is the caller's to commit or to roll back,
        with whatever else the transaction does; the service sees it before, and nobody else does.
        A command is tried once: a conflict raises VersionConflictError, and leaves the transaction
        open and as it was before the command, as every other error of a command does. The breaker
        of the `Retry` is not asked. `on_commit` is given what is to follow the commit, as the
        machine's `after_commit` hooks are: a function to be called, without arguments, once the
        transaction is committed, and never where it is rolled back.

        Commands that have such hooks raise DefinitionError where there is no `on_commit`. Raises
        StoreError where the connection is another database's, or has no open transaction; on
        PostgreSQL the first verb raises it, which asks the server.
        """
        store = self.store.on(connection)
        if store.is_awaited:
            raise StoreError(
                f"{store.url} is joined on a connection that is awaited, {connection!r:.80}, which "
                "a Service cannot; use AsyncService, or a connection that blocks"
            )
        return self._joined(store, self.plans.joined(on_commit))

    def _joined(self, store: Store, plans: Plans[S, C, D]) -> Service[S, C, D]:
        joined = copy(self)
        joined.store = store
        joined.plans = plans
        joined.world = SyncWorld(store)
        return joined

    def here(self) -> Service[S, C, D]:
        """Return the service for its caller: it joins the transaction that the caller is in.

        That is the one that a hook is in, and one that the store itself finds.
        """
        within, around = innermost(), self.store.around()
        if (within is None and around is None) or self.plans.binding.is_joined:
            return self
        if within is not None:
            within = within.found(self.store)
        busy = () if within is None else within.held
        if around is not None:
            plans = self.plans.joined(around.on_commit, busy, around.shield)
            return self._joined(around.store, plans)
        if within is None:
            return self
        on_commit = within.due.append if within.is_heard else None
        return self._joined(within.joined, self.plans.joined(on_commit, busy))

    def get(self, id: str) -> Record[S]:
        """Return an entity; raises NotFoundError."""
        return self._run(self.plans.get(id))

    def get_many(self, ids: Iterable[str]) -> dict[str, Record[S]]:
        """Return entities by id, as of one moment; ids that do not exist are left out.

        At most 1,000 at once; raises QueryError beyond.
        """
        return self._run(self.plans.get_many(ids))

    def history(
        self, id: str, *, after: int = 0, limit: int | None = None
    ) -> list[Transition[S, C]]:
        """Return an entity's transitions with versions above `after`, oldest first.

        The history of an id that never existed is empty.
        """
        return self._run(self.plans.history(id, after=after, limit=limit))

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
        return self._run(self.plans.find(state, limit=limit, after=after))

    def count_by_state(self) -> dict[str, int]:
        """Return how many entities are in each state, by the state's name; none are left out."""
        return self._run(self.plans.count())

    def allowed(self, id: str) -> tuple[type[C], ...]:
        """Return the commands that have a handler in the entity's state, or that create it."""
        return self._run(self.plans.allowed(id))

    def purge(self, id: str, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Delete an entity and erase its history for good; stubs without payloads stay.

        The purge itself is recorded, with `metadata`, as a deletion, also of what was deleted
        before. Versions go on rising if the id comes back. Raises NotFoundError for an id that
        never existed.
        """
        here = self.here()
        here._run(here.plans.purge(id, metadata))

    def contention(self, limit: int = 10) -> list[HotSpot]:
        """Return the entities that met the most version conflicts in this process, most first."""
        return self.plans.contention(limit)

    def _run(self, plan: Plan[T]) -> T:
        return run(plan, self.here().world)
