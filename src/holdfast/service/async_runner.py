"""Runs plans for callers that await: what blocks is done by the coalescer, handlers are awaited."""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import copy
from inspect import isawaitable
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.errors import HandlerCancelledError, entity_name
from holdfast.service import handling
from holdfast.service.coalescer import Coalescer
from holdfast.service.hooks import CommitWithHooks, on_store
from holdfast.service.requests import (
    Ask,
    Commit,
    Decide,
    Gather,
    Load,
    Notify,
    Plan,
    Read,
    Sleep,
    Work,
)
from holdfast.service.runner import draw_fraction, draw_tokens
from holdfast.stores.contract import Store

if TYPE_CHECKING:
    import asyncio
    from typing import Self

T = TypeVar("T")


class AsyncWorld:
    """The real world, for callers that await; the store and plain handlers are asked on the spot.

    What the store's verbs return may have to be awaited.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = time.monotonic
        self.random = draw_fraction
        self.tokens = draw_tokens
        self._callers: Mapping[int, asyncio.Future[Any]] = {}

    def with_callers(self, callers: Mapping[int, asyncio.Future[Any]]) -> Self:
        """Return a world where a caller who is cancelled has its handler cancelled.

        `callers` maps the identity of the contexts of calls to the futures of those who wait.
        """
        world = copy(self)
        world._callers = callers
        return world

    def sleep(self, seconds: float) -> Any:
        """Let others run."""
        from asyncio import sleep

        return sleep(seconds)

    async def perform(self, ask: Ask) -> Any:
        """Do what a plan asks for."""
        if isinstance(ask, Load | Commit | Read):
            return await self.ask_store(ask)
        if isinstance(ask, Decide):
            return await self._decide(ask)
        if isinstance(ask, Gather):
            from asyncio import gather

            decisions = [self._decide(decision) for decision in ask.decisions]
            return await gather(*decisions, return_exceptions=True)
        if isinstance(ask, Notify):
            answer = ask.call()
            return await answer if isawaitable(answer) else answer
        if isinstance(ask, Sleep | Work):
            return await ask.perform(self)
        return ask.perform(self)

    async def _commit_with_hooks(self, ask: CommitWithHooks) -> Any:
        def act(joined: Store) -> Any:
            return run_async(ask.plan(self.store, joined), on_store(self, joined.bare()))

        return await self.store.transact(act, timeout_seconds=ask.timeout_seconds)

    async def ask_store(self, ask: Ask) -> Any:
        """Ask the store."""
        if isinstance(ask, CommitWithHooks) and self.store.is_awaited:
            return await self._commit_with_hooks(ask)
        answer = ask.perform(self)
        return await answer if isawaitable(answer) else answer

    async def ask_handler(self, ask: Decide) -> Any:
        """Ask a handler that is not awaited."""
        return ask.perform(self)

    async def _decide(self, ask: Decide) -> Any:
        """Decide in a task of its own, so that a cancelled handler harms nobody else."""
        if not ask.draft.machine.is_async:
            return await self.ask_handler(ask)
        from asyncio import CancelledError, current_task, get_running_loop

        caller = self._callers.get(id(ask.call.within))
        if caller is not None and caller.cancelled():
            raise _cancelled(ask)
        answering = handling.answer_async(ask.binding, ask.draft, ask.call, ask.token)
        deciding = get_running_loop().create_task(answering, context=ask.call.within)

        def stop(_: object) -> None:
            deciding.cancel()

        if caller is not None:
            caller.add_done_callback(stop)
        try:
            return await deciding
        except CancelledError:
            task = current_task()
            if deciding.cancelled() and not (task and task.cancelling()):
                raise _cancelled(ask) from None
            raise
        finally:
            if caller is not None:
                caller.remove_done_callback(stop)


class CoalescedWorld(AsyncWorld):
    """The same, for callers that share what is asked of the store, and the threads that ask it."""

    def __init__(self, store: Store, requests: Coalescer, decisions: Coalescer) -> None:
        super().__init__(store)
        self._requests = requests
        self._decisions = decisions

    async def ask_store(self, ask: Ask) -> Any:
        """Ask the store together with others."""
        return await self._requests.run(_asking(ask))

    async def ask_handler(self, ask: Decide) -> Any:
        """Ask a handler in a thread, where it holds up no event loop."""
        return await self._decisions.run(_deciding(ask))


async def run_async(plan: Plan[T], world: AsyncWorld) -> T:
    """Run one plan to its end; what a request raises is raised inside the plan."""
    under_way = world.store.under_way
    try:
        under_way[plan] = get_ident()
        ask = plan.send(None)
        while True:
            try:
                answer = await world.perform(ask)
            except BaseException as error:  # noqa: BLE001 (raised inside the plan)
                ask = plan.throw(error)
            else:
                ask = plan.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # (what a plan returns)
    finally:
        under_way.pop(plan, None)


def _asking(ask: Ask) -> Plan[Any]:
    return (yield ask)


def _deciding(ask: Decide) -> Plan[Any]:
    """Decide in the plan itself, which sees the context variables of its caller."""
    yield from ()
    return handling.answer(ask.binding, ask.draft, ask.call, ask.token)


def _cancelled(ask: Decide) -> HandlerCancelledError:
    entity = entity_name(ask.draft.machine.name, ask.draft.id)
    return HandlerCancelledError(
        f"the handler of {ask.call.command_type} on {entity} was cancelled; nothing was written"
    )
