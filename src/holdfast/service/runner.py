"""Runs plans: one at a time, or many in lockstep with what they ask of the store merged."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from typing import Any, TypeVar

from holdfast.service.requests import Ask, Commit, Load, Plan, Sleep, World
from holdfast.stores.contract import MAX_BATCH, Store

T = TypeVar("T")


class SyncWorld:
    """The real world, for callers that block."""

    clock = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    random = staticmethod(random.random)

    def __init__(self, store: Store) -> None:
        self.store = store

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
            except BaseException as error:
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
    ready = lanes
    for lane in lanes:
        lane.send(None)
    while ready := [lane for lane in ready if not lane.done]:
        for kind in (Load, Commit):
            for group in _groups([lane for lane in ready if type(lane.ask) is kind]):
                _perform_merged(group, world)
        for lane in ready:
            if not lane.done and not isinstance(lane.ask, Load | Commit | Sleep):
                lane.perform(world)
        if all(isinstance(lane.ask, Sleep) for lane in ready if not lane.done):
            _sleep_until_the_first_wakes(ready, world)
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

    def _end(self, result: Any) -> None:
        self.done = True
        self.ask = None
        self.result = result


def _groups(lanes: list[_Lane]) -> list[list[_Lane]]:
    """Split lanes into groups whose requests fit one call of the store.

    What cannot be shared, an atomic commit or one with a checkpoint, makes a group of its own.
    """
    groups: list[list[_Lane]] = []
    size = MAX_BATCH
    for lane in lanes:
        ask = lane.ask
        wants = len(ask.keys) if isinstance(ask, Load) else len(ask.writes)  # type: ignore[union-attr]
        alone = isinstance(ask, Commit) and (ask.atomic or ask.checkpoint is not None)
        if alone or size + wants > MAX_BATCH:
            groups.append([])
            size = MAX_BATCH if alone else 0
        groups[-1].append(lane)
        size += wants
    return groups


def _perform_merged(lanes: list[_Lane], world: World) -> None:
    asks = [lane.ask for lane in lanes]
    merged: Ask
    if len(lanes) == 1:
        lanes[0].perform(world)
        return
    if isinstance(asks[0], Load):
        sizes = [len(ask.keys) for ask in asks]  # type: ignore[union-attr]
        merged = Load([key for ask in asks for key in ask.keys])  # type: ignore[union-attr]
    else:
        sizes = [len(ask.writes) for ask in asks]  # type: ignore[union-attr]
        timeouts = [ask.timeout_seconds for ask in asks]  # type: ignore[union-attr]
        merged = Commit(
            [write for ask in asks for write in ask.writes],  # type: ignore[union-attr]
            timeout_seconds=min((t for t in timeouts if t is not None), default=None),
        )
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
    asleep = [lane for lane in lanes if isinstance(lane.ask, Sleep)]
    if not asleep:
        return
    now = world.clock()
    for lane in asleep:
        if lane.wakes_at is None:
            lane.wakes_at = now + lane.ask.seconds  # type: ignore[union-attr]
    wakes_at = min(lane.wakes_at for lane in asleep if lane.wakes_at is not None)
    world.sleep(max(0.0, wakes_at - now))
    for lane in asleep:
        if lane.wakes_at is not None and lane.wakes_at <= wakes_at:
            lane.wakes_at = None
            lane.send(None)
