"""What coroutines have handed in: bounded for each event loop, and known until it is answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from holdfast.service.call import Call
from holdfast.service.requests import Plan
from holdfast.stores.contract import Store
from holdfast.stores.fork import Renewed, follow_forks
from holdfast.stores.outcomes import copied

if TYPE_CHECKING:
    import asyncio

MAX_UNANSWERED = 10_000
"""How many calls of one event loop are accepted and not yet answered; further callers wait."""
MAX_CHAIN = 512
"""The most calls that are written for one entity together."""


class Intake(Renewed):
    """Accepts calls from any number of event loops."""

    def __init__(self) -> None:
        self.desks: dict[asyncio.AbstractEventLoop, Desk] = {}
        follow_forks(self)

    async def accept(
        self,
        *,
        plan: Plan[Any] | None = None,
        call: Call | None = None,
        timeout_seconds: float | None = None,
    ) -> Ticket:
        """Return a ticket, once the running event loop has a place for it."""
        import asyncio

        loop = asyncio.get_running_loop()
        desk = self.desks.get(loop) or self._open_desk(loop)
        await desk.places.acquire()
        ticket = Ticket(desk, plan, call, timeout_seconds)
        desk.unanswered.add(ticket)
        return ticket

    async def drain(self) -> None:
        """Wait until what is accepted by now is answered, unless its loop stopped running."""
        from asyncio import sleep

        for desk in list(self.desks.values()):
            accepted = desk.unanswered.copy()
            waiting = desk.unanswered
            while desk.loop.is_running() and not accepted.isdisjoint(waiting):  # noqa: ASYNC110 (rare)
                await sleep(0.001)

    def after_fork_in_child(self) -> None:
        """Drop everything: the event loops are the parent's."""
        self.desks = {}

    def _open_desk(self, loop: asyncio.AbstractEventLoop) -> Desk:
        for other in list(self.desks):
            if other.is_closed():
                self.desks.pop(other, None)
        return self.desks.setdefault(loop, Desk(loop))


class Desk:
    """What one event loop has handed in."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from asyncio import Semaphore

        self.loop = loop
        self.places = Semaphore(MAX_UNANSWERED)
        self.unanswered: set[Ticket] = set()
        self.queues: dict[str, deque[Ticket]] = {}
        """The calls whose handlers are awaited, by entity."""
        self.tasks: set[asyncio.Task[None]] = set()


class Ticket:
    """A plan or a call, and the future that its caller waits for."""

    __slots__ = (
        "_under_way",
        "alone",
        "call",
        "context",
        "desk",
        "future",
        "plan",
        "timeout_seconds",
        "token",
    )

    def __init__(
        self, desk: Desk, plan: Plan[Any] | None, call: Call | None, timeout_seconds: float | None
    ) -> None:
        self.desk = desk
        self.future: asyncio.Future[Any] = desk.loop.create_future()
        self.plan = plan
        self.call = call
        self.context: Context | None = copy_context() if call is None else call.within
        self.timeout_seconds = timeout_seconds
        self.alone = timeout_seconds is not None
        """Whether it is a chain of its own."""
        self.token = ""
        """Drawn once for a call, as it is begun for the first time."""
        self._under_way: dict[object, int] | None = None

    def begin(self, store: Store, thread: int | None) -> None:
        """Have a store that closes wait for the thread that is to work on it."""
        self._under_way = store.under_way
        self._under_way[self] = thread or 0

    def end(self) -> None:
        """Say that nothing is left to do but to tell the caller."""
        if self._under_way is not None:
            self._under_way.pop(self, None)

    def answer(self, answer: Any) -> None:
        """Answer the caller, once, in its event loop; one that was cancelled is not told."""
        self.end()
        if self not in self.desk.unanswered:
            return
        self.desk.unanswered.discard(self)
        self.desk.places.release()
        if not self.future.done():
            self.future.set_result(answer)

    async def result(self) -> Any:
        """Wait for the answer, and raise it where it is an error."""
        return raised(await self.future)


def raised(answer: Any) -> Any:
    """Return an answer, and raise one that is an error."""
    if not isinstance(answer, BaseException):
        return answer
    try:
        raise answer
    finally:
        del answer  # else its traceback would keep it alive


def cut(queue: deque[Ticket], dropped: list[Ticket]) -> list[Ticket]:
    """Take the calls of a queue that are written together; those of cancelled callers drop out."""
    chain: list[Ticket] = []
    while queue and len(chain) < MAX_CHAIN:
        if queue[0].future.done():
            dropped.append(queue.popleft())
        elif chain and (queue[0].alone or chain[0].alone):
            break
        else:
            chain.append(queue.popleft())
    return chain


def distinct(answers: Iterable[Any]) -> Iterator[Any]:
    """Give each caller an error of its own: one raised in many tasks would mix their tracebacks."""
    seen: set[int] = set()
    for answer in answers:
        if id(answer) in seen and isinstance(answer, BaseException):
            yield copied(answer)
        else:
            seen.add(id(answer))
            yield answer


def hand_over(answers: Sequence[tuple[Ticket, Any]]) -> None:
    """Hand answers over to their event loops."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Ticket, Any]]] = {}
    own = distinct(answer for _, answer in answers)
    for (ticket, _), answer in zip(answers, own, strict=True):
        ticket.end()
        by_loop.setdefault(ticket.desk.loop, []).append((ticket, answer))
    for loop, told in by_loop.items():
        _call_in(loop, _answer_all, told)


def _answer_all(answers: Iterable[tuple[Ticket, Any]]) -> None:
    for ticket, answer in answers:
        ticket.answer(answer)


def _call_in(
    loop: asyncio.AbstractEventLoop, callback: Callable[..., object], value: object
) -> None:
    """Call back in a loop, unless it was closed: then nobody waits there any more."""
    try:
        loop.call_soon_threadsafe(callback, value)
    except RuntimeError:
        if not loop.is_closed():
            raise
