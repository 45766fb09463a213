"""Runs many plans as one: in lockstep, with what they ask of the store merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from holdfast.service.requests import Ask, Clock, Commit, Load, Plan, Sleep
from holdfast.stores.contract import MAX_BATCH

T = TypeVar("T")


def together(plans: Sequence[Plan[T]]) -> Plan[list[T | Exception]]:
    """Run plans in lockstep: their loads are merged into one, and so are their commits.

    Answers with what each returned or raised, in order. A plan that sleeps keeps only itself
    waiting.
    """
    lanes = [_Lane(plan) for plan in plans]
    for lane in lanes:
        lane.send(None)
    running = [lane for lane in lanes if not lane.done]
    while running:
        yield from _load([lane for lane in running if isinstance(lane.ask, Load)])
        yield from _commit([lane for lane in running if lane.shares_its_commit])
        for lane in running:
            if lane.ask is not None and not lane.waits_for_others:
                yield from _share([lane], [None], lane.ask)
        running = [lane for lane in running if not lane.done]
        if running and all(isinstance(lane.ask, Sleep) for lane in running):
            yield from _sleep_until_the_first_wakes(running)
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


def _load(lanes: list[_Lane]) -> Plan[None]:
    """Answer the lanes that load with as few loads as may be."""
    asks = [lane.ask for lane in lanes if isinstance(lane.ask, Load)]
    for part in _cut([len(ask.keys) for ask in asks]):
        merged = Load([key for ask in asks[part] for key in ask.keys])
        yield from _share(lanes[part], [len(ask.keys) for ask in asks[part]], merged)


def _commit(lanes: list[_Lane]) -> Plan[None]:
    """Answer the lanes that commit with as few commits as may be."""
    asks = [lane.ask for lane in lanes if isinstance(lane.ask, Commit)]
    for part in _cut([len(ask.writes) for ask in asks]):
        timeouts = [a.timeout_seconds for a in asks[part] if a.timeout_seconds is not None]
        writes = [write for ask in asks[part] for write in ask.writes]
        merged = Commit(writes, timeout_seconds=min(timeouts, default=None))
        yield from _share(lanes[part], [len(ask.writes) for ask in asks[part]], merged)


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


def _share(lanes: list[_Lane], sizes: Sequence[int | None], asked: Ask) -> Plan[None]:
    """Ask once and give each lane its part of the answer, all of it where it has no size.

    An error goes to all of them.
    """
    try:
        answer = yield asked
    except Exception as error:  # noqa: BLE001 (raised inside every plan that asked)
        for lane in lanes:
            lane.throw(error)
        return
    start = 0
    for lane, size in zip(lanes, sizes, strict=True):
        if size is None:
            lane.send(answer)
        else:
            lane.send(answer[start : start + size])
            start += size


def _sleep_until_the_first_wakes(lanes: list[_Lane]) -> Plan[None]:
    now: float = yield Clock()
    asleep: list[tuple[float, _Lane]] = []
    for lane in lanes:
        if isinstance(lane.ask, Sleep):
            if lane.wakes_at is None:
                lane.wakes_at = now + lane.ask.seconds
            asleep.append((lane.wakes_at, lane))
    first = min(wakes_at for wakes_at, _ in asleep)
    yield Sleep(max(0.0, first - now))
    for wakes_at, lane in asleep:
        if wakes_at <= first:
            lane.wakes_at = None
            lane.send(None)
