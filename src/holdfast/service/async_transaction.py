"""Transactions for callers that await: the verbs of `Transaction` as coroutines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast.record import Record, Request
from holdfast.service.async_runner import AsyncWorld, run_async
from holdfast.service.plan import Plans
from holdfast.service.requests import unwrap
from holdfast.service.transaction import Stage

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from holdfast.service.async_service import AsyncService

S = TypeVar("S")
C = TypeVar("C")
S2 = TypeVar("S2")
C2 = TypeVar("C2")


class AsyncTransaction(Generic[S, C]):
    """Stages commands and commits them once; made by `AsyncService.begin`, for `async with`.

    Its verbs are awaited one after the other: one that is called while another one runs raises
    DefinitionError. Of a verb that is cancelled nothing is staged.
    """

    def __init__(self, plans: Plans[S, C, Any], stage: Stage, world: AsyncWorld) -> None:
        self._plans = plans
        self._stage = stage
        self._world = world

    async def __aenter__(self) -> Self:
        """Return the transaction itself."""
        return self

    async def __aexit__(
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
                await self.commit()
            finally:
                self.abandon()

    async def prepare(
        self,
        id: str,
        command: C,
        *,
        expected_version: int | None = None,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> Record[S]:
        """Decide a command on the entity as staged so far, and stage it."""
        request = Request(id, command, key, metadata, at, expected_version)
        return unwrap(await run_async(self._stage.prepare(self._plans, request), self._world))

    async def prepare_only(
        self, id: str, state: S, *, metadata: Mapping[str, Any] | None = None
    ) -> Record[S]:
        """Stage a state without asking any handler; the log says `staged`."""
        return await run_async(
            self._stage.prepare_only(self._plans, id, state, metadata), self._world
        )

    async def read(self, id: str) -> Record[S]:
        """Return an entity as staged so far; the commit demands that nobody else changed it."""
        return await run_async(self._stage.read(self._plans, id), self._world)

    def join(self, service: AsyncService[S2, C2, Any]) -> AsyncTransaction[S2, C2]:
        """Return this transaction for the entities of another service on the same store."""
        self._stage.join(service)
        return AsyncTransaction(service.plans, self._stage, self._world)

    async def commit(self) -> list[Record[Any]]:
        """Write all that was staged, and return what each command led to, in order."""
        return unwrap(await run_async(self._stage.commit(self._plans), self._world))

    def abandon(self) -> None:
        """End the transaction without writing anything."""
        self._stage.closed = True
