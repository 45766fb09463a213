"""The order in `python-statemachine`: a class whose events are methods, its data kept by hooks."""

from __future__ import annotations

from typing import Any

from statemachine import State, StateMachine

from benchmarks.order import Pair, cancel, pack, pay, place, ship, take_back
from benchmarks.rivals import TRIGGERS, Calls


class Order(StateMachine):
    new = State(initial=True)
    pending = State()
    paid = State()
    packed = State()
    shipped = State()
    cancelled = State(final=True)

    place = new.to(pending)
    pay = pending.to(paid)
    pack = paid.to(packed)
    ship = packed.to(shipped)
    take_back = shipped.to(pending)
    cancel = pending.to(cancelled) | paid.to(cancelled) | packed.to(cancelled)

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
    for order in orders:
        for command in pair.path:
            getattr(order, TRIGGERS[type(command)])(command)
    trigger = TRIGGERS[type(pair.command)]
    return [(getattr(order, trigger), (pair.command,)) for order in orders]
