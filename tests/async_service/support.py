"""What the tests of AsyncService share: a store to watch and to hold, loops of both kinds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from holdfast import AsyncService, Context, Retry, Service
from holdfast.stores import utc_now
from holdfast.stores.contract import Key, Loaded, Outcome, Store, Write
from holdfast.stores.sqlite import SqliteStore
from holdfast.testing.sample import (
    Add,
    Close,
    Closed,
    Create,
    Interrupt,
    Open,
    Remove,
    sample,
    undisturbed,
)

T = TypeVar("T")
SampleState: TypeAlias = Open | Closed
SampleCommand: TypeAlias = Create | Add | Close | Remove
AsyncSample: TypeAlias = AsyncService[SampleState, SampleCommand, Interrupt]
SyncSample: TypeAlias = Service[SampleState, SampleCommand, Interrupt]


class Run(Protocol):
    """Runs a coroutine in an event loop of its own, for half a minute at most."""

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what the coroutine returns."""
        ...


class WatchedStore(SqliteStore):
    """A file that tells what was asked of it, and whose commits can be held or made to fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), synchronous="NORMAL", clock=utc_now)
        self.loads: list[list[str]] = []
        """The ids of each load."""
        self.commits: list[dict[str, int]] = []
        """How many log rows each commit has, by id."""
        self.before_load: Callable[[Sequence[Key]], object] = lambda keys: None
        self.before_commit: Callable[[Sequence[Write]], object] = lambda writes: None
        self._free = threading.Event()
        self._free.set()

    def hold(self) -> None:
        """Let commits wait from now on."""
        self._free.clear()

    def release(self) -> None:
        """Let commits go on."""
        self._free.set()

    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        self.loads.append([key.id for key in keys])
        self.before_load(keys)
        return super().load(keys)

    def commit(self, writes: Sequence[Write], **options: Any) -> list[Outcome]:
        self.commits.append({write.entity.id: len(write.log) for write in writes})
        assert self._free.wait(20)
        self.before_commit(writes)
        return super().commit(writes, **options)


def service_on(
    store: Store, deps: Interrupt = undisturbed, *, retry: Retry | None = None
) -> AsyncSample:
    """Return a service of the sample machine for coroutines; `deps` sees each handler's context."""
    return AsyncService(sample, store, deps=deps, retry=retry or Retry())


def rival_on(store: Store, deps: Interrupt = undisturbed) -> SyncSample:
    """Return a service that blocks, on the same store."""
    return Service(sample, store, deps=deps)


def unanswered(service: AsyncService[Any, Any, Any]) -> int:
    """Return how many calls a service has accepted and not answered."""
    intakes = service._intakes  # pyright: ignore[reportPrivateUsage]
    return sum(len(desk.unanswered) for intake in intakes for desk in intake.desks.values())


def calls_under_way(service: AsyncService[Any, Any, Any]) -> int:
    """Return how many commands a service has accepted and not answered."""
    intakes = service._intakes  # pyright: ignore[reportPrivateUsage]
    desks = [desk for intake in intakes for desk in intake.desks.values()]
    return sum(ticket.call is not None for desk in desks for ticket in desk.unanswered)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    while not condition():  # noqa: ASYNC110 (what threads do sets no event)
        await asyncio.sleep(0.001)


async def outcome(work: Coroutine[Any, Any, T]) -> T | BaseException:
    """Return what a coroutine returns or raises."""
    try:
        return await work
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (the answer)
        return error


def label(context: Context) -> Any:
    """Return the name that a call was given in its metadata."""
    return context.metadata.get("call")


def total(store: Store, id: str) -> int:
    """Return the count of an entity, read from the store itself."""
    state = rival_on(store).get(id).state
    assert isinstance(state, Open)
    return state.count
