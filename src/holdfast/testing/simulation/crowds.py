"""Coroutines that share a process: their calls are coalesced as an `AsyncService` does it.

The real coalescer works here without its thread: each of its rounds is a part of a plan, so that
others come in between, and processes end, at every request that it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any, NamedTuple, cast

from msgspec import Struct

from holdfast.errors import NotFoundError, ValidationError
from holdfast.service.call import check_request
from holdfast.service.coalescer import Coalescer
from holdfast.service.decide import Binding
from holdfast.service.intake import Desk, Ticket
from holdfast.service.requests import Clock, Plan, Sleep
from holdfast.stores.contract import Store
from holdfast.testing.history import Operation
from holdfast.testing.simulation.actions import Action, AnyPlans, Asked, described
from holdfast.testing.simulation.journal import Journal, short, shown


class Caller(Struct, frozen=True):
    """A coroutine that calls, or reads an entity, in some round; it may give up in a later one."""

    round: int
    asks: Asked | tuple[str, str]
    gives_up: int | None = None


class Crowd(Action):
    """Coroutines that call one service at about the same time."""

    def __init__(self, journal: Journal, client: str, callers: Sequence[Caller]) -> None:
        super().__init__(journal, client)
        self.callers = sorted(callers, key=lambda caller: caller.round)
        self._ended = False

    def __str__(self) -> str:
        calls = [
            f"{_described(caller.asks)} in round {caller.round}"
            + ("" if caller.gives_up is None else f", given up in {caller.gives_up}")
            for caller in self.callers
        ]
        return "from coroutines: " + "; ".join(calls)

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[None]:
        """Hand in what is asked, and let the coalescer go on, until all are answered."""
        mine = plans[self.callers[0].asks[0]]
        coalescer = _Rounds(mine.binding)
        desk = Desk(cast("Any", _Loop()))
        waiting = list(self.callers)
        leaving: list[_Leaving] = []
        number = 0
        try:
            while waiting or leaving or coalescer.is_busy:
                while waiting and waiting[0].round <= number:
                    caller = waiting.pop(0)
                    ticket = self._hand_in(coalescer, desk, mine, caller)
                    if ticket is not None and caller.gives_up is not None:
                        leaving.append(_Leaving(caller, self.operations[-1], ticket))
                leaving = [each for each in leaving if not self._leave(number, each)]
                yield from coalescer.round()
                number += 1
        finally:
            coalescer.close()
        self.journal.counts["crowds"] += 1

    def answered(self, answer: Any) -> None:
        """Take an error that ends it all, which must not happen; the answers were taken before."""
        if isinstance(answer, Exception):
            self.journal.surprise(self.operations[0], f"met {answer!r}, as all the others")

    def drop(self, plan: Plan[Any]) -> None:
        """End with the process: what is raised at every request ends what waits for it."""
        self._ended = True
        try:
            while True:
                plan.throw(_ProcessEnded())
        except (StopIteration, _ProcessEnded):
            pass

    def _hand_in(
        self, coalescer: _Rounds, desk: Desk, plans: AnyPlans, caller: Caller
    ) -> Ticket | None:
        machine, subject = caller.asks
        if isinstance(subject, str):
            operation = self.begin_read(machine, subject)
            ticket = Ticket(desk, plans.get(subject), None, None)
        else:
            request = self.begin_write((machine, subject))
            operation = self.operations[-1]
            try:
                call = check_request(plans.machine, request, copy_context())
            except ValidationError as error:
                self.journal.tell(operation, error)
                return None
            ticket = Ticket(desk, None, call, None)
        cast("_Promise", ticket.future).told = lambda answer: self._take(operation, answer)
        coalescer.hand_in(ticket)
        return ticket

    def _leave(self, number: int, leaving: _Leaving) -> bool:
        """Let a caller give up in its round; what is answered by then is not given up."""
        caller, operation, ticket = leaving
        if caller.gives_up is None or number < caller.gives_up:
            return False
        if ticket.future.cancel():
            self.journal.counts["callers cancelled"] += 1
            self.journal.say(f"{self.client}: the caller of {operation.name} gives up")
            if caller.gives_up == caller.round and operation.kind == "write":
                self.journal.tell_refused(operation)  # it was not begun, so it is not sent
        return True

    def _take(self, operation: Operation, answer: Any) -> None:
        if self._ended:
            return
        if self.journal.is_told:
            name = operation.name or short(operation.id)
            self.journal.say(f"{self.client}: the caller of {name} is told: {shown(answer)}")
        if operation.kind == "read" and isinstance(answer, NotFoundError):
            self.journal.tell_state(operation, 0, None)
        else:
            # Calls for one entity are a chain: some see versions that are not written yet.
            self.journal.tell(operation, answer, alone=operation.kind == "read")


class _Leaving(NamedTuple):
    """A caller that is going to give up."""

    caller: Caller
    operation: Operation
    ticket: Ticket


class _ProcessEnded(BaseException):
    """Raised where a process ends, so that nothing takes it for an answer."""


class _Rounds(Coalescer):
    """The coalescer, told when to begin its next round."""

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding, cast("Any", None), decides=True)

    def hand_in(self, ticket: Ticket) -> None:
        """Take what a coroutine asks for."""
        ticket.desk.unanswered.add(ticket)
        self._inbox.append(ticket)

    def close(self) -> None:
        """End what is under way."""
        self._lockstep.close()

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._inbox or self._ready or self._lockstep.lanes)

    def round(self) -> Plan[None]:
        """Do what its thread does between two looks at its inbox."""
        self._sort()
        self._fill()
        lockstep = self._lockstep
        if lockstep.lanes:
            self._end((yield from lockstep.round()))
        self._tell()
        if not self._may_begin and lockstep.lanes and lockstep.wakes_at is not None:
            now: float = yield Clock()
            yield Sleep(max(0.0, lockstep.wakes_at - now))


class _Loop:
    """What the coalescer wants of an event loop."""

    def create_future(self) -> _Promise:
        """Return what an answer is put into."""
        return _Promise()

    def call_soon_threadsafe(self, callback: Callable[[Any], object], value: object) -> None:
        """Call back at once: the simulation has one thread."""
        callback(value)

    def is_closed(self) -> bool:
        """It never is."""
        return False


class _Promise:
    """What a coroutine waits for."""

    def __init__(self) -> None:
        self._done = False
        self.told: Callable[[Any], object] = lambda answer: None

    def done(self) -> bool:
        """Whether it is answered or given up."""
        return self._done

    def cancel(self) -> bool:
        """Give it up; False where that comes too late."""
        was_done, self._done = self._done, True
        return not was_done

    def set_result(self, answer: Any) -> None:
        """Take the answer."""
        self._done = True
        self.told(answer)


def _described(asks: Asked | tuple[str, str]) -> str:
    machine, subject = asks
    return (
        f"get {machine} {short(subject)}"
        if isinstance(subject, str)
        else described((machine, subject))
    )
