"""The order in `eventsourcing`: an aggregate whose methods are events, saved by an application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from msgspec import to_builtins

from benchmarks.order import LINES, PACK, PAY, PLACE, RETURN, SHIP, RefusedError

BY = "alice@example.com"


class Order(Aggregate):
    @event("Placed")
    def __init__(self, order_id: str, customer: str, lines: list[dict[str, Any]]) -> None:
        self.order_id = order_id
        self.customer = customer
        self.lines = lines
        self.total = sum(line["quantity"] * line["price"] for line in lines)
        self.status = "pending"

    @staticmethod
    def create_id(order_id: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/orders/{order_id}")

    @event("Paid")
    def pay(self, receipt: str, by: str) -> None:
        self._expect("pending")
        self.status = "paid"
        self.receipt = receipt

    @event("Packed")
    def pack(self, parcel: str, by: str) -> None:
        self._expect("paid")
        self.status = "packed"
        self.parcel = parcel

    @event("Shipped")
    def ship(self, tracking: str, by: str) -> None:
        self._expect("packed")
        self.status = "shipped"
        self.tracking = tracking

    @event("Returned")
    def take_back(self, reason: str, by: str) -> None:
        self._expect("shipped")
        self.status = "pending"

    def _expect(self, status: str) -> None:
        if self.status != status:
            raise RefusedError(f"{self.order_id} is {self.status}, not {status}")


MOVES: dict[str, Callable[[Any], object]] = {
    "pending": lambda order: order.pay(PAY.receipt, by=BY),
    "paid": lambda order: order.pack(PACK.parcel, by=BY),
    "packed": lambda order: order.ship(SHIP.tracking, by=BY),
    "shipped": lambda order: order.take_back(RETURN.reason, by=BY),
}


class Orders:
    """Its repository replays an aggregate's events to load it; that is how it comes."""

    def __init__(self, path: str, ids: Sequence[str]) -> None:
        settings = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": path}
        self._open(settings, ids)

    def handle(self, id: str) -> None:
        """Load, decide, save one transition."""
        order: Any = self.application.repository.get(self.ids[id])
        MOVES[order.status](order)
        self.application.save(order)

    def close(self) -> None:
        self.application.close()

    def _open(self, settings: dict[str, str], ids: Sequence[str]) -> None:
        self.application = Application[UUID](settings)
        lines = to_builtins(LINES)
        self.ids = {id: Order.create_id(id) for id in ids}
        self.application.save(*(Order(id, PLACE.customer, lines) for id in ids))


class ServerOrders(Orders):
    """The same on PostgreSQL."""

    def __init__(self, url: str, ids: Sequence[str]) -> None:
        from psycopg.conninfo import conninfo_to_dict

        given = conninfo_to_dict(url)
        names = {"DBNAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user"}
        names["PASSWORD"] = "password"
        settings = {f"POSTGRES_{name}": str(given.get(key, "")) for name, key in names.items()}
        self._open({"PERSISTENCE_MODULE": "eventsourcing.postgres", **settings}, ids)
