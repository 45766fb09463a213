"""The order flow of the tests: states and rules without callbacks, which each test adds."""

from __future__ import annotations

from typing import Any

from holdfast import Flow, Transition
from holdfast.stores.contract import Store


class Order:
    """What the flow is around: it notes what is called."""

    def __init__(self) -> None:
        self.in_stock = True
        self.calls: list[str] = []


class Orders(Flow[Order], abstract=True):
    """A template: every test inherits its own."""

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
    cancel = Flow.event(pending.to(cancelled), checking_out.to(cancelled))


def order_flow() -> type[Orders]:
    """Return a flow of the test's own, to add callbacks to."""

    class OrderFlow(Orders, name="order"):
        pass

    return OrderFlow


def noted(flow: Orders) -> list[str]:
    """Return what was called on the flow's order, and forget it."""
    calls, flow.object.calls = flow.object.calls, []
    return calls


def path(flow: Orders) -> list[str | None]:
    """Return the states that the history leads through."""
    return [each.to_state for each in flow.history]


def begin(flow: type[Orders], store: Store, **options: Any) -> Orders:
    """Return a flow of the kind around a new order."""
    return flow(Order(), store=store, id="o-1", **options)


def bring(flow: Orders, *states: str) -> list[Transition]:
    """Bring an entity through states."""
    return [flow.transition_to(state) for state in states]
