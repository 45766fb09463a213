"""Members of every kind and secret fields, type-checked and never run: those marked are mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never, assert_type

import attrs
from pydantic import BaseModel

from holdfast import Command, Machine, Record, Service, State, field, open_store


@dataclass(frozen=True)
class Pending:
    total: int


@attrs.frozen
class Paid:
    total: int
    receipt: str


class Cancelled(BaseModel, frozen=True):
    reason: str


class Archived(State):
    box: int


class Place(BaseModel, frozen=True):
    total: int


@dataclass(frozen=True)
class Pay:
    card: str


@dataclass(frozen=True)
class Stray:
    pass


OrderState = Pending | Paid | Cancelled | Archived
OrderCommand = Place | Pay

order = Machine("order", state=OrderState, command=OrderCommand)
assert_type(order, Machine[Pending | Paid | Cancelled | Archived, Place | Pay])
assert_type(Machine("one", state=Pending, command=Place), Machine[Pending, Place, None])


@order.on
def place(state: None, command: Place) -> Pending:
    return Pending(total=command.total)


@order.on
def pay(state: Pending, command: Pay) -> Paid | Cancelled:
    command.total  # error
    if not command.card:
        return Archived(box=1)  # error
    return Paid(total=state.total, receipt=command.card)


orders = Service(order, open_store("memory://"))


def callers() -> None:
    record = orders.handle("o-1", Place(total=1))
    assert_type(record, Record[Pending | Paid | Cancelled | Archived])
    orders.handle("o-1", Pay(card="4"))
    orders.handle("o-1", Pay(card=4))  # error
    orders.handle("o-1", Stray())  # error
    orders.handle("o-1", Pending(total=1))  # error
    order.step(Stray(), Pay(card="4"))  # error
    assert_type(order.parse_command("{}"), Place | Pay)
    record.state.total  # error
    record.state.total = 5  # error


def exhaustive(state: Pending | Paid | Cancelled | Archived) -> str:
    match state:
        case Pending() | Archived():
            return ""
        case Paid(receipt=receipt):
            assert_type(receipt, str)
            return receipt
        case Cancelled(reason=reason):
            return reason
        case _:
            assert_never(state)


def forgotten(state: Pending | Paid | Cancelled | Archived) -> str:
    match state:
        case Pending() | Paid() | Archived():
            return ""
        case _:
            assert_never(state)  # error


class Charge(Command):
    card: str = field(secret=True)
    pin: int = field(name="PIN", secret=True)
    note: str = field(default="", secret=True)
    tags: list[str] = field(default_factory=list, secret=True)


class Refund(Charge):
    amount: int = field(default=0)


def secret_fields() -> None:
    charge = Charge(card="4", pin=1)
    assert_type(charge.card, str)
    assert_type(charge.tags, list[str])
    Charge("4", 1, "note", ["tag"])
    Refund(card="4", pin=1, amount=3)
    Charge(card="4")  # error
    Charge(pin=1)  # error
    Charge(card=4, pin=1)  # error
    Charge("4", 1, note=2)  # error
    Refund(card="4", amount=3)  # error
    Refund(card="4", pin=1, amount="3")  # error
    charge.card = "5"  # error


class Wrong(Command):
    count: int = field(default="none", secret=True)  # error
    names: list[str] = field(default_factory=dict)  # error
    other: int = field(default=1, secret="yes")  # error
    third: int = field(default=1, hidden=True)  # error
