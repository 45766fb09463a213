"""The tasks of a simulated day, in the order in which the workers take them."""

from __future__ import annotations

import heapq
import threading
from typing import NamedTuple

from holdfast.examples.order.model import OrderCommand


class Task(NamedTuple):
    """A command that somebody is about to send; `turn` is its place in the day."""

    turn: float
    number: int
    id: str
    command: OrderCommand
    by: str


class Agenda:
    """Ends when no task is left and none is under way that may add one. Safe for threads."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []
        self._changed = threading.Condition()
        self._added = 0
        self._under_way = 0
        self._stopped = False

    def add(self, turn: float, id: str, command: OrderCommand, by: str) -> None:
        with self._changed:
            self._added += 1
            heapq.heappush(self._tasks, Task(turn, self._added, id, command, by))
            self._changed.notify()

    def take(self) -> Task | None:
        """Return the next task, waiting for one where needed; None at the end."""
        with self._changed:
            while not self._tasks and self._under_way and not self._stopped:
                self._changed.wait()
            if self._stopped or not self._tasks:
                return None
            self._under_way += 1
            return heapq.heappop(self._tasks)

    def finish(self) -> None:
        """Say that a task which was taken is done."""
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        """End with tasks left."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
