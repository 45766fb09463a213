"""What the order machine needs of the world: a warehouse and a payment provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holdfast.examples.order.model import Line


class CallFailedError(Exception):
    """The call failed, or what became of it is not known; it may be sent again with its token."""


class OrderDeps(Protocol):
    """Calls that have their effect once for each token, however often they are sent.

    Both return a receipt, the same one for the same token, and raise CallFailedError.
    """

    def remove_stock(self, order_id: str, lines: Sequence[Line], *, token: str) -> str:
        """Take what was ordered out of the warehouse."""
        ...

    def charge(self, order_id: str, customer: str, cents: int, *, token: str) -> str:
        """Take the customer's money."""
        ...
