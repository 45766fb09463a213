"""A warehouse and a payment provider inside this process, and a service that uses them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast import Service, open_store
from holdfast.examples.order.dependencies import CallFailedError, OrderDeps
from holdfast.examples.order.machine import order
from holdfast.examples.order.model import Line, OrderCommand, OrderState


def service() -> Service[OrderState, OrderCommand, OrderDeps]:
    """Return the orders in `orders.db` in the current folder, with stand-ins for the world."""
    return Service(order, open_store("sqlite:///orders.db"), deps=StandIn())


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was really done, for one token."""

    order_id: str
    token: str
    receipt: str
    cents: int = 0


class StandIn(OrderDeps):
    """Keeps books by token, as real providers do. Safe for threads.

    While `payment_down` every charge fails. Half of them, drawn from `seed`, fail on the way back:
    the money is taken and the answer is lost.
    """

    def __init__(self, *, seed: int = 0, latency_seconds: float = 0.0) -> None:
        self.payment_down = False
        self.removals: list[Entry] = []
        self.charges: list[Entry] = []
        self.answers_lost = 0
        """How many charges were booked by a call that then failed."""
        self._latency_seconds = latency_seconds
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._receipts: dict[tuple[str, str], str] = {}

    def remove_stock(self, order_id: str, lines: Sequence[Line], *, token: str) -> str:
        time.sleep(self._latency_seconds)
        with self._lock:
            return self._book(self.removals, "W", order_id, token)

    def charge(self, order_id: str, customer: str, cents: int, *, token: str) -> str:
        time.sleep(self._latency_seconds)
        with self._lock:
            if not self.payment_down:
                return self._book(self.charges, "P", order_id, token, cents)
            if self._random.random() < 0.5:
                raise CallFailedError("no connection")
            self.answers_lost += ("P", token) not in self._receipts
            self._book(self.charges, "P", order_id, token, cents)
        raise CallFailedError("timed out")

    def _book(self, book: list[Entry], kind: str, order_id: str, token: str, cents: int = 0) -> str:
        """Return the receipt of a token, entering it into the book when it is new."""
        receipt = self._receipts.get((kind, token))
        if receipt is None:
            receipt = self._receipts[kind, token] = f"{kind}-{token[:12]}"
            book.append(Entry(order_id, token, receipt, cents))
        return receipt
