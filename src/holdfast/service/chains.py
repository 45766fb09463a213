"""Chains of calls whose handlers are awaited: one task of the service for each entity in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextvars import Context
from threading import get_ident
from typing import Any

from holdfast.service.async_runner import AsyncWorld, run_async
from holdfast.service.call import Call
from holdfast.service.decide import Binding, Group
from holdfast.service.handling import is_inside
from holdfast.service.intake import Desk, Intake, Ticket, cut, distinct, raised
from holdfast.service.settle import Terms, settle


class Chains:
    """Applies calls in their callers' event loop, those for one entity one after the other."""

    def __init__(self, binding: Binding, world: AsyncWorld) -> None:
        self.intake = Intake()
        self._binding = binding
        self._world = world

    async def settle(self, call: Call, timeout_seconds: float | None) -> Any:
        """Apply a call; return its record, or raise its error.

        A caller that is cancelled while its handler runs has the handler cancelled, and nothing is
        written for it. What a handler sends does not queue up: its chain may wait for that handler.
        """
        if is_inside():
            terms = Terms(timeout_seconds=timeout_seconds)
            plan = settle(self._binding, (Group(call.id, (call,)),), terms)
            [answer] = await run_async(plan, self._world)
            return raised(answer)
        ticket = await self.intake.accept(call=call, timeout_seconds=timeout_seconds)
        ticket.begin(self._world.store, get_ident())
        desk = ticket.desk
        queue = desk.queues.get(call.id)
        if queue is not None:
            queue.append(ticket)
        else:
            desk.queues[call.id] = deque((ticket,))
            # The task serves many callers, so it sees the context variables of none.
            of_nobody = Context()
            task = desk.loop.create_task(self._work(desk, call.id), context=of_nobody)
            desk.tasks.add(task)
            task.add_done_callback(desk.tasks.discard, context=of_nobody)
        return await ticket.result()

    async def _work(self, desk: Desk, id: str) -> None:
        """Apply the calls for one entity, as many at a time as are waiting, until none is."""
        queue = desk.queues[id]
        tickets: list[Ticket] = []
        try:
            while queue:
                dropped: list[Ticket] = []
                tickets = cut(queue, dropped)
                _answer(dropped, [None] * len(dropped))
                if tickets:
                    _answer(tickets, await self._apply(id, tickets))
        finally:
            del desk.queues[id]
            for ticket in (*tickets, *queue):  # the task was cancelled with its event loop
                ticket.future.cancel()
                ticket.answer(None)

    async def _apply(self, id: str, tickets: list[Ticket]) -> list[Any]:
        calls = [ticket.call for ticket in tickets if ticket.call is not None]
        callers = {id_of(ticket.context): ticket.future for ticket in tickets}
        world = self._world.with_callers(callers)
        terms = Terms(timeout_seconds=tickets[0].timeout_seconds)
        plan = settle(self._binding, (Group(id, calls),), terms)
        try:
            return await run_async(plan, world)
        except Exception as error:  # noqa: BLE001 (it reaches everyone in the chain)
            return [error] * len(tickets)


def _answer(tickets: Sequence[Ticket], answers: Iterable[Any]) -> None:
    for ticket, answer in zip(tickets, distinct(answers), strict=True):
        ticket.answer(answer)


id_of = id  # the builtin, where an entity's id has its name
