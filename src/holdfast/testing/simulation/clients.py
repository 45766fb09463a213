"""The simulated callers: each does one thing after the other, on one process or another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.service.requests import Ask, Plan
from holdfast.testing.simulation.actions import Action
from holdfast.testing.simulation.processes import Process


class Client:
    """A caller: does one thing after the other, each on some process."""

    def __init__(
        self, name: str, draw: Callable[[], Action], count: int, left_out: frozenset[int]
    ) -> None:
        self.name = name
        self.done: list[tuple[str, int]] = []
        """What it did: its name, and the places of its actions."""
        self._draw = draw
        self._places = iter(range(count))
        self._left_out = left_out
        self._again: Action | None = None
        self.action: Action | None = None
        self.process: Process | None = None
        self.plan: Plan[Any] | None = None
        self.ask: Ask | None = None
        self.wakes_at = 0.0

    def next_action(self) -> Action | None:
        """Return what it does next; None where it has done all."""
        if self._again is not None:
            action, self._again = self._again, None
            return action
        for place in self._places:
            action = self._draw()
            if place not in self._left_out:
                self.done.append((self.name, place))
                return action
        return None

    @property
    def under_way(self) -> tuple[Plan[Any], Process]:
        """The plan that is under way, and the process it runs in."""
        assert self.plan is not None
        assert self.process is not None
        return self.plan, self.process

    def start(self, action: Action, process: Process) -> Plan[Any]:
        """Begin to do something, on a process."""
        self.action, self.process = action, process
        self.plan = action.plan(process.plans, process.store)
        return self.plan

    def drop(self) -> None:
        """Leave what is under way; nobody is told what became of it."""
        if self.plan is not None and self.action is not None:
            self.action.drop(self.plan)
            self.end(again=True)

    def end(self, *, again: bool) -> None:
        """Be done with an action, which may be asked for again."""
        assert self.action is not None
        if again:
            self._again = self.action.again()
        self.action = self.process = self.plan = self.ask = None
        self.wakes_at = 0.0
