"""Statesman's behaviours: callbacks before, after, after the commit, and on failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.flow.orders import Order, begin, bring, noted, order_flow, path

from holdfast import (
    Change,
    GuardFailedError,
    InvalidTransitionError,
    StoreError,
    Transition,
    VersionConflictError,
    open_store,
)
from holdfast.stores.contract import Store

KINDS = ["before", "after", "after_commit"]


class MailError(Exception):
    """What a callback raises."""


def note(text: str) -> Callable[[Order], None]:
    """Return a callback that notes that it was called."""

    def callback(order: Order) -> None:
        order.calls.append(text)

    return callback


def fail(order: Order) -> None:
    """Raise, as a callback."""
    raise MailError("no mail")


def test_callbacks_are_called_in_the_order_of_a_transition(any_store: Store) -> None:
    """Given one of each kind, when the order transitions, then guard, before, after, commit."""
    flow = order_flow()
    flow.after_commit()(note("after_commit"))
    flow.after()(note("after"))
    flow.before()(note("before"))

    @flow.guard()
    def guard(order: Order) -> bool:
        order.calls.append("guard")
        return True

    order = begin(flow, any_store)
    order.transition_to("checking_out")
    assert noted(order) == ["guard", "before", "after", "after_commit"]


@pytest.mark.parametrize("kind", KINDS)
def test_callbacks_of_a_kind_are_called_in_the_order_of_their_definition(
    store: Store, kind: str
) -> None:
    """Given several, with different filters, when all are for the transition, then in order."""
    flow = order_flow()
    add = getattr(flow, kind)
    add(to="checking_out")(note("1"))
    add()(note("2"))
    add(from_="pending", to=["cancelled", "checking_out"])(note("3"))
    add(from_=["pending"])(note("4"))
    order = begin(flow, store)
    order.transition_to("checking_out")
    assert noted(order) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("filters", "called"),
    [
        ({}, [1, 2, 3]),
        ({"to": "purchased"}, [2]),
        ({"to": ["purchased", "shipped"]}, [2, 3]),
        ({"from_": "checking_out"}, [2]),
        ({"from_": ["pending", "purchased"]}, [1, 3]),
        ({"from_": "pending", "to": "checking_out"}, [1]),
        ({"from_": "pending", "to": "cancelled"}, []),
    ],
)
def test_a_callback_is_called_where_its_filters_say(
    store: Store, kind: str, filters: dict[str, Any], called: list[int]
) -> None:
    """Given from_ and to, one or many or none, when an order goes its way, then just there."""
    flow = order_flow()
    getattr(flow, kind)(**filters)(note("called"))
    order = begin(flow, store)
    seen = []
    for step, state in enumerate(("checking_out", "purchased", "shipped"), 1):
        order.transition_to(state)
        seen += [step for _ in noted(order)]
    assert seen == called


def test_before_sees_what_is_about_to_be(store: Store) -> None:
    """Given a callback before, when it is called, then it has the change, with the metadata."""
    flow = order_flow()
    seen: list[Change] = []
    flow.before()(lambda order, change: seen.append(change))
    order = begin(flow, store)
    bring(order, "checking_out")
    order.transition_to("cancelled", metadata={"by": "bob"})
    assert [(each.from_state, each.to_state, each.version) for each in seen] == [
        ("pending", "checking_out", 1),
        ("checking_out", "cancelled", 2),
    ]
    assert seen[1].metadata == {"by": "bob"}


@pytest.mark.parametrize("kind", ["after", "after_commit"])
def test_after_sees_what_was_written(store: Store, kind: str) -> None:
    """Given a callback after, when it is called, then it has the transition, as the log has it."""
    flow = order_flow()
    seen: list[Transition] = []
    getattr(flow, kind)()(lambda order, transition: seen.append(transition))
    order = begin(flow, store)
    bring(order, "checking_out", "cancelled")
    assert seen == order.history


def test_the_object_may_have_any_name(store: Store) -> None:
    """Given a callback that calls the object as it likes, when called, then it has the object."""
    flow = order_flow()
    seen: list[object] = []
    flow.before()(lambda thing: seen.extend([thing]))
    flow.after()(lambda self_, transition: seen.append(self_))
    order = begin(flow, store)
    order.transition_to("cancelled")
    assert seen == [order.object, order.object]


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_callback_that_raises_keeps_all_from_being_written(any_store: Store, kind: str) -> None:
    """Given a callback in the transaction that raises, when called, then all is as before."""
    flow = order_flow()
    getattr(flow, kind)(to="purchased")(fail)
    flow.after_commit(to="purchased")(note("never"))
    order = begin(flow, any_store)
    bring(order, "checking_out")
    with pytest.raises(MailError, match="no mail"):
        order.transition_to("purchased")
    assert (order.current_state, path(order)) == ("checking_out", ["checking_out"])
    assert noted(order) == []
    order.transition_to("cancelled")


@pytest.mark.parametrize("kind", ["before", "after"])
def test_the_attempt_swallows_no_error_of_a_callback(store: Store, kind: str) -> None:
    """Given a callback that raises, when it was only an attempt, then its error arrives."""
    flow = order_flow()
    getattr(flow, kind)()(fail)
    with pytest.raises(MailError):
        begin(flow, store).try_transition_to("cancelled")


def test_a_raising_callback_ends_those_after_it(store: Store) -> None:
    """Given callbacks before, when the first raises, then the next is not called."""
    flow = order_flow()
    flow.before()(fail)
    flow.before()(note("next"))
    order = begin(flow, store)
    with pytest.raises(MailError):
        order.transition_to("cancelled")
    assert noted(order) == []


def test_after_the_commit_the_transition_is_kept_whatever_happens(any_store: Store) -> None:
    """Given a callback after the commit that raises, when called, then the transition stands."""
    flow = order_flow()
    flow.after_commit()(fail)
    order = begin(flow, any_store)
    assert order.transition_to("cancelled").to_state == "cancelled"
    assert path(order) == ["cancelled"]


def test_one_failing_callback_after_the_commit_stops_no_other(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Given two after the commit, when the first raises, then it is logged, and the next called."""
    flow = order_flow()
    flow.after_commit()(fail)
    flow.after_commit()(note("second"))
    order = begin(flow, store)
    order.transition_to("cancelled")
    assert noted(order) == ["second"]
    [logged] = caplog.records
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], MailError)
    assert "order 'o-1'" in logged.getMessage()


def test_after_the_commit_others_see_the_transition(any_store: Store) -> None:
    """Given a callback after the commit, when it looks, then the transition is there."""
    flow = order_flow()
    seen: list[object] = []
    flow.after_commit()(lambda order: seen.append(begin(flow, any_store).current_state))
    begin(flow, any_store).transition_to("cancelled")
    assert seen == ["cancelled"]


def test_a_refusal_of_a_guard_is_told_to_both_kinds_of_failure_callbacks(store: Store) -> None:
    """Given callbacks on failures, when a guard refuses, then they are called with the error."""
    flow = order_flow()
    flow.guard()(lambda order: False)
    seen: list[tuple[str, type, str | None]] = []
    flow.on_failure()(
        lambda order, change, error: seen.append(("failure", type(error), change.to_state))
    )
    flow.on_guard_failure()(
        lambda order, change, error: seen.append(("guard", type(error), change.to_state))
    )
    order = begin(flow, store)
    with pytest.raises(GuardFailedError):
        order.transition_to("cancelled")
    assert sorted(seen) == [
        ("failure", GuardFailedError, "cancelled"),
        ("guard", GuardFailedError, "cancelled"),
    ]


def test_an_attempt_calls_failure_callbacks_too(store: Store) -> None:
    """Given an attempt, when a guard refuses, then the callbacks are called, and it is False."""
    flow = order_flow()
    flow.guard()(lambda order: False)
    flow.on_guard_failure()(note("refused"))
    order = begin(flow, store)
    assert order.try_transition_to("cancelled") is False
    assert noted(order) == ["refused"]


def test_an_invalid_transition_is_a_failure_and_no_guards(store: Store) -> None:
    """Given a pair without a rule, when it is tried, then on_failure alone is called."""
    flow = order_flow()
    flow.on_failure()(note("failure"))
    flow.on_failure(to="shipped")(note("to shipped"))
    flow.on_failure(from_="pending")(note("from pending"))
    flow.on_failure(to="cancelled")(note("to cancelled"))
    flow.on_guard_failure()(note("guard"))
    order = begin(flow, store)
    with pytest.raises(InvalidTransitionError):
        order.transition_to("shipped")
    assert noted(order) == ["failure", "to shipped", "from pending"]


def test_a_failure_whose_state_is_not_known_is_told_once(store: Store) -> None:
    """Given a store that fails, when it is asked, then those are called that may be meant, once."""
    flow = order_flow()
    flow.on_failure(note("any"))
    flow.on_failure(from_="pending")(note("from pending"))
    flow.on_failure(from_="pending", to="checking_out")(note("to checking_out"))
    flow.on_failure(to="cancelled")(note("to cancelled"))
    order = begin(flow, store)
    store.close()
    with pytest.raises(StoreError):
        order.transition_to("checking_out")
    assert noted(order) == ["any", "from pending", "to checking_out"]
    with pytest.raises(StoreError):
        order.trigger("cancel")
    assert noted(order) == ["any", "from pending", "to cancelled"]
    with pytest.raises(StoreError):
        order.trigger("submit")
    assert noted(order) == ["any", "from pending", "to checking_out", "to cancelled"]


def test_an_event_that_comes_too_late_is_told_to_those_that_it_was_for(store: Store) -> None:
    """Given an event with a stale version, when it fails, then as the transition it names first."""
    flow = order_flow()
    seen: list[tuple[str | None, str | None, str | None]] = []
    flow.on_failure(from_="pending", to="checking_out")(
        lambda order, change: seen.append(
            (change.from_state, change.to_state, change.command.event)
        )
    )
    flow.on_failure(from_="checking_out")(note("from checking_out"))
    flow.on_failure(to="purchased")(note("to purchased"))
    flow.guard(note("guard"))
    order = begin(flow, store)
    with pytest.raises(VersionConflictError):
        order.trigger("submit", expected_version=3)
    assert (seen, noted(order)) == ([("pending", "checking_out", "submit")], [])


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_callbacks_error_is_a_failure(store: Store, kind: str) -> None:
    """Given a callback that raises, when called, then on_failure has its error."""
    flow = order_flow()
    getattr(flow, kind)()(fail)
    seen: list[object] = []
    flow.on_failure()(lambda order, error: seen.append(error))
    flow.on_guard_failure()(note("guard"))
    order = begin(flow, store)
    with pytest.raises(MailError) as raised:
        order.transition_to("cancelled")
    assert seen == [raised.value]
    assert noted(order) == []


def test_failure_callbacks_run_outside_the_transaction(any_store: Store) -> None:
    """Given a callback on failures, when it writes elsewhere, then that is not undone."""
    flow = order_flow()
    flow.before(to="purchased")(fail)

    @flow.on_failure(to="purchased")
    def record(order: Order) -> None:
        flow(Order(), store=any_store, id="o-2").transition_to("cancelled")

    order = begin(flow, any_store)
    bring(order, "checking_out")
    with pytest.raises(MailError):
        order.transition_to("purchased")
    assert flow(Order(), store=any_store, id="o-2").current_state == "cancelled"


def test_nothing_fails_where_all_is_well(store: Store) -> None:
    """Given callbacks on failures, when an order transitions, then they are not called."""
    flow = order_flow()
    flow.on_failure()(note("failure"))
    flow.on_guard_failure()(note("guard"))
    order = begin(flow, store)
    bring(order, "checking_out", "purchased")
    assert noted(order) == []


def test_the_object_may_keep_its_state_after_the_commit(store: Store) -> None:
    """Given a model with a state of its own, when it is set after the commit, then they agree."""
    flow = order_flow()

    @flow.after_commit()
    def mirror(order: Order, transition: Transition) -> None:
        order.calls.append(str(transition.to_state))

    order = begin(flow, store)
    bring(order, "checking_out", "purchased")
    assert order.object.calls == ["checking_out", "purchased"]


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_callback_that_calls_the_store_in_memory_is_told_what_to_call(kind: str) -> None:
    """Given a callback in the transaction, then the store is no place to ask past it."""
    with open_store("memory://") as store:
        orders = order_flow()

        def count(order: Order) -> None:
            store.count("order")

        getattr(orders, kind)(count)
        flow = begin(orders, store)
        with pytest.raises(StoreError, match="a hook calls services, which join its transaction"):
            flow.transition_to("cancelled")
        assert flow.current_state == "pending"
