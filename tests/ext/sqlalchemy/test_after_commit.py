"""What is to follow a commit follows the outermost, and never a rollback."""

from __future__ import annotations

import logging
from contextlib import nullcontext, suppress

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from tests.ext.sqlalchemy.shop import Free, Leave, Order, Parcel, Shop, Take, Taken

from holdfast import Machine, Service, StoreError, Transition
from holdfast.ext.sqlalchemy import joined


class Refused(Exception):  # noqa: N818 (a test raises it)
    pass


def late(shop: Shop) -> list[str]:
    """Return which after-commit callbacks were called since."""
    return [call for call in shop.script.took() if call.startswith("after_commit")]


def test_they_follow_session_commit(shop: Shop) -> None:
    """And not the transition."""
    id = shop.new_order()
    with shop.sessions() as session:
        shop.flow(session.get_one(Order, id)).transition_to("paid")
        session.flush()
        assert late(shop) == []
        session.commit()
        assert late(shop) == ["after_commit paid"]
        session.commit()
        assert late(shop) == []


def test_they_follow_the_block(shop: Shop) -> None:
    """In the order of the transitions, once each."""
    id = shop.new_order()
    with shop.sessions.begin() as session:
        flow = shop.flow(session.get_one(Order, id))
        flow.transition_to("paid")
        flow.transition_to("shipped")
        assert late(shop) == []
    assert late(shop) == ["after_commit paid", "after_commit shipped"]


@pytest.mark.parametrize("block", [True, False])
def test_they_never_follow_a_commit_that_is_none(shop: Shop, block: bool) -> None:
    """PostgreSQL rolls back what it had refused a statement of, and says nothing at the COMMIT."""
    id = shop.new_order()
    is_undone = shop.engine.dialect.name == "postgresql"
    with shop.sessions() as session:
        with (
            pytest.raises(StoreError, match="roll the session") if is_undone else nullcontext(),
            session.begin() if block else nullcontext(),
        ):
            shop.flow(session.get_one(Order, id)).transition_to("paid")
            with suppress(DBAPIError):
                session.execute(text("SELECT nothing"))
            if not block:
                session.commit()
        session.rollback()
        assert late(shop) == ([] if is_undone else ["after_commit paid"])
        state = shop.flow(session.get_one(Order, id)).current_state
        assert state == ("pending" if is_undone else "paid")


@pytest.mark.parametrize("end", ["rollback", "close", "error"])
def test_they_never_follow_a_rollback(shop: Shop, end: str) -> None:
    """However it came about; and a later commit of the same session calls nothing either."""
    id = shop.new_order()
    with shop.sessions() as session:
        with suppress(Refused), session.begin():
            shop.flow(session.get_one(Order, id)).transition_to("paid")
            if end == "error":
                raise Refused
            getattr(session, end)()
        session.add(Parcel(order_id=id))
        session.commit()
    assert late(shop) == []


def test_they_do_not_follow_a_savepoint(shop: Shop) -> None:
    """They wait for the transaction around it, and the one around that."""
    id = shop.new_order()
    with shop.sessions.begin() as session:
        flow = shop.flow(session.get_one(Order, id))
        with session.begin_nested():
            with session.begin_nested():
                flow.transition_to("paid")
            assert late(shop) == []
        assert late(shop) == []
    assert late(shop) == ["after_commit paid"]


def test_they_go_with_the_savepoint_that_is_rolled_back(shop: Shop) -> None:
    """What was done outside of it is followed nevertheless."""
    id = shop.new_order()
    with shop.sessions.begin() as session:
        flow = shop.flow(session.get_one(Order, id))
        flow.transition_to("paid")
        outer = session.begin_nested()
        with session.begin_nested():
            flow.transition_to("shipped")
        outer.rollback()
        flow.transition_to("cancelled")
    assert late(shop) == ["after_commit paid", "after_commit cancelled"]


def test_a_rollback_of_all_takes_those_of_released_savepoints(shop: Shop) -> None:
    """They were kept for a commit that never came."""
    id = shop.new_order()
    with shop.sessions() as session:
        with session.begin_nested():
            shop.flow(session.get_one(Order, id)).transition_to("paid")
        session.rollback()
        session.commit()
    assert late(shop) == []


def test_they_use_the_session(shop: Shop) -> None:
    """What they read is what was committed; what they write is committed after each."""
    id = shop.new_order()
    seen: list[tuple[int, str]] = []

    def send(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        seen.append((order.id, order.state))
        session.add(Parcel(order_id=order.id))

    shop.script.acts = {"after_commit": send}
    with shop.sessions() as session:
        with session.begin():
            shop.flow(session.get_one(Order, id)).transition_to("paid")
        assert not session.in_transaction()
        with session.begin():
            assert len(session.scalars(select(Parcel)).all()) == 1
        shop.flow(session.get_one(Order, id)).transition_to("shipped")
        session.commit()
    assert seen == [(id, "paid"), (id, "shipped")]
    with shop.sessions() as session:
        assert len(session.scalars(select(Parcel)).all()) == 2


def test_they_use_a_session_that_begins_nothing_by_itself(shop: Shop) -> None:
    """It is begun for each of them."""
    id = shop.new_order()

    def send(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        session.add(Parcel(order_id=order.id))

    shop.script.acts = {"after_commit": send}
    with shop.sessions(autobegin=False) as session:
        with session.begin():
            flow = shop.flow(session.get_one(Order, id))
            flow.transition_to("paid")
            flow.transition_to("shipped")
        assert not session.in_transaction()
        with session.begin():
            assert len(session.scalars(select(Parcel)).all()) == 2


def test_one_that_fails_stops_no_other(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and neither the commit nor its caller hears of it."""
    id = shop.new_order()

    def fail(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        if order.state == "shipped" and shop.script.calls.count("after_commit paid") == 1:
            shop.script.acts = {}
            session.add(Parcel(order_id=None))

    shop.script.acts = {"after_commit": fail}
    with caplog.at_level(logging.ERROR, "holdfast"), shop.sessions() as session:
        with session.begin():
            flow = shop.flow(session.get_one(Order, id))
            flow.transition_to("paid")
            flow.transition_to("shipped")
        assert late(shop) == ["after_commit paid", "after_commit shipped"]
        assert not session.in_transaction()
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [IntegrityError]
    assert shop.stored(id) == ["paid", "shipped"]


def test_what_one_did_that_raised_is_undone(shop: Shop) -> None:
    """Flushed or not; what the others did stays."""
    id = shop.new_order()

    def send(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        session.add(Parcel(order_id=order.id))
        if shop.script.calls[-2:] == ["after_commit paid", "after_commit shipped"]:
            session.flush()
            order.lines = 99
            raise Refused

    shop.script.acts = {"after_commit": send}
    with shop.sessions.begin() as session:
        flow = shop.flow(session.get_one(Order, id))
        for state in ("paid", "shipped"):
            flow.transition_to(state)
    with shop.sessions() as session:
        assert len(session.scalars(select(Parcel)).all()) == 1
        assert session.get_one(Order, id).lines == 1


def test_an_interrupt_undoes_what_one_did_too(shop: Shop) -> None:
    """It reaches whoever commits, and the transition stays."""
    id = shop.new_order()

    def interrupt(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        session.add(Parcel(order_id=order.id))
        session.flush()
        raise KeyboardInterrupt

    shop.script.acts = {"after_commit": interrupt}
    with shop.sessions() as session:
        flow = shop.flow(session.get_one(Order, id))
        flow.transition_to("paid")
        with pytest.raises(KeyboardInterrupt):
            session.commit()
        assert not session.in_transaction()
        session.commit()
        assert session.scalars(select(Parcel)).all() == []
        assert flow.current_state == "paid"


def test_a_transition_made_after_a_commit_is_followed_too(shop: Shop) -> None:
    """It is in a transaction of its own."""
    id = shop.new_order()

    def ship(order: Order) -> None:
        if order.state == "paid":
            shop.flow(order).transition_to("shipped")

    shop.script.acts = {"after_commit": ship}
    with shop.sessions.begin() as session:
        shop.flow(session.get_one(Order, id)).transition_to("paid")
    assert late(shop) == ["after_commit paid", "after_commit shipped"]
    assert shop.stored(id) == ["paid", "shipped"]


def test_hooks_of_typed_machines_follow_alike(shop: Shop) -> None:
    """They come from a service, and not from a flow."""
    told: list[int] = []
    machine: Machine[Free | Taken, Take | Leave, None] = Machine(
        "bench", state=Free | Taken, command=Take | Leave
    )

    @machine.on
    def take(state: Free | None, command: Take) -> Taken:
        return Taken(command.by)

    @machine.after_commit
    def tell(transition: Transition) -> None:
        told.append(transition.version)

    with shop.sessions() as session:
        benches = joined(Service(machine, shop.store), session)
        benches.handle("1", Take("alice"))
        session.rollback()
        benches.handle("1", Take("bob"))
        assert told == []
        session.commit()
        assert told == [1]
        assert benches.get("1").state == Taken("bob")
