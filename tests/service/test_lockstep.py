"""Many plans at once: what they ask is merged, and what they come to is their own."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from functools import partial
from itertools import accumulate
from typing import Any

import pytest
from tests.service.orders import (
    CountingStore,
    Desk,
    FakeWorld,
    Note,
    Orders,
    Pending,
    Place,
    Refuse,
    handle_plan,
    order,
)

from holdfast import (
    CommandRejectedError,
    OutcomeUnknownError,
    Record,
    Request,
    Retry,
    Service,
    StoreError,
    open_store,
)
from holdfast.service.lockstep import Lane, Lockstep, together
from holdfast.service.requests import Ask, Begin, Clock, Commit, Load, Plan, Read, Sleep
from holdfast.service.runner import run
from holdfast.stores.contract import CommitUncertainError, Store, WriteRefusedError
from holdfast.testing.clock import ManualClock

BEGIN, LOAD, COMMIT, READ = Begin(1), Load([]), Commit([]), Read(lambda store: None)


@pytest.fixture
def counting(store: Store) -> CountingStore:
    """Return the store with its calls counted."""
    return CountingStore(store)


@pytest.fixture
def world(counting: CountingStore) -> FakeWorld:
    """Return a world in which nobody waits."""
    return FakeWorld(counting)


@pytest.fixture
def counted(counting: CountingStore, desk: Desk) -> Orders:
    """Return the order service on the store that counts."""
    return Service(order, counting, deps=desk, retry=Retry(jitter=False))


def at_once(world: FakeWorld, plans: Sequence[Plan[Any]]) -> list[Any]:
    """Run plans together, and return what each came to."""
    return run(together(plans), world)


def test_results_reach_their_own_caller(counted: Orders, world: FakeWorld) -> None:
    """Each plan's answer stands in its place."""
    plans = [handle_plan(counted, f"o-{n}", Place(total=n + 1)) for n in range(50)]
    answers = at_once(world, plans)
    assert [(a.id, a.state) for a in answers if isinstance(a, Record)] == [
        (f"o-{n}", Pending(total=n + 1)) for n in range(50)
    ]


def test_loads_and_commits_are_merged(
    counted: Orders, counting: CountingStore, world: FakeWorld
) -> None:
    """Fifty calls cost one load and one commit."""
    at_once(world, [handle_plan(counted, f"o-{n}", Place(total=1)) for n in range(50)])
    assert (counting.loads, counting.commits) == ([50], [50])


def test_what_is_too_much_for_one_call_of_the_store_is_cut(
    counted: Orders, counting: CountingStore, world: FakeWorld
) -> None:
    """No load and no commit takes more than a thousand entities."""
    at_once(world, [handle_plan(counted, f"o-{n}", Place(total=1)) for n in range(2_300)])
    assert (counting.loads, counting.commits) == ([1_000, 1_000, 300], [1_000, 1_000, 300])


def test_two_plans_for_one_entity_do_not_share_a_commit(counted: Orders, world: FakeWorld) -> None:
    """The second meets a conflict and decides again; both are applied, in order."""
    at_once(world, [handle_plan(counted, "o-1", Place(total=1))])
    plans = [handle_plan(counted, "o-1", Note(text=text)) for text in "abc"]

    answers = at_once(world, plans)

    assert [a.version for a in answers if isinstance(a, Record)] == [2, 3, 4]
    assert counted.get("o-1").state == Pending(total=1, notes=["a", "b", "c"])


def test_plans_end_with_what_runs_them_together() -> None:
    """At once, and not when they are collected."""
    ended: list[str] = []

    def plan(name: str) -> Plan[None]:
        try:
            yield Sleep(1)
        finally:
            ended.append(name)

    plans = [plan("a"), plan("b")]
    running = together(plans)
    next(running)
    running.close()
    assert ended == ["a", "b"]


def test_plans_that_wait_equally_long_share_a_commit(
    counted: Orders, counting: CountingStore, world: FakeWorld
) -> None:
    """Those with a timeout come first: a short one makes no other impatient, and waits for none."""

    def fail() -> None:
        raise StoreError("it took too long")

    counting.before_commit += [fail, fail]
    timeouts = (None, 0.2, 0.1, 0.2, None, 0.3)
    plans = [
        handle_plan(counted, f"o-{n}", Place(total=1), timeout=timeout)
        for n, timeout in enumerate(timeouts)
    ]
    answers = at_once(world, plans)
    refused = [n for n, answer in enumerate(answers) if isinstance(answer, StoreError)]
    assert refused == [1, 2, 3]
    assert counting.commits == [1, 2, 1, 2]


def test_what_has_a_timeout_is_told_before_others_commit(counted: Orders, world: FakeWorld) -> None:
    """Who waits for long comes next, whatever arrives meanwhile."""
    lockstep = Lockstep()

    def add(id: str, timeout: float | None) -> Lane:
        return lockstep.add(handle_plan(counted, id, Place(total=1), timeout=timeout))

    hasty, patient = add("a", 0.1), add("b", None)
    assert run(lockstep.round(), world) == [hasty]
    late = add("c", 0.1)
    assert run(lockstep.round(), world) == [patient, late]


def test_a_plan_that_reads_many_pages_does_not_hold_the_others_up(world: FakeWorld) -> None:
    """It reads one a round."""
    read: list[str] = []

    def reads(name: str, pages: int) -> Plan[str]:
        for _ in range(pages):
            yield Read(lambda store: read.append(name))
        return name

    lockstep = Lockstep()
    lanes = [lockstep.add(reads("long", 3)), lockstep.add(reads("short", 1))]
    assert run(lockstep.round(), world) == lanes[1:]
    assert run(lockstep.round(), world) == []
    assert run(lockstep.round(), world) == lanes[:1]
    assert read == ["long", "short", "long", "long"]


@pytest.mark.parametrize(
    ("asks", "rounds"),
    [
        ([LOAD] * 4, [1, 1, 1, 1]),
        ([READ] * 3, [1, 1, 1]),
        ([COMMIT] * 3, [1, 1, 1]),
        ([BEGIN, LOAD, COMMIT, BEGIN, LOAD, COMMIT], [3, 3]),
        ([BEGIN, LOAD, BEGIN, LOAD], [3, 1]),
    ],
)
def test_others_may_join_between_two_loads_of_a_lone_plan(
    world: FakeWorld, asks: Sequence[Ask], rounds: Sequence[int]
) -> None:
    """A round answers one load and one commit, or one read."""
    answered = 0

    def plan() -> Plan[None]:
        nonlocal answered
        for ask in asks:
            yield ask
            answered += 1

    lockstep = Lockstep()
    lockstep.add(plan())
    counts = []
    while lockstep.lanes:
        run(lockstep.round(), world)
        counts.append(answered)
    assert counts == list(accumulate(rounds))


def test_a_plan_sees_its_context_variables_after_an_error_too() -> None:
    """Whether it is sent an answer or an error is raised in it."""
    user: ContextVar[str] = ContextVar("user", default="nobody")

    def fails(store: Store) -> None:
        raise StoreError("gone")

    def plan() -> Plan[list[str]]:
        seen = [user.get()]
        with pytest.raises(StoreError):
            yield Read(fails)
        seen.append(user.get())
        yield Clock()
        return [*seen, user.get()]

    def own_context() -> Context:
        user.set("somebody")
        return copy_context()

    lockstep = Lockstep()
    lane = lockstep.add(plan(), copy_context().run(own_context))
    with open_store("memory://") as store:
        while lockstep.lanes:
            run(lockstep.round(), FakeWorld(store))
    assert lane.result == ["somebody"] * 3


def test_a_plan_that_fails_fails_alone(counted: Orders, world: FakeWorld) -> None:
    """Its error is its answer."""

    def broken() -> Plan[int]:
        yield Clock()
        raise ZeroDivisionError("mine")

    plans: list[Plan[Any]] = [
        handle_plan(counted, "o-1", Place(total=1)),
        broken(),
        handle_plan(counted, "o-2", Refuse(reason="no")),
        handle_plan(counted, "o-3", Place(total=1)),
    ]
    first, second, third, fourth = at_once(world, plans)

    assert isinstance(first, Record)
    assert isinstance(second, ZeroDivisionError)
    assert isinstance(third, CommandRejectedError)
    assert isinstance(fourth, Record)


def test_a_request_that_fails_is_the_failure_of_its_plan_alone(world: FakeWorld) -> None:
    """What one plan asks for and cannot have, the others do not hear of."""

    def asks(number: int) -> Plan[int]:
        def query(store: Store) -> int:
            return 1 // number

        answer: int = yield Read(query)
        return answer

    answers = at_once(world, [asks(1), asks(0), asks(1)])
    assert answers[0] == answers[2] == 1
    assert isinstance(answers[1], ZeroDivisionError)


def test_a_write_that_the_store_refuses_fails_alone(
    counted: Orders, counting: CountingStore, world: FakeWorld
) -> None:
    """A merged commit that fails is tried one by one, so that one bad write spoils no other."""

    def refuse_big(writes: int) -> None:
        if any(len(row.state or "") > 100 for row in pending):
            raise WriteRefusedError("too big")

    pending: list[Any] = []
    commit = counting.store.commit

    def watched(writes: Any, **options: Any) -> Any:
        pending[:] = [write.entity for write in writes]
        refuse_big(len(writes))
        return commit(writes, **options)

    counting.store.commit = watched  # type: ignore[method-assign]
    texts = ["a", "x" * 200, "x" * 300, "x" * 400, "b"]
    ids = [f"o-{n}" for n in range(len(texts))]
    at_once(world, [handle_plan(counted, id, Place(total=1)) for id in ids])
    answers = at_once(
        world,
        [handle_plan(counted, id, Note(text=text)) for id, text in zip(ids, texts, strict=True)],
    )

    assert [type(answer) for answer in answers[1:4]] == [WriteRefusedError] * 3
    assert [a.version for a in answers if isinstance(a, Record)] == [2, 2]
    assert counted.get("o-1").version == 1


def test_a_store_that_is_gone_is_not_asked_for_each_plan(
    counted: Orders, counting: CountingStore, world: FakeWorld
) -> None:
    """What the first attempt of all together meets, the rest would meet again."""

    def fail() -> None:
        raise StoreError("gone")

    counting.before_commit += [fail] * 50
    answers = at_once(world, [handle_plan(counted, f"o-{n}", Place(total=1)) for n in range(50)])

    assert all(isinstance(answer, StoreError) for answer in answers)
    assert len({id(answer) for answer in answers}) == 50, "each has an error of its own"
    assert counting.commits == [50]


def test_a_store_that_goes_while_plans_are_tried_alone_is_not_asked_for_the_rest(
    counted: Orders, counting: CountingStore, world: FakeWorld
) -> None:
    """Those that were left out are told so, and not that their own write was refused."""

    def fail(error: StoreError) -> None:
        raise error

    errors = [WriteRefusedError("one of them"), None, WriteRefusedError("this"), StoreError("gone")]
    counting.before_commit += [
        (lambda error=error: fail(error)) if error else (lambda: None)  # type: ignore[misc]
        for error in errors
    ]
    answers = at_once(world, [handle_plan(counted, f"o-{n}", Place(total=1)) for n in range(6)])

    assert counting.commits == [6, 1, 1, 1]
    assert isinstance(answers[0], Record)
    assert [str(answer) for answer in answers[1:3]] == ["this", "gone"]
    assert [type(answer) for answer in answers[3:]] == [StoreError] * 3
    assert {str(answer) for answer in answers[3:]} == {
        "nothing was written: the store failed at the write before this: gone"
    }


def sleeper(log: list[tuple[str, float]], name: str, *waits: float) -> Plan[str]:
    """Sleep some times, and note when each sleep ends."""
    for seconds in waits:
        yield Sleep(seconds)
        log.append((name, (yield Clock())))
    return name


def test_a_sleeping_plan_delays_only_itself(world: FakeWorld) -> None:
    """Plans wake in the order of their times, and nobody waits for another."""
    log: list[tuple[str, float]] = []
    answers = at_once(
        world,
        [
            sleeper(log, "slow", 10.0),
            sleeper(log, "quick", 1.0, 1.0, 1.0),
            sleeper(log, "never"),
            sleeper(log, "even", 1.0),
        ],
    )
    assert answers == ["slow", "quick", "never", "even"]
    assert [(name, round(at, 3)) for name, at in log] == [
        ("quick", 101.0),
        ("even", 101.0),
        ("quick", 102.0),
        ("quick", 103.0),
        ("slow", 110.0),
    ]
    assert round(sum(world.sleeps), 3) == 10.0


def test_a_plan_that_waits_after_a_conflict_does_not_hold_the_others_up(
    counted: Orders, counting: CountingStore, world: FakeWorld, desk: Desk, store: Store
) -> None:
    """Theirs are committed before anybody sleeps."""
    other = Service(order, store, deps=Desk())
    other.handle_many([("a", Place(total=1)), ("b", Place(total=1))])
    desk.interrupts.append(lambda: other.handle("a", Note(text="other")))
    seen: list[int] = []
    world.on_sleep.append(lambda: seen.append(other.get("b").version))

    at_once(world, [handle_plan(counted, id, Note(text="mine")) for id in "ab"])

    assert seen == [2]
    assert counted.get("a").version == 3


# Random schedules


class Faults(CountingStore):
    """A store that loses acknowledgements, and commits, by chance."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        super().__init__(store)
        self.chance = chance

    def commit(self, writes: Any, **options: Any) -> Any:
        if self.chance.random() < 0.1:
            raise CommitUncertainError("lost before it was stored")
        outcomes = self.store.commit(writes, **options)
        if self.chance.random() < 0.1:
            raise CommitUncertainError("lost after it was stored")
        return outcomes


def interleave(plans: list[Plan[Any]], world: FakeWorld, chance: random.Random) -> list[Any]:
    """Run plans one request at a time, in an order that chance decides; return their results."""
    results: list[Any] = [None] * len(plans)
    asks: dict[int, Ask] = {}

    def advance(number: int, step: Callable[[], Ask]) -> None:
        asks.pop(number, None)
        try:
            asks[number] = step()
        except StopIteration as stop:
            results[number] = stop.value
        except Exception as error:  # noqa: BLE001 (it is this plan's result)
            results[number] = error

    for number, plan in enumerate(plans):
        advance(number, partial(plan.send, None))
    while asks:
        number = chance.choice(list(asks))
        try:
            answer = asks[number].perform(world)
        except Exception as error:  # noqa: BLE001 (raised inside the plan)
            advance(number, partial(plans[number].throw, error))
        else:
            advance(number, partial(plans[number].send, answer))
    return results


@pytest.mark.parametrize("seed", range(60))
def test_random_schedules_apply_every_acknowledged_command_exactly_once(seed: int) -> None:
    """Whatever the interleaving and whatever the store loses, versions have no gap."""
    chance = random.Random(seed)
    with open_store("memory://", clock=ManualClock()) as store:
        orders = Service(order, Faults(store, chance), deps=Desk(), retry=Retry(attempts=30))
        calm = Service(order, store, deps=Desk())
        ids = ["a", "b", "c"]
        calm.handle_many([(id, Place(total=1)) for id in ids])
        world = FakeWorld(orders.store)
        sent = [(chance.choice(ids), f"note {number}") for number in range(30)]
        sent += sent[:5]  # repeated requests, under the keys of the first
        plans = [handle_plan(orders, id, Note(text=text), key=text) for id, text in sent]

        results = interleave(plans, world, chance)

        assert all(isinstance(r, Record | OutcomeUnknownError) for r in results)
        noted = {id: notes_in_log(calm, id) for id in ids}
        for (id, text), result in zip(sent, results, strict=True):
            if isinstance(result, Record):
                assert noted[id].count(text) == 1
                assert isinstance(result.state, Pending)
                assert result.state.notes[-1] == text
        for id in ids:
            assert [t.version for t in calm.history(id)] == list(range(1, len(noted[id]) + 2))
            assert len(set(noted[id])) == len(noted[id])
            state = calm.get(id).state
            assert isinstance(state, Pending)
            assert state.notes == noted[id]


def notes_in_log(orders: Orders, id: str) -> list[str]:
    """Return what was noted about an order, as the log tells."""
    return [t.command.text for t in orders.history(id) if isinstance(t.command, Note)]


@pytest.mark.parametrize("seed", range(20))
def test_random_schedules_of_batches_keep_every_batch_whole(seed: int) -> None:
    """Atomic batches over shared entities: a mark is on all of its entities, or on none."""
    chance = random.Random(seed)
    with open_store("memory://", clock=ManualClock()) as store:
        orders = Service(order, Faults(store, chance), deps=Desk(), retry=Retry(attempts=30))
        calm = Service(order, store, deps=Desk())
        ids = ["a", "b", "c", "d"]
        calm.handle_many([(id, Place(total=1)) for id in ids])
        batches = [chance.sample(ids, 2) for _ in range(12)]
        plans = [
            orders.plans.handle_many(
                [Request(id, Note(text=f"mark {number}")) for id in batch],
                atomic=True,
                checkpoint=None,
                before_commit=None,
            )
            for number, batch in enumerate(batches)
        ]

        results = interleave(list(plans), FakeWorld(orders.store), chance)

        noted = {id: notes_in_log(calm, id) for id in ids}
        for number, (batch, result) in enumerate(zip(batches, results, strict=True)):
            marks = [noted[id].count(f"mark {number}") for id in batch]
            assert marks in ([0, 0], [1, 1])
            if not isinstance(result, Exception):
                assert marks == [1, 1]
