"""Coalesces what coroutines ask for: a thread runs all of it together, in lockstep.

There is no timer. What arrives while a round of loads or commits is under way joins the next one,
so a lone call waits for nobody and many calls share their round trips. Calls for one entity form a
chain: they are decided one after the other and written together.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from holdfast.service.call import Call
from holdfast.service.lockstep import Lane, Lockstep
from holdfast.service.requests import Plan, World
from holdfast.service.runner import run
from holdfast.service.settle import Binding, Group, settle
from holdfast.stores.fork import follow_forks

if TYPE_CHECKING:
    import asyncio

MAX_WAITING = 10_000
"""How many calls wait to begin; further callers wait for a place among them."""
MAX_LANES = 512
"""How many plans are under way at once."""
MAX_CHAIN = 512
"""The most calls that are written for one entity together."""
IDLE_SECONDS = 1.0
"""How long the thread stays for more work."""


class Ticket(Struct, frozen=True, eq=False):
    """A plan or a call, and the future that its caller waits for."""

    future: asyncio.Future[Any]
    plan: Plan[Any] | None = None
    call: Call | None = None
    timeout_seconds: float | None = None


class Coalescer:
    """Runs plans and calls for any number of event loops in one thread."""

    def __init__(self, binding: Binding, world: World) -> None:
        self._binding = binding
        self._world = world
        self._lock = threading.Lock()
        self._begin()
        follow_forks(self)

    def _begin(self) -> None:
        self._waiting: deque[Ticket] = deque()
        self._places: deque[asyncio.Future[None]] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._woken = False
        self._thread: threading.Thread | None = None
        self._lockstep = Lockstep()
        self._under_way: dict[Lane, tuple[Ticket, ...]] = {}
        self._chains: set[str] = set()

    async def run(self, plan: Plan[Any]) -> Any:
        """Run a plan together with what others ask for; return what it returns or raises."""
        return _raised(await self._submit(plan=plan))

    async def settle(self, call: Call, timeout_seconds: float | None) -> Any:
        """Apply a call; return its record, or raise its error.

        A caller that is cancelled before its call began sent nothing; afterwards the call goes on.
        """
        return _raised(await self._submit(call=call, timeout_seconds=timeout_seconds))

    async def drain(self) -> None:
        """Wait until nothing waits or is under way."""
        from asyncio import sleep

        while self._waiting or self._under_way:  # noqa: ASYNC110 (set by a thread; rarely awaited)
            await sleep(0.001)

    async def _submit(self, **what: Any) -> Any:
        from asyncio import get_running_loop

        loop = get_running_loop()
        while len(self._waiting) >= MAX_WAITING:
            place = loop.create_future()
            self._places.append(place)
            await place
        ticket = Ticket(loop.create_future(), **what)
        with self._lock:
            self._waiting.append(ticket)
            woken, self._woken = self._woken, True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="holdfast", daemon=True)
                self._thread.start()
        if not woken:
            self._wake.put(None)
        return await ticket.future

    # In the thread

    def _work(self) -> None:
        while self._wait():
            self._admit()
            if self._lockstep.lanes:
                self._step()

    def _wait(self) -> bool:
        """Wait until there is something to do; False where there was nothing for long."""
        lockstep = self._lockstep
        if lockstep.lanes and lockstep.wakes_at is None:
            return True
        seconds = IDLE_SECONDS
        if lockstep.lanes and lockstep.wakes_at is not None:
            seconds = max(0.0, lockstep.wakes_at - self._world.clock())
        try:
            self._wake.get(timeout=seconds)
        except Empty:
            with self._lock:
                if not (lockstep.lanes or self._waiting):
                    self._thread = None
                    return False
        with self._lock:
            self._woken = False
        return True

    def _admit(self) -> None:
        """Begin what may begin: every plan, and one chain for each entity that has none."""
        chains: dict[str, list[Ticket]] = {}
        kept: list[Ticket] = []
        blocked: set[str] = set()
        with self._lock:
            freed = len(self._waiting)
            while self._waiting and len(self._lockstep.lanes) + len(chains) < MAX_LANES:
                ticket = self._waiting.popleft()
                if ticket.future.done():
                    continue
                if ticket.plan is not None:
                    self._under_way[self._lockstep.add(ticket.plan)] = (ticket,)
                elif ticket.call is not None and not self._joins(ticket, chains, blocked):
                    blocked.add(ticket.call.id)
                    kept.append(ticket)
            self._waiting.extendleft(reversed(kept))
            freed -= len(self._waiting)
            places = [self._places.popleft() for _ in range(min(freed, len(self._places)))]
        for place in places:
            _tell(place.get_loop(), _release, place)
        for id, tickets in chains.items():
            self._chains.add(id)
            calls = [ticket.call for ticket in tickets if ticket.call is not None]
            plan = settle(
                self._binding, (Group(id, calls),), timeout_seconds=tickets[0].timeout_seconds
            )
            self._under_way[self._lockstep.add(plan)] = tuple(tickets)

    def _joins(self, ticket: Ticket, chains: dict[str, list[Ticket]], blocked: set[str]) -> bool:
        """Put a call into the chain that begins for its entity; False where it has to wait.

        A call with a timeout of its own is a chain of its own.
        """
        assert ticket.call is not None
        id = ticket.call.id
        if id in self._chains or id in blocked:
            return False
        chain = chains.get(id)
        if chain is None:
            chains[id] = [ticket]
            return True
        if ticket.timeout_seconds is not None or chain[0].timeout_seconds is not None:
            return False
        if len(chain) == MAX_CHAIN:
            return False
        chain.append(ticket)
        return True

    def _step(self) -> None:
        try:
            ended = run(self._lockstep.round(), self._world)
        except BaseException as error:  # noqa: BLE001 (it reaches everyone who waits)
            ended = self._lockstep.lanes
            self._lockstep = Lockstep()
            for lane in ended:
                lane.result = error
        answers: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
        for lane in ended:
            tickets = self._under_way.pop(lane)
            for ticket, answer in zip(tickets, _answers(lane, tickets), strict=True):
                answers.setdefault(ticket.future.get_loop(), []).append((ticket.future, answer))
                if ticket.call is not None:
                    self._chains.discard(ticket.call.id)
        for loop, given in answers.items():
            _tell(loop, _deliver, given)

    # Forks

    def before_fork(self) -> None:
        """Nothing to let go of: the store waits for what is being written."""

    def after_fork_in_parent(self) -> None:
        """Nothing to take up again."""

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread and the callers are the parent's."""
        self._lock = threading.Lock()
        self._begin()


def _answers(lane: Lane, tickets: Sequence[Ticket]) -> Sequence[Any]:
    """Return each ticket's part of what its lane came to."""
    if tickets[0].call is None or isinstance(lane.result, BaseException):
        return [lane.result] * len(tickets)
    return lane.result  # type: ignore[no-any-return]


def _raised(answer: Any) -> Any:
    """Return the answer, or raise it where it is an error."""
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _deliver(given: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in given:
        if not future.done():
            future.set_result(answer)


def _release(place: asyncio.Future[None]) -> None:
    if not place.done():
        place.set_result(None)


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], value: Any) -> None:
    """Call back in a loop, unless it was closed: then nobody waits there any more."""
    try:
        loop.call_soon_threadsafe(callback, value)
    except RuntimeError:
        if not loop.is_closed():
            raise
