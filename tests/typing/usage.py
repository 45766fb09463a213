"""Uses of the library that are type-checked and never run: those marked are mistakes, no others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_never, assert_type

from holdfast import (
    AsyncService,
    BatchError,
    Change,
    Checkpoint,
    CircuitBreaker,
    Command,
    Conflict,
    Context,
    Machine,
    Meta,
    Page,
    Record,
    Request,
    Retry,
    Service,
    State,
    Transaction,
    Transition,
    VersionConflictError,
    field,
    open_store,
)
from holdfast.stores.contract import Store


class Pending(State):
    total: int
    notes: list[str] = field(default_factory=list)


class Paid(State):
    total: int
    receipt: str


class Place(Command):
    total: int


class Pay(Command):
    card: str


class Stray(Command):
    pass


class Desk:
    def receipt(self) -> str:
        return "r-1"


OrderState = Pending | Paid
OrderCommand = Place | Pay

order = Machine("order", state=OrderState, command=OrderCommand, deps=Desk)
plain = Machine("plain", state=Pending, command=Place)
inline = Machine("inline", state=Pending | Paid, command=Place | Pay)
assert_type(order, Machine[Pending | Paid, Place | Pay, Desk])
assert_type(plain, Machine[Pending, Place, None])
assert_type(inline, Machine[Pending | Paid, Place | Pay])


@order.on
def place(state: None, command: Place) -> Pending:
    return Pending(total=command.total)


@order.on
def pay(state: Pending, command: Pay, deps: Desk, context: Context) -> Paid | None:
    assert_type(context.version, int)
    assert_type(context.now, datetime)
    assert_type(context.metadata, Mapping[str, Any])
    return Paid(total=state.total, receipt=deps.receipt())


@plain.on
def free(state: Pending | None, command: Place) -> Pending:
    match state:
        case None:
            return Pending(total=command.total)
        case Pending(total=total):
            return Pending(total=total + command.total)
        case _:
            assert_never(state)


def handlers_stay_functions() -> None:
    assert_type(place(None, Place(total=1)), Pending)
    assert_type(pay(Pending(total=1), Pay(card="4"), Desk(), context()), Paid | None)
    place(None, Pay(card="4"))  # error
    place(Pending(total=1), Place(total=1))  # error
    paid: Paid = place(None, Place(total=1))  # error
    place(None, Place(total=1)).receipt  # error
    print(paid)


def context() -> Context:
    return Context(datetime.now(UTC), token="t", id="o-1", version=1, metadata={})


def handlers_are_checked() -> None:
    @inline.on
    def make(state: None, command: Place) -> Pending:
        return Paid(total=1, receipt="")  # error

    @inline.on
    def lose(state: Pending, command: Pay) -> Paid:
        return None  # error

    @inline.on
    def misread(state: Pending, command: Pay) -> Paid:
        return Paid(total=state.totl, receipt=command.card)  # error

    @inline.on
    def confuse(state: Pending | Paid, command: Pay) -> Paid:
        return Paid(total=1, receipt=state.receipt)  # error

    inline.on(5)  # error


def machines_are_typed() -> None:
    assert_type(order.step(None, Place(total=1)), Pending | Paid | None)
    assert_type(
        order.step(Pending(total=1), Pay(card="4"), Desk(), context()), Pending | Paid | None
    )
    assert_type(order.allowed(None), tuple[type[Place] | type[Pay], ...])
    assert_type(order.final, tuple[type[Pending] | type[Paid], ...])
    assert_type(order.parse_command(b"{}"), Place | Pay)
    order.step(None, Stray())  # error
    order.step(Place(total=1), Pay(card="4"))  # error
    order.step(None, Place(total=1), 5)  # error
    plain.step(None, Place(total=1), Desk())  # error
    order.allowed(Place(total=1))  # error
    Machine("wrong", state=5, command=Place)  # error
    Machine("wrong", state=Pending)  # error
    Machine(5, state=Pending, command=Place)  # error


def values_are_typed() -> None:
    pending = Pending(total=1)
    assert_type(pending.total, int)
    assert_type(pending.notes, list[str])
    Pending(total=1, notes=["a"])
    Place(total="1")  # error
    Place()  # error
    Place(totl=1)  # error
    Plcae(total=1)  # error
    Pay(card=4)  # error
    Pending(total=1, notes="a")  # error
    pending.total = 2  # error
    Place(total=1).total = 2  # error
    pending.receipt  # error
    Meta(gt=0, greater=1)  # error


def matching_is_exhaustive(state: OrderState, command: OrderCommand) -> int:
    match command:
        case Place(total=total):
            return total
        case Pay():
            pass
        case _:
            assert_never(command)
    match state:
        case Pending():
            return 1
        case _:
            assert_never(state)  # error


def matching_knows_fields(state: OrderState) -> None:
    match state:
        case Paid():
            assert_type(state.receipt, str)
        case Pending():
            state.receipt  # error
    if isinstance(state, Pending):
        assert_type(state, Pending)
    state.receipt  # error


def services_take_their_deps() -> None:
    with open_store("memory://") as store:
        assert_type(Service(order, store, deps=Desk()), Service[Pending | Paid, Place | Pay, Desk])
        assert_type(Service(plain, store), Service[Pending, Place, None])
        assert_type(Service(plain, store, retry=Retry()), Service[Pending, Place, None])
        Service(order, store)  # error
        Service(order, store, deps=5)  # error
        Service(order, store, deps=Desk)  # error
        Service(plain, store, deps=Desk())  # error
        Service(order, "memory://", deps=Desk())  # error
        Service(5, store)  # error
    open_store(5)  # error


def commands_are_typed(orders: Service[Pending | Paid, Place | Pay, Desk]) -> None:
    record = orders.handle("o-1", Place(total=1))
    assert_type(record, Record[Pending | Paid])
    assert_type(record.state, Pending | Paid)
    assert_type(record.version, int)
    assert_type(record.created_at, datetime)
    assert_type(record.deleted, bool)
    orders.handle("o-1", Pay(card="4"), expected_version=1, key="k", metadata={"a": 1}, timeout=1.5)
    orders.handle("o-1", Pay(card="4"), at=datetime.now(UTC))
    orders.handle("o-1", Stray())  # error
    orders.handle("o-1", Pending(total=1))  # error
    orders.handle("o-1", Place)  # error
    orders.handle("o-1", None)  # error
    orders.handle(1, Place(total=1))  # error
    orders.handle("o-1")  # error
    orders.handle("o-1", Place(total=1), expected=1)  # error
    orders.handle("o-1", Place(total=1), expected_version="1")  # error
    orders.handle("o-1", Place(total=1), 1)  # error
    orders.handle("o-1", Place(total=1), key=5)  # error
    orders.handle("o-1", Place(total=1), metadata=["a"])  # error
    orders.handle("o-1", Place(total=1), at="now")  # error
    orders.handle("o-1", Place(total=1), timeout="1")  # error
    record.state.receipt  # error
    record.version = 2  # error
    pending: Pending = record.state  # error
    print(pending)
    match record.state:
        case Pending(total=total) | Paid(total=total):
            assert_type(total, int)
        case _:
            assert_never(record.state)
    match record.state:
        case Paid():
            pass
        case _:
            assert_never(record.state)  # error


def batches_are_typed(orders: Service[Pending | Paid, Place | Pay, Desk]) -> None:
    answers = orders.handle_many([("a", Place(total=1)), ("b", Pay(card="4"))])
    assert_type(answers, list[Record[Pending | Paid] | Exception])
    orders.handle_many([Request("a", Place(total=1), key="k"), ("b", Pay(card="4"))])
    orders.handle_many((("a", Place(total=n)) for n in range(3)), atomic=True)
    orders.handle_many([], checkpoint=Checkpoint("reader", 5))
    orders.handle_many([], checkpoint=Checkpoint("reader", 5), answer_errors=True)
    orders.handle_many([("a", Stray())])  # error
    orders.handle_many([Request("a", Stray())])  # error
    orders.handle_many([("a", Place(total=1)), ("b", Pending(total=1))])  # error
    orders.handle_many([("a", Place(total="1"))])  # error
    orders.handle_many([(1, Place(total=1))])  # error
    orders.handle_many([Place(total=1)])  # error
    orders.handle_many([("a", Place(total=1))], checkpoint=5)  # error
    orders.handle_many([("a", Place(total=1))], atomically=True)  # error
    answers[0].state  # error
    for answer in answers:
        if not isinstance(answer, Exception):
            assert_type(answer, Record[Pending | Paid])


def questions_are_typed(orders: Service[Pending | Paid, Place | Pay, Desk]) -> None:
    assert_type(orders.get("o-1"), Record[Pending | Paid])
    assert_type(orders.get_many(["o-1"]), dict[str, Record[Pending | Paid]])
    assert_type(orders.at("o-1", version=1), Record[Pending | Paid])
    assert_type(orders.count_by_state(), dict[str, int])
    assert_type(orders.allowed("o-1"), tuple[type[Place] | type[Pay], ...])
    page = orders.find(state=Paid, limit=10)
    assert_type(page, Page[Pending | Paid])
    assert_type(page.next, str | None)
    for record in orders.find(state=[Pending, "Paid"]):
        assert_type(record, Record[Pending | Paid])
    orders.find(state=Place)  # error
    orders.find(state=5)  # error
    orders.find(limit="10")  # error
    orders.find(Paid)  # error
    orders.get(5)  # error
    orders.get_many(5)  # error
    orders.at("o-1", 1)  # error
    orders.at("o-1", time="now")  # error
    orders.purge(5)  # error
    orders.nothing()  # error


def histories_are_typed(orders: Service[Pending | Paid, Place | Pay, Desk]) -> None:
    history = orders.history("o-1", after=1, limit=5)
    assert_type(history, list[Transition[Pending | Paid, Place | Pay]])
    transition = history[0]
    assert_type(transition.command, Place | Pay | None)
    assert_type(transition.state, Pending | Paid | None)
    assert_type(transition.metadata, Mapping[str, Any])
    assert_type(transition.at, datetime)
    transition.command.card  # error
    transition.state.total  # error
    transition.version = 2  # error
    orders.history("o-1", limit="5")  # error
    orders.history("o-1", 5)  # error
    if isinstance(transition.command, Pay):
        assert_type(transition.command.card, str)


def previews_are_typed(orders: Service[Pending | Paid, Place | Pay, Desk]) -> None:
    change = orders.preview("o-1", Pay(card="4"))
    assert_type(change, Change[Pending | Paid, Place | Pay])
    assert_type(change.before, Pending | Paid | None)
    assert_type(change.after, Pending | Paid | None)
    assert_type(change.command, Place | Pay)
    change.after.total  # error
    change.before.total  # error
    change.command.card  # error
    change.version = 2  # error
    orders.preview("o-1", Stray())  # error
    if isinstance(change.after, Paid):
        assert_type(change.after.receipt, str)


def retries_are_typed() -> None:
    def watch(conflict: Conflict) -> None:
        assert_type(conflict.gap, int)
        assert_type(conflict.delay_seconds, float | None)
        conflict.gap = 2  # error

    Retry(attempts=3, budget_seconds=1.5, breaker=CircuitBreaker(threshold=3), on_conflict=watch)
    Retry(attempts="3")  # error
    Retry(3)  # error
    Retry(tries=3)  # error
    Retry(breaker=True)  # error
    Retry(on_conflict=5)  # error
    CircuitBreaker(5)  # error


def errors_are_typed(orders: Service[Pending | Paid, Place | Pay, Desk]) -> None:
    try:
        orders.handle("o-1", Place(total=1), expected_version=0)
    except VersionConflictError as conflict:
        assert_type(conflict.actual, int)
        conflict.version  # error
    try:
        orders.handle_many([("a", Place(total=1))], atomic=True)
    except BatchError as error:
        assert_type(error.failures, dict[int, Exception])


def transactions_are_typed(orders: Service[Pending | Paid, Place | Pay, Desk]) -> None:
    with orders.begin() as transaction:
        assert_type(transaction, Transaction[Pending | Paid, Place | Pay])
        assert_type(transaction.prepare("o-1", Place(total=1)), Record[Pending | Paid])
        assert_type(transaction.read("o-1"), Record[Pending | Paid])
        transaction.prepare("o-1", Stray())  # error
        transaction.prepare_only("o-1", Place(total=1))  # error
        transaction.read("o-1").state.receipt  # error
        transaction.commit()


async def coroutines_are_typed(store: Store) -> None:
    orders = AsyncService(order, store, deps=Desk())
    assert_type(orders, AsyncService[Pending | Paid, Place | Pay, Desk])
    assert_type(await orders.handle("o-1", Place(total=1)), Record[Pending | Paid])
    assert_type(await orders.get("o-1"), Record[Pending | Paid])
    assert_type(
        await orders.handle_many([("a", Place(total=1))]), list[Record[Pending | Paid] | Exception]
    )
    AsyncService(order, store)  # error
    await orders.handle("o-1", Stray())  # error
    await orders.handle_many([("a", Stray())])  # error
    (await orders.get("o-1")).state.receipt  # error
    orders.get("o-1").version  # error
