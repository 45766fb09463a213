"""What may happen to an order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast import Change, CommandRejectedError, Flow

if TYPE_CHECKING:
    from holdfast.examples.django_shop.shop.models import Order


class OrderFlow(Flow["Order"], name="shop_order"):
    pending = Flow.state(initial=True)
    checking_out = Flow.state()
    purchased = Flow.state()
    shipped = Flow.state()
    cancelled = Flow.state()
    refunded = Flow.state()

    pending.to(checking_out, cancelled)
    checking_out.to(purchased, cancelled)
    purchased.to(shipped, refunded)
    shipped.to(refunded)


@OrderFlow.guard(to=OrderFlow.checking_out)
def is_in_stock(order: Order) -> bool:
    stock = order.product.stock
    if order.quantity > stock:
        raise CommandRejectedError(f"{order.quantity} are wanted, and {stock} are in stock")
    return True


@OrderFlow.guard(to=OrderFlow.refunded, reason="a refund needs a reason")
def has_reason(order: Order, change: Change[Any, Any]) -> bool:
    return bool(change.metadata.get("reason"))


@OrderFlow.before(to=OrderFlow.checking_out)
def reserve(order: Order) -> None:
    order.product.take(order.quantity)


@OrderFlow.before(from_=OrderFlow.checking_out, to=OrderFlow.cancelled)
def release(order: Order) -> None:
    order.product.take(-order.quantity)
