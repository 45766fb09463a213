"""The order in `transitions`: a model whose triggers are methods, its data kept by callbacks."""

from __future__ import annotations

from typing import Any

from transitions import Machine

from benchmarks.order import Pair, cancel, pack, pay, place, ship, take_back
from benchmarks.rivals import TRIGGERS, Calls

STATES = ["new", "pending", "paid", "packed", "shipped", "cancelled"]
TRANSITIONS: list[Any] = [
    {"trigger": "place", "source": "new", "dest": "pending", "before": "on_place"},
    {"trigger": "pay", "source": "pending", "dest": "paid", "before": "on_pay"},
    {"trigger": "pack", "source": "paid", "dest": "packed", "before": "on_pack"},
    {"trigger": "ship", "source": "packed", "dest": "shipped", "before": "on_ship"},
    {"trigger": "take_back", "source": "shipped", "dest": "pending", "before": "on_take_back"},
    {
        "trigger": "cancel",
        "source": ["pending", "paid", "packed"],
        "dest": "cancelled",
        "before": "on_cancel",
    },
]


class Order:
    data: Any = None

    def on_place(self, command: Any) -> None:
        self.data = place(None, command)

    def on_pay(self, command: Any) -> None:
        self.data = pay(self.data, command)

    def on_pack(self, command: Any) -> None:
        self.data = pack(self.data, command)

    def on_ship(self, command: Any) -> None:
        self.data = ship(self.data, command)

    def on_take_back(self, command: Any) -> None:
        self.data = take_back(self.data, command)

    def on_cancel(self, command: Any) -> None:
        self.data = cancel(self.data, command)


def prepare(pair: Pair, count: int) -> Calls:
    """See `benchmarks.rivals.Prepare`."""
    orders = [Order() for _ in range(count)]
    Machine(orders, STATES, "new", TRANSITIONS, auto_transitions=False)
    for order in orders:
        for command in pair.path:
            getattr(order, TRIGGERS[type(command)])(command)
    trigger = TRIGGERS[type(pair.command)]
    return [(getattr(order, trigger), (pair.command,)) for order in orders]
