"""The assertions for users' tests: each passes where it should, and fails where it should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.flow.orders import Order, Orders, begin, order_flow

from holdfast import Change, CommandRejectedError, Flow, GuardFailedError, Service, open_store
from holdfast.testing import assert_calls, assert_guarded


class ShopFlow(Flow[Order]):
    pending = Flow.state(initial=True)
    paid = Flow.state()
    shipped = Flow.state()
    pending.to(paid)
    paid.to(shipped)


@ShopFlow.guard(to=ShopFlow.paid, reason="sold out")
def in_stock(order: Order) -> bool:
    return order.in_stock


@ShopFlow.guard()
def is_open(order: Order) -> bool:
    if order.calls == ["closed"]:
        raise CommandRejectedError("closed on Sundays")
    return True


@ShopFlow.before()
def reserve(order: Order) -> None: ...


@ShopFlow.after(to=ShopFlow.paid)
def book(order: Order) -> None: ...


@ShopFlow.after_commit(to=ShopFlow.paid)
def confirm(order: Order) -> None: ...


@ShopFlow.on_guard_failure()
def tell(order: Order) -> None: ...


@ShopFlow.after(to=ShopFlow.shipped)
def track(order: Order) -> None: ...


def shop(*, in_stock: bool = True) -> ShopFlow:
    """Return a flow around a new order."""
    order = Order()
    order.in_stock = in_stock
    return ShopFlow(order, store=open_store("memory://"), id="o-1")


def test_a_transition_that_a_guard_refuses_is_guarded() -> None:
    """Given a guard that refuses, then it is found by function, by name, by reason, or at all."""
    flow = shop(in_stock=False)
    assert_guarded(flow, "paid")
    assert_guarded(flow, ShopFlow.paid, by=in_stock)
    assert_guarded(flow, "paid", by="in_stock", reason="sold out")


def test_a_guard_that_looks_at_metadata_is_found() -> None:
    """Given a guard on who asks, then it is asked about the one who is named."""

    class Desk(Orders, name="desk"):
        """A flow of the test's own."""

    @Desk.guard(reason="ask accounting")
    def is_accounting(order: Order, change: Change) -> bool:
        return change.metadata == {"by": "accounting"}

    flow = Desk(Order(), store=open_store("memory://"), id="o-1")
    assert_guarded(flow, "cancelled", by=is_accounting)
    assert_guarded(flow, "cancelled", by=is_accounting, metadata={"by": "sales"})
    with pytest.raises(AssertionError, match="no guard refuses from pending to cancelled"):
        assert_guarded(flow, "cancelled", metadata={"by": "accounting"})


def test_each_of_several_guards_is_found() -> None:
    """Given two guards that refuse, then either is found, and not the first alone."""
    flow = shop(in_stock=False)
    flow.object.calls = ["closed"]
    assert_guarded(flow, "paid", by=in_stock)
    assert_guarded(flow, "paid", by=is_open, reason="closed on Sundays")


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: assert_guarded(shop(), "paid"), "no guard refuses from pending to paid"),
        (
            lambda: assert_guarded(shop(in_stock=False), "shipped"),
            "no rule leads from pending to shipped, so that no guard is asked",
        ),
        (
            lambda: assert_guarded(shop(in_stock=False), "paid", by=is_open),
            "is_open does not refuse from pending to paid; it is in_stock that does",
        ),
        (
            lambda: assert_guarded(shop(in_stock=False), "paid", reason="rain"),
            "the reason not to go from pending to paid is 'sold out', not 'rain'",
        ),
    ],
)
def test_what_is_not_guarded_so_fails(act: Callable[[], None], told: str) -> None:
    """Given another state of things, when it is asserted, then the assertion says what there is."""
    with pytest.raises(AssertionError) as raised:
        act()
    assert str(raised.value) == told


def test_what_is_called_in_its_order_passes() -> None:
    """Given callbacks, when they are called in the order named, then others may come between."""
    with assert_calls(ShopFlow, in_stock, reserve, book, confirm, never=[track]):
        shop().transition_to("paid")
    with assert_calls(ShopFlow, reserve, confirm):
        shop().transition_to("paid")


def test_calls_are_seen_through_flows_that_were_there_before() -> None:
    """Given a flow that was used before, when it is used within, then its calls are seen."""
    flow = shop()
    flow.transition_to("paid")
    with assert_calls(ShopFlow.machine, track):
        flow.transition_to("shipped")


def test_assertions_may_be_nested() -> None:
    """Given two blocks, one within the other, when calls are made, then each sees them."""
    functions = [hook.function for hook in ShopFlow.machine.hooks or ()]
    with assert_calls(ShopFlow, reserve, reserve, never=[tell]):
        with assert_calls(ShopFlow, in_stock, book, never=[track]):
            shop().transition_to("paid")
        missed = pytest.raises(AssertionError, match="track was not called")
        with missed, assert_calls(ShopFlow, track):
            shop().transition_to("paid")
    assert [hook.function for hook in ShopFlow.machine.hooks or ()] == functions


def test_calls_of_what_was_decided_before_are_seen() -> None:
    """Given a command that was prepared, when it is committed within, then its calls are seen."""
    flow = ShopFlow.compiled
    shops = Service(flow.machine, open_store("memory://"), deps=Order())
    transaction = shops.begin()
    transaction.prepare("o-1", flow.commands["paid"]())
    with assert_calls(ShopFlow, reserve, book, confirm):
        transaction.commit()


def test_calls_on_a_failure_are_seen() -> None:
    """Given a refusal that the test expects, when it comes, then the failure callback is seen."""
    flow = shop(in_stock=False)
    with assert_calls(ShopFlow, tell, never=[reserve]), pytest.raises(GuardFailedError):
        flow.transition_to("paid")
    with assert_calls(ShopFlow, tell):
        assert flow.try_transition_to("paid") is False


@pytest.mark.parametrize(
    ("functions", "never", "told"),
    [
        ([track], [], "track was not called in its turn, but in_stock, is_open, reserve, book"),
        ([confirm, reserve], [], "reserve was not called in its turn, but "),
        ([book, book], [], "book was not called in its turn, but "),
        ([], [book], "book was called; in all, in_stock, is_open, reserve, book, confirm"),
        ([reserve], [book], "book was called; in all, "),
        ([len], [], "is no guard or callback of shop"),
        ([], [len], "is no guard or callback of shop"),
        ([], [], "assert_calls is given no function to look for"),
    ],
)
def test_what_is_not_called_so_fails(
    functions: list[Callable[..., None]], never: list[Callable[..., None]], told: str
) -> None:
    """Given other calls, when these are asserted, then the assertion says what there were."""
    with pytest.raises(AssertionError) as raised, assert_calls(ShopFlow, *functions, never=never):
        shop().transition_to("paid")
    assert told in str(raised.value)


def test_an_error_within_arrives_and_nothing_is_watched_after_it() -> None:
    """Given an error, when it leaves the block, then it is no assertion, and all is as before."""
    functions = [hook.function for hook in ShopFlow.machine.hooks or ()]
    with pytest.raises(LookupError), assert_calls(ShopFlow, reserve):
        raise LookupError
    assert [hook.function for hook in ShopFlow.machine.hooks or ()] == functions


def test_a_flow_without_callbacks_calls_none() -> None:
    """Given a flow without callbacks, when one is looked for, then that is said."""
    flow: type[Orders] = order_flow()
    with pytest.raises(AssertionError, match="is no guard"), assert_calls(flow, reserve):
        begin(flow, open_store("memory://"))
