"""Runs many plans as one: in lockstep, with what they ask of the store merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from typing import Any, TypeVar

from holdfast.errors import StoreError
from holdfast.service.commit import each_alone
from holdfast.service.requests import Ask, Clock, Commit, Decide, Gather, Load, Plan, Read, Sleep
from holdfast.stores.contract import MAX_BATCH, WriteRefusedError
from holdfast.stores.outcomes import copied

T = TypeVar("T")

_CLOCK_STEP_SECONDS = 1e-6  # sums of floats may miss the moment by a little


def together(plans: Sequence[Plan[T]]) -> Plan[list[T | Exception]]:
    """Run plans in lockstep: their loads are merged into one, and so are their commits.

    Answers with what each returned or raised, in order. A plan that sleeps keeps only itself
    waiting.
    """
    lockstep = Lockstep()
    lanes = [lockstep.add(plan) for plan in plans]
    try:
        while lockstep.lanes:
            yield from lockstep.round()
            if lockstep.lanes and lockstep.wakes_at is not None:
                now: float = yield Clock()
                yield Sleep(max(0.0, lockstep.wakes_at - now))
    finally:
        lockstep.close()
    return [lane.result for lane in lanes]


class Lockstep:
    """Plans on their way together; more may be added between two rounds."""

    def __init__(self, catches: type[BaseException] = Exception) -> None:
        self.lanes: list[Lane] = []
        self._catches = catches

    def add(self, plan: Plan[Any], within: Context | None = None) -> Lane:
        """Take a plan in, with the context variables it sees; return the lane it goes in."""
        lane = Lane(plan, self._catches, within)
        lane.send(None)
        self.lanes.append(lane)
        return lane

    def round(self) -> Plan[list[Lane]]:
        """Answer what every lane that is awake asks for; return the lanes that came to an end."""
        if len(self.lanes) == 1 and not isinstance(self.lanes[0].ask, Sleep | Decide):
            yield from _go_alone(self.lanes[0])
        else:
            yield from self._go_together()
        ended = [lane for lane in self.lanes if lane.done]
        if ended:
            self.lanes = [lane for lane in self.lanes if not lane.done]
        return ended

    def _go_together(self) -> Plan[None]:
        yield from _wake([lane for lane in self.lanes if isinstance(lane.ask, Sleep)])
        for lane in self.lanes:
            while lane.ask is not None and not lane.waits_for_others:
                yield from _share([lane], [None], lane.ask)
        yield from _commit([lane for lane in self.lanes if lane.is_patient])
        yield from _each([lane for lane in self.lanes if isinstance(lane.ask, Read)])
        yield from _load([lane for lane in self.lanes if isinstance(lane.ask, Load)])
        first = [lane for lane in self.lanes if lane.commits and not lane.is_patient]
        yield from _commit_first(first)
        if not first:  # else those are told first: what the others do may take longer
            yield from _commit([lane for lane in self.lanes if lane.is_patient])
        yield from _decide([lane for lane in self.lanes if isinstance(lane.ask, Decide)])

    def close(self) -> None:
        """End the plans that are under way.

        An error that a plan holds on to may lead back to its lane; the collector of such cycles
        would end their parts in any order.
        """
        for lane in self.lanes:
            lane.plan.close()
        self.lanes = []

    @property
    def wakes_at(self) -> float | None:
        """When the first lane wakes, in monotonic seconds; None while one is awake."""
        first: float | None = None
        for lane in self.lanes:
            if lane.wakes_at is None:
                return None
            first = lane.wakes_at if first is None else min(first, lane.wakes_at)
        return first


class Lane:
    """A plan on its way: what it asks for, then what it came to.

    What is raised is its result where it is one of `catches`; else it goes on to the runner.
    """

    def __init__(
        self, plan: Plan[Any], catches: type[BaseException], within: Context | None
    ) -> None:
        self.plan = plan
        self.catches = catches
        self._within = within
        self.ask: Ask | None = None
        self.wakes_at: float | None = None
        self.may_have_written = False
        """Whether a commit was asked for it."""
        self.done = False
        self.result: Any = None

    def send(self, answer: Any) -> None:
        """Send the plan what it asked for."""
        self.wakes_at = None
        self._step(self.plan.send, answer)

    def throw(self, raised: BaseException) -> None:
        """Raise an error where the plan asked."""
        self._step(self.plan.throw, raised)

    def _step(self, step: Callable[[Any], Ask], value: Any) -> None:
        try:
            self.ask = step(value) if self._within is None else self._within.run(step, value)
        except StopIteration as stop:
            self._end(stop.value)
        except self.catches as error:
            self._end(error)

    @property
    def commits(self) -> bool:
        """Whether it asks for a commit."""
        return isinstance(self.ask, Commit)

    @property
    def is_patient(self) -> bool:
        """Whether it commits with whomever, and waits for as long as the store does."""
        ask = self.ask
        return isinstance(ask, Commit) and not ask.is_whole and ask.timeout_seconds is None

    @property
    def waits_for_others(self) -> bool:
        """Whether what it asks for is better asked together with others, or in turn."""
        return isinstance(self.ask, Commit | Decide | Load | Read | Sleep)

    def _end(self, result: Any) -> None:
        self.done = True
        self.ask = None
        self.result = result


def _go_alone(lane: Lane) -> Plan[None]:
    """Answer a lane that has nobody to share with, up to where others may join it.

    That is once it has read or written, and before it loads again.
    """
    asked, loaded = lane.ask, False
    while asked is not None and not isinstance(asked, Sleep | Decide):
        if loaded and isinstance(asked, Load | Read):
            break
        yield from _share([lane], [None], asked)
        if isinstance(asked, Commit | Read):
            break
        loaded = loaded or isinstance(asked, Load)
        asked = lane.ask


def _wake(lanes: list[Lane]) -> Plan[None]:
    """Note when lanes that have just gone to sleep wake, and wake those whose time has come."""
    if not lanes:
        return
    now: float = yield Clock()
    for lane in lanes:
        assert isinstance(lane.ask, Sleep)
        if lane.wakes_at is None:
            lane.wakes_at = now + lane.ask.seconds
        if lane.wakes_at <= now + _CLOCK_STEP_SECONDS:
            lane.send(None)


def _decide(lanes: list[Lane]) -> Plan[None]:
    """Answer the lanes that await handlers; their handlers do not wait for each other."""
    asks = [lane.ask for lane in lanes if isinstance(lane.ask, Decide)]
    if not asks:
        return
    for lane, answer in zip(lanes, (yield Gather(asks)), strict=True):
        if isinstance(answer, Exception):
            lane.throw(answer)
        else:
            lane.send(answer)


def _each(lanes: list[Lane]) -> Plan[None]:
    """Answer each lane once, by itself: one that reads many pages waits its turn."""
    for lane in lanes:
        assert lane.ask is not None
        yield from _share([lane], [None], lane.ask)


def _load(lanes: list[Lane]) -> Plan[None]:
    """Answer the lanes that load with as few loads as may be."""
    asks = [lane.ask for lane in lanes if isinstance(lane.ask, Load)]
    for part in _cut([ask.keys for ask in asks]):
        merged = Load([key for ask in asks[part] for key in ask.keys])
        yield from _share(lanes[part], [len(ask.keys) for ask in asks[part]], merged)


def _commit_first(lanes: list[Lane]) -> Plan[None]:
    """Answer the lanes that commit for themselves, then those that wait equally long together."""
    equals: dict[float, list[Lane]] = {}
    for lane in lanes:
        assert isinstance(lane.ask, Commit)
        if lane.ask.is_whole or lane.ask.timeout_seconds is None:
            yield from _share([lane], [None], lane.ask)
        else:
            equals.setdefault(lane.ask.timeout_seconds, []).append(lane)
    for _, equal in sorted(equals.items()):
        yield from _commit(equal)


def _commit(lanes: list[Lane]) -> Plan[None]:
    """Answer the lanes that commit, and wait equally long, with as few commits as may be."""
    asks = [lane.ask for lane in lanes if isinstance(lane.ask, Commit)]
    for part in _cut([ask.entities for ask in asks], distinct=True):
        writes = [write for ask in asks[part] for write in ask.writes]
        merged = Commit(writes, timeout_seconds=asks[0].timeout_seconds)
        yield from _share(lanes[part], [len(ask.writes) for ask in asks[part]], merged)


def _cut(wanted: Sequence[Sequence[object]], *, distinct: bool = False) -> Iterator[slice]:
    """Split requests into runs that fit one call of the store, each thing once where distinct."""
    start = total = 0
    seen: set[object] = set()
    for place, things in enumerate(wanted):
        full = total + len(things) > MAX_BATCH or (distinct and not seen.isdisjoint(things))
        if full and place > start:
            yield slice(start, place)
            start, total = place, 0
            seen.clear()
        total += len(things)
        if distinct:
            seen.update(things)
    if start < len(wanted):
        yield slice(start, len(wanted))


def _share(lanes: list[Lane], sizes: Sequence[int | None], asked: Ask) -> Plan[None]:
    """Ask once and give each lane its part of the answer, all of it where it has no size."""
    if isinstance(asked, Commit):
        for lane in lanes:
            lane.may_have_written = True
    try:
        answer = yield asked
    except lanes[0].catches as error:
        if len(lanes) > 1 and isinstance(error, WriteRefusedError):
            yield from _one_by_one(lanes)
        else:
            for lane in lanes:
                lane.throw(copied(error) if len(lanes) > 1 else error)
        return
    start = 0
    for lane, size in zip(lanes, sizes, strict=True):
        if size is None:
            lane.send(answer)
        else:
            lane.send(answer[start : start + size])
            start += size


def _one_by_one(lanes: list[Lane]) -> Plan[None]:
    """Ask for each lane alone, so that what was refused fails alone."""
    asks = [lane.ask for lane in lanes if lane.ask is not None]
    for lane, answer in zip(lanes, (yield from each_alone(asks, _asked)), strict=True):
        if isinstance(answer, StoreError):
            lane.throw(answer)
        else:
            lane.send(answer)


def _asked(ask: Ask) -> Plan[Any]:
    return (yield ask)
