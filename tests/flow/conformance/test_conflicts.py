"""Statesman's behaviours: two who want to transition at once, and trying again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.flow.orders import Order, Orders, begin, bring, noted, order_flow, path

from holdfast import (
    Conflict,
    DefinitionError,
    Flow,
    InvalidTransitionError,
    RetriesExhaustedError,
    Retry,
    VersionConflictError,
)
from holdfast.stores.contract import Store

QUICK = Retry(attempts=1, initial_seconds=0.0001)


class ParcelFlow(Flow[None]):
    """Another flow, for callbacks to transition."""

    packed = Flow.state(initial=True)
    sent = Flow.state()
    packed.to(sent)


def interrupted(flow: type[Orders], act: Callable[[], object]) -> None:
    """Have something happen once, between what the next transition saw and what it writes."""
    pending = [act]

    @flow.guard()
    def meanwhile(order: Order) -> bool:
        if pending:
            pending.pop()()
        return True


def test_a_transition_that_comes_too_late_is_a_conflict(any_store: Store) -> None:
    """Given another transition meanwhile, when this one is written, then it is refused at once."""
    flow = order_flow()
    interrupted(flow, lambda: begin(flow, any_store).transition_to("cancelled"))
    order = begin(flow, any_store)
    with pytest.raises(VersionConflictError) as raised:
        order.transition_to("checking_out")
    assert (raised.value.expected, raised.value.actual) == (0, 1)
    assert path(order) == ["cancelled"]


def test_the_attempt_does_not_hide_a_conflict(store: Store) -> None:
    """Given another transition meanwhile, when it was an attempt, then the conflict arrives."""
    flow = order_flow()
    interrupted(flow, lambda: begin(flow, store).transition_to("cancelled"))
    with pytest.raises(VersionConflictError):
        begin(flow, store).try_transition_to("checking_out")


def test_after_a_conflict_the_state_is_the_one_that_won(store: Store) -> None:
    """Given a conflict, when the same object is asked, then it knows what the other wrote."""
    flow = order_flow()
    interrupted(flow, lambda: begin(flow, store).transition_to("cancelled"))
    order = begin(flow, store)
    assert order.current_state == "pending"
    with pytest.raises(VersionConflictError):
        order.transition_to("checking_out")
    assert order.current_state == "cancelled"


def test_a_conflict_is_a_failure(store: Store) -> None:
    """Given a callback on failures, when there is a conflict, then it has the error."""
    flow = order_flow()
    interrupted(flow, lambda: begin(flow, store).transition_to("cancelled"))
    seen: list[object] = []
    flow.on_failure(to="checking_out")(lambda order, error: seen.append(error))
    with pytest.raises(VersionConflictError) as raised:
        begin(flow, store).transition_to("checking_out")
    assert seen == [raised.value]


def test_what_lost_is_tried_again_where_that_is_asked_for(any_store: Store) -> None:
    """Given one more attempt, when there was a conflict, then it decides again on what is true."""
    flow = order_flow()
    interrupted(flow, lambda: begin(flow, any_store).transition_to("checking_out"))
    order = begin(flow, any_store, retry=QUICK).retry_conflicts()
    order.transition_to("cancelled")
    assert path(order) == ["checking_out", "cancelled"]


def test_a_retry_that_is_not_allowed_any_more_is_refused(store: Store) -> None:
    """Given one more attempt, when the winner left no rule for it, then that is the error."""
    flow = order_flow()
    interrupted(flow, lambda: begin(flow, store).transition_to("cancelled"))
    with pytest.raises(InvalidTransitionError, match="in state cancelled"):
        begin(flow, store, retry=QUICK).retry_conflicts().transition_to("checking_out")


def test_retries_are_as_many_as_asked_for(store: Store) -> None:
    """Given a conflict at every attempt, when two more are allowed, then the third is the last."""
    flow = order_flow()
    flow.transition(from_=["pending", "checking_out"], to="checking_out")
    attempts: list[int] = []

    @flow.guard(to="checking_out")
    def always_late(order: Order) -> bool:
        if not order.calls:
            attempts.append(1)
            other = begin(flow, store)
            other.object.calls.append("other")
            other.transition_to("checking_out")
        return True

    order = begin(flow, store, retry=QUICK)
    with pytest.raises(VersionConflictError):
        order.retry_conflicts(2).transition_to("checking_out")
    assert len(attempts) == 3


def test_an_event_is_tried_again_too(store: Store) -> None:
    """Given an event, when the state moved on meanwhile, then it leads on from the new state."""
    flow = order_flow()
    interrupted(flow, lambda: begin(flow, store).transition_to("checking_out"))
    order = begin(flow, store, retry=QUICK).retry_conflicts()
    assert order.trigger("submit").to_state == "purchased"
    assert path(order) == ["checking_out", "purchased"]


def test_an_event_is_tried_again_as_the_retry_says(store: Store) -> None:
    """Given conflicts at every attempt, when an event is triggered, then the limits are those.

    The monitoring hook is told of each, and failure callbacks of the last alone.
    """
    flow = order_flow()
    flow.transition(from_="pending", to="pending")
    flow.on_failure()(lambda order: order.calls.append("failure"))

    @flow.guard(to="checking_out")
    def always_late(order: Order) -> bool:
        return bool(begin(flow, store).transition_to("pending"))

    told: list[Conflict] = []
    retry = Retry(attempts=3, initial_seconds=0.0001, on_conflict=told.append)
    order = begin(flow, store, retry=retry)
    with pytest.raises(RetriesExhaustedError):
        order.trigger("submit")
    assert [(each.attempt, each.actual) for each in told] == [(1, 1), (2, 2), (3, 3)]
    assert noted(order) == ["failure"]
    hasty = begin(flow, store, retry=Retry(initial_seconds=0.1, budget_seconds=0.01))
    with pytest.raises(RetriesExhaustedError, match=r"0.01 s are allowed"):
        hasty.trigger("submit")


def test_another_ones_conflict_is_no_reason_to_try_an_event_again(store: Store) -> None:
    """Given a callback whose own transition comes too late, when it raises, then that is all."""
    flow = order_flow()
    calls: list[str] = []

    @flow.before()
    def transition_another(order: Order) -> None:
        calls.append("before")
        ParcelFlow(None, store=store, id="o-1").transition_to("sent", expected_version=7)

    with pytest.raises(VersionConflictError) as raised:
        begin(flow, store, retry=QUICK).retry_conflicts(3).trigger("submit")
    assert (raised.value.machine, calls) == ("parcel", ["before"])


def test_another_ones_conflict_does_not_say_that_the_begin_is_recorded(store: Store) -> None:
    """Given a callback whose own transition comes too late, when it raises, then that arrives."""
    flow = order_flow()

    @flow.before()
    def transition_another(order: Order) -> None:
        ParcelFlow(None, store=store, id="o-1").transition_to("sent", expected_version=7)

    with pytest.raises(VersionConflictError) as raised:
        begin(flow, store, record_initial=True)
    assert raised.value.machine == "parcel"
    assert path(begin(flow, store)) == []


def test_without_retries_an_event_is_a_conflict(store: Store) -> None:
    """Given an event, when the state moved on meanwhile, then it is made from no other state."""
    flow = order_flow()
    interrupted(flow, lambda: begin(flow, store).transition_to("checking_out"))
    order = begin(flow, store)
    with pytest.raises(VersionConflictError):
        order.trigger("submit")
    assert path(order) == ["checking_out"]


def test_what_was_decided_on_a_version_is_not_tried_again(store: Store) -> None:
    """Given a version that the caller saw, when it has passed, then no retry helps."""
    flow = order_flow()
    order = begin(flow, store).retry_conflicts(5)
    bring(order, "checking_out")
    with pytest.raises(VersionConflictError):
        order.transition_to("cancelled", expected_version=0)


def test_callbacks_are_not_called_for_a_transition_that_lost(any_store: Store) -> None:
    """Given callbacks, when there is a conflict, then only the winner's are called."""
    flow = order_flow()
    interrupted(flow, lambda: begin(flow, any_store).transition_to("cancelled"))
    for kind in ("before", "after", "after_commit"):
        getattr(flow, kind)()(lambda order: order.calls.append("called"))
    order = begin(flow, any_store)
    with pytest.raises(VersionConflictError):
        order.transition_to("checking_out")
    assert noted(order) == []


def test_callbacks_are_called_once_for_a_transition_that_was_tried_again(store: Store) -> None:
    """Given callbacks, when a transition is retried, then they are called for what is written."""
    flow = order_flow()
    interrupted(flow, lambda: begin(flow, store).transition_to("checking_out"))
    flow.before()(lambda order, change: order.calls.append(f"before {change.from_state}"))
    flow.after()(lambda order, change: order.calls.append(f"after {change.from_state}"))
    flow.on_failure()(lambda order: order.calls.append("failure"))
    order = begin(flow, store, retry=QUICK).retry_conflicts()
    order.transition_to("cancelled")
    assert noted(order) == ["before checking_out", "after checking_out"]


@pytest.mark.parametrize("n", [-1, 1.5, "2", None])
def test_a_number_of_retries_is_a_number(store: Store, n: object) -> None:
    """Given what is no number, when retries are asked for, then that is said."""
    with pytest.raises(DefinitionError, match="retry_conflicts takes a number from 0"):
        begin(order_flow(), store).retry_conflicts(n)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
