"""The machine that is measured, an order, and the same decisions as one nested `match` by hand."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from holdfast import Command, Machine, State


class Line(Struct, frozen=True):
    sku: str
    quantity: int
    price: int


class Pending(State):
    customer: str
    lines: tuple[Line, ...]
    total: int


class Paid(State):
    customer: str
    lines: tuple[Line, ...]
    total: int
    receipt: str


class Packed(State):
    customer: str
    lines: tuple[Line, ...]
    total: int
    receipt: str
    parcel: str


class Shipped(State):
    customer: str
    lines: tuple[Line, ...]
    total: int
    receipt: str
    tracking: str


class Cancelled(State):
    customer: str
    reason: str


class Place(Command):
    customer: str
    lines: tuple[Line, ...]


class Pay(Command):
    receipt: str


class Pack(Command):
    parcel: str


class Ship(Command):
    tracking: str


class Return(Command):
    reason: str


class Cancel(Command):
    reason: str


OrderState = Pending | Paid | Packed | Shipped | Cancelled
OrderCommand = Place | Pay | Pack | Ship | Return | Cancel

order = Machine("order", state=OrderState, command=OrderCommand)


@order.on
def place(state: None, command: Place) -> Pending:
    return Pending(command.customer, command.lines, total_of(command.lines))


@order.on
def pay(state: Pending, command: Pay) -> Paid:
    return Paid(state.customer, state.lines, state.total, command.receipt)


@order.on
def pack(state: Paid, command: Pack) -> Packed:
    return Packed(state.customer, state.lines, state.total, state.receipt, command.parcel)


@order.on
def ship(state: Packed, command: Ship) -> Shipped:
    return Shipped(state.customer, state.lines, state.total, state.receipt, command.tracking)


@order.on
def take_back(state: Shipped, command: Return) -> Pending:
    return Pending(state.customer, state.lines, state.total)


@order.on
def cancel(state: Pending | Paid | Packed, command: Cancel) -> Cancelled:
    return Cancelled(state.customer, command.reason)


class RefusedError(Exception):
    """The command does not fit the state."""


def decide(state: OrderState | None, command: OrderCommand) -> OrderState:  # noqa: C901, PLR0912
    """Decide what the machine decides, without it; plain class patterns, which are the fastest."""
    match command:
        case Place():
            match state:
                case None:
                    return Pending(command.customer, command.lines, total_of(command.lines))
                case _:
                    raise RefusedError(command, state)
        case Pay():
            match state:
                case Pending():
                    return Paid(state.customer, state.lines, state.total, command.receipt)
                case _:
                    raise RefusedError(command, state)
        case Pack():
            match state:
                case Paid():
                    return Packed(
                        state.customer, state.lines, state.total, state.receipt, command.parcel
                    )
                case _:
                    raise RefusedError(command, state)
        case Ship():
            match state:
                case Packed():
                    return Shipped(
                        state.customer, state.lines, state.total, state.receipt, command.tracking
                    )
                case _:
                    raise RefusedError(command, state)
        case Return():
            match state:
                case Shipped():
                    return Pending(state.customer, state.lines, state.total)
                case _:
                    raise RefusedError(command, state)
        case Cancel():
            match state:
                case Pending() | Paid() | Packed():
                    return Cancelled(state.customer, command.reason)
                case _:
                    raise RefusedError(command, state)


def total_of(lines: tuple[Line, ...]) -> int:
    return sum(line.quantity * line.price for line in lines)


class Pair(NamedTuple):
    """A state and a command that it takes; `path` leads to the state."""

    state: OrderState | None
    command: OrderCommand
    path: tuple[OrderCommand, ...]


LINES = (Line("lamp-brass-40", 2, 4_950), Line("bulb-e27-warm", 6, 395), Line("cable-2m", 1, 890))
PLACE = Place("customer-20417", LINES)
PAY = Pay("rcpt_9c1f60a2b7d84e35")
PACK = Pack("parcel-0093-1175")
SHIP = Ship("JD014600006281223905")
RETURN = Return("the brass is scratched")
CANCEL = Cancel("ordered by mistake")

CIRCLE: tuple[OrderCommand, ...] = (PAY, PACK, SHIP, RETURN)
"""The commands that lead from Pending round to Pending."""


def handled_pairs() -> list[Pair]:
    """Return every state with each command that it takes."""
    pairs = [Pair(None, PLACE, ())]
    state: OrderState = decide(None, PLACE)
    path: tuple[OrderCommand, ...] = (PLACE,)
    for command in CIRCLE:
        pairs.append(Pair(state, command, path))
        if not isinstance(state, Shipped):
            pairs.append(Pair(state, CANCEL, path))
        state = decide(state, command)
        path += (command,)
    return pairs
