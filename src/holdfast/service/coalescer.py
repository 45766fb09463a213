"""Coalesces what coroutines ask for: a thread runs all of it together, in lockstep.

There is no timer. What arrives while a round of loads or commits is under way joins the next one,
so a lone call waits for nobody and many calls share their round trips. Calls for one entity form a
chain: they are decided one after the other and written together.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from queue import Empty, SimpleQueue
from types import GeneratorType
from typing import Any

from holdfast.service.call import Call, renewed
from holdfast.service.decide import Binding, Group
from holdfast.service.handling import is_inside
from holdfast.service.intake import Intake, Ticket, cut, hand_over
from holdfast.service.lockstep import Lane, Lockstep
from holdfast.service.requests import Begin, Plan, World
from holdfast.service.runner import run
from holdfast.service.settle import Begun, Terms, settle
from holdfast.service.settle_each import begin_each
from holdfast.stores.fork import Renewed, follow_forks

MAX_BEGUN = 512
"""How many plans and chains are under way at once."""
IDLE_SECONDS = 1.0
"""How long the thread stays for more work."""


class Coalescer(Renewed):
    """Runs plans and calls for any number of event loops in one thread.

    One that decides runs handlers; the plans of one that does not never wait for a handler.
    """

    def __init__(self, binding: Binding, world: World, *, decides: bool) -> None:
        self.intake = Intake()
        self._binding = binding
        self._decides = decides
        self._world = world
        self._begin()
        follow_forks(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()  # holds the inbox and the thread
        self._inbox: deque[Ticket] = deque()
        self._thread: threading.Thread | None = None
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._woken = False
        self._clear()

    def _clear(self) -> None:
        self._lockstep = Lockstep(catches=BaseException)
        self._under_way: dict[Lane, list[Ticket]] = {}
        self._sharing: dict[Lane, list[list[Ticket]]] = {}  # chains that begin in one lane
        self._begun = 0  # plans and chains
        self._queues: dict[str, deque[Ticket]] = {}
        self._ready: deque[Ticket | str] = deque()  # plans, and entities whose chain may begin
        self._answers: list[tuple[Ticket, Any]] = []

    async def run(self, plan: Plan[Any]) -> Any:
        """Run a plan together with what others ask for; return what it returns or raises."""
        if self._decides:
            is_inside()
        ticket = await self.intake.accept(plan=plan)
        self._submit(ticket)
        return await ticket.result()

    async def settle(self, call: Call, timeout_seconds: float | None) -> Any:
        """Apply a call; return its record, or raise its error.

        A caller that is cancelled before its call began sent nothing; afterwards the call goes on.
        """
        is_inside()
        ticket = await self.intake.accept(call=call, timeout_seconds=timeout_seconds)
        self._submit(ticket)
        return await ticket.result()

    def _submit(self, ticket: Ticket) -> None:
        with self._lock:
            thread = self._thread or self._start(ticket)
            ticket.begin(self._world.store, thread.ident)
            self._inbox.append(ticket)
            woken, self._woken = self._woken, True
        if not woken:
            self._wake.put(None)

    def _start(self, ticket: Ticket) -> threading.Thread:
        """Start the thread; where that fails, the ticket gives its place back."""
        thread = self._thread = threading.Thread(target=self._work, name="holdfast", daemon=True)
        try:
            thread.start()
        except BaseException:
            self._thread = None
            ticket.answer(None)
            raise
        return thread

    # In the thread

    def _work(self) -> None:
        with self._lock:
            if self._thread is not threading.current_thread():
                return  # whoever started it was interrupted, and has given it up
        try:
            while self._wait():
                self._sort()
                self._fill()
                if self._lockstep.lanes:
                    self._end(run(self._lockstep.round(), self._world))
                self._tell()
        except BaseException as error:
            self._fail(error)
            raise

    def _wait(self) -> bool:
        """Wait until there is something to do; False where there was nothing for long."""
        lockstep = self._lockstep
        wakes_at = lockstep.wakes_at
        if (lockstep.lanes and wakes_at is None) or self._may_begin:
            return True
        seconds = IDLE_SECONDS if wakes_at is None else max(0.0, wakes_at - self._world.clock())
        try:
            self._wake.get(timeout=seconds)
        except Empty:
            with self._lock:
                if not (lockstep.lanes or self._inbox):
                    self._thread = None
                    return False
        self._woken = False  # before the inbox is emptied: what comes later wakes again
        return True

    @property
    def _may_begin(self) -> bool:
        return bool(self._ready) and self._begun < MAX_BEGUN

    def _sort(self) -> None:
        """Empty the inbox; calls queue up by entity."""
        while self._inbox:
            ticket = self._inbox.popleft()
            if ticket.call is None:
                self._ready.append(ticket)
            elif ticket.call.id in self._queues:
                self._queues[ticket.call.id].append(ticket)
            else:
                self._queues[ticket.call.id] = deque((ticket,))
                self._ready.append(ticket.call.id)

    def _fill(self) -> None:
        """Begin what may begin; what its caller has given up is not begun."""
        chains: list[list[Ticket]] = []
        while self._may_begin:
            first = self._ready.popleft()
            if isinstance(first, str):
                chain = self._next_chain(first)
                if chain:
                    chains.append(chain)
                    self._begun += 1
            elif first.future.done():
                self._answers.append((first, None))
            elif first.plan is not None:
                self._under_way[self._lockstep.add(first.plan, first.context)] = [first]
                self._begun += 1
        if chains:
            self._begin_chains(chains)

    def _next_chain(self, id: str) -> list[Ticket]:
        dropped: list[Ticket] = []
        chain = cut(self._queues[id], dropped)
        self._answers += [(ticket, None) for ticket in dropped]
        if not chain:
            del self._queues[id]
        return chain

    def _begin_chains(self, chains: list[list[Ticket]]) -> None:
        """Begin chains in one lane; those with limits of their own have one each."""
        shared: list[list[Ticket]] = []
        shares = self._binding.is_plain
        for chain in chains:
            if shares and not chain[0].alone:
                shared.append(chain)
            else:
                self._under_way[self._lockstep.add(self._settle_alone(chain))] = chain
        if shared:
            self._sharing[self._lockstep.add(self._settle_together(shared))] = shared

    def _settle_alone(self, chain: list[Ticket]) -> Plan[list[Any]]:
        begun = yield from _begin_calls(chain)
        terms = Terms(timeout_seconds=chain[0].timeout_seconds)
        return (yield from settle(self._binding, (_group(chain),), terms, begun))

    def _settle_together(self, chains: list[list[Ticket]]) -> Plan[list[Any]]:
        begun = yield from _begin_calls([ticket for chain in chains for ticket in chain])
        return (yield from begin_each(self._binding, [_group(chain) for chain in chains], begun))

    def _end(self, ended: Iterable[Lane]) -> None:
        for lane in ended:
            chains = self._sharing.pop(lane, None)
            if chains is not None:
                results = lane.result
                if isinstance(results, BaseException):
                    results = [results] * len(chains)
                for chain, result in zip(chains, results, strict=True):
                    self._end_chain(lane, chain, result)
                continue
            tickets = self._under_way.pop(lane)
            if tickets[0].call is None:
                self._begun -= 1
                self._answers.append((tickets[0], lane.result))
            else:
                self._end_chain(lane, tickets, lane.result)

    def _end_chain(self, lane: Lane, tickets: list[Ticket], result: Any) -> None:
        if isinstance(result, GeneratorType):
            self._under_way[self._lockstep.add(result)] = tickets  # it goes on alone
            return
        self._begun -= 1
        call = tickets[0].call
        assert call is not None
        queue = self._queues[call.id]
        if isinstance(result, BaseException):
            again = not (lane.may_have_written or tickets[0].alone)
            if again and not isinstance(result, Exception):
                # A handler or a hook raised what ends programs. Alone, each call meets its own
                # errors only.
                for ticket in tickets:
                    ticket.alone = True
                    ticket.call = ticket.call and renewed(self._binding.machine, ticket.call)
                queue.extendleft(reversed(tickets))
                tickets = []
            result = [result] * len(tickets)
        self._answers += zip(tickets, result, strict=True)
        if queue:
            self._ready.append(call.id)
        else:
            del self._queues[call.id]

    def _tell(self) -> None:
        answers, self._answers = self._answers, []  # else a failure would find them told
        hand_over(answers)

    def _fail(self, error: BaseException) -> None:
        """Answer everybody who waits, so that nobody waits for a thread that is gone."""
        with self._lock:
            waiting = [ticket for queue in self._queues.values() for ticket in queue]
            waiting += [ticket for ticket in self._ready if isinstance(ticket, Ticket)]
            waiting += [ticket for tickets in self._under_way.values() for ticket in tickets]
            waiting += [t for chains in self._sharing.values() for chain in chains for t in chain]
            waiting += self._inbox
            self._inbox.clear()
            answers = [*self._answers, *((ticket, error) for ticket in waiting)]
            self._clear()
            self._thread = None
        hand_over(answers)

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread and the callers are the parent's."""
        self._begin()


def _begin_calls(tickets: Sequence[Ticket]) -> Plan[Begun]:
    """Draw tokens for the calls that have none; others were begun before, and keep theirs."""
    new = [ticket for ticket in tickets if not ticket.token]
    started, tokens = yield Begin(len(new))
    for ticket, token in zip(new, tokens, strict=True):
        ticket.token = token
    return Begun(started, [ticket.token for ticket in tickets])


def _group(chain: list[Ticket]) -> Group:
    calls = [ticket.call for ticket in chain if ticket.call is not None]
    return Group(calls[0].id, calls)
