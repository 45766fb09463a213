"""Hooks that are type-checked and never run: the lines marked are mistakes, no others."""

from __future__ import annotations

import sqlite3
from typing import assert_type

from holdfast import Change, Command, GuardFailedError, Machine, Service, State, Transition
from holdfast import open_store


class Open(State):
    lines: int


class Paid(State):
    receipt: str


class Create(Command):
    pass


class Pay(Command):
    card: str


class Bank:
    def knows(self, card: str) -> bool:
        return bool(card)


OrderState = Open | Paid
OrderCommand = Create | Pay
order = Machine("order", state=OrderState, command=OrderCommand, deps=Bank)


@order.on
def create(state: None, command: Create) -> Open:
    return Open(lines=0)


@order.guard
def anything_goes(change: Change) -> bool:
    return change.before is not None or change.to_state == "Open"


@order.guard(from_=Open, command=Pay, to=Paid, reason="no card")
def card_is_known(change: Change[OrderState, Pay], deps: Bank) -> bool | None:
    assert_type(change.before, Open | Paid | None)
    assert_type(change.command, Pay)
    change.command.cart  # error
    change.before.lines  # error
    change.version = 2  # error
    change.tostate  # error
    return deps.knows(change.command.card)


@order.guard(to=Paid)  # error
def says_why(change: Change) -> str:
    return "no card"


@order.guard  # error
def counts(change: Change) -> int:
    return 1


@order.before(form_=Open)  # error
def misspelt(change: Change) -> None: ...


@order.before(Open, Paid)  # error
def by_place(change: Change) -> None: ...


@order.before(reason="none")  # error
def has_no_reason(change: Change) -> None: ...


@order.before(from_=None, to=[Open, Paid])
def before(change: Change[OrderState, OrderCommand]) -> None:
    assert_type(change.metadata.get("by"), object)  # error


@order.after(command=Create | Pay)
def after(change: Change, transition: Transition[OrderState, OrderCommand]) -> None:
    assert_type(transition.state, Open | Paid | None)
    assert_type(transition.to_state, str | None)
    transition.positon  # error


@order.after_commit
def tell(transition: Transition) -> None:
    transition.metadata["by"] = "me"  # error


@order.on_failure()
def failed(change: Change, error: Exception) -> None:
    error.guard  # error


@order.on_guard_failure(to=Paid)
def refused(error: GuardFailedError) -> None:
    assert_type(error.guard, str)
    assert_type(error.reason, str | None)
    error.why  # error


@order.afterwards  # error
def never(change: Change) -> None: ...


def decorated_functions_keep_their_types(change: Change[OrderState, Pay], bank: Bank) -> None:
    assert_type(card_is_known(change, bank), bool | None)
    card_is_known(change)  # error


def joining(connection: sqlite3.Connection) -> None:
    with open_store("memory://") as store:
        orders = Service(order, store, deps=Bank())
        due: list[object] = []
        orders.on(connection, on_commit=due.append)
        orders.on(connection, on_commit=lambda function: function())
        orders.on(connection, on_commit=due)  # error
        orders.on(connection, after_commit=due.append)  # error
