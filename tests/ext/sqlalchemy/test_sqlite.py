"""What SQLite's driver does not do by itself: begin, and nest savepoints."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from tests.ext.sqlalchemy.shop import (
    Base,
    Order,
    Parcel,
    Script,
    Shop,
    Ticket,
    TicketFlow,
    engine_for,
)

from holdfast import AsyncService, open_store
from holdfast.errors import StoreError
from holdfast.ext.sqlalchemy import flow_of, joined, nest_savepoints


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Shop]:
    """Return a shop whose engine is as SQLAlchemy makes it."""
    url = f"sqlite:///{tmp_path}/plain.db"
    engine = engine_for(url)
    with open_store(url) as store:
        store.migrate()
        Base.metadata.create_all(engine)
        yield Shop(url, engine, store, Script())
        engine.dispose()


def test_the_first_statement_may_be_a_transition(plain: Shop) -> None:
    """The driver would begin for changes of data only, and the store's would be its own."""
    id = plain.new_order()
    with plain.sessions() as session:
        flow = plain.flow(session.get_one(Order, id))
        flow.transition_to("paid")
        session.rollback()
        assert flow.current_state == "pending"
        flow.transition_to("cancelled")
        session.commit()
    assert plain.stored(id) == ["cancelled"]


def test_a_reader_keeps_nobody_from_writing(plain: Shop) -> None:
    """To ask a flow begins nothing in the database."""
    id = plain.new_order()
    with plain.sessions() as session, plain.sessions() as other:
        read = plain.flow(session.get_one(Order, id))
        assert read.current_state == "pending"
        plain.flow(other.get_one(Order, id)).transition_to("paid")
        other.commit()
        assert read.current_state == "paid"


def test_a_savepoint_that_may_be_the_whole_transaction_is_refused(plain: Shop) -> None:
    """Its release would commit, and the rollback after it undo nothing: so says the error."""
    id = plain.new_order()
    with plain.sessions() as session:
        with session.begin_nested():
            flow = plain.flow(session.get_one(Order, id))
            with pytest.raises(StoreError, match=r"call nest_savepoints\(engine\)"):
                flow.transition_to("paid")
        session.rollback()
    assert plain.stored(id) == []


def test_a_savepoint_after_a_change_is_one(plain: Shop) -> None:
    """After a transition, after a flush, and where nothing was asked in it yet."""
    id = plain.new_order()
    with plain.sessions() as session:
        flow = plain.flow(session.get_one(Order, id))
        flow.transition_to("paid")
        with session.begin_nested():
            flow.transition_to("shipped")
        session.rollback()
        order = session.get_one(Order, id)
        with session.begin_nested():
            plain.flow(order).transition_to("paid")
        session.rollback()
    assert plain.stored(id) == []


def test_with_savepoints_nested_all_is_undone(sqlite_shop: Shop) -> None:
    """What a session does in a savepoint of its own, too, which is not the store's."""
    engine = sqlite_shop.engine
    assert nest_savepoints(engine) is engine
    with sqlite_shop.sessions() as session:
        with session.begin_nested():
            session.add(Parcel(order_id=1))
        session.rollback()
        assert session.query(Parcel).all() == []


@pytest.mark.parametrize("statement", ["BEGIN", "BEGIN IMMEDIATE"])
def test_an_engine_that_begins_by_itself_is_left_to_it(tmp_path: Path, statement: str) -> None:
    """As SQLAlchemy's documentation says how to: with events, and no isolation level."""
    url = f"sqlite:///{tmp_path}/begins.db"
    engine = engine_for(url)

    @event.listens_for(engine, "connect")
    def let_alone(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    with open_store(url) as store:
        store.migrate()
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            with session.begin_nested():
                ticket = Ticket()
                session.add(ticket)
                flow = flow_of(TicketFlow, ticket, store=store)
                flow.transition_to("closed")
            session.rollback()
            assert session.query(Ticket).all() == []
            assert store.count("ticket") == {}
    engine.dispose()


def test_an_engine_where_nobody_begins_is_found_out(plain: Shop) -> None:
    """Without its events, an isolation level of None is no sign that a savepoint is one."""
    id = plain.new_order()
    engine = engine_for(plain.url, connect_args={"isolation_level": None})
    with Session(engine, info={"script": plain.script}) as session:
        with session.begin_nested():
            flow = plain.flow(session.get_one(Order, id))
            with pytest.raises(StoreError, match=r"call nest_savepoints\(engine\)"):
                flow.transition_to("paid")
        session.rollback()
        flow.transition_to("cancelled")
        session.rollback()
        assert flow.current_state == "pending"
    engine.dispose()
    assert plain.stored(id) == []


class CommitsByItself(sqlite3.Connection):
    """A connection as Python 3.12 and later make it with `autocommit=True`."""

    autocommit = True

    def commit(self) -> None:
        """Do nothing."""

    def rollback(self) -> None:
        """Do nothing."""


def test_the_driver_s_autocommit_is_refused(plain: Shop) -> None:
    """Its commit does nothing, so what was begun there would never be committed."""
    id = plain.new_order()
    engine = engine_for(plain.url, connect_args={"factory": CommitsByItself})
    with Session(engine, info={"script": plain.script}) as session:
        flow = plain.flow(session.get_one(Order, id))
        with pytest.raises(StoreError, match="AUTOCOMMIT"):
            flow.transition_to("paid")
    engine.dispose()
    assert plain.script.took() == ["guard paid", "on_failure paid"]


def test_nothing_is_begun_before_a_savepoint_that_no_commit_would_end(plain: Shop) -> None:
    """What is done in it is there after its release, and keeps nobody from writing."""
    arguments = {"factory": CommitsByItself, "isolation_level": None}
    engine = nest_savepoints(engine_for(plain.url, connect_args=arguments))
    with Session(engine) as session:
        with session.begin_nested():
            session.add(Parcel(order_id=1))
        session.commit()
        with Session(plain.engine) as other:
            assert len(other.query(Parcel).all()) == 1
            other.add(Parcel(order_id=2))
            other.commit()
    engine.dispose()


def test_a_savepoint_that_must_wait_too_long_fails_as_any_statement(tmp_path: Path) -> None:
    """To whoever makes it, a store or not, with SQLAlchemy's error."""
    engine = nest_savepoints(
        engine_for(f"sqlite:///{tmp_path}/locked.db", connect_args={"timeout": 0})
    )
    Base.metadata.create_all(engine)
    with closing(sqlite3.connect(tmp_path / "locked.db")) as other, Session(engine) as session:
        other.execute("BEGIN IMMEDIATE")
        session.begin_nested()
        with pytest.raises(OperationalError, match="database is locked"):
            session.query(Parcel).all()
        other.rollback()
        session.rollback()
        with session.begin_nested():
            assert session.query(Parcel).all() == []
    engine.dispose()


def test_a_locked_file_is_told(tmp_path: Path) -> None:
    """The session waits as long as its engine says, and then is as it was."""
    url = f"sqlite:///{tmp_path}/locked.db"
    engine = engine_for(url, connect_args={"timeout": 0})
    with open_store(url) as store, closing(sqlite3.connect(tmp_path / "locked.db")) as other:
        store.migrate()
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(ticket := Ticket())
            session.commit()
            flow = flow_of(TicketFlow, ticket, store=store)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(
                StoreError, match=r"database is locked; nothing was written, try again"
            ):
                flow.transition_to("closed")
            other.rollback()
            flow.transition_to("closed")
            session.commit()
    engine.dispose()


def test_a_file_that_is_not_the_store_s_is_refused(plain: Shop, tmp_path: Path) -> None:
    """The transaction would be another one."""
    with open_store(f"sqlite:///{tmp_path}/other.db") as other, plain.sessions() as session:
        other.migrate()
        ticket = Ticket()
        session.add(ticket)
        with pytest.raises(StoreError, match="is joined on a connection to its own file"):
            flow_of(TicketFlow, ticket, store=other).transition_to("closed")


def test_aiosqlite_is_refused(plain: Shop) -> None:
    """Its connection lives in a thread of its own, and what to use instead is said."""

    async def main() -> None:
        engine = create_async_engine(plain.url.replace("sqlite://", "sqlite+aiosqlite://"))
        async with AsyncSession(engine) as session:
            tickets = joined(AsyncService(TicketFlow.machine, plain.store, deps=Ticket()), session)
            close = TicketFlow.compiled.commands["closed"]
            with pytest.raises(
                StoreError, match=r"aiosqlite cannot be joined.* asyncio\.to_thread"
            ):
                await tickets.handle("1", close())
            session.add(ticket := Ticket())
            await session.flush()
            with pytest.raises(StoreError, match="aiosqlite cannot be joined"):
                await session.run_sync(
                    lambda _: flow_of(TicketFlow, ticket, store=plain.store).current_state
                )
        await engine.dispose()

    asyncio.run(main())


def test_other_drivers_are_refused(plain: Shop) -> None:
    """Which ones can be joined is said."""
    with plain.sessions() as session:
        session.add(ticket := Ticket())
        flow = flow_of(TicketFlow, ticket, store=plain.store)
        session.execute(text("SELECT 1"))
        plain.engine.dialect.driver = "other"
        with pytest.raises(StoreError, match="a session on the driver other cannot be joined"):
            flow.transition_to("closed")
