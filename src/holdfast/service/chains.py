"""Chains of calls whose handlers are awaited: one task of the service for each entity in use."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from holdfast.service.async_runner import AsyncWorld, run_async
from holdfast.service.call import Call
from holdfast.service.coalescer import MAX_CHAIN, MAX_WAITING, Coalescer, Ticket
from holdfast.service.settle import Binding, Group, settle
from holdfast.stores.contract import Store

if TYPE_CHECKING:
    import asyncio


class Chains:
    """Applies calls in their callers' event loop, those for one entity one after the other."""

    def __init__(self, binding: Binding, store: Store, coalescer: Coalescer) -> None:
        self._binding = binding
        self._store = store
        self._coalescer = coalescer
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()

    async def settle(self, call: Call, timeout_seconds: float | None) -> Any:
        """Apply a call; return its record, or raise its error.

        A caller that is cancelled while its handler runs has the handler cancelled, and nothing is
        written for it.
        """
        from asyncio import get_running_loop

        loop = get_running_loop()
        own = self._loops.get(loop)
        if own is None:
            own = self._loops[loop] = _Loop()
        async with own.places:
            ticket = Ticket(loop.create_future(), call=call, timeout_seconds=timeout_seconds)
            chain = own.waiting.get(call.id)
            if chain is None:
                own.waiting[call.id] = deque((ticket,))
                task = loop.create_task(self._work(own, call.id))
                own.tasks.add(task)
                task.add_done_callback(own.tasks.discard)
            else:
                chain.append(ticket)
            answer = await ticket.future
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def drain(self) -> None:
        """Wait until nothing is under way in this event loop."""
        import asyncio

        own = self._loops.get(asyncio.get_running_loop())
        if own is not None and own.tasks:
            await asyncio.wait(own.tasks)

    async def _work(self, own: _Loop, id: str) -> None:
        """Apply the calls for one entity, as many at a time as are waiting, until none is."""
        waiting = own.waiting[id]
        try:
            while tickets := _cut(waiting):
                answers = await self._apply(id, tickets)
                for ticket, answer in zip(tickets, answers, strict=True):
                    if not ticket.future.done():
                        ticket.future.set_result(answer)
        finally:
            del own.waiting[id]
            for ticket in waiting:  # the task was cancelled with its event loop
                ticket.future.cancel()

    async def _apply(self, id: str, tickets: list[Ticket]) -> list[Any]:
        from asyncio import CancelledError

        calls = [ticket.call for ticket in tickets if ticket.call is not None]
        callers = {id_of(call): ticket.future for call, ticket in zip(calls, tickets, strict=True)}
        world = AsyncWorld(self._store, self._coalescer, callers)
        timeout_seconds = tickets[0].timeout_seconds
        plan = settle(self._binding, (Group(id, calls),), timeout_seconds=timeout_seconds)
        try:
            return await run_async(plan, world)
        except CancelledError:
            for ticket in tickets:
                ticket.future.cancel()
            raise
        except BaseException as error:  # noqa: BLE001 (it reaches everyone in the chain)
            return [error] * len(tickets)


class _Loop:
    """What is under way in one event loop."""

    def __init__(self) -> None:
        from asyncio import Semaphore

        self.places = Semaphore(MAX_WAITING)
        self.waiting: dict[str, deque[Ticket]] = {}
        self.tasks: set[asyncio.Task[None]] = set()


id_of = id  # the builtin, where an entity's id has its name


def _cut(waiting: deque[Ticket]) -> list[Ticket]:
    """Take the calls that are written together; one with a timeout of its own stands alone."""
    tickets: list[Ticket] = []
    while waiting and len(tickets) < MAX_CHAIN:
        if waiting[0].future.done():
            waiting.popleft()
        elif tickets and (waiting[0].timeout_seconds or tickets[0].timeout_seconds) is not None:
            break
        else:
            tickets.append(waiting.popleft())
    return tickets
