"""Flows that are type-checked and never run: the lines marked are mistakes, no others."""

from __future__ import annotations

from typing import Any, assert_type

from holdfast import Change, Flow, RejectedError, Transition, open_store


class Order:
    id: str
    total: int

    def reserve(self) -> None: ...


class OrderFlow(Flow):
    pending = Flow.state(initial=True)
    checking_out = Flow.state()
    purchased = Flow.state()
    shipped = Flow.state()
    cancelled = Flow.state()
    failed = Flow.state()
    refunded = Flow.state()

    pending.to(checking_out, cancelled)
    checking_out.to(purchased, cancelled)
    purchased.to(shipped, failed)
    shipped.to(refunded)

    submit = Flow.event(pending.to(checking_out), checking_out.to(purchased))
    Flow.transition(from_=[pending, checking_out], to="failed")


@OrderFlow.guard(to=OrderFlow.checking_out)
def products_in_stock(order: Order, change: Change) -> bool:
    return order.total > 0


@OrderFlow.before(from_=OrderFlow.checking_out, to=OrderFlow.cancelled)
def reallocate_stock(order: Order, change: Change) -> None: ...


@OrderFlow.after_commit(to=OrderFlow.purchased)
def confirm(order: Order, transition: Transition) -> None: ...


@OrderFlow.on_failure(from_=["pending", OrderFlow.checking_out])
def tell(order: Order, change: Change, error: Exception) -> None: ...


@OrderFlow.guard(reason="not today")
def unfiltered(order: Order) -> bool | None: ...


def decorated_functions_keep_their_types(order: Order, change: Change) -> None:
    assert_type(products_in_stock(order, change), bool)
    products_in_stock(order)  # error


class Typed(Flow[Order], name="typed", abstract=True):
    begun = Flow.state(initial=True)


def instances(order: Order) -> None:
    with open_store("memory://") as store:
        flow = OrderFlow(order, store=store, id=order.id)
        assert_type(flow.transition_to(OrderFlow.checking_out), Transition)
        assert_type(flow.transition_to("checking_out", metadata={"by": "alice"}), Transition)
        assert_type(flow.try_transition_to("shipped", expected_version=3, key="k-1"), bool)
        assert_type(flow.trigger(OrderFlow.submit), Transition)
        assert_type(flow.history, list[Transition])
        assert_type(flow.last_transition_to("shipped"), Transition | None)
        assert_type(flow.why_not("shipped"), list[RejectedError])
        assert_type(flow.retry_conflicts(2), OrderFlow)
        assert_type(flow.reload(), OrderFlow)
        assert_type(flow.on(object(), on_commit=lambda function: function()), OrderFlow)
        assert_type(flow.in_state("shipped", OrderFlow.cancelled), bool)
        assert_type(flow.object, Any)
        assert_type(Typed(order, store=store, id=order.id).object, Order)
        if flow.current_state == "pending" or flow.current_state == OrderFlow.pending:
            flow.current_state.name.upper()

        flow.transition_to(OrderFlow.shiped)  # error
        flow.transition_to(3)  # error
        flow.transition_to(order)  # error
        flow.transition_to()  # error
        flow.transition_to("shipped", {"by": "alice"})  # error
        flow.transition_to("shipped", by="alice")  # error
        flow.transition_to("shipped", metadata=["alice"])  # error
        flow.transition_to("shipped", expected_version="3")  # error
        flow.transition_to("shipped", key=3)  # error
        flow.try_transition_to(None)  # error
        flow.trigger(OrderFlow.sumbit)  # error
        flow.in_state(3)  # error
        flow.last_transition.at  # error
        flow.history()  # error
        flow.curent_state  # error
        flow.current_state = OrderFlow.shipped  # error
        flow.retry_conflicts("2")  # error
        flow.on()  # error
        OrderFlow(order, store=store)  # error
        OrderFlow(order, store="sqlite:///shop.db", id=order.id)  # error
        OrderFlow(order, id=order.id)  # error
        OrderFlow(order, store=store, id=3)  # error
        Typed("o-1", store=store, id=order.id)  # error


def definitions(order: Order, change: Change) -> None:
    OrderFlow.guard(form=OrderFlow.pending)  # error
    OrderFlow.guard(from_=OrderFlow.pendign)  # error
    OrderFlow.guard(to=3)  # error
    OrderFlow.before(reason="none")  # error
    OrderFlow.after(to=[OrderFlow.pending, 3])  # error
    OrderFlow.before("pending", "shipped")  # error
    OrderFlow.before(unfiltered, to="shipped")  # error
    OrderFlow.guard(unfiltered, "shipped")  # error
    OrderFlow.after_commit(from_=OrderFlow.pending, two="shipped")  # error
    OrderFlow.on_failure(3)  # error
    OrderFlow.guard(len)  # error
    OrderFlow.transition("pending", "shipped")  # error
    OrderFlow.pending.to(3)  # error
    OrderFlow.pending.to(OrderFlow.shipped, guard=unfiltered)  # error
    OrderFlow.transition(form="pending", to="shipped")  # error
    OrderFlow.remove_state()  # error
    Flow.state(intial=True)  # error
    Flow.event(OrderFlow.pending)  # error

    @OrderFlow.guard()  # error
    def counts(order: Order) -> int:
        return order.total

    @OrderFlow.before
    def unfiltered_before(order: Order, change: Change) -> int:
        return order.total

    @Typed.on_guard_failure(to=OrderFlow.shipped)
    def filtered(order: Order) -> str:
        return order.id

    assert_type(unfiltered_before(order, change), int)
    assert_type(filtered(order), str)
    filtered("o-1")  # error
    assert_type(OrderFlow.states[0].name, str)
    assert_type(OrderFlow.initial.name, str)
    OrderFlow.states = []  # error
    OrderFlow.succesors  # error
