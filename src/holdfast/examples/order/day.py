"""A day at the shop: workers compete for orders while the payment provider goes down and up."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from holdfast import (
    CommandRejectedError,
    Conflict,
    InvalidTransitionError,
    Request,
    Retry,
    Service,
    VersionConflictError,
)
from holdfast.examples.order.agenda import Agenda, Task
from holdfast.examples.order.machine import order
from holdfast.examples.order.model import (
    Cancel,
    Create,
    MarkAsProcessing,
    MarkComplete,
    OrderCommand,
    OrderError,
    OrderState,
    Processing,
    TryRecover,
)
from holdfast.examples.order.sample import REASONS, sample
from holdfast.examples.order.stand_in import StandIn
from holdfast.stores.contract import Store

WORKERS = ("ada", "ben", "cleo", "dan", "eva", "finn", "gus", "hana")
CROWD = 4
"""How many people work on a hot order at the same moment."""
OUTAGE = (0.40, 0.65)
"""The part of the day in which the payment provider is down."""
MOST_RETRIES = 3
"""How often an order is tried again during the day; what is left is for the evening."""
_BATCH = 200
_PAGE = 50
_TICK_SECONDS = 0.05


class Progress(NamedTuple):
    """How far a phase of the day is."""

    phase: str
    done: int
    total: int
    in_error: int
    payment_down: bool
    seconds: float
    over: bool = False


class Day:
    """Places orders, works on them with several threads, and recovers what failed."""

    def __init__(self, store: Store, *, count: int, seed: int) -> None:
        self.placed = {placed.id: placed for placed in sample(count, seed)}
        self.world = StandIn(seed=seed, latency_seconds=0.001)
        retry = Retry(attempts=20, cap_seconds=0.2, on_conflict=self._count_conflict)
        self.orders = Service(order, store, deps=self.world, retry=retry)
        self.counts: Counter[str] = Counter()
        """Conflicts, retries, and commands that came too late, were forbidden or gave up."""
        self.seconds: dict[str, float] = {}
        """How long each phase took."""
        self._agenda = Agenda()
        self._turn = 0.0
        self._stopped = threading.Event()
        self._draw = random.Random(seed)
        self._lock = threading.Lock()

    def run(self) -> Generator[Progress, None, None]:
        """Live through the day, and tell several times a second how far it is.

        Raises what a worker raises; closing it early stops the workers.
        """
        phases = {"placing": self._place, "working": self._work, "recovering": self._recover}
        for phase, live in phases.items():
            total = self._failed() if phase == "recovering" else len(self.placed)
            began = time.monotonic()
            done = 0
            for done in live():
                seconds = time.monotonic() - began
                down = self.world.payment_down
                yield Progress(phase, done, total, self._failed(), down, seconds)
            self.seconds[phase] = time.monotonic() - began
            down = self.world.payment_down
            yield Progress(phase, done, total, self._failed(), down, self.seconds[phase], over=True)

    def _place(self) -> Iterator[int]:
        """Create all orders, many with one commit."""
        creations = [
            Request(placed.id, Create(placed.order), metadata={"by": placed.order.customer})
            for placed in self.placed.values()
        ]
        for start in range(0, len(creations), _BATCH):
            batch = creations[start : start + _BATCH]
            for answer in self.orders.handle_many(batch):
                if isinstance(answer, Exception):
                    raise answer
            yield start + len(batch)

    def _work(self) -> Iterator[int]:
        """Process, cancel and complete orders; those that fail are tried again a few times."""
        self._plan()
        for _ in self._employ(self._follow_agenda):
            yield min(int(self._turn), len(self.placed))
        yield len(self.placed)

    def _recover(self) -> Iterator[int]:
        """Try again what is still in error, now that the payment provider is up."""
        self.world.payment_down = False
        failed = self._failed()
        for _ in self._employ(self._sweep):
            yield failed - self._failed()
        yield failed - self._failed()

    def _employ(self, duty: Callable[[str], None]) -> Iterator[None]:
        """Have every worker do the duty, and yield while they do."""
        with ThreadPoolExecutor(len(WORKERS)) as pool:
            jobs = [pool.submit(self._guarded, duty, worker) for worker in WORKERS]
            try:
                while not all(job.done() for job in jobs):
                    yield
                    time.sleep(_TICK_SECONDS)
            except BaseException:
                self._stop()
                raise
        for job in jobs:
            job.result()

    def _guarded(self, duty: Callable[[str], None], worker: str) -> None:
        try:
            duty(worker)
        except BaseException:
            self._stop()  # the others are not to go on beside a failure
            raise

    def _stop(self) -> None:
        self._stopped.set()
        self._agenda.stop()

    def _plan(self) -> None:
        """Put what is done first with each order on the agenda."""
        for turn, placed in enumerate(self.placed.values()):
            if placed.fate == "cancel":
                reason = self._draw.choice(REASONS)
                self._agenda.add(turn, placed.id, Cancel(reason), placed.order.customer)
            if placed.fate in ("complete", "process") or (placed.fate == "cancel" and placed.hot):
                for worker in self._crew(placed.id):
                    self._agenda.add(turn, placed.id, MarkAsProcessing(worker), worker)

    def _follow_agenda(self, worker: str) -> None:
        while task := self._agenda.take():
            try:
                self._begin_turn(task.turn)
                state = self._send(task.id, task.command, task.by)
                if state is not None:
                    self._plan_next(task, state)
            finally:
                self._agenda.finish()

    def _begin_turn(self, turn: float) -> None:
        self._turn = turn
        self.world.payment_down = OUTAGE[0] <= turn / len(self.placed) < OUTAGE[1]

    def _plan_next(self, task: Task, state: OrderState) -> None:
        """Put on the agenda what the new state of an order asks for."""
        if isinstance(state, Processing) and self.placed[task.id].fate != "process":
            for worker in self._crew(task.id, but=state.worker):
                self._add_later(task, MarkComplete(worker), worker, share=0.02)
        elif isinstance(state, OrderError) and state.retries < MOST_RETRIES:
            for worker in self._crew(task.id):
                self._add_later(task, TryRecover(), worker, share=0.05)

    def _add_later(self, task: Task, command: OrderCommand, by: str, *, share: float) -> None:
        turn = task.turn + 1 + share * len(self.placed)
        self._agenda.add(turn, task.id, command, by)

    def _crew(self, id: str, but: str | None = None) -> list[str]:
        """Draw who works on an order: one, or a crowd, in which nobody is left out."""
        with self._lock:
            if self.placed[id].hot:
                return self._draw.sample(WORKERS, CROWD)
            return [self._draw.choice([worker for worker in WORKERS if worker != but])]

    def _sweep(self, worker: str) -> None:
        """Recover page by page what the store says is in error; all workers do so at once."""
        after: str | None = None
        while not self._stopped.is_set():
            page = self.orders.find(state=OrderError, limit=_PAGE, after=after)
            for record in page:
                if self._stopped.is_set():
                    return
                self._send(record.id, TryRecover(), worker)
            after = page.next
            if after is None:
                return

    def _send(self, id: str, command: OrderCommand, by: str) -> OrderState | None:
        """Send a command and return the new state; None where it was refused, which is counted."""
        try:
            return self.orders.handle(id, command, metadata={"by": by}).state
        except InvalidTransitionError:
            self._count("too late")
        except CommandRejectedError:
            self._count("own order")
        except VersionConflictError:
            self._count("gave up")
        return None

    def _failed(self) -> int:
        return self.orders.count_by_state().get("OrderError", 0)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _count_conflict(self, conflict: Conflict) -> None:
        self._count("conflict")
        if conflict.delay_seconds is not None:
            self._count("retry")
