"""Statesman's behaviours: where an entity is, where it may go, and how it goes there."""

from __future__ import annotations

import pytest
from tests.flow.orders import Order, Orders, begin, bring, order_flow, path

from holdfast import InvalidTransitionError, ValidationError
from holdfast.stores.contract import Store


def test_an_entity_without_a_history_is_in_the_initial_state(store: Store) -> None:
    """Given nothing written, when asked, then it is where the flow begins."""
    order = begin(order_flow(), store)
    assert order.current_state == "pending"
    assert order.current_state is type(order).pending
    assert order.history == []


def test_a_transition_changes_the_current_state(store: Store) -> None:
    """Given an order, when it transitions, then that is its state."""
    order = begin(order_flow(), store)
    order.transition_to("checking_out")
    assert order.current_state == "checking_out"


def test_a_state_may_be_given_as_attribute_or_as_text(store: Store) -> None:
    """Given names that come from requests, when they are used, then they mean the states."""
    flow = order_flow()
    order = begin(flow, store)
    order.transition_to(flow.checking_out)
    order.transition_to("purchased")
    assert path(order) == [flow.checking_out, "purchased"]


def test_another_instance_sees_the_state(any_store: Store) -> None:
    """Given a transition by one instance, when another is made for the id, then it is there."""
    flow = order_flow()
    begin(flow, any_store).transition_to("cancelled")
    assert begin(flow, any_store).current_state == "cancelled"


def test_entities_are_told_apart_by_their_ids(store: Store) -> None:
    """Given two orders, when the one transitions, then the other does not."""
    flow = order_flow()
    flow(Order(), store=store, id="o-1").transition_to("cancelled")
    assert flow(Order(), store=store, id="o-2").current_state == "pending"


def test_the_state_is_one_of_those_asked_for(store: Store) -> None:
    """Given several names, when one of them is the state, then it is in them."""
    order = begin(order_flow(), store)
    assert order.in_state("pending")
    assert order.in_state("cancelled", type(order).pending)
    assert not order.in_state("cancelled", "shipped")


def test_an_entity_is_in_none_of_no_states(store: Store) -> None:
    """Given no names, when asked, then the answer is no."""
    assert not begin(order_flow(), store).in_state()


def test_allowed_transitions_are_those_of_the_rules(store: Store) -> None:
    """Given a state, when asked, then the states that it leads to are told in their order."""
    order = begin(order_flow(), store)
    assert order.allowed_transitions == ["checking_out", "cancelled"]
    order.transition_to("checking_out")
    assert order.allowed_transitions == ["purchased", "cancelled"]


def test_allowed_transitions_ask_no_guard(store: Store) -> None:
    """Given a guard that refuses, when asked for what the rules allow, then it is not called."""
    flow = order_flow()

    @flow.guard()
    def closed(order: Order) -> bool:
        raise AssertionError

    assert begin(flow, store).allowed_transitions == ["checking_out", "cancelled"]


def test_a_final_state_allows_nothing(store: Store) -> None:
    """Given an order that is cancelled, when asked, then no transition is left."""
    order = begin(order_flow(), store)
    order.transition_to("cancelled")
    assert order.allowed_transitions == []


def test_it_can_go_where_a_rule_leads(store: Store) -> None:
    """Given the rules, when asked whether it could, then that is what they say."""
    order = begin(order_flow(), store)
    assert order.can_transition_to("checking_out")
    assert not order.can_transition_to("purchased")
    assert not order.can_transition_to("pending")


def test_it_cannot_go_where_a_guard_refuses(store: Store) -> None:
    """Given a rule with a guard that refuses, when asked whether it could, then it cannot."""
    flow = order_flow()

    @flow.guard(to="checking_out")
    def in_stock(order: Order) -> bool:
        return order.in_stock

    order = begin(flow, store)
    assert order.can_transition_to("checking_out")
    order.object.in_stock = False
    assert not order.can_transition_to("checking_out")
    assert order.can_transition_to("cancelled")


def test_to_ask_whether_it_could_writes_nothing(store: Store) -> None:
    """Given a question, when it is answered, then there is no history, and nothing was called."""
    flow = order_flow()
    flow.before()(lambda order: order.calls.append("before"))
    order = begin(flow, store)
    order.can_transition_to("checking_out")
    assert (order.history, order.object.calls) == ([], [])


def test_a_transition_that_no_rule_allows_is_refused(any_store: Store) -> None:
    """Given a pair without a rule, when it is tried, then the error says what is allowed."""
    order = begin(order_flow(), any_store)
    with pytest.raises(InvalidTransitionError) as raised:
        order.transition_to("shipped")
    error = raised.value
    assert (error.machine, error.id, error.state) == ("order", "o-1", "pending")
    assert error.allowed == ("checking_out", "cancelled")
    assert "shipped cannot be applied to order 'o-1', in state pending" in str(error)
    assert (order.current_state, order.history) == ("pending", [])


def test_a_transition_from_a_later_state_is_refused_too(store: Store) -> None:
    """Given an order that is cancelled, when it is to be shipped, then that is said."""
    order = begin(order_flow(), store)
    order.transition_to("cancelled")
    with pytest.raises(InvalidTransitionError, match="in state cancelled; allowed: no command"):
        order.transition_to("shipped")


def test_the_initial_state_is_refused_where_nothing_leads_back(store: Store) -> None:
    """Given an order under way, when it is to be pending again, then that is refused."""
    order = begin(order_flow(), store)
    order.transition_to("checking_out")
    assert not order.try_transition_to("pending")
    assert order.current_state == "checking_out"


def test_the_initial_state_is_refused_where_it_is_already(store: Store) -> None:
    """Given a new order, when it is to be pending, then that is no transition, recorded or not."""
    for record_initial in (False, True):
        flow = order_flow()
        flow.on_failure()(lambda order: order.calls.append("failure"))
        order = flow(Order(), store=store, id=f"{record_initial}", record_initial=record_initial)
        with pytest.raises(InvalidTransitionError, match="in state pending; allowed: checking_out"):
            order.transition_to("pending")
        assert order.object.calls == ["failure"]
        assert not order.can_transition_to("pending")
        assert len(order.history) == record_initial


def test_a_circle_leads_back_to_the_initial_state(store: Store) -> None:
    """Given a rule back to the begin, when the order takes it, then it is there again."""
    flow = order_flow()
    flow.cancelled.to(flow.pending)
    order = begin(flow, store)
    bring(order, "cancelled", "pending", "cancelled")
    assert order.version == 3


def test_the_attempt_tells_whether_it_came_off(store: Store) -> None:
    """Given an attempt, when a rule or a guard refuses, then it is False, else True."""
    flow = order_flow()

    @flow.guard(to="checking_out")
    def in_stock(order: Order) -> bool:
        return order.in_stock

    order = begin(flow, store)
    order.object.in_stock = False
    assert order.try_transition_to("shipped") is False
    assert order.try_transition_to("checking_out") is False
    order.object.in_stock = True
    assert order.try_transition_to("checking_out") is True
    assert path(order) == ["checking_out"]


def test_the_attempt_keeps_metadata(store: Store) -> None:
    """Given an attempt with metadata, when it comes off, then the transition has them."""
    order = begin(order_flow(), store)
    order.try_transition_to("cancelled", metadata={"by": "alice"})
    assert order.history[0].metadata == {"by": "alice"}


@pytest.mark.parametrize("name", ["shiped", "", "Pending", "submit"])
def test_a_name_that_is_no_state_is_refused(store: Store, name: str) -> None:
    """Given a name that came from anywhere, when it is no state, then that is said."""
    order = begin(order_flow(), store)
    asked = (order.transition_to, order.try_transition_to, order.can_transition_to)
    for ask in (*asked, order.why_not, order.in_state, order.last_transition_to):
        with pytest.raises(ValidationError, match="is no state of OrderFlow; they are pending, "):
            ask(name)


def test_a_state_of_another_flow_is_no_state_of_this_one(store: Store) -> None:
    """Given another flow's state of the same name, when it is used here, then it is refused."""
    other, order = order_flow(), begin(order_flow(), store)
    with pytest.raises(ValidationError, match="is no state of OrderFlow"):
        order.transition_to(other.cancelled)
    with pytest.raises(ValidationError, match="is no event of OrderFlow"):
        order.trigger(other.cancel)


def test_two_flows_are_possible_around_one_object(store: Store) -> None:
    """Given one object, when two flows are around it, then each has its own state."""

    class PaymentFlow(Orders):
        pass

    thing = Order()
    first = order_flow()(thing, store=store, id="o-1")
    second = PaymentFlow(thing, store=store, id="o-1")
    bring(first, "checking_out", "purchased")
    bring(second, "cancelled")
    assert (first.current_state, second.current_state) == ("purchased", "cancelled")
    assert first.object is second.object
