"""The service for callers that await: the verbs of `Service` as coroutines, coalesced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import copy_context
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from holdfast.machine.definition import Machine
from holdfast.record import Change, Page, Record, Request, Transition
from holdfast.service.async_runner import AsyncWorld, CoalescedWorld, run_async
from holdfast.service.async_transaction import AsyncTransaction
from holdfast.service.batch import expect_requests
from holdfast.service.call import Call, check_call, check_timeout
from holdfast.service.chains import Chains
from holdfast.service.coalescer import Coalescer
from holdfast.service.contention import HotSpot
from holdfast.service.intake import Intake
from holdfast.service.plan import BeforeCommit, Plans, check_fit
from holdfast.service.requests import Plan, unwrap
from holdfast.service.retry import Retry
from holdfast.service.runner import SyncWorld
from holdfast.service.service import DEFAULT_RETRY
from holdfast.service.transaction import Stage
from holdfast.service.within import expect_outside
from holdfast.stores.contract import Checkpoint, OnCommit, Store

S = TypeVar("S")
C = TypeVar("C")
D = TypeVar("D")
S0 = TypeVar("S0")
C0 = TypeVar("C0")
T = TypeVar("T")


class AsyncService(Generic[S, C, D]):
    """Applies commands to entities, and answers questions about them, for coroutines.

    Concurrent calls share loads and commits; those for one entity are decided one after the other
    and written together. Safe for any number of event loops. What each verb takes, does and raises
    is said at `Service`; a `timeout` counts from when the command is begun.

    Handlers run in a thread of the service, or, where one of the machine's is a coroutine function,
    all of them in the event loop. They see the context variables of their caller either way.

    A caller that is cancelled before its command was begun sent nothing, and one whose handler is
    being awaited writes nothing; later, the command may be written, as with any answer that nobody
    waits for. Raises DefinitionError where `deps` does not fit.
    """

    @overload
    def __init__(
        self: AsyncService[S0, C0, None],
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
        self.machine: Machine[S, C, D] = machine
        self.store = store
        self.plans: Plans[S, C, D] = Plans(machine, deps, retry)
        binding = self.plans.binding
        binding.blocks = not machine.is_async
        self._requests = Coalescer(binding, SyncWorld(store), decides=False)
        self._commands = Coalescer(binding, SyncWorld(store), decides=True)
        self.world: AsyncWorld = CoalescedWorld(store, self._requests, self._commands)
        self._chains = Chains(binding, self.world)
        self._intakes: tuple[Intake, ...] = (
            self._chains.intake,
            self._commands.intake,
            self._requests.intake,
        )
        store.before_close(self)

    def __repr__(self) -> str:
        return f"<AsyncService {self.machine.name} on {self.store.url}>"

    async def handle(
        self,
        id: str,
        command: C,
        *,
        expected_version: int | None = None,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        at: datetime | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (bounds retries, cancels nothing)
    ) -> Record[S]:
        """Apply a command to an entity and return it as it is afterwards."""
        self.plans.expect_object()
        within = copy_context()
        call = check_call(self.machine, id, command, expected_version, key, metadata, at, within)
        timeout_seconds = None if timeout is None else check_timeout(timeout)
        record: Record[S] = await self._settle(call, timeout_seconds)
        return record

    async def handle_many(
        self,
        requests: Iterable[tuple[str, C] | Request[C]],
        *,
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        answer_errors: bool = False,
        before_commit: BeforeCommit | None = None,
    ) -> list[Record[S] | Exception]:
        """Apply many commands with few commits; answers in the order given.

        All requests are drawn before any is applied. `before_commit` runs where the handlers do.
        """
        answers = await self._run(
            self.plans.handle_many(
                list(expect_requests(requests)),  # drawn here, not where the plan runs
                atomic=atomic,
                checkpoint=checkpoint,
                answer_errors=answer_errors,
                before_commit=before_commit,
                within=copy_context(),
            )
        )
        return unwrap(answers)

    async def preview(
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
        return unwrap(await self._run(self.plans.preview(request)))

    def begin(self) -> AsyncTransaction[S, C]:
        """Begin a transaction over several entities: stage commands, then commit all or none."""
        self.plans.expect_object()
        return AsyncTransaction(
            self.plans, Stage(self.store, is_joined=self.plans.binding.is_joined), self.world
        )

    def on(self, connection: object, *, on_commit: OnCommit | None = None) -> AsyncService[S, C, D]:
        """Return the service inside the transaction that is open on a connection; see `Service.on`.

        Takes an `AsyncConnection` of psycopg. A `sqlite3.Connection` is not awaited: its
        statements run in the event loop, and so do handlers that are no coroutine functions.
        """
        return JoinedService(self, self.store.on(connection), on_commit)

    async def get(self, id: str) -> Record[S]:
        """Return an entity; raises NotFoundError."""
        return await self._read(self.plans.get(id))

    async def get_many(self, ids: Iterable[str]) -> dict[str, Record[S]]:
        """Return entities by id, as of one moment; ids that do not exist are left out."""
        return await self._read(self.plans.get_many(ids))

    async def history(
        self, id: str, *, after: int = 0, limit: int | None = None
    ) -> list[Transition[S, C]]:
        """Return an entity's transitions with versions above `after`, oldest first."""
        return await self._read(self.plans.history(id, after=after, limit=limit))

    async def at(
        self, id: str, *, version: int | None = None, time: datetime | None = None
    ) -> Record[S]:
        """Return an entity as it was at a version, or at a time; raises NotFoundError."""
        return await self._read(self.plans.at(id, version, time))

    async def find(
        self,
        *,
        state: type[S] | str | Sequence[type[S] | str] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[S]:
        """Return entities ordered by id, all or those in a state or in one of several."""
        return await self._read(self.plans.find(state, limit=limit, after=after))

    async def count_by_state(self) -> dict[str, int]:
        """Return how many entities are in each state, by the state's name."""
        return await self._read(self.plans.count())

    async def allowed(self, id: str) -> tuple[type[C], ...]:
        """Return the commands that have a handler in the entity's state, or that create it."""
        return await self._read(self.plans.allowed(id))

    async def purge(self, id: str, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Delete an entity and erase its history for good; stubs stay."""
        await self._run(self.plans.purge(id, metadata, copy_context()))

    def contention(self, limit: int = 10) -> list[HotSpot]:
        """Return the entities that met the most version conflicts in this process, most first."""
        return self.plans.contention(limit)

    async def drain(self) -> None:
        """Wait until every call accepted by now has its answer; `async with` the store does it."""
        for intake in self._intakes:
            await intake.drain()

    async def _settle(self, call: Call, timeout_seconds: float | None) -> Any:
        if self.machine.is_async:
            return await self._chains.settle(call, timeout_seconds)
        return await self._commands.settle(call, timeout_seconds)

    async def _run(self, plan: Plan[T]) -> T:
        """Run a plan that decides."""
        if self.machine.is_async:
            return await run_async(plan, self.world)
        answer: T = await self._commands.run(plan)
        return answer

    async def _read(self, plan: Plan[T]) -> T:
        """Run a plan that waits for no handler."""
        expect_outside(self.store)
        answer: T = await self._requests.run(plan)
        return answer


class JoinedService(AsyncService[S, C, D]):
    """A service inside a transaction of its caller's: nothing is shared, nothing runs elsewhere."""

    def __init__(
        self, service: AsyncService[S, C, D], store: Store, on_commit: OnCommit | None
    ) -> None:
        self.machine = service.machine
        self.store = store
        self.plans = service.plans.joined(on_commit)
        self.world = AsyncWorld(store)
        self._intakes = ()

    async def _settle(self, call: Call, timeout_seconds: float | None) -> Any:
        [answer] = await run_async(self.plans.handle(call, timeout_seconds), self.world)
        return unwrap(answer)

    async def _run(self, plan: Plan[T]) -> T:
        return await run_async(plan, self.world)

    async def _read(self, plan: Plan[T]) -> T:
        return await run_async(plan, self.world)
