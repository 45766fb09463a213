"""The shop of the tests: models, their flows, and callbacks that do what a test wants of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from msgspec import Struct
from sqlalchemy import Engine, String, Uuid, create_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    object_session,
    sessionmaker,
    validates,
)

from holdfast import Change, Command, Flow, Machine, State, Transition
from holdfast.ext.sqlalchemy import Stateful, flow_of
from holdfast.stores.contract import Store


class OrderFlow(Flow["Order"]):
    pending = Flow.state(initial=True)
    paid = Flow.state()
    shipped = Flow.state()
    cancelled = Flow.state()

    pending.to(paid, cancelled)
    paid.to(shipped, cancelled)


class TicketFlow(Flow["Ticket"]):
    open = Flow.state(initial=True)
    closed = Flow.state()

    open.to(closed)


class Base(DeclarativeBase):
    pass


class Order(Stateful, Base):
    __tablename__ = "orders"
    __machine__ = OrderFlow
    __machine_state__ = "state"

    id: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[int] = mapped_column(default=1)
    state: Mapped[str] = mapped_column(default=str(OrderFlow.initial))


class Parcel(Base):
    __tablename__ = "parcels"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int]


class Ticket(Stateful, Base):
    """Has a key of its own making, and callbacks of no kind."""

    __tablename__ = "tickets"
    __machine__ = TicketFlow

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)


class Label(Stateful, Base):
    """Is known by a name beside its key."""

    __tablename__ = "labels"
    __machine__ = TicketFlow
    __machine_id__ = "name"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(40), unique=True)


class Pair(Stateful, Base):
    __tablename__ = "pairs"
    __machine__ = TicketFlow

    left: Mapped[int] = mapped_column(primary_key=True)
    right: Mapped[int] = mapped_column(primary_key=True)


class Free(State):
    taken: int = 0


class Taken(State):
    by: str


class Take(Command):
    by: str


class Leave(Command):
    pass


seat: Machine[Free | Taken, Take | Leave, None] = Machine(
    "seat", state=Free | Taken, command=Take | Leave
)


@seat.on
def take(state: Free | None, command: Take) -> Taken:
    return Taken(command.by)


@seat.on
def leave(state: Taken, command: Leave) -> Free:
    return Free()


@seat.on
def clear(state: Free, command: Leave) -> None:
    return None


class Seat(Stateful, Base):
    __tablename__ = "seats"
    __machine__ = seat
    __machine_state__ = "status"

    name: Mapped[str] = mapped_column(String(10), primary_key=True)
    status: Mapped[str | None]


class GateFlow(Flow["Gate"]):
    shut = Flow.state(initial=True)
    ajar = Flow.state()
    open = Flow.state()

    shut.to(ajar, open)
    ajar.to(shut)


class Gate(Stateful, Base):
    __tablename__ = "gates"
    __machine__ = GateFlow
    __machine_state__ = "state"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "gate"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="gate")
    note: Mapped[str] = mapped_column(default="")
    state: Mapped[str] = mapped_column(default="shut")


class JudgingGate(Gate):
    """Judges what its column is given."""

    __mapper_args__ = {"polymorphic_identity": "judging"}  # noqa: RUF012

    @validates("state")
    def judge(self, attribute: str, state: str) -> str:
        if state == "open":
            raise ValueError("the wind would shut it")
        return state


class Script:
    """What callbacks are to do besides noting that they were called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.acts: dict[str, Callable[[Order], object]] = {}

    def called(self, kind: str, order: Order, to_state: str | None) -> bool:
        """Note a call, and do what the test wants of it."""
        self.calls.append(f"{kind} {to_state}")
        return self.acts.get(kind, bool)(order) is not False or kind not in self.acts

    def took(self) -> list[str]:
        """Return what was called, and forget it."""
        calls, self.calls = self.calls, []
        return calls


def script_of(order: Order) -> Script:
    """Return the script of the session that an order is in."""
    session = object_session(order)
    assert session is not None
    script: Script = session.info["script"]
    return script


@OrderFlow.guard()
def guard(order: Order, change: Change) -> bool:
    return script_of(order).called("guard", order, change.to_state)


@OrderFlow.before()
def before(order: Order, change: Change) -> None:
    script_of(order).called("before", order, change.to_state)


@OrderFlow.after()
def after(order: Order, transition: Transition) -> None:
    script_of(order).called("after", order, transition.to_state)


@OrderFlow.after_commit()
def after_commit(order: Order, transition: Transition) -> None:
    script_of(order).called("after_commit", order, transition.to_state)


@OrderFlow.on_failure()
def on_failure(order: Order, change: Change) -> None:
    script_of(order).called("on_failure", order, change.to_state)


class Shop(Struct, eq=False):
    """A database that a store and SQLAlchemy share."""

    url: str
    """The store's."""
    engine: Engine
    store: Store
    script: Script

    @property
    def sessions(self) -> sessionmaker[Session]:
        """Makes sessions whose callbacks follow the script."""
        return sessionmaker(self.engine, info={"script": self.script})

    def flow(self, order: Order) -> OrderFlow:
        """Return the flow of an order that is in a session."""
        return flow_of(OrderFlow, order, store=self.store)

    def new_order(self) -> int:
        """Store an order that nothing happened to, and return its id."""
        with self.sessions.begin() as session:
            order = Order()
            session.add(order)
            session.flush()
            return order.id

    def stored(self, id: int) -> list[str | None]:
        """Return the states that an order was led to, as everybody sees them."""
        history: Any = self.store.history("order", str(id), limit=100)
        return [row.to_type for row in history]

    def mirrored(self, id: int) -> str:
        """Return what the column of an order says, as everybody sees it."""
        with Session(self.engine) as session:
            return session.get_one(Order, id).state


def engine_for(url: str, **options: Any) -> Engine:
    """Make an engine on the database of a store's URL."""
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"), **options)
