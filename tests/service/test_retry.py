"""Conflicts: how often, how long and how spread out a call tries again, and what it decides on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.service.orders import (
    CountingStore,
    Desk,
    FakeWorld,
    Note,
    Orders,
    Paid,
    Pay,
    Pending,
    Place,
    Refuse,
    Remove,
    Spoil,
    handle_in,
    order,
)

from holdfast import (
    CommandRejectedError,
    Conflict,
    DefinitionError,
    InvalidTransitionError,
    Request,
    RetriesExhaustedError,
    Retry,
    Service,
    StoreError,
    ValidationError,
    VersionConflictError,
)
from holdfast.service.runner import run
from holdfast.stores.contract import Store


@pytest.fixture
def counting(store: Store) -> CountingStore:
    """Return the store with its calls counted."""
    return CountingStore(store)


@pytest.fixture
def world(counting: CountingStore) -> FakeWorld:
    """Return a world in which nobody waits."""
    return FakeWorld(counting)


def contended(store: Store, desk: Desk, times: int, **retry: Any) -> Orders:
    """Return a service with an order, which somebody else changes during the next decisions."""
    orders = Service(order, store, deps=desk, retry=Retry(**{"jitter": False, **retry}))
    other = Service(order, store, deps=Desk())
    other.handle("o-1", Place(total=5))

    def disturb(number: int) -> Callable[[], object]:
        return lambda: other.handle("o-1", Note(text=f"other {number}"))

    desk.interrupts += [disturb(number) for number in range(times)]
    return orders


# Delays


def test_delays_double_from_ten_milliseconds() -> None:
    """10, 20, 40, 80, 160 ms … unless told otherwise."""
    retry = Retry(jitter=False)
    assert [retry.delay_seconds(n, 0.5) for n in range(1, 6)] == [0.01, 0.02, 0.04, 0.08, 0.16]


def test_delays_are_capped() -> None:
    """A second is the default cap; no number of attempts overflows."""
    assert Retry(jitter=False).delay_seconds(8, 0.5) == 1.0
    assert Retry(jitter=False).delay_seconds(10**9, 0.5) == 1.0
    assert Retry(jitter=False, initial_seconds=0.5, cap_seconds=0.7).delay_seconds(2, 0.5) == 0.7


@given(
    st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
    st.floats(1e-6, 10),
    st.floats(10, 1e6),
)
def test_jitter_draws_between_half_and_all_of_the_delay(
    attempt: int, random: float, initial: float, cap: float
) -> None:
    """So it is never 0, and never more than the cap."""
    plain = Retry(jitter=False, initial_seconds=initial, cap_seconds=cap)
    whole = plain.delay_seconds(attempt, random)
    drawn = Retry(initial_seconds=initial, cap_seconds=cap).delay_seconds(attempt, random)
    assert 0 < whole / 2 <= drawn <= whole <= cap


def test_jitter_spreads_evenly() -> None:
    """The draw decides: 0 gives half of the delay, almost 1 almost all of it."""
    drawn = [Retry().delay_seconds(1, random) for random in (0.0, 0.25, 0.5, 0.999999)]
    assert drawn == pytest.approx([0.005, 0.00625, 0.0075, 0.01])
    assert all(first < second for first, second in pairwise(drawn))


@pytest.mark.parametrize(
    "limits",
    [
        {"attempts": 0},
        {"attempts": -1},
        {"initial_seconds": 0},
        {"initial_seconds": -1},
        {"initial_seconds": 2.0},
        {"cap_seconds": 0.001},
        {"initial_seconds": float("nan")},
        {"cap_seconds": float("nan")},
        {"budget_seconds": 0},
        {"budget_seconds": -1},
        {"budget_seconds": float("nan")},
    ],
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any]) -> None:
    """A call that never tries, never waits or never ends is a mistake in the program."""
    with pytest.raises(DefinitionError, match="Retry takes"):
        Retry(**limits)


def test_a_retry_is_a_value() -> None:
    """It is frozen, equal by its fields, and may be shared."""
    retry: Any = Retry(attempts=3)
    assert retry == Retry(attempts=3) != Retry()
    with pytest.raises(AttributeError):
        retry.attempts = 5


# Attempts


def test_a_call_waits_between_its_attempts(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """Five conflicts in a row cost the five published delays, and the sixth attempt writes."""
    orders = contended(counting, desk, 5)

    record = handle_in(world, orders, "o-1", Note(text="mine"))

    assert world.sleeps == [0.01, 0.02, 0.04, 0.08, 0.16]
    assert record.version == 7
    assert len(desk.seen) == 6


def test_a_call_without_a_conflict_does_not_wait(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """One load, one commit."""
    orders = contended(counting, desk, 0)
    counting.loads.clear()
    counting.commits.clear()
    handle_in(world, orders, "o-1", Note(text="mine"))
    assert (world.sleeps, counting.loads, counting.commits) == ([], [1], [1])


def test_each_attempt_reloads_and_decides_again(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """The handler sees the state that the other left; a stale decision is never written."""
    orders = contended(counting, desk, 2)

    record = handle_in(world, orders, "o-1", Note(text="mine"))

    assert desk.states == [
        Pending(total=5),
        Pending(total=5, notes=["other 0"]),
        Pending(total=5, notes=["other 0", "other 1"]),
    ]
    assert [context.version for context in desk.contexts] == [1, 2, 3]
    assert record.state == Pending(total=5, notes=["other 0", "other 1", "mine"])
    assert orders.get("o-1") == record


def test_the_second_decision_may_be_another_one(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """What became impossible meanwhile is refused, not forced through."""
    orders = contended(counting, desk, 0)
    other = Service(order, counting, deps=Desk())
    desk.interrupts.append(lambda: other.handle("o-1", Pay(card="theirs")))

    with pytest.raises(InvalidTransitionError) as caught:
        handle_in(world, orders, "o-1", Pay(card="mine"))

    assert caught.value.state == "Paid"
    assert orders.get("o-1").state == Paid(total=5, card="theirs")


def test_a_creation_that_lost_is_decided_again(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """Two creators at once: one creates, the other finds it there."""
    orders = Service(order, counting, deps=desk)
    other = Service(order, counting, deps=Desk())
    desk.interrupts.append(lambda: other.handle("o-1", Place(total=7)))

    with pytest.raises(InvalidTransitionError):
        handle_in(world, orders, "o-1", Place(total=5))

    assert orders.get("o-1").state == Pending(total=7)


def test_a_deletion_meanwhile_is_seen(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """What is gone is not brought back by a decision on what it was."""
    orders = contended(counting, desk, 0)
    other = Service(order, counting, deps=Desk())
    desk.interrupts.append(lambda: other.handle("o-1", Remove()))

    with pytest.raises(InvalidTransitionError) as caught:
        handle_in(world, orders, "o-1", Note(text="mine"))

    assert caught.value.state is None


def test_a_command_is_the_same_at_every_attempt(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """What a handler did to the command and to the metadata in a lost attempt is lost with it."""
    orders = contended(counting, desk, 0)
    other = Service(order, counting, deps=Desk())

    def meddle() -> None:
        _, command, context = desk.seen[-1]
        assert isinstance(command, Pay)
        command.tags.append("meddled")
        metadata: Any = context.metadata
        metadata["by"] = "meddled"
        other.handle("o-1", Note(text="other"))

    desk.interrupts.append(meddle)
    handle_in(world, orders, "o-1", Pay(card="4", tags=["a"]), metadata={"by": "ann"})

    _, command, context = desk.seen[-1]
    assert command == Pay(card="4", tags=["a"])
    assert context.metadata == {"by": "ann"}


def test_a_command_of_a_batch_is_the_same_at_every_attempt(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """Its first attempt shares a commit with others; the second is its own."""
    orders = contended(counting, desk, 0)
    other = Service(order, counting, deps=Desk())

    def meddle() -> None:
        _, command, context = desk.seen[-1]
        assert isinstance(command, Pay)
        command.tags.append("meddled")
        metadata: Any = context.metadata
        metadata["by"] = "meddled"
        other.handle("o-1", Note(text="other"))

    desk.interrupts.append(meddle)
    request = Request("o-1", Pay(card="4", tags=["a"]), metadata={"by": "ann"})
    run(orders.plans.handle_many([request]), world)

    _, command, context = desk.seen[-1]
    assert command == Pay(card="4", tags=["a"])
    assert context.metadata == {"by": "ann"}


def test_the_token_is_the_same_at_every_attempt(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """It is drawn once for a call; the next call has another."""
    orders = contended(counting, desk, 3)
    handle_in(world, orders, "o-1", Note(text="mine"))
    handle_in(world, orders, "o-1", Note(text="mine too"))

    tokens = [context.token for context in desk.contexts]
    assert tokens[:4] == [tokens[0]] * 4
    assert tokens[4] != tokens[0]
    assert [t.token for t in orders.history("o-1")[-2:]] == [tokens[0], tokens[4]]


# Limits


def test_attempts_have_a_limit(counting: CountingStore, world: FakeWorld, desk: Desk) -> None:
    """The error carries the last conflict and how often it was tried."""
    orders = contended(counting, desk, 10, attempts=4)

    with pytest.raises(RetriesExhaustedError) as caught:
        handle_in(world, orders, "o-1", Note(text="mine"))

    error = caught.value
    assert (error.attempts, error.expected, error.actual, error.gap) == (4, 4, 5, 1)
    assert isinstance(error.conflict, VersionConflictError)
    assert "order 'o-1'" in str(error)
    assert len(desk.seen) == 4
    assert world.sleeps == [0.01, 0.02, 0.04]
    assert all("mine" not in repr(t.command) for t in orders.history("o-1"))


def test_one_attempt_means_none_again(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """The first conflict is the last."""
    orders = contended(counting, desk, 1, attempts=1)
    with pytest.raises(RetriesExhaustedError, match="every one of 1 attempts"):
        handle_in(world, orders, "o-1", Note(text="mine"))
    assert world.sleeps == []


def test_time_has_a_limit(counting: CountingStore, world: FakeWorld, desk: Desk) -> None:
    """No attempt begins later than the budget after the call."""
    orders = contended(counting, desk, 10, budget_seconds=0.1)

    with pytest.raises(RetriesExhaustedError, match=r"0\.1 s are allowed"):
        handle_in(world, orders, "o-1", Note(text="mine"))

    assert world.sleeps == [0.01, 0.02, 0.04]
    assert len(desk.seen) == 4


def test_time_spent_deciding_counts(counting: CountingStore, world: FakeWorld, desk: Desk) -> None:
    """Slow handlers use the budget up as waits do."""
    orders = contended(counting, desk, 10, budget_seconds=1.0)
    disturbances = desk.interrupts.copy()

    def slowly(disturb: Callable[[], object]) -> Callable[[], object]:
        def interrupt() -> None:
            world.now += 0.4
            disturb()

        return interrupt

    desk.interrupts[:] = [slowly(disturb) for disturb in disturbances]

    with pytest.raises(RetriesExhaustedError):
        handle_in(world, orders, "o-1", Note(text="mine"))
    assert len(desk.seen) == 3


def test_a_timeout_is_a_limit_too(counting: CountingStore, world: FakeWorld, desk: Desk) -> None:
    """The shorter of the two counts."""
    orders = contended(counting, desk, 10, budget_seconds=10)
    with pytest.raises(RetriesExhaustedError, match=r"0\.05 s are allowed"):
        handle_in(world, orders, "o-1", Note(text="mine"), timeout=0.05)
    assert world.sleeps == [0.01, 0.02]

    desk.interrupts.clear()
    orders = contended_again(counting, desk, budget_seconds=0.05)
    with pytest.raises(RetriesExhaustedError, match=r"0\.05 s are allowed"):
        handle_in(world, orders, "o-1", Note(text="mine"), timeout=10)


def contended_again(store: Store, desk: Desk, **retry: Any) -> Orders:
    """Return a service whose existing order somebody else goes on changing."""
    other = Service(order, store, deps=Desk())
    desk.interrupts += [lambda: other.handle("o-1", Note(text=""))] * 10
    return Service(order, store, deps=desk, retry=Retry(jitter=False, **retry))


# What is not tried again


def test_an_expected_version_is_never_tried_again(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """The caller decided on what it saw, so a conflict while writing is raised at once."""
    orders = contended(counting, desk, 1)

    with pytest.raises(VersionConflictError) as caught:
        handle_in(world, orders, "o-1", Note(text="mine"), expected_version=1)

    assert type(caught.value) is VersionConflictError
    assert (caught.value.expected, caught.value.actual) == (1, 2)
    assert (world.sleeps, len(desk.seen)) == ([], 1)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (Refuse(reason="no"), CommandRejectedError),
        (Place(total=1), InvalidTransitionError),
        (Place(total=0), ValidationError),
        (Spoil(), ValidationError),
    ],
)
def test_a_refusal_is_never_tried_again(
    counting: CountingStore, world: FakeWorld, desk: Desk, command: Any, error: type[Exception]
) -> None:
    """The same again would not help."""
    orders = contended(counting, desk, 0)
    counting.loads.clear()
    counting.commits.clear()
    with pytest.raises(error):
        handle_in(world, orders, "o-1", command)
    assert (world.sleeps, counting.commits) == ([], [])
    assert len(counting.loads) <= 1
    assert len(desk.seen) <= 1


@pytest.mark.parametrize(
    "error", [StoreError("disk full"), ZeroDivisionError(), VersionConflictError("x", "y", 1, 2)]
)
def test_an_error_of_a_handler_is_never_tried_again(
    counting: CountingStore, world: FakeWorld, desk: Desk, error: Exception
) -> None:
    """Not even one that looks like a conflict: it is another entity's."""
    orders = contended(counting, desk, 0)

    def interrupt() -> None:
        raise error

    desk.interrupts.append(interrupt)
    with pytest.raises(type(error)) as caught:
        handle_in(world, orders, "o-1", Note(text="mine"))
    assert caught.value is error
    assert (world.sleeps, len(desk.seen)) == ([], 1)


def test_an_error_of_the_store_is_never_tried_again(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """It is told at once; what to do about it is the caller's."""
    orders = contended(counting, desk, 0)
    counting.commits.clear()

    def fail() -> None:
        raise StoreError("disk full")

    counting.before_commit.append(fail)
    with pytest.raises(StoreError, match="disk full"):
        handle_in(world, orders, "o-1", Note(text="mine"))
    assert (world.sleeps, len(desk.seen), len(counting.commits)) == ([], 1, 1)


# Monitoring


def test_the_hook_is_told_of_every_conflict(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """Entity, expected, actual, gap, attempt, and the wait that follows: None for the last."""
    told: list[Conflict] = []
    orders = contended(counting, desk, 3, attempts=3, on_conflict=told.append)

    with pytest.raises(RetriesExhaustedError):
        handle_in(world, orders, "o-1", Note(text="mine"))

    assert told == [
        Conflict("order", "o-1", 1, 2, 1, 1, 0.01),
        Conflict("order", "o-1", 2, 3, 1, 2, 0.02),
        Conflict("order", "o-1", 3, 4, 1, 3, None),
    ]


def test_the_gap_tells_how_far_the_decision_was_behind(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """Three transitions during one slow decision make a gap of three."""
    told: list[Conflict] = []
    orders = contended(counting, desk, 3, on_conflict=told.append)
    disturbances = desk.interrupts.copy()
    desk.interrupts[:] = [lambda: [disturb() for disturb in disturbances]]

    handle_in(world, orders, "o-1", Note(text="mine"))

    assert [(c.expected, c.actual, c.gap, c.attempt) for c in told] == [(1, 4, 3, 1)]


def test_the_hook_is_told_of_a_conflict_that_is_not_tried_again(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """With an expected version there is no wait to tell of."""
    told: list[Conflict] = []
    orders = contended(counting, desk, 1, on_conflict=told.append)
    with pytest.raises(VersionConflictError):
        handle_in(world, orders, "o-1", Note(text="mine"), expected_version=1)
    assert told == [Conflict("order", "o-1", 1, 2, 1, 1, None)]


def test_the_hook_is_told_of_a_version_that_had_passed_before_the_call(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """Nobody needs to write for a caller to have seen an old version; it counts as a hot spot."""
    told: list[Conflict] = []
    orders = contended(counting, desk, 0, on_conflict=told.append)
    handle_in(world, orders, "o-1", Note(text="a"))
    handle_in(world, orders, "o-1", Note(text="b"))

    with pytest.raises(VersionConflictError):
        handle_in(world, orders, "o-1", Note(text="mine"), expected_version=1)

    assert told == [Conflict("order", "o-1", 1, 3, 2, 1, None)]
    assert [(spot.id, spot.conflicts) for spot in orders.contention()] == [("o-1", 1)]


def test_the_hook_is_not_told_of_what_a_handler_raises(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """A conflict of another call is that call's."""
    told: list[Conflict] = []
    orders = contended(counting, desk, 0, on_conflict=told.append)

    def interrupt() -> None:
        raise VersionConflictError("order", "o-9", 1, 2)

    desk.interrupts.append(interrupt)
    with pytest.raises(VersionConflictError):
        handle_in(world, orders, "o-1", Note(text="mine"))
    assert (told, orders.contention()) == ([], [])


def test_what_the_hook_raises_reaches_the_caller(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """Nothing is swallowed, and nothing was written."""

    def give_up(conflict: Conflict) -> None:
        raise RuntimeError(f"too hot: {conflict.id}")

    orders = contended(counting, desk, 1, on_conflict=give_up)
    with pytest.raises(RuntimeError, match="too hot: o-1"):
        handle_in(world, orders, "o-1", Note(text="mine"))
    assert orders.get("o-1").version == 2


def test_the_hottest_entities_are_counted(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """`contention` names them, most conflicts first."""
    orders = contended(counting, desk, 3)
    other = Service(order, counting, deps=Desk())
    handle_in(world, orders, "o-1", Note(text="mine"))
    handle_in(world, orders, "o-2", Place(total=1))
    desk.interrupts.append(lambda: other.handle("o-2", Note(text="")))
    handle_in(world, orders, "o-2", Note(text="mine"))
    handle_in(world, orders, "o-3", Place(total=1))

    assert [(spot.id, spot.conflicts, spot.overcounted) for spot in orders.contention()] == [
        ("o-1", 3, 0),
        ("o-2", 1, 0),
    ]
    assert [spot.id for spot in orders.contention(limit=1)] == ["o-1"]
    assert orders.contention(limit=0) == []
    assert other.contention() == []
