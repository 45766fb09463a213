"""Flows and services in sessions, type-checked and never run: the lines marked are mistakes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_type

from sqlalchemy import ColumnElement, create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from holdfast import AsyncService, Command, Flow, Machine, Service, State, Transition, open_store
from holdfast.ext.sqlalchemy import Stateful, flow_of, joined, nest_savepoints


class OrderFlow(Flow["Order"]):
    pending = Flow.state(initial=True)
    paid = Flow.state()
    pending.to(paid)


class Base(DeclarativeBase):
    pass


class Order(Stateful, Base):
    __tablename__ = "orders"
    __machine__ = OrderFlow
    __machine_id__ = "id"
    __machine_state__ = "state"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]


class Held(State):
    by: str


class Hold(Command):
    by: str


stock = Machine("stock", state=Held, command=Hold)
store = open_store("memory://")
engine = nest_savepoints(create_engine("sqlite://"))
nest_savepoints("sqlite://")  # error


def flows(session: Session, order: Order) -> None:
    flow = flow_of(OrderFlow, order, store=store)
    assert_type(flow, OrderFlow)
    assert_type(flow.object, Order)
    assert_type(flow.transition_to(OrderFlow.paid), Transition[Any, Any])
    flow_of(OrderFlow, order)  # error
    flow_of(Order, order, store=store)  # error
    flow_of(OrderFlow, order, store=store, id=1)  # error


def queries(session: Session) -> None:
    assert_type(Order.in_state("paid", OrderFlow.pending), ColumnElement[bool])
    assert_type(Order.not_in_state(), ColumnElement[bool])
    Order.in_state(Held, machine=stock)
    Order.in_state(1)  # error
    Order.in_state("paid", machine="order")  # error
    orders = session.scalars(select(Order).where(Order.in_state("paid"), Order.id > 1)).all()
    assert_type(orders[0], Order)
    other = aliased(Order)
    select(other).where(~other.in_state("paid"))

    last = Order.most_recent_transition()
    assert_type(last.version, ColumnElement[int])
    assert_type(last.to_state, ColumnElement[str | None])
    assert_type(last.at, ColumnElement[datetime])
    select(Order.id).where(last.version > 1).order_by(last.at.desc())
    last.state  # error


def services(session: Session, scoped: scoped_session[Session], awaited: AsyncSession) -> None:
    items = joined(Service(stock, store), session, model=Order)
    assert_type(items, Service[Held, Hold, None])
    items.handle("1", Hold("a"))
    items.handle("1", Held("a"))  # error
    joined(Service(stock, store), scoped, bind_arguments={"mapper": Order})
    assert_type(joined(AsyncService(stock, store), awaited), AsyncService[Held, Hold, None])
    joined(AsyncService(stock, store), session)  # error
    joined(Service(stock, store), awaited)  # error
    joined(Service(stock, store), sessionmaker(engine))  # error
    joined(stock, session)  # error
