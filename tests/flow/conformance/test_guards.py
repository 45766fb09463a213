"""Statesman's behaviours: guards, which say whether a transition may be."""

from __future__ import annotations

from typing import Any

import pytest
from tests.flow.orders import Order, begin, noted, order_flow, path

from holdfast import (
    Change,
    CommandRejectedError,
    DefinitionError,
    GuardFailedError,
    InvalidTransitionError,
)
from holdfast.stores.contract import Store


def test_a_guard_that_passes_lets_the_transition_be(store: Store) -> None:
    """Given a guard that says yes, when the order transitions, then it does."""
    flow = order_flow()
    flow.guard()(lambda order: True)
    order = begin(flow, store)
    order.transition_to("checking_out")
    assert order.current_state == "checking_out"


def test_a_guard_that_refuses_keeps_all_from_being_written(any_store: Store) -> None:
    """Given a guard that says no, when the order is to transition, then the error names it."""
    flow = order_flow()

    @flow.guard(to="checking_out")
    def in_stock(order: Order) -> bool:
        return False

    order = begin(flow, any_store)
    with pytest.raises(GuardFailedError) as raised:
        order.transition_to("checking_out")
    assert raised.value.guard == "in_stock"
    assert (order.current_state, order.history) == ("pending", [])


def test_none_refuses_as_false_does(store: Store) -> None:
    """Given a guard that ends without a word, when it is asked, then it refuses."""
    flow = order_flow()

    @flow.guard()
    def forgetful(order: Order) -> None: ...

    assert not begin(flow, store).try_transition_to("cancelled")


def test_anything_else_than_a_truth_value_is_a_mistake(store: Store) -> None:
    """Given a guard that returns a number, when it is asked, then neither yes nor no is assumed."""
    flow = order_flow()

    @flow.guard()
    def counting(order: Order) -> bool:
        return 1  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    order = begin(flow, store)
    with pytest.raises(DefinitionError, match="counting"):
        order.transition_to("cancelled")
    assert order.history == []


@pytest.mark.parametrize(
    ("filters", "guarded"),
    [
        ({}, {"checking_out", "cancelled"}),
        ({"to": "checking_out"}, {"checking_out"}),
        ({"to": ["checking_out", "cancelled"]}, {"checking_out", "cancelled"}),
        ({"from_": "pending"}, {"checking_out", "cancelled"}),
        ({"from_": ("pending", "checking_out")}, {"checking_out", "cancelled"}),
        ({"from_": "pending", "to": "cancelled"}, {"cancelled"}),
        ({"from_": "checking_out"}, set()),
        ({"from_": "checking_out", "to": "cancelled"}, set()),
    ],
)
def test_a_guard_is_asked_where_its_filters_say(
    store: Store, filters: dict[str, Any], guarded: set[str]
) -> None:
    """Given from_ and to, one or many or none, when asked, then the guard refuses just these."""
    flow = order_flow()
    flow.guard(**filters)(lambda order: False)
    order = begin(flow, store)
    refused = {state for state in order.allowed_transitions if not order.can_transition_to(state)}
    assert refused == guarded


def test_guards_are_asked_in_the_order_of_their_definition(store: Store) -> None:
    """Given two guards, when both pass, then they were asked in their order."""
    flow = order_flow()

    @flow.guard(to="checking_out")
    def first(order: Order) -> bool:
        order.calls.append("first")
        return True

    @flow.guard(from_="pending")
    def second(order: Order) -> bool:
        order.calls.append("second")
        return True

    order = begin(flow, store)
    order.transition_to("checking_out")
    assert noted(order) == ["first", "second"]


def test_the_first_refusal_ends_the_asking(store: Store) -> None:
    """Given a guard that refuses, when the order is to transition, then no later one is asked."""
    flow = order_flow()

    @flow.guard()
    def first(order: Order) -> bool:
        return False

    @flow.guard()
    def second(order: Order) -> bool:
        raise AssertionError

    with pytest.raises(GuardFailedError, match="first"):
        begin(flow, store).transition_to("checking_out")


def test_a_guard_is_not_asked_for_what_no_rule_allows(store: Store) -> None:
    """Given a pair without a rule, when it is tried, then that is the error."""
    flow = order_flow()

    @flow.guard()
    def never(order: Order) -> bool:
        raise AssertionError

    with pytest.raises(InvalidTransitionError):
        begin(flow, store).transition_to("shipped")


def test_a_guard_is_given_the_object_and_the_change(store: Store) -> None:
    """Given a guard that wants them, when asked, then it sees from where to where, and metadata."""
    flow = order_flow()
    seen: list[object] = []

    @flow.guard()
    def look(anything: Order, change: Change) -> bool:
        seen.extend((anything, change.from_state, change.to_state, change.id, change.version))
        seen.append(dict(change.metadata))
        return True

    order = begin(flow, store)
    order.transition_to("checking_out", metadata={"by": "alice"})
    order.transition_to("purchased")
    assert seen[:6] == [order.object, "pending", "checking_out", "o-1", 1, {"by": "alice"}]
    assert seen[6:] == [order.object, "checking_out", "purchased", "o-1", 2, {}]


def test_a_guard_tells_the_reason_that_was_declared(store: Store) -> None:
    """Given a guard with a reason, when it refuses, then the error has it."""
    flow = order_flow()
    flow.guard(reason="sold out")(lambda order: False)
    with pytest.raises(GuardFailedError, match="sold out") as raised:
        begin(flow, store).transition_to("checking_out")
    assert raised.value.reason == "sold out"


def test_a_guard_tells_a_reason_of_its_own(store: Store) -> None:
    """Given a guard that rejects with a reason, when it does, then it is a guard's refusal."""
    flow = order_flow()

    @flow.guard()
    def in_stock(order: Order) -> bool:
        raise CommandRejectedError("only two are left")

    order = begin(flow, store)
    with pytest.raises(GuardFailedError) as raised:
        order.transition_to("checking_out")
    assert (raised.value.guard, raised.value.reason) == ("in_stock", "only two are left")
    assert not order.try_transition_to("checking_out")


def test_a_guards_own_error_arrives_as_it_was_raised(store: Store) -> None:
    """Given a guard that fails, when the order is to transition, then nothing is swallowed."""
    flow = order_flow()

    @flow.guard()
    def broken(order: Order) -> bool:
        raise LookupError("the warehouse does not answer")

    order = begin(flow, store)
    for ask in (order.transition_to, order.try_transition_to, order.can_transition_to):
        with pytest.raises(LookupError, match="the warehouse does not answer"):
            ask("checking_out")
    assert order.history == []


def test_why_not_names_every_guard_that_refuses(store: Store) -> None:
    """Given two refusals among three guards, when asked why not, then both are told, in order."""
    flow = order_flow()

    @flow.guard(to="checking_out", reason="sold out")
    def in_stock(order: Order) -> bool:
        return False

    @flow.guard()
    def open_now(order: Order) -> bool:
        return True

    @flow.guard()
    def is_paid(order: Order) -> bool:
        raise CommandRejectedError("no card on file")

    order = begin(flow, store)
    refusals = order.why_not("checking_out")
    assert [(type(each), getattr(each, "guard", None)) for each in refusals] == [
        (GuardFailedError, "in_stock"),
        (GuardFailedError, "is_paid"),
    ]
    assert [getattr(each, "reason", None) for each in refusals] == ["sold out", "no card on file"]
    assert path(order) == []


def test_why_not_names_the_rule_that_there_is_not(store: Store) -> None:
    """Given a pair without a rule, when asked why not, then that alone is told."""
    flow = order_flow()
    flow.guard(to=["shipped", "purchased"])(lambda order: False)
    order = begin(flow, store)
    order.transition_to("checking_out")
    [refusal] = order.why_not("shipped")
    assert isinstance(refusal, InvalidTransitionError)
    assert (refusal.state, refusal.allowed) == ("checking_out", ("purchased", "cancelled"))


def test_why_not_is_empty_where_nothing_refuses(store: Store) -> None:
    """Given a transition that could be, when asked why not, then there is no reason."""
    assert begin(order_flow(), store).why_not("cancelled") == []
