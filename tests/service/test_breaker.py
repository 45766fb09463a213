"""The circuit breaker: closed, open, half-open with one probe; shared by services and threads."""

from __future__ import annotations

import gc
import threading
import weakref
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
    handle_in,
    order,
)

from holdfast import (
    CircuitBreaker,
    CircuitOpenError,
    CommandRejectedError,
    DefinitionError,
    InvalidTransitionError,
    RetriesExhaustedError,
    Retry,
    Service,
    StoreError,
    VersionConflictError,
    transact,
)
from holdfast.stores.contract import Store

CONFLICT = VersionConflictError("order", "o-1", 1, 2)


def opened(*, threshold: int = 3, cooldown_seconds: float = 10.0) -> CircuitBreaker:
    """Return a breaker that opened at 100 seconds."""
    breaker = CircuitBreaker(threshold=threshold, cooldown_seconds=cooldown_seconds)
    for _ in range(threshold):
        assert breaker.admit(100.0) == 0
        breaker.failed(CONFLICT, 100.0)
    assert state_of(breaker) == "open"
    return breaker


def state_of(breaker: CircuitBreaker) -> str:
    """Return the state, which changes under a type checker's eyes."""
    return breaker.state


@pytest.mark.parametrize(
    "limits",
    [
        {"threshold": 0},
        {"threshold": -1},
        {"cooldown_seconds": 0},
        {"cooldown_seconds": -1},
        {"cooldown_seconds": float("nan")},
    ],
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any]) -> None:
    """A breaker that is always open, or never, is a mistake in the program."""
    with pytest.raises(DefinitionError, match="CircuitBreaker takes"):
        CircuitBreaker(**limits)


def test_a_new_breaker_is_closed() -> None:
    """It lets every attempt through, and has seen no conflict."""
    breaker = CircuitBreaker()
    assert state_of(breaker) == "closed"
    assert breaker.last_conflict is None
    assert [breaker.admit(float(now)) for now in range(100)] == [0.0] * 100


def test_conflicts_in_a_row_open_it() -> None:
    """The threshold's conflict does, none before it."""
    breaker = CircuitBreaker(threshold=3)
    for number in range(3):
        assert state_of(breaker) == "closed"
        breaker.failed(CONFLICT, float(number))
    assert state_of(breaker) == "open"
    last = breaker.last_conflict
    assert last is not None
    assert (last.id, last.expected, last.actual) == ("o-1", 1, 2)


def test_its_last_conflict_keeps_nothing_of_the_call_that_met_it(store: Store, desk: Desk) -> None:
    """Not the frames of its traceback, nor what they hold."""
    breaker = CircuitBreaker()
    retry = Retry(attempts=2, initial_seconds=0.001, breaker=breaker)
    orders = Service(order, store, deps=desk, retry=retry)
    orders.handle("o-1", Place(total=1))
    held: list[weakref.ref[object]] = []

    def work(transaction: Any) -> None:
        held.append(weakref.ref(transaction))
        transaction.prepare("o-1", Note(text="mine"))
        Service(order, store, deps=desk).handle("o-1", Note(text="theirs"))

    with pytest.raises(RetriesExhaustedError):
        transact(orders, work)
    gc.collect()
    assert breaker.last_conflict is not None
    assert breaker.last_conflict.actual == 3
    assert [each() for each in held] == [None, None]


def test_a_success_begins_the_count_anew() -> None:
    """Only conflicts with no success in between count."""
    breaker = CircuitBreaker(threshold=3)
    for _ in range(5):
        breaker.failed(CONFLICT, 0.0)
        breaker.failed(CONFLICT, 0.0)
        breaker.succeeded()
    assert state_of(breaker) == "closed"


def test_a_refusal_neither_opens_nor_closes() -> None:
    """An attempt that ended with neither a write nor a conflict does not count."""
    breaker = CircuitBreaker(threshold=2)
    breaker.failed(CONFLICT, 0.0)
    breaker.admit(0.0)
    breaker.released(0.0)
    breaker.failed(CONFLICT, 0.0)
    assert state_of(breaker) == "open"


def test_open_it_tells_how_long_to_wait() -> None:
    """Nothing passes before the cooldown is over."""
    breaker = opened()
    assert breaker.admit(100.0) == 10.0
    assert breaker.admit(104.0) == 6.0
    assert breaker.admit(109.5) == 0.5
    assert state_of(breaker) == "open"


def test_after_the_cooldown_one_probe_passes() -> None:
    """Half-open, everyone else goes on waiting."""
    breaker = opened()
    assert breaker.admit(110.0) == 0
    assert state_of(breaker) == "half-open"
    assert breaker.admit(110.0) == 10.0
    assert breaker.admit(112.0) == 8.0


def test_a_probe_that_writes_closes_it() -> None:
    """Everything passes again, and the count begins anew."""
    breaker = opened()
    breaker.admit(110.0)
    breaker.succeeded()
    assert state_of(breaker) == "closed"
    assert [breaker.admit(110.0) for _ in range(5)] == [0.0] * 5
    breaker.failed(CONFLICT, 111.0)
    assert state_of(breaker) == "closed"


def test_a_probe_that_conflicts_opens_it_again() -> None:
    """For a whole cooldown, from then on."""
    breaker = opened()
    breaker.admit(110.0)
    breaker.failed(CONFLICT, 111.0)
    assert state_of(breaker) == "open"
    assert breaker.admit(112.0) == 9.0
    assert breaker.admit(121.0) == 0


def test_a_probe_that_was_refused_leaves_its_place_to_the_next() -> None:
    """It told nothing about conflicts, so the next call is the probe."""
    breaker = opened()
    breaker.admit(110.0)
    breaker.released(110.0)
    assert state_of(breaker) == "open"
    assert breaker.admit(110.5) == 0
    assert breaker.admit(110.5) > 0


def test_a_dead_probe_is_replaced_after_a_cooldown() -> None:
    """A probe whose thread died does not keep the breaker half-open for ever."""
    breaker = opened()
    breaker.admit(110.0)
    assert breaker.admit(119.9) > 0
    assert breaker.admit(120.0) == 0
    assert breaker.admit(120.0) == 10.0


def test_a_straggler_does_not_free_the_probes_place() -> None:
    """An attempt from before, which ends while a probe is out, does not let a second probe pass."""
    breaker = CircuitBreaker(threshold=1, cooldown_seconds=10.0)
    assert breaker.admit(99.0) == 0  # the straggler
    breaker.failed(CONFLICT, 100.0)
    assert breaker.admit(110.0) == 0  # the probe

    breaker.released(99.0)

    assert state_of(breaker) == "half-open"
    assert breaker.admit(111.0) == 9.0


def test_exactly_one_of_many_threads_is_the_probe() -> None:
    """They ask at the same moment, again and again."""
    breaker = opened(threshold=1)
    for cycle in range(50):
        now = 110.0 + 20 * cycle
        assert admitted_at_once(breaker, now, threads=8) == 1
        breaker.failed(CONFLICT, now)


def admitted_at_once(breaker: CircuitBreaker, now: float, *, threads: int) -> int:
    """Return how many of the threads that ask at once are let through."""
    barrier = threading.Barrier(threads)
    admitted: list[float] = []

    def ask() -> None:
        barrier.wait()
        if breaker.admit(now) == 0:
            admitted.append(now)

    workers = [threading.Thread(target=ask) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(admitted)


# In a service


@pytest.fixture
def counting(store: Store) -> CountingStore:
    """Return the store with its calls counted."""
    return CountingStore(store)


@pytest.fixture
def world(counting: CountingStore) -> FakeWorld:
    """Return a world in which nobody waits."""
    return FakeWorld(counting)


def disturbed(
    store: Store, desk: Desk, breaker: CircuitBreaker, times: int, *, attempts: int = 1
) -> Orders:
    """Return a service with an order that somebody else changes during the next decisions."""
    other = Service(order, store, deps=Desk())
    other.handle("o-1", Place(total=5))
    desk.interrupts += [lambda: other.handle("o-1", Note(text="other"))] * times
    return Service(order, store, deps=desk, retry=Retry(attempts=attempts, breaker=breaker))


def conflict(world: FakeWorld, orders: Orders, times: int) -> None:
    """Meet as many conflicts."""
    for _ in range(times):
        with pytest.raises(RetriesExhaustedError):
            handle_in(world, orders, "o-1", Note(text="mine"))


def test_an_open_breaker_keeps_calls_from_being_tried(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """The store is not asked; the error names the entity, the last conflict and the wait."""
    breaker = CircuitBreaker(threshold=2, cooldown_seconds=5)
    orders = disturbed(counting, desk, breaker, 2)
    conflict(world, orders, 2)
    counting.loads.clear()

    with pytest.raises(CircuitOpenError) as caught:
        handle_in(world, orders, "o-2", Place(total=1))

    error = caught.value
    assert (error.machine, error.id, error.retry_in_seconds) == ("order", "o-2", 5.0)
    assert (error.conflict.id, error.conflict.expected, error.conflict.actual) == ("o-1", 2, 3)
    assert counting.loads == []
    assert len(desk.seen) == 2


def test_retries_count_as_attempts(counting: CountingStore, world: FakeWorld, desk: Desk) -> None:
    """A call whose own conflicts open the breaker is not tried again either."""
    breaker = CircuitBreaker(threshold=3, cooldown_seconds=5)
    orders = disturbed(counting, desk, breaker, 9, attempts=9)

    with pytest.raises(CircuitOpenError):
        handle_in(world, orders, "o-1", Note(text="mine"))

    assert len(desk.seen) == 3


def test_a_probe_that_writes_closes_the_breaker(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """After the cooldown the next call is tried."""
    breaker = CircuitBreaker(threshold=2, cooldown_seconds=5)
    orders = disturbed(counting, desk, breaker, 2)
    conflict(world, orders, 2)
    world.now += 5

    assert handle_in(world, orders, "o-1", Note(text="mine")).version == 4
    assert state_of(breaker) == "closed"


def test_only_one_call_at_a_time_probes(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """A call made while the probe decides is not tried."""
    breaker = CircuitBreaker(threshold=1, cooldown_seconds=5)
    orders = disturbed(counting, desk, breaker, 1)
    conflict(world, orders, 1)
    world.now += 5
    met: list[BaseException] = []

    def call_meanwhile() -> None:
        with pytest.raises(CircuitOpenError) as caught:
            handle_in(world, orders, "o-2", Place(total=1))
        met.append(caught.value)

    desk.interrupts.append(call_meanwhile)
    handle_in(world, orders, "o-1", Note(text="mine"))
    assert len(met) == 1


@pytest.mark.parametrize(
    ("command", "error"),
    [(Refuse(reason="no"), CommandRejectedError), (Place(total=1), InvalidTransitionError)],
)
def test_a_probe_that_is_refused_makes_the_next_call_the_probe(
    counting: CountingStore, world: FakeWorld, desk: Desk, command: Any, error: type[Exception]
) -> None:
    """Refusals say nothing about conflicts."""
    breaker = CircuitBreaker(threshold=1, cooldown_seconds=5)
    orders = disturbed(counting, desk, breaker, 1)
    conflict(world, orders, 1)
    world.now += 5

    with pytest.raises(error):
        handle_in(world, orders, "o-1", command)
    assert state_of(breaker) == "open"
    assert handle_in(world, orders, "o-1", Note(text="mine")).version == 3
    assert state_of(breaker) == "closed"


@pytest.mark.parametrize("error", [StoreError("disk full"), KeyboardInterrupt()])
def test_a_probe_that_fails_otherwise_makes_the_next_call_the_probe(
    counting: CountingStore, world: FakeWorld, desk: Desk, error: BaseException
) -> None:
    """Whatever ended it, its place is free again."""
    breaker = CircuitBreaker(threshold=1, cooldown_seconds=5)
    orders = disturbed(counting, desk, breaker, 1)
    conflict(world, orders, 1)
    world.now += 5

    def fail() -> None:
        raise error

    counting.before_commit.append(fail)
    with pytest.raises(type(error)):
        handle_in(world, orders, "o-1", Note(text="mine"))
    assert handle_in(world, orders, "o-1", Note(text="mine")).version == 3


def test_a_slow_call_from_before_does_not_let_a_second_probe_pass(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """It ends, refused, while the probe is still deciding."""
    breaker = CircuitBreaker(threshold=1, cooldown_seconds=5)
    orders = disturbed(counting, desk, breaker, 0)
    seen: list[str] = []

    def the_probe_decides() -> None:
        seen.append(breaker.state)

    def much_happens() -> None:
        breaker.failed(CONFLICT, world.now)
        world.now += 5
        assert breaker.admit(world.now) == 0  # a probe elsewhere

    desk.interrupts += [much_happens, the_probe_decides]
    with pytest.raises(CommandRejectedError):
        handle_in(world, orders, "o-1", Refuse(reason="no"))

    assert state_of(breaker) == "half-open"
    with pytest.raises(CircuitOpenError):
        handle_in(world, orders, "o-1", Note(text="mine"))


def test_services_share_a_breaker(counting: CountingStore, world: FakeWorld, desk: Desk) -> None:
    """Conflicts of one open it for the other; without it a service goes on."""
    breaker = CircuitBreaker(threshold=2, cooldown_seconds=5)
    orders = disturbed(counting, desk, breaker, 2)
    sharing = Service(order, counting, deps=Desk(), retry=Retry(breaker=breaker))
    without = Service(order, counting, deps=Desk())
    conflict(world, orders, 2)

    with pytest.raises(CircuitOpenError):
        handle_in(world, sharing, "o-9", Place(total=1))
    assert handle_in(world, without, "o-9", Place(total=1)).state == Pending(total=1)


def test_an_open_breaker_answers_each_request_of_a_batch(store: Store, desk: Desk) -> None:
    """Every one of them is told that it was not tried."""
    breaker = opened(threshold=1, cooldown_seconds=1e9)
    orders = Service(order, store, deps=desk, retry=Retry(breaker=breaker))
    answers = orders.handle_many([("a", Place(total=1)), ("b", Place(total=1))])
    assert [type(answer) for answer in answers] == [CircuitOpenError, CircuitOpenError]
    assert desk.seen == []


def test_questions_pass_an_open_breaker(store: Store, desk: Desk) -> None:
    """It guards writes; reads meet no conflicts."""
    breaker = opened(threshold=1, cooldown_seconds=1e9)
    orders = Service(order, store, deps=desk, retry=Retry(breaker=breaker))
    assert orders.preview("a", Place(total=1)).version == 1
    assert orders.history("a") == []
    assert list(orders.find()) == []
