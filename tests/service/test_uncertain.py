"""Commits of which the store does not know what became: sent again, the same, until it is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.service.orders import (
    CountingStore,
    Desk,
    FakeWorld,
    Note,
    OrderCommand,
    Orders,
    Pending,
    Place,
    Remove,
    handle_in,
    order,
)

from holdfast import (
    InvalidTransitionError,
    OutcomeUnknownError,
    Record,
    Retry,
    Service,
    StoreError,
    Transaction,
)
from holdfast.service.requests import unwrap
from holdfast.service.runner import run
from holdfast.service.transaction import Stage
from holdfast.stores.contract import CommitUncertainError, Outcome, Store


@pytest.fixture
def counting(store: Store) -> CountingStore:
    """Return the store, which can be told to lose acknowledgements."""
    return CountingStore(store)


@pytest.fixture
def world(counting: CountingStore) -> FakeWorld:
    """Return a world in which nobody waits."""
    return FakeWorld(counting)


@pytest.fixture
def shaky(counting: CountingStore, desk: Desk) -> Orders:
    """Return a service with an order, on the store that can be told to fail."""
    orders = Service(order, counting, deps=desk, retry=Retry(attempts=3, jitter=False))
    orders.handle("o-1", Place(total=5))
    counting.commits.clear()
    desk.seen.clear()
    return orders


def lose() -> None:
    """Fail as a store does that cannot tell what became of a commit."""
    raise CommitUncertainError("the connection was lost")


def fail() -> None:
    """Fail as a store does that is not there."""
    raise StoreError("no connection")


def test_a_commit_that_did_not_happen_is_sent_again(
    shaky: Orders, counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """It is applied once; no handler is asked again."""
    counting.before_commit.append(lose)

    record = handle_in(world, shaky, "o-1", Note(text="mine"))

    assert (record.version, len(counting.commits), len(desk.seen)) == (2, 2, 1)
    assert world.sleeps == [0.01]
    assert shaky.get("o-1") == record


def test_a_commit_that_did_happen_is_found_by_its_token(
    shaky: Orders, counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """The acknowledgement was lost, not the transition; it is not applied twice."""
    counting.after_commit.append(lose)

    record = handle_in(world, shaky, "o-1", Note(text="mine"))

    assert (record.version, len(desk.seen)) == (2, 1)
    assert [t.version for t in shaky.history("o-1")] == [1, 2]
    assert shaky.get("o-1") == record


def test_a_commit_that_did_happen_is_found_under_later_ones(
    shaky: Orders, counting: CountingStore, store: Store, world: FakeWorld
) -> None:
    """Others may have written since; the answer is the record as this call left it."""
    other = Service(order, store, deps=Desk())

    def move_on() -> None:
        other.handle("o-1", Note(text="other"))
        lose()

    counting.after_commit.append(move_on)

    record = handle_in(world, shaky, "o-1", Note(text="mine"))

    assert (record.version, record.state) == (2, Pending(total=5, notes=["mine"]))
    assert shaky.get("o-1").state == Pending(total=5, notes=["mine", "other"])


def test_a_commit_whose_place_was_taken_is_lost_for_certain(
    shaky: Orders, counting: CountingStore, store: Store, world: FakeWorld, desk: Desk
) -> None:
    """Another's token at that version tells that it did not happen: the call decides again."""
    other = Service(order, store, deps=Desk())

    def overtake() -> None:
        other.handle("o-1", Note(text="other"))
        lose()

    counting.before_commit.append(overtake)

    record = handle_in(world, shaky, "o-1", Note(text="mine"))

    assert record.state == Pending(total=5, notes=["other", "mine"])
    assert record.version == 3
    assert len(desk.seen) == 2


def test_a_creation_and_a_deletion_are_found_too(
    shaky: Orders, counting: CountingStore, world: FakeWorld
) -> None:
    """The first version has a token, and so has a tombstone."""
    counting.after_commit += [lose]
    assert handle_in(world, shaky, "o-2", Place(total=1)).version == 1
    counting.after_commit += [lose]
    assert handle_in(world, shaky, "o-2", Remove()).deleted
    with pytest.raises(InvalidTransitionError):
        handle_in(world, shaky, "o-2", Note(text=""))
    assert [t.version for t in shaky.history("o-2")] == [1, 2]


@pytest.mark.parametrize("failures", [[lose], [lose, fail], [lose, fail, lose], [lose, lose, fail]])
def test_the_store_is_asked_until_it_is_back(
    shaky: Orders, counting: CountingStore, world: FakeWorld, failures: list[Callable[[], None]]
) -> None:
    """Once the outcome is unknown, a store that is not there tells nothing."""
    counting.before_commit += failures

    assert handle_in(world, shaky, "o-1", Note(text="mine")).version == 2
    assert world.sleeps == [0.01, 0.02, 0.04][: len(failures)]


@pytest.mark.parametrize("stored", [True, False])
def test_a_store_that_does_not_come_back_leaves_it_unknown(
    shaky: Orders, counting: CountingStore, world: FakeWorld, stored: bool
) -> None:
    """Neither success nor failure is claimed; the error says what to do."""
    (counting.after_commit if stored else counting.before_commit).append(lose)
    counting.before_commit += [lambda: None] * stored + [fail] * 3

    with pytest.raises(OutcomeUnknownError) as caught:
        handle_in(world, shaky, "o-1", Note(text="mine"))

    assert "order 'o-1'" in str(caught.value)
    assert "with the same key" in str(caught.value)
    assert isinstance(caught.value.__cause__, CommitUncertainError)
    assert len(counting.commits) == 4
    assert shaky.get("o-1").version == (2 if stored else 1)


@pytest.mark.parametrize(
    ("timeout", "budget", "sleeps"),
    [(0.2, 9.0, 4), (9.0, 0.035, 2), (0.001, 9.0, 0)],
)
def test_the_store_is_asked_no_longer_than_the_call_may_take(
    counting: CountingStore, world: FakeWorld, timeout: float, budget: float, sleeps: int
) -> None:
    """By its own timeout or by the budget, whichever is over first."""
    retry = Retry(attempts=40, jitter=False, budget_seconds=budget)
    orders = Service(order, counting, deps=Desk(), retry=retry)
    counting.before_commit += [lose] * 40

    with pytest.raises(OutcomeUnknownError):
        handle_in(world, orders, "o-1", Place(total=5), timeout=timeout)
    assert world.sleeps == [0.01, 0.02, 0.04, 0.08][:sleeps]


def test_a_batch_asks_no_longer_than_the_budget(
    counting: CountingStore, world: FakeWorld, desk: Desk
) -> None:
    """Nor does a transaction; each counts its own time."""
    retry = Retry(attempts=40, jitter=False, budget_seconds=0.08)
    orders = Service(order, counting, deps=desk, retry=retry)
    counting.before_commit += [lose] * 40
    batch: list[tuple[str, OrderCommand]] = [("a", Place(total=1)), ("b", Place(total=1))]

    [first, second] = unwrap(run(orders.plans.handle_many(batch), world))
    assert isinstance(first, OutcomeUnknownError)
    assert isinstance(second, OutcomeUnknownError)
    assert world.sleeps == [0.01, 0.02, 0.04]

    transaction = Transaction(orders.plans, Stage(counting), world)
    transaction.prepare("c", Place(total=1))
    with pytest.raises(OutcomeUnknownError):
        transaction.commit()
    assert world.sleeps == [0.01, 0.02, 0.04] * 2


def test_the_wait_for_other_writers_shrinks_with_the_timeout(
    counting: CountingStore, world: FakeWorld, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the commit is sent, it may take what is left."""
    orders = Service(order, counting, deps=desk, retry=Retry(jitter=False))
    counting.before_commit += [lose, lose]
    waits: list[float] = []
    commit = counting.commit

    def commit_within(*args: Any, timeout_seconds: float, **options: Any) -> list[Outcome]:
        waits.append(round(timeout_seconds, 6))
        return commit(*args, timeout_seconds=timeout_seconds, **options)

    monkeypatch.setattr(counting, "commit", commit_within)
    assert handle_in(world, orders, "o-1", Place(total=5), timeout=2.0).version == 1
    assert waits == [2.0, 1.99, 1.97]


def test_with_a_key_the_unknown_is_resolved_by_sending_it_again(
    shaky: Orders, counting: CountingStore, world: FakeWorld
) -> None:
    """The command that was stored is answered, not applied again."""
    counting.after_commit.append(lose)
    counting.before_commit += [lambda: None, fail, fail, fail]
    with pytest.raises(OutcomeUnknownError):
        handle_in(world, shaky, "o-1", Note(text="mine"), key="k")

    assert handle_in(world, shaky, "o-1", Note(text="mine"), key="k").version == 2
    assert len(shaky.history("o-1")) == 2


def test_an_error_before_the_commit_is_not_uncertain(
    shaky: Orders, counting: CountingStore, world: FakeWorld
) -> None:
    """Nothing was sent, so nothing is sent again."""
    counting.before_commit.append(fail)
    with pytest.raises(StoreError) as caught:
        handle_in(world, shaky, "o-1", Note(text="mine"))
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert len(counting.commits) == 1


@pytest.mark.parametrize(
    ("stored", "atomic"), [(a, b) for a in (True, False) for b in (True, False)]
)
def test_a_batch_is_sent_again_whole(
    shaky: Orders, counting: CountingStore, world: FakeWorld, stored: bool, atomic: bool
) -> None:
    """Each entity's write is found by its own token, and each caller gets its own answer."""
    (counting.after_commit if stored else counting.before_commit).append(lose)
    requests: list[tuple[str, OrderCommand]] = [
        ("o-1", Note(text="mine")),
        ("o-2", Place(total=7)),
        ("o-2", Note(text="x")),
    ]

    plan = shaky.plans.handle_many(requests, atomic=atomic, checkpoint=None, before_commit=None)
    answers = unwrap(run(plan, world))

    assert [(a.id, a.version) for a in answers if isinstance(a, Record)] == [
        ("o-1", 2),
        ("o-2", 1),
        ("o-2", 2),
    ]
    assert [len(shaky.history(id)) for id in ("o-1", "o-2")] == [2, 2]


def test_a_lost_batch_in_which_one_was_overtaken_is_settled_one_by_one(
    shaky: Orders, counting: CountingStore, store: Store, world: FakeWorld
) -> None:
    """The one that lost decides again; the other is written as decided."""
    other = Service(order, store, deps=Desk())

    def overtake() -> None:
        other.handle("o-1", Note(text="other"))
        lose()

    counting.before_commit.append(overtake)
    requests: list[tuple[str, OrderCommand]] = [("o-1", Note(text="mine")), ("o-2", Place(total=7))]

    run(shaky.plans.handle_many(requests, atomic=False, checkpoint=None, before_commit=None), world)

    assert shaky.get("o-1").state == Pending(total=5, notes=["other", "mine"])
    assert shaky.get("o-2").version == 1
