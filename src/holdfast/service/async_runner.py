"""Runs plans for callers that await: what blocks is done by the coalescer, handlers are awaited."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.service.coalescer import Coalescer
from holdfast.service.requests import Ask, Commit, Decide, Gather, Load, Notify, Plan, Read, Sleep
from holdfast.service.runner import draw_tokens
from holdfast.stores.contract import Store

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class CallerGoneError(Exception):
    """The caller was cancelled while its handler ran: an answer that nobody waits for."""


class AsyncWorld:
    """The real world, for callers that await.

    `callers` maps the identity of calls to the futures of those who wait for them: where one is
    cancelled, so is its handler.
    """

    def __init__(
        self,
        store: Store,
        coalescer: Coalescer,
        callers: Mapping[int, asyncio.Future[Any]] | None = None,
    ) -> None:
        self.store = store
        self.clock = time.monotonic
        self.random = random.random
        self.tokens = draw_tokens
        self._coalescer = coalescer
        self._callers = callers or {}

    def sleep(self, seconds: float) -> Any:
        """Let others run."""
        from asyncio import sleep

        return sleep(seconds)

    async def perform(self, ask: Ask) -> Any:
        """Do what a plan asks for."""
        if isinstance(ask, Load | Commit | Read):
            return await self._coalescer.run(_asking(ask))
        if isinstance(ask, Decide):
            return await self._decide(ask)
        if isinstance(ask, Gather):
            from asyncio import gather

            decisions = [self._decide(decision) for decision in ask.decisions]
            return await gather(*decisions, return_exceptions=True)
        answer = ask.perform(self)
        if isinstance(ask, Sleep | Notify) and isawaitable(answer):
            return await answer
        return answer

    async def _decide(self, ask: Decide) -> Any:
        from asyncio import CancelledError, ensure_future

        deciding = ensure_future(ask.draft.answer_async(ask.call, ask.deps, ask.token))
        caller = self._callers.get(id(ask.call))
        if caller is None:
            return await deciding

        def stop(_: object) -> None:
            deciding.cancel()

        caller.add_done_callback(stop)
        try:
            return await deciding
        except CancelledError:
            if caller.cancelled():
                raise CallerGoneError from None
            deciding.cancel()
            raise
        finally:
            caller.remove_done_callback(stop)


async def run_async(plan: Plan[T], world: AsyncWorld) -> T:
    """Run one plan to its end; what a request raises is raised inside the plan."""
    try:
        ask = plan.send(None)
        while True:
            try:
                answer = await world.perform(ask)
            except BaseException as error:  # noqa: BLE001 (raised inside the plan)
                ask = plan.throw(error)
            else:
                ask = plan.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _asking(ask: Ask) -> Plan[Any]:
    return (yield ask)
