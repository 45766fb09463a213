"""Runs plans: one at a time, or many in lockstep with what they ask of the store merged."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from holdfast.service.requests import Ask, Commit, Load, Plan, Sleep, World
from holdfast.stores.contract import MAX_BATCH, Store

T = TypeVar("T")


class SyncWorld:
    """The real world, for callers that block."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = time.monotonic
        self.random = random.random

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(seconds)

    def tokens(self, count: int) -> list[str]:
        """Draw tokens from the system's randomness."""
        if count == 1:
            return [os.urandom(16).hex()]
        digits = os.urandom(16 * count).hex()
        return [digits[start : start + 32] for start in range(0, len(digits), 32)]


def run(plan: Plan[T], world: World) -> T:
    """Run one plan to its end; what a request raises is raised inside the plan."""
    try:
        ask = plan.send(None)
        while True:
            try:
                answer = ask.perform(world)
            except BaseException as error:  # noqa: BLE001 (raised inside the plan)
                ask = plan.throw(error)
            else:
                ask = plan.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def run_together(plans: Sequence[Plan[T]], world: World) -> list[T | Exception]:
    """Run plans in lockstep: loads are merged into one, and so are commits.

    Answers with what each returned or raised, in order. A plan that sleeps keeps only itself
    waiting.
    """
    lanes = [_Lane(plan) for plan in plans]
    for lane in lanes:
        lane.send(None)
    running = [lane for lane in lanes if not lane.done]
    while running:
        _load_merged([lane for lane in running if isinstance(lane.ask, Load)], world)
        _commit_merged([lane for lane in running if lane.shares_its_commit], world)
        for lane in running:
            if lane.ask is not None and not lane.waits_for_others:
                lane.perform(world)
        running = [lane for lane in running if not lane.done]
        if all(isinstance(lane.ask, Sleep) for lane in running):
            _sleep_until_the_first_wakes(running, world)
    return [lane.result for lane in lanes]


class _Lane:
    """A plan on its way: what it asks for, then what it came to."""

    def __init__(self, plan: Plan[Any]) -> None:
        self.plan = plan
        self.ask: Ask | None = None
        self.wakes_at: float | None = None
        self.done = False
        self.result: Any = None

    def send(self, answer: Any) -> None:
        try:
            self.ask = self.plan.send(answer)
        except StopIteration as stop:
            self._end(stop.value)
        except Exception as error:  # noqa: BLE001 (it is this lane's result)
            self._end(error)

    def throw(self, raised: BaseException) -> None:
        try:
            self.ask = self.plan.throw(raised)
        except StopIteration as stop:
            self._end(stop.value)
        except Exception as error:  # noqa: BLE001 (it is this lane's result)
            self._end(error)

    def perform(self, world: World) -> None:
        assert self.ask is not None
        try:
            answer = self.ask.perform(world)
        except Exception as error:  # noqa: BLE001 (raised inside the plan)
            self.throw(error)
        else:
            self.send(answer)

    @property
    def shares_its_commit(self) -> bool:
        """Whether it commits, and others may commit with it."""
        return isinstance(self.ask, Commit) and not self.ask.is_whole

    @property
    def waits_for_others(self) -> bool:
        """Whether what it asks for is better asked together with others."""
        return isinstance(self.ask, Load | Sleep) or self.shares_its_commit

    def _end(self, result: Any) -> None:
        self.done = True
        self.ask = None
        self.result = result


def _load_merged(lanes: list[_Lane], world: World) -> None:
    """Answer the lanes that load with as few loads as may be."""
    asks = [lane.ask for lane in lanes if isinstance(lane.ask, Load)]
    for part in _cut([len(ask.keys) for ask in asks]):
        merged = Load([key for ask in asks[part] for key in ask.keys])
        _share(lanes[part], [len(ask.keys) for ask in asks[part]], merged, world)


def _commit_merged(lanes: list[_Lane], world: World) -> None:
    """Answer the lanes that commit with as few commits as may be."""
    asks = [lane.ask for lane in lanes if isinstance(lane.ask, Commit)]
    for part in _cut([len(ask.writes) for ask in asks]):
        timeouts = [a.timeout_seconds for a in asks[part] if a.timeout_seconds is not None]
        writes = [write for ask in asks[part] for write in ask.writes]
        merged = Commit(writes, timeout_seconds=min(timeouts, default=None))
        _share(lanes[part], [len(ask.writes) for ask in asks[part]], merged, world)


def _cut(sizes: list[int]) -> Iterator[slice]:
    """Split requests of these sizes into runs that fit one call of the store."""
    start = total = 0
    for place, size in enumerate(sizes):
        if total + size > MAX_BATCH and place > start:
            yield slice(start, place)
            start, total = place, 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def _share(lanes: list[_Lane], sizes: list[int], merged: Ask, world: World) -> None:
    """Ask once and give each lane its part of the answer; an error goes to all of them."""
    try:
        answers = merged.perform(world)
    except Exception as error:  # noqa: BLE001 (raised inside every plan that asked)
        for lane in lanes:
            lane.throw(error)
        return
    start = 0
    for lane, size in zip(lanes, sizes, strict=True):
        lane.send(answers[start : start + size])
        start += size


def _sleep_until_the_first_wakes(lanes: list[_Lane], world: World) -> None:
    now = world.clock()
    asleep: list[tuple[float, _Lane]] = []
    for lane in lanes:
        if isinstance(lane.ask, Sleep):
            if lane.wakes_at is None:
                lane.wakes_at = now + lane.ask.seconds
            asleep.append((lane.wakes_at, lane))
    if not asleep:
        return
    first = min(wakes_at for wakes_at, _ in asleep)
    world.sleep(max(0.0, first - now))
    for wakes_at, lane in asleep:
        if wakes_at <= first:
            lane.wakes_at = None
            lane.send(None)
