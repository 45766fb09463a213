"""Coroutines, type-checked and never run: handlers, steps, services and transactions that await."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never, assert_type

import attrs
from pydantic import BaseModel

from holdfast import (
    AsyncService,
    AsyncTransaction,
    Change,
    Command,
    Context,
    Machine,
    Page,
    Record,
    Request,
    Service,
    State,
    Transition,
)
from holdfast.service.contention import HotSpot
from holdfast.stores.contract import Store


class Open(State):
    total: int


@dataclass(frozen=True)
class Paid:
    receipt: str


@attrs.frozen
class Closed:
    reason: str


class Place(Command):
    total: int


class Pay(BaseModel, frozen=True):
    card: str


@dataclass(frozen=True)
class Close:
    reason: str


class Stray(Command):
    pass


class Bank:
    async def charge(self, card: str) -> str:
        return "r-1"


order = Machine("order", state=Open | Paid | Closed, command=Place | Pay | Close, deps=Bank)
plain = Machine("plain", state=Paid, command=Pay)
assert_type(order, Machine[Open | Paid | Closed, Place | Pay | Close, Bank])
assert_type(plain, Machine[Paid, Pay, None])


@order.on
async def place(state: None, command: Place) -> Open:
    return Open(total=command.total)


@order.on
async def pay(state: Open, command: Pay, deps: Bank, context: Context) -> Paid | None:
    assert_type(context.metadata, Mapping[str, Any])
    receipt = await deps.charge(command.card)
    assert_type(receipt, str)
    return Paid(receipt)


@plain.on
async def pay_at_once(state: Paid | None, command: Pay) -> Paid:
    match state:
        case None:
            return Paid("")
        case Paid(receipt=receipt):
            return Paid(receipt + command.card)
        case _:
            assert_never(state)


async def handlers_stay_coroutines() -> None:
    assert_type(await place(None, Place(total=1)), Open)
    assert_type(await pay_at_once(None, Pay(card="4")), Paid)
    place(None, Place(total=1)).total  # error
    await place(Open(total=1), Place(total=1))  # error
    await place(None, Pay(card="4"))  # error
    paid: Paid = await place(None, Place(total=1))  # error
    print(paid)


def handlers_are_checked() -> None:
    @order.on
    async def wrong_state(state: Open, command: Close) -> Closed:
        return Paid(receipt="")  # error

    @order.on
    async def nothing(state: Open, command: Close) -> Closed:
        return None  # error

    @order.on
    async def not_awaited(state: Open, command: Pay, deps: Bank) -> Paid:
        return Paid(deps.charge(command.card))  # error

    @order.on
    async def misspelt(state: Paid, command: Close) -> Closed:
        return Closed(state.reciept + command.reason)  # error

    @order.on
    async def confused(state: Open | Paid, command: Close) -> Closed:
        return Closed(state.receipt)  # error

    @order.on
    async def mutable(state: Open, command: Close) -> Closed:
        state.total = 5  # error
        command.reason = ""  # error
        return Closed(command.reason)

    @order.on
    async def wrong_arguments(state: Open, command: Close) -> Closed:
        return Closed(reason=state.total)  # error


async def steps_are_typed(context: Context) -> None:
    result = await order.astep(Open(total=1), Pay(card="4"), Bank(), context)
    assert_type(result, Open | Paid | Closed | None)
    assert_type(await plain.astep(None, Pay(card="4")), Paid | None)
    await order.astep(None, Stray())  # error
    await order.astep(Stray(), Place(total=1))  # error
    await order.astep(None, Place(total=1), "bank")  # error
    await order.astep(None, Place(total=1), Bank(), "now")  # error
    await plain.astep(None, Pay(card="4"), Bank())  # error
    await plain.astep(Open(total=1), Pay(card="4"))  # error
    result.receipt  # error
    order.astep(None, Place(total=1)).total  # error
    command: Pay = order.parse_command("{}")  # error
    print(command)


def services_take_their_deps(store: Store) -> None:
    orders = AsyncService(order, store, deps=Bank())
    assert_type(orders, AsyncService[Open | Paid | Closed, Place | Pay | Close, Bank])
    assert_type(AsyncService(plain, store), AsyncService[Paid, Pay, None])
    AsyncService(order, store)  # error
    AsyncService(order, store, deps=Bank)  # error
    AsyncService(plain, store, deps=Bank())  # error
    AsyncService(order, "memory://", deps=Bank())  # error
    AsyncService(order, store, deps=Bank(), retry=3)  # error
    assert_type(orders.contention(), list[HotSpot])


Orders = AsyncService[Open | Paid | Closed, Place | Pay | Close, Bank]


async def commands_are_typed(orders: Orders) -> None:
    record = await orders.handle("o-1", Place(total=1), key="k", expected_version=0, timeout=1.5)
    assert_type(record, Record[Open | Paid | Closed])
    assert_type(await orders.purge("o-1"), None)
    await orders.handle("o-1", Stray())  # error
    await orders.handle("o-1", Open(total=1))  # error
    await orders.handle("o-1", Paid(receipt=""))  # error
    await orders.handle("o-1", Pay)  # error
    await orders.handle(1, Place(total=1))  # error
    await orders.handle("o-1", Place(total=1), key=5)  # error
    await orders.handle("o-1", Place(total=1), "k")  # error
    await orders.handle("o-1", Place(total=1), expected_version="1")  # error
    await orders.handle("o-1", Pay(card=4))  # error
    record.state.receipt  # error
    orders.handle("o-1", Place(total=1)).state  # error
    state: Open = record.state  # error
    print(state)
    match record.state:
        case Open() | Paid():
            pass
        case Closed(reason=reason):
            assert_type(reason, str)
        case _:
            assert_never(record.state)
    match record.state:
        case Open() | Closed():
            pass
        case _:
            assert_never(record.state)  # error


async def batches_are_typed(orders: Orders) -> None:
    answers = await orders.handle_many([("a", Place(total=1)), ("b", Pay(card="4"))])
    assert_type(answers, list[Record[Open | Paid | Closed] | Exception])
    await orders.handle_many([Request("a", Close("late")), ("b", Pay(card="4"))], atomic=True)
    await orders.handle_many([("a", Stray())])  # error
    await orders.handle_many([Request("a", Stray())])  # error
    await orders.handle_many([(1, Place(total=1))])  # error
    await orders.handle_many([Place(total=1)])  # error
    await orders.handle_many([("a", Place(total=1))], checkpoint="c")  # error
    answers[0].state  # error
    for answer in orders.handle_many([]):  # error
        print(answer)


async def questions_are_typed(orders: Orders) -> None:
    assert_type(await orders.get("o-1"), Record[Open | Paid | Closed])
    assert_type(await orders.get_many(["o-1"]), dict[str, Record[Open | Paid | Closed]])
    assert_type(await orders.at("o-1", version=1), Record[Open | Paid | Closed])
    assert_type(await orders.count_by_state(), dict[str, int])
    assert_type(await orders.allowed("o-1"), tuple[type[Place] | type[Pay] | type[Close], ...])
    assert_type(await orders.find(state=[Paid, "Open"]), Page[Open | Paid | Closed])
    history = await orders.history("o-1", limit=5)
    assert_type(history, list[Transition[Open | Paid | Closed, Place | Pay | Close]])
    change = await orders.preview("o-1", Pay(card="4"))
    assert_type(change, Change[Open | Paid | Closed, Place | Pay | Close])
    await orders.get(5)  # error
    await orders.get_many(5)  # error
    await orders.find(state=Place)  # error
    await orders.find(Paid)  # error
    await orders.at("o-1", 1)  # error
    await orders.history("o-1", 5)  # error
    await orders.preview("o-1", Stray())  # error
    await orders.purge(5)  # error
    history[0].command.card  # error
    change.after.receipt  # error
    orders.get("o-1").state  # error
    orders.contention()[0].ids  # error


async def transactions_are_typed(orders: Orders, plains: AsyncService[Paid, Pay, None]) -> None:
    async with orders.begin() as transaction:
        assert_type(transaction, AsyncTransaction[Open | Paid | Closed, Place | Pay | Close])
        assert_type(
            await transaction.prepare("o-1", Place(total=1), key="k"),
            Record[Open | Paid | Closed],
        )
        assert_type(await transaction.read("o-1"), Record[Open | Paid | Closed])
        assert_type(transaction.join(plains), AsyncTransaction[Paid, Pay])
        await transaction.prepare_only("o-1", Closed("by hand"))
        await transaction.prepare("o-1", Stray())  # error
        await transaction.prepare("o-1", Open(total=1))  # error
        await transaction.prepare(1, Place(total=1))  # error
        await transaction.prepare_only("o-1", Place(total=1))  # error
        await transaction.prepare_only("o-1", None)  # error
        await transaction.join(plains).prepare("p-1", Place(total=1))  # error
        transaction.join(plain)  # error
        (await transaction.read("o-1")).state.receipt  # error
        transaction.read("o-1").state  # error
        await transaction.commit(5)  # error
        assert_type(await transaction.commit(), list[Record[Any]])
    with orders.begin():  # error
        pass


def blocking_and_awaiting_are_two(store: Store, blocking: Service[Paid, Pay, None]) -> None:
    async def meet(awaiting: AsyncService[Paid, Pay, None]) -> None:
        await blocking.get("p-1")  # error
        awaiting.begin().join(blocking)  # error
        other: Service[Paid, Pay, None] = awaiting  # error
        print(other)

    print(meet)
