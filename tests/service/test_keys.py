"""Idempotency keys: the same request handled twice is applied once, and answered alike."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from tests.service.orders import (
    Desk,
    Fail,
    Note,
    Orders,
    Pay,
    Pending,
    Place,
    Refuse,
    Remove,
    order,
)

from holdfast import (
    CommandRejectedError,
    KeyReusedError,
    Record,
    Request,
    Service,
    ValidationError,
    VersionConflictError,
)
from holdfast.stores.contract import Store
from holdfast.testing.clock import START, ManualClock


def test_a_request_sent_twice_is_applied_once(
    orders: Orders, desk: Desk, clock: ManualClock
) -> None:
    """The second answer is the first one, with its times."""
    first = orders.handle("o-1", Place(total=5), key="k")
    clock.advance(60)

    assert orders.handle("o-1", Place(total=5), key="k") == first
    assert len(desk.seen) == 1
    assert [(t.version, t.key) for t in orders.history("o-1")] == [(1, "k")]


def test_the_first_result_is_remembered_through_later_transitions(
    orders: Orders, clock: ManualClock
) -> None:
    """The answer is the record as the request left it, not as it is now."""
    orders.handle("o-1", Place(total=5))
    clock.advance(1)
    first = orders.handle("o-1", Note(text="a"), key="k")
    clock.advance(1)
    orders.handle("o-1", Note(text="b"))
    orders.handle("o-1", Pay(card="4"))

    assert orders.handle("o-1", Note(text="a"), key="k") == first
    assert (first.version, first.state) == (2, Pending(total=5, notes=["a"]))
    assert (first.created_at, first.updated_at) == (START, START.replace(second=6))
    assert orders.get("o-1").version == 4


def test_the_first_result_is_remembered_after_a_deletion(
    orders: Orders, clock: ManualClock
) -> None:
    """What was answered then is answered still; each life has its own time of creation."""
    placed = orders.handle("o-1", Place(total=5), key="place")
    clock.advance(1)
    removed = orders.handle("o-1", Remove(), key="remove")
    clock.advance(1)
    again = orders.handle("o-1", Place(total=6), key="again")

    assert orders.handle("o-1", Place(total=5), key="place") == placed
    assert orders.handle("o-1", Remove(), key="remove") == removed
    assert orders.handle("o-1", Place(total=6), key="again") == again
    assert removed.deleted
    assert removed.state == Pending(total=5)
    assert again.created_at > placed.created_at
    assert len(orders.history("o-1")) == 3


def test_a_key_belongs_to_its_entity(orders: Orders) -> None:
    """Another entity may use the same key for its own request."""
    assert orders.handle("o-1", Place(total=5), key="k").version == 1
    assert orders.handle("o-2", Place(total=6), key="k").state == Pending(total=6)


@pytest.mark.parametrize("command", [Place(total=6), Pay(card="4"), Remove()])
def test_a_key_with_another_command_is_refused(orders: Orders, command: Any) -> None:
    """The error names the key and the version that it made first."""
    orders.handle("o-1", Place(total=5), key="k")

    with pytest.raises(KeyReusedError) as caught:
        orders.handle("o-1", command, key="k")

    error = caught.value
    assert (error.machine, error.id, error.key, error.version) == ("order", "o-1", "k", 1)
    assert len(orders.history("o-1")) == 1


def test_a_purge_forgets_the_result_but_not_the_key(orders: Orders) -> None:
    """Nobody can answer with what was erased, and nobody applies it again."""
    orders.handle("o-1", Place(total=5), key="k")
    orders.purge("o-1")

    with pytest.raises(KeyReusedError, match="purged since"):
        orders.handle("o-1", Place(total=5), key="k")
    assert orders.handle("o-1", Place(total=5), key="k2").version == 3


def test_refusals_are_not_remembered(orders: Orders, desk: Desk) -> None:
    """What was refused, or failed, is decided anew when it is sent again."""
    with pytest.raises(CommandRejectedError):
        orders.handle("o-1", Refuse(reason="no"), key="k")
    with pytest.raises(Exception, match="tray"):
        orders.handle("o-1", Fail(reason="tray"), key="k")

    assert orders.handle("o-1", Place(total=5), key="k").version == 1
    assert len(desk.seen) == 3


def test_the_key_is_looked_up_before_the_version_is_judged(orders: Orders) -> None:
    """A request that was applied is answered, though its version has passed."""
    orders.handle("o-1", Place(total=5))
    first = orders.handle("o-1", Note(text="a"), key="k", expected_version=1)

    assert orders.handle("o-1", Note(text="a"), key="k", expected_version=1) == first
    with pytest.raises(VersionConflictError):
        orders.handle("o-1", Note(text="a"), key="other", expected_version=1)


def test_the_key_is_looked_up_before_the_state_is_asked(orders: Orders) -> None:
    """A request that led to a state that refuses it is answered all the same."""
    orders.handle("o-1", Place(total=5))
    first = orders.handle("o-1", Pay(card="4"), key="k")
    assert orders.handle("o-1", Pay(card="4"), key="k") == first


def test_metadata_and_time_of_a_repetition_do_not_count(orders: Orders, clock: ManualClock) -> None:
    """The log keeps those of the first."""
    at = datetime(2020, 1, 1, tzinfo=START.tzinfo)
    first = orders.handle("o-1", Place(total=5), key="k", metadata={"n": 1}, at=at)

    assert orders.handle("o-1", Place(total=5), key="k", metadata={"n": 2}) == first
    assert [t.metadata for t in orders.history("o-1")] == [{"n": 1}]


def test_a_race_of_two_equal_requests_applies_one(store: Store, desk: Desk) -> None:
    """The loser of the race decides again, finds the key, and answers with the winner's result."""
    orders = Service(order, store, deps=desk)
    other = Service(order, store, deps=Desk())
    won: list[object] = []
    desk.interrupts.append(lambda: won.append(other.handle("o-1", Place(total=5), key="k")))

    assert [orders.handle("o-1", Place(total=5), key="k")] == won
    assert len(orders.history("o-1")) == 1


def test_two_requests_with_one_key_in_a_batch_count_as_two_calls(
    orders: Orders, desk: Desk
) -> None:
    """The second is answered with the first's result."""
    first, second = orders.handle_many(
        [Request("o-1", Place(total=5), key="k"), Request("o-1", Place(total=5), key="k")]
    )
    assert first == second
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert first.state is not second.state
    assert len(desk.seen) == 1
    assert len(orders.history("o-1")) == 1


def test_a_key_reused_within_a_batch_is_refused(orders: Orders) -> None:
    """With another command it is another request, whichever came first."""
    first, second, third = orders.handle_many(
        [
            Request("o-1", Place(total=5), key="k"),
            Request("o-1", Note(text="a"), key="k"),
            Request("o-1", Note(text="a"), key="k2"),
        ]
    )
    assert not isinstance(first, Exception)
    assert isinstance(second, KeyReusedError)
    assert second.version == 1
    assert not isinstance(third, Exception)
    assert third.version == 2


def test_a_key_whose_first_use_was_refused_in_the_same_batch_is_free(orders: Orders) -> None:
    """A refusal is not remembered within a batch either."""
    refused, placed = orders.handle_many(
        [
            Request("o-1", Refuse(reason="no"), key="k"),
            Request("o-1", Place(total=5), key="k"),
        ]
    )
    assert isinstance(refused, CommandRejectedError)
    assert not isinstance(placed, Exception)


def test_keys_of_earlier_calls_answer_in_a_batch(orders: Orders) -> None:
    """A batch that is sent again after a crash applies only what is missing."""
    requests = [Request(f"o-{n}", Place(total=n + 1), key=f"k{n}") for n in range(4)]
    first = orders.handle_many(requests[:2])

    both = orders.handle_many(requests)

    assert both[:2] == first
    assert [len(orders.history(f"o-{n}")) for n in range(4)] == [1, 1, 1, 1]


@pytest.mark.parametrize("key", ["", "a" * 513, "a\0", "\ud800", 5])
def test_what_is_no_key_is_refused(orders: Orders, key: Any) -> None:
    """Keys are text from 1 to 512 bytes that every store can keep."""
    with pytest.raises(ValidationError, match="the key"):
        orders.handle("o-1", Place(total=5), key=key)
