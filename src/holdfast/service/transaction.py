"""Transactions: commands for several entities, staged one by one and committed all or none.

Nothing is locked while a transaction is open: every entity that it touched or read must still be
at the version it saw when the commit happens.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from holdfast.errors import (
    DefinitionError,
    NotFoundError,
    StoreError,
    TransactionClosedError,
    ValidationError,
    VersionConflictError,
)
from holdfast.record import Record, Request
from holdfast.service.call import check_commandless, check_id, check_request
from holdfast.service.commit import commit, first_conflict
from holdfast.service.decide import Binding
from holdfast.service.decided import Decided
from holdfast.service.draft import Draft
from holdfast.service.hooks import (
    HookRaised,
    after_commit,
    after_failure,
    tried_blindly,
    with_hooks,
)
from holdfast.service.plan import Plans
from holdfast.service.requests import Begin, Commit, Decide, Load, Plan, World, unwrap
from holdfast.service.runner import run
from holdfast.service.within import expect_outside
from holdfast.stores.contract import MAX_BATCH, Check, Key, Store

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from holdfast.service.service import Service

S = TypeVar("S")
C = TypeVar("C")
S2 = TypeVar("S2")
C2 = TypeVar("C2")


class Transaction(Generic[S, C]):
    """Stages commands and commits them once; made by `Service.begin`.

    As a context manager it commits when the block ends, and abandons all where it raises. A verb
    that is called while another one runs, in a thread or a handler, raises DefinitionError.
    """

    def __init__(self, plans: Plans[S, C, Any], stage: Stage, world: World) -> None:
        self._plans = plans
        self._stage = stage
        self._world = world

    def __enter__(self) -> Self:
        """Return the transaction itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit, unless the block raised or has settled it."""
        if kind is not None:
            self.abandon()
        elif not self._stage.closed:
            try:
                self.commit()
            finally:
                self.abandon()

    def prepare(
        self,
        id: str,
        command: C,
        *,
        expected_version: int | None = None,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> Record[S]:
        """Decide a command on the entity as staged so far, and stage it.

        Returns the entity as the commit would leave it. Raises what `Service.handle` would raise
        but conflicts that only the commit can find; what was staged before stays staged.
        """
        request = Request(id, command, key, metadata, at, expected_version)
        return unwrap(run(self._stage.prepare(self._plans, request), self._world))

    def prepare_only(
        self, id: str, state: S, *, metadata: Mapping[str, Any] | None = None
    ) -> Record[S]:
        """Stage a state without asking any handler; the log says `staged`.

        For repairs and imports: the business rules are passed over on purpose. The state itself
        is validated. Raises ValidationError.
        """
        return run(self._stage.prepare_only(self._plans, id, state, metadata), self._world)

    def read(self, id: str) -> Record[S]:
        """Return an entity as staged so far; the commit demands that nobody else changed it.

        Raises NotFoundError, and then the commit demands that it still does not exist.
        """
        return run(self._stage.read(self._plans, id), self._world)

    def join(self, service: Service[S2, C2, Any]) -> Transaction[S2, C2]:
        """Return this transaction for the entities of another service on the same store.

        Raises ValidationError where the stores differ.
        """
        here = service.here()
        self._stage.join(here)
        return Transaction(here.plans, self._stage, self._world)

    def commit(self) -> list[Record[Any]]:
        """Write all that was staged, and return what each command led to, in order.

        Raises VersionConflictError where an entity has changed since it was seen, StoreError, and
        TransactionClosedError the second time; nothing is written then, but for
        OutcomeUnknownError. The transaction is over in any case.
        """
        return unwrap(run(self._stage.commit(self._plans), self._world))

    def abandon(self) -> None:
        """End the transaction without writing anything."""
        self._stage.closed = True


class Touched(NamedTuple):
    """An entity that a transaction has touched, and the service it did so through."""

    draft: Draft
    binding: Binding


class Stage:
    """What a transaction has touched, for all the services that take part. Its verbs are plans.

    They exclude each other: each sees what was staged before it, so their order has to be known.
    """

    def __init__(
        self, store: Store, *, is_joined: bool = False, is_begun_anew: bool = False
    ) -> None:
        self.store = store
        self.is_joined = is_joined
        """Whether it is within a transaction of its caller's."""
        self.is_begun_anew = is_begun_anew
        """Whether another one follows a conflict, or `fail` is called."""
        self.closed = False
        self.conflict: VersionConflictError | None = None
        """What its commit met."""
        self._touched: dict[tuple[str, str], Touched] = {}
        self._together: dict[Binding, set[str]] = {}
        self._records: list[Record[Any]] = []
        self._busy = threading.Lock()

    def join(self, service: Bound) -> None:
        """Raise ValidationError for a service on another store."""
        if service.store.identity is not self.store.identity:
            raise ValidationError(
                f"a transaction has one store; {service.plans.machine.name} is on another, "
                f"{service.store.url}"
            )

    def prepare(
        self, plans: Plans[Any, Any, Any], request: Request[Any]
    ) -> Plan[Record[Any] | Exception]:
        """Decide and stage a command; answers with its handler's error."""
        self._enter()
        try:
            call = check_request(plans.machine, request)
            try:
                draft = yield from self._load(plans, call.id, call.key)
            except StoreError as error:
                yield from after_failure(
                    plans.binding, [tried_blindly(plans.binding, call)], [error]
                )
                raise
            _, tokens = yield Begin(1)
            try:
                record: Record[Any] = yield Decide(plans.binding, draft, call, tokens[0])
            except Exception as error:  # noqa: BLE001 (a plan could not raise a StopIteration)
                if plans.machine.hooks is not None:
                    yield from after_failure(
                        plans.binding, [draft.failed(call, plans.binding.deps)], [error]
                    )
                return error
            self._adopt(plans, draft, record)
        finally:
            self._busy.release()
        return record

    def prepare_only(
        self, plans: Plans[Any, Any, Any], id: str, state: Any, metadata: Mapping[str, Any] | None
    ) -> Plan[Record[Any]]:
        """Stage a state."""
        self._enter()
        try:
            plans.machine.expect_state(state)
            if state is None:
                raise ValidationError(
                    "prepare_only stages a state; to delete, prepare a command", "$"
                )
            call = check_commandless(id, metadata)
            draft = yield from self._load(plans, call.id, None)
            _, tokens = yield Begin(1)
            record = draft.stage(call, state, tokens[0])
            self._adopt(plans, draft, record)
        finally:
            self._busy.release()
        return record

    def read(self, plans: Plans[Any, Any, Any], id: str) -> Plan[Record[Any]]:
        """Read an entity as staged so far."""
        self._enter()
        try:
            draft = yield from self._load(plans, check_id(id), None)
        finally:
            self._busy.release()
        if not draft.is_live:
            raise NotFoundError(plans.machine.name, draft.id)
        return draft.record()

    def commit(self, plans: Plans[Any, Any, Any]) -> Plan[list[Record[Any]] | Exception]:
        """Write what was staged, and check what was only read; answers with a hook's error."""
        self._enter()
        self.closed = True
        self._busy.release()
        found = [(draft, draft.writes()) for draft, _ in self._touched.values()]
        writes = [write for _, written in found for write in written]
        checks = [_check(draft) for draft, written in found if not written]
        if not found:
            return []
        decided = self._decided
        try:
            asked = with_hooks(plans.binding, Commit(writes, checks=checks, atomic=True), decided)
            raised = yield from self._commit(plans, asked)
        except Exception as error:
            if error is not self.conflict or not self.is_begun_anew:
                yield from self.fail(plans, error)
            raise
        if raised is not None:
            yield from self.fail(plans, raised)
            return raised
        yield from after_commit(plans.binding, decided, asked)
        return self._records

    def fail(self, plans: Plans[Any, Any, Any], error: Exception) -> Plan[None]:
        """Call the failure hooks of what was staged: nothing of it is written, for good."""
        decided = self._decided
        yield from after_failure(plans.binding, decided, [error] * len(decided))

    @property
    def _decided(self) -> list[Decided]:
        return [each for draft, _ in self._touched.values() for each in draft.decided]

    def _commit(self, plans: Plans[Any, Any, Any], asked: Commit) -> Plan[Exception | None]:
        outcomes = yield from commit(plans.binding.retry, asked)
        if isinstance(outcomes, HookRaised):
            return outcomes.error
        conflict = first_conflict(asked, outcomes)
        if conflict is not None:
            self.conflict = conflict
            binding = self._touched[conflict.machine, conflict.id].binding
            binding.contention.record(conflict.id)
            raise conflict
        return None

    def _enter(self) -> None:
        """Begin a verb; raises TransactionClosedError, and DefinitionError beside another."""
        self._expect_open()
        if not self.is_joined:
            expect_outside(self.store)
        if not self._busy.acquire(blocking=False):
            raise DefinitionError(
                "a transaction does one thing at a time, for each command sees what was staged "
                "before it; wait for one before the next, or begin a transaction for each"
            )

    def _expect_open(self) -> None:
        """Raise TransactionClosedError where the transaction is over."""
        if self.closed:
            raise TransactionClosedError("the transaction is over; begin a new one")

    def _load(self, plans: Plans[Any, Any, Any], id: str, key: str | None) -> Plan[Draft]:
        """Return a copy of the entity as staged so far, loaded where it is touched first.

        Of a verb that is cancelled nothing stays, though its handler may run on in a thread.
        """
        name = plans.machine.name
        touched = self._touched.get((name, id))
        if touched is None and len(self._touched) == MAX_BATCH:
            raise ValidationError(f"a transaction touches at most {MAX_BATCH:,} entities")
        if touched is None or key is not None:
            [loaded] = yield Load([Key(name, id, () if key is None else (key,))])
            self._expect_open()
            if touched is None:
                together = self._together.setdefault(plans.binding, set())
                together.add(id)
                draft = Draft.of(plans.machine, id, loaded, together)
                touched = self._touched[name, id] = Touched(draft, plans.binding)
            else:
                touched.draft.learn(loaded.applied)
        return touched.draft.copy()

    def _adopt(self, plans: Plans[Any, Any, Any], draft: Draft, record: Record[Any]) -> None:
        """Take over what a verb has made of its copy."""
        self._expect_open()
        name = (draft.machine.name, draft.id)
        self._touched[name] = Touched(draft, self._touched[name].binding)
        self._records.append(record)


class Bound(Protocol):
    """A service, as far as a transaction needs to know it."""

    @property
    def plans(self) -> Plans[Any, Any, Any]:
        """What it does."""
        ...

    @property
    def store(self) -> Store:
        """Where it does it."""
        ...


def _check(draft: Draft) -> Check:
    row = draft.loaded.entity
    version, gone = (0, False) if row is None else (row.version, row.state_type is None)
    return Check(draft.machine.name, draft.id, version, gone)
