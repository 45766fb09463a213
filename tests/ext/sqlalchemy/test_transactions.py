"""Transitions are part of a session's transaction: done with it, and undone with it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Literal

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from tests.ext.sqlalchemy.shop import (
    Gate,
    GateFlow,
    JudgingGate,
    Label,
    Order,
    OrderFlow,
    Parcel,
    Shop,
    Ticket,
    TicketFlow,
    engine_for,
)

from holdfast import Flow, Service, open_store
from holdfast.errors import (
    DefinitionError,
    GuardFailedError,
    InvalidTransitionError,
    StoreError,
    VersionConflictError,
)
from holdfast.ext.sqlalchemy import flow_of, joined


class Refused(Exception):  # noqa: N818 (a test raises it)
    pass


def test_a_commit_keeps_the_order_and_its_transition(shop: Shop) -> None:
    """The order is inserted before, since the flow needs its key, and all of it is there after."""
    with shop.sessions.begin() as session:
        order = Order()
        session.add(order)
        made = shop.flow(order).transition_to("paid", metadata={"by": "alice"})
        assert (made.id, made.actor) == (str(order.id), "alice")
        id = order.id
    assert shop.stored(id) == ["paid"]
    assert shop.mirrored(id) == "paid"


def test_a_rollback_undoes_the_transition(shop: Shop) -> None:
    """The same object, and the same flow, know nothing of it, and go on from what is true."""
    id = shop.new_order()
    with shop.sessions() as session:
        order = session.get_one(Order, id)
        flow = shop.flow(order)
        flow.transition_to("paid")
        assert (flow.current_state, order.state) == ("paid", "paid")
        session.rollback()
        assert (flow.current_state, order.state, flow.version) == ("pending", "pending", 0)
        assert not flow.can_transition_to("shipped")
        flow.transition_to("cancelled")
        session.commit()
        assert (flow.current_state, order.state) == ("cancelled", "cancelled")
    assert shop.stored(id) == ["cancelled"]
    assert shop.mirrored(id) == "cancelled"


def test_an_error_in_the_block_undoes_the_transition(shop: Shop) -> None:
    """As it undoes whatever else was done in `with session.begin():`."""
    id = shop.new_order()
    with suppress(Refused), shop.sessions.begin() as session:
        shop.flow(session.get_one(Order, id)).transition_to("paid")
        raise Refused
    assert shop.stored(id) == []
    assert shop.mirrored(id) == "pending"


def test_nobody_else_sees_it_before_the_commit(shop: Shop) -> None:
    """Neither the store nor another session does."""
    id = shop.new_order()
    with shop.sessions() as session, shop.sessions() as other:
        shop.flow(session.get_one(Order, id)).transition_to("paid")
        assert shop.stored(id) == []
        assert shop.flow(other.get_one(Order, id)).current_state == "pending"
        session.commit()
        assert shop.flow(other.get_one(Order, id)).current_state == "paid"


def test_a_rolled_back_savepoint_undoes_what_was_done_in_it(shop: Shop) -> None:
    """And leaves what was done before and after."""
    id = shop.new_order()
    with shop.sessions.begin() as session:
        order = session.get_one(Order, id)
        flow = shop.flow(order)
        flow.transition_to("paid")
        with suppress(Refused), session.begin_nested():
            flow.transition_to("shipped")
            assert (flow.current_state, order.state) == ("shipped", "shipped")
            raise Refused
        assert (flow.current_state, order.state, flow.version) == ("paid", "paid", 1)
        flow.transition_to("cancelled")
    assert shop.stored(id) == ["paid", "cancelled"]
    assert shop.mirrored(id) == "cancelled"


def test_a_rollback_undoes_what_a_released_savepoint_kept(shop: Shop) -> None:
    """Savepoints within savepoints too, and where the first statement of all is in one."""
    id = shop.new_order()
    with shop.sessions() as session:
        with session.begin_nested():
            flow = shop.flow(session.get_one(Order, id))
            with session.begin_nested():
                flow.transition_to("paid")
            flow.transition_to("shipped")
        assert flow.current_state == "shipped"
        session.rollback()
        assert flow.current_state == "pending"
    assert shop.stored(id) == []


def test_an_outer_savepoint_undoes_what_inner_ones_kept(shop: Shop) -> None:
    """The inner one was released, and goes nevertheless."""
    id = shop.new_order()
    with shop.sessions.begin() as session:
        flow = shop.flow(session.get_one(Order, id))
        outer = session.begin_nested()
        with session.begin_nested():
            flow.transition_to("paid")
        outer.rollback()
        assert flow.current_state == "pending"
        flow.transition_to("cancelled")
    assert shop.stored(id) == ["cancelled"]


def test_what_precedes_a_transition_is_flushed_before_it(shop: Shop) -> None:
    """So a change that the database refuses keeps the transition from being written."""
    id = shop.new_order()
    with shop.sessions() as session:
        order = session.get_one(Order, id)
        flow = shop.flow(order)
        session.add_all([Parcel(id=7, order_id=1), Ticket()])
        session.flush()
        session.add(Parcel(order_id=None))
        with pytest.raises(IntegrityError), session.no_autoflush:
            flow.transition_to("paid")
        session.rollback()
        assert flow.current_state == "pending"
    assert shop.stored(id) == []


def test_a_flow_without_callbacks_flushes_too(shop: Shop) -> None:
    """The row that a transition depends on is there before it, or neither is."""
    with shop.sessions() as session:
        session.add(ticket := Ticket())
        flow = flow_of(TicketFlow, ticket, store=shop.store)
        session.add(Parcel(order_id=None))
        with session.no_autoflush, pytest.raises(IntegrityError):
            flow.transition_to("closed")
        session.rollback()
        session.commit()
    assert shop.store.count("ticket") == {}


def test_a_raising_callback_leaves_session_and_object_as_they_were(shop: Shop) -> None:
    """What callbacks added and changed is undone, whether it was flushed or not."""
    id = shop.new_order()

    def prepare(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        order.lines = 99
        session.add(Parcel(order_id=order.id))
        session.flush()
        session.add(Parcel(order_id=order.id))

    def refuse(order: Order) -> None:
        order.lines = 100
        raise Refused

    shop.script.acts = {"before": prepare, "after": refuse}
    with shop.sessions.begin() as session:
        order = session.get_one(Order, id)
        order.lines = 5
        with pytest.raises(Refused):
            shop.flow(order).transition_to("paid")
        assert (order.lines, order.state) == (5, "pending")
        assert shop.flow(order).current_state == "pending"
        assert not session.new
    with shop.sessions() as session:
        assert session.get_one(Order, id).lines == 5
        assert session.scalars(select(Parcel)).all() == []
    assert shop.script.took() == ["guard paid", "before paid", "after paid", "on_failure paid"]


def test_a_callback_before_can_rule_others_changes_out(shop: Shop) -> None:
    """It asks again within the transaction, where a guard has seen what the session had loaded."""
    id = shop.new_order()
    writing = threading.Event()

    def refresh(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        session.refresh(order, with_for_update=True)
        if order.lines == 0:
            raise Refused
        writing.set()
        changing.join(0.2)

    def empty() -> None:
        writing.wait()
        with shop.sessions.begin() as other:
            other.get_one(Order, id, with_for_update=True).lines = 0

    changing = threading.Thread(target=empty, daemon=True)
    changing.start()
    shop.script.acts = {"guard": lambda order: order.lines > 0, "before": refresh}
    with shop.sessions() as session:
        flow = shop.flow(session.get_one(Order, id))
        flow.transition_to("paid")
        assert changing.is_alive()
        session.commit()
        changing.join()
        assert flow.object.lines == 0
        flow.object.lines = 1
        session.commit()
        assert flow.object.lines == 1
        with shop.sessions.begin() as other:
            other.get_one(Order, id).lines = 0
        with pytest.raises(Refused):
            flow.transition_to("shipped")
    assert shop.stored(id) == ["paid"]


def test_what_callbacks_do_is_committed_with_the_transition(shop: Shop) -> None:
    """They use the session as everybody does."""
    id = shop.new_order()

    def prepare(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        order.lines += 1
        session.add(Parcel(order_id=order.id))

    shop.script.acts = {"before": prepare, "after": prepare}
    with shop.sessions.begin() as session:
        shop.flow(session.get_one(Order, id)).transition_to("paid")
    with shop.sessions() as session:
        assert session.get_one(Order, id).lines == 3
        assert len(session.scalars(select(Parcel)).all()) == 2


def test_callbacks_that_break_a_constraint_undo_the_transition(shop: Shop) -> None:
    """What they left to be flushed is flushed before their savepoint is kept."""
    id = shop.new_order()

    def spoil(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        session.add(Parcel(order_id=None))

    shop.script.acts = {"after": spoil}
    with shop.sessions.begin() as session:
        flow = shop.flow(session.get_one(Order, id))
        with pytest.raises(IntegrityError):
            flow.transition_to("paid")
        assert flow.current_state == "pending"
        shop.script.acts.clear()
        flow.transition_to("cancelled")
    assert shop.stored(id) == ["cancelled"]


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_callback_that_ends_the_transaction_is_refused(shop: Shop, kind: str, end: str) -> None:
    """Nothing is committed by it: no transition, and nothing that the session did before."""
    id = shop.new_order()

    def finish(order: Order) -> None:
        getattr(Session.object_session(order), end)()

    shop.script.acts = {kind: finish}
    with shop.sessions() as session:
        flow = shop.flow(session.get_one(Order, id))
        session.add(Parcel(order_id=id))
        told = "a hook would commit" if end == "commit" else "a hook ended"
        with pytest.raises(StoreError, match=f"{told} the transaction of the session"):
            flow.transition_to("paid")
        session.rollback()
        assert session.scalars(select(Parcel)).all() == []
    assert shop.stored(id) == []


def test_a_callback_may_end_savepoints_of_its_own(shop: Shop) -> None:
    """It is told that it cannot commit what is around them, and may go on."""
    id = shop.new_order()

    def act(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        with session.begin_nested():
            session.add(Parcel(order_id=1))
        session.begin_nested()
        session.add(Parcel(order_id=2))
        with pytest.raises(StoreError, match="a hook would commit"):
            session.commit()

    shop.script.acts = {"before": act, "after": act}
    with shop.sessions() as session:
        flow = shop.flow(session.get_one(Order, id))
        flow.transition_to("paid")
        assert len(session.scalars(select(Parcel)).all()) == 4
        session.rollback()
        assert flow.current_state == "pending"
        flow.transition_to("paid")
        session.commit()
        assert len(session.scalars(select(Parcel)).all()) == 4
    assert shop.stored(id) == ["paid"]


def test_callbacks_may_transition_others(shop: Shop) -> None:
    """By a flow of the session or by a service on the store: all are one transaction."""
    id = shop.new_order()
    tickets = Service(TicketFlow.machine, shop.store)
    close = TicketFlow.compiled.commands["closed"]

    def close_tickets(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        ticket = Ticket()
        session.add(ticket)
        flow_of(TicketFlow, ticket, store=shop.store).transition_to("closed")
        tickets.handle("by-service", close())

    shop.script.acts = {"before": close_tickets}
    with shop.sessions() as session:
        shop.flow(session.get_one(Order, id)).transition_to("paid")
        session.rollback()
        assert session.scalars(select(Ticket)).all() == []
        assert tickets.find().records == []
        shop.flow(session.get_one(Order, id)).transition_to("paid")
        session.commit()
    assert len(tickets.find(state="closed").records) == 2


@pytest.mark.parametrize("target", ["paid", "cancelled"])
def test_a_callback_before_that_transitions_the_same_object_is_refused(
    shop: Shop, target: str
) -> None:
    """The transition that it is before would be lost, or begin for ever."""
    id = shop.new_order()
    shop.script.acts = {"before": lambda order: shop.flow(order).transition_to(target)}
    with shop.sessions.begin() as session:
        flow = shop.flow(session.get_one(Order, id))
        with pytest.raises(DefinitionError, match="about to be written"):
            flow.transition_to("paid")
        assert flow.current_state == "pending"
    assert shop.stored(id) == []


def test_a_guard_refuses_and_leaves_the_transaction(shop: Shop) -> None:
    """It is asked outside of any savepoint, and what the session did stays."""
    id = shop.new_order()
    shop.script.acts = {"guard": lambda order: order.lines > 1}
    with shop.sessions.begin() as session:
        order = session.get_one(Order, id)
        flow = shop.flow(order)
        with pytest.raises(GuardFailedError):
            flow.transition_to("paid")
        assert flow.try_transition_to("paid") is False
        order.lines = 2
        flow.transition_to("paid")
    assert shop.stored(id) == ["paid"]


def test_a_conflict_is_raised_and_leaves_the_transaction(shop: Shop) -> None:
    """Nothing of the loser is written, and its session goes on."""
    id = shop.new_order()
    with shop.sessions.begin() as session:
        flow = shop.flow(session.get_one(Order, id))
        flow.transition_to("paid")
        with pytest.raises(VersionConflictError):
            flow.transition_to("shipped", expected_version=0)
        session.add(Parcel(order_id=id))
    with shop.sessions() as session:
        assert len(session.scalars(select(Parcel)).all()) == 1
    assert shop.stored(id) == ["paid"]


def test_two_sessions_do_not_both_transition(shop: Shop) -> None:
    """The one that decided on what is no longer so is told, and nothing of it is written."""
    id = shop.new_order()
    with shop.sessions() as session, shop.sessions() as other:
        late = shop.flow(other.get_one(Order, id))
        seen = late.version
        other.commit()
        shop.flow(session.get_one(Order, id)).transition_to("paid")
        session.commit()
        with pytest.raises(VersionConflictError):
            late.transition_to("cancelled", expected_version=seen)
        other.commit()
    assert shop.stored(id) == ["paid"]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_conflict_that_the_database_tells_of_leaves_the_transaction_too(
    postgres_shop: Shop, level: str
) -> None:
    """It sees what it saw when it began, so that only a new one can decide again."""
    shop = postgres_shop
    id = shop.new_order()
    engine = shop.engine.execution_options(isolation_level=level)
    with Session(engine, info={"script": shop.script}) as session:
        flow = shop.flow(session.get_one(Order, id))
        assert flow.current_state == "pending"
        with shop.sessions.begin() as other:
            shop.flow(other.get_one(Order, id)).transition_to("paid")
        with pytest.raises(StoreError, match="try again, in a new transaction"):
            flow.transition_to("cancelled")
        assert flow.current_state == "pending"
        session.add(Parcel(order_id=id))
        session.commit()
        flow.transition_to("shipped")
        session.commit()
    assert shop.stored(id) == ["paid", "shipped"]


def test_what_failure_callbacks_do_is_the_session_s(shop: Shop) -> None:
    """The savepoint is undone by then, and the transaction goes on."""
    id = shop.new_order()

    def refuse(order: Order) -> None:
        order.lines = 99
        raise Refused

    def report(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        session.add(Parcel(order_id=order.lines))

    shop.script.acts = {"before": refuse, "on_failure": report}
    with shop.sessions() as session:
        flow = shop.flow(session.get_one(Order, id))
        for end in (session.rollback, session.commit):
            with pytest.raises(Refused):
                flow.transition_to("paid")
            end()
        assert session.scalars(select(Parcel.order_id)).all() == [1]


def test_the_sessions_of_eight_threads_lose_nothing(shop: Shop) -> None:
    """What each has committed is in the history, is mirrored, and was followed."""
    ids = [shop.new_order() for _ in range(4)]
    committed: list[int] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for turn, state in enumerate(["paid", "cancelled", "shipped"] * 2):
            id = ids[(number + turn) % 4]
            with shop.sessions() as session, suppress(InvalidTransitionError, VersionConflictError):
                flow = shop.flow(session.get_one(Order, id))
                with session.begin_nested():
                    flow.transition_to(state)
                if (number + turn) % 3:
                    session.commit()
                    committed.append(id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    for id in ids:
        history = shop.stored(id)
        assert len(history) == committed.count(id) > 0
        assert history[-1] == shop.mirrored(id)
    late = [call for call in shop.script.took() if call.startswith("after_commit")]
    assert len(late) == len(committed)


def test_a_flow_serves_one_transaction_after_another(shop: Shop) -> None:
    """It finds the connection of the transaction that the session is in, whichever that is."""
    id = shop.new_order()
    with shop.sessions() as session:
        order = session.get_one(Order, id)
        flow = shop.flow(order)
        for state in ("paid", "shipped"):
            flow.transition_to(state)
            session.commit()
            with shop.engine.connect() as connection:  # what the session gave back to the pool
                assert connection.scalar(select(Order.state).where(Order.id == id)) == state
    assert shop.stored(id) == ["paid", "shipped"]


def test_an_object_without_a_session_is_refused(shop: Shop) -> None:
    """New, taken out, or rolled back: it says to add it to a session."""
    order = Order()
    with pytest.raises(StoreError, match="add it to a session"):
        shop.flow(order)
    with shop.sessions() as session:
        session.add(order)
        flow = shop.flow(order)
        flow.transition_to("paid")
        session.rollback()
        for call in (lambda: flow.current_state, lambda: flow.transition_to("paid")):
            with pytest.raises(StoreError, match="add it to a session"):
                call()
        kept = Order()
        session.add(kept)
        flow = shop.flow(kept)
        session.commit()
        session.expunge(kept)
        with pytest.raises(StoreError, match="add it to a session"):
            flow.transition_to("paid")


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("hooks", [False, True])
def test_an_object_that_is_deleted_is_refused(shop: Shop, flushed: bool, hooks: bool) -> None:
    """Its history is there still, and the deletion may be undone."""
    with shop.sessions() as session:
        row = Order() if hooks else Gate()
        session.add(row)
        flow: Flow[Any] = (
            shop.flow(row) if isinstance(row, Order) else flow_of(GateFlow, row, store=shop.store)
        )
        flow.transition_to("paid" if hooks else "ajar")
        session.commit()
        session.delete(row)
        if flushed:
            session.flush()
        with pytest.raises(StoreError, match=r"is deleted in the session.*; nothing was written"):
            flow.transition_to("shipped" if hooks else "shut")
        assert [each.version for each in flow.history] == [1]
        session.rollback()
        assert row in session


def test_a_callback_may_delete_the_object_that_it_is_given(shop: Shop) -> None:
    """The transition is its last."""
    id = shop.new_order()
    with shop.sessions() as session:
        shop.script.acts["after"] = session.delete
        made = shop.flow(session.get_one(Order, id)).transition_to("cancelled")
        assert (made.to_state, made.version) == ("cancelled", 1)
        session.commit()
        assert session.get(Order, id) is None
    assert shop.stored(id) == ["cancelled"]


@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_callback_that_passes_over_an_error_is_told(postgres_shop: Shop, kind: str) -> None:
    """PostgreSQL does no more for its savepoint, which is undone; the session goes on."""
    id = postgres_shop.new_order()
    with postgres_shop.sessions() as session:
        order = session.get_one(Order, id)
        order.lines = 7
        postgres_shop.script.acts[kind] = lambda order: pass_over(session, order)
        with pytest.raises(StoreError, match="a hook, which passed its error over; nothing was wr"):
            postgres_shop.flow(order).transition_to("paid")
        assert postgres_shop.script.took()[-1] == "on_failure paid"
        postgres_shop.script.acts.clear()
        assert (order.state, order.lines) == ("pending", 7)
        postgres_shop.flow(order).transition_to("cancelled")
        session.commit()
    assert postgres_shop.stored(id) == ["cancelled"]


@pytest.mark.parametrize("place", ["guard", "caller"])
def test_an_error_that_was_passed_over_before_is_told(postgres_shop: Shop, place: str) -> None:
    """By whoever has the session: it is to be rolled back."""
    id = postgres_shop.new_order()
    with postgres_shop.sessions() as session:
        order = session.get_one(Order, id)
        flow = postgres_shop.flow(order)
        if place == "guard":
            postgres_shop.script.acts["guard"] = lambda order: pass_over(session, order)
        told = "its error was passed over; nothing was written: roll the session back"
        if place == "caller":
            assert flow.current_state == "pending"
            pass_over(session, order)
            told = "has failed before; nothing was written: roll it back"
        with pytest.raises(StoreError, match=told):
            flow.transition_to("paid")
        session.rollback()
        postgres_shop.script.acts.clear()
        flow.transition_to("paid")
        session.commit()
    assert postgres_shop.stored(id) == ["paid"]


def pass_over(session: Session, order: Order) -> None:
    order.lines += 1
    with suppress(SQLAlchemyError):
        session.execute(text("SELECT nothing FROM nowhere"))


@pytest.mark.parametrize("by", [None, Gate, JudgingGate])
def test_a_column_that_refuses_its_state_undoes_the_transition(
    shop: Shop, by: type[Gate] | None
) -> None:
    """The session is as it was before, and the error says what was to be mirrored.

    Of a flow, and of a service that was told of the model, or of the one that it inherits from.
    """
    with shop.sessions() as session:
        session.add(JudgingGate(id=1))
        session.commit()
        gate = session.get_one(Gate, 1)
        gate.note = "painted"
        service = joined(
            Service(GateFlow.machine, shop.store, deps=gate), session, model=by or Gate
        )
        flow = flow_of(GateFlow, gate, store=shop.store)

        def lead(state: str) -> object:
            command = GateFlow.compiled.commands[state]
            return flow.transition_to(state) if by is None else service.handle("1", command())

        with pytest.raises(ValueError, match="the wind would shut it") as caught:
            lead("open")
        assert caught.value.__notes__ == [
            f"gate '1' was to be mirrored as 'open' in {(by or JudgingGate).__name__}.state; "
            "nothing was written"
        ]
        assert (gate.state, gate.note, flow.current_state) == ("shut", "painted", "shut")
        session.commit()
        assert shop.store.history("gate", "1", limit=9) == []
        lead("ajar")
        session.commit()
    with Session(shop.engine) as session:
        gate = session.get_one(Gate, 1)
        assert (gate.state, gate.note) == ("ajar", "painted")


def test_an_object_without_its_id_is_refused(shop: Shop) -> None:
    """Where that is another attribute than the key, and nobody has set it."""
    with shop.sessions() as session:
        session.add(label := Label())
        with pytest.raises(StoreError, match="has no name, which is the id of its entity"):
            flow_of(TicketFlow, label, store=shop.store)


def test_an_insert_that_was_rolled_back_may_be_done_again(shop: Shop) -> None:
    """With another key the flow of before is not the order's any more."""
    with shop.sessions() as session:
        ticket = Ticket()
        session.add(ticket)
        flow = flow_of(TicketFlow, ticket, store=shop.store)
        flow.transition_to("closed")
        session.rollback()
        session.add(ticket)
        assert flow.current_state == "open"
        order = Order(id=70)
        session.add(order)
        other = shop.flow(order)
        other.transition_to("paid")
        session.rollback()
        order.id = 71
        session.add(order)
        with pytest.raises(StoreError, match="call flow_of again"):
            other.transition_to("paid")
        shop.flow(order).transition_to("paid")
        session.commit()
    assert (shop.stored(70), shop.stored(71)) == ([], ["paid"])


def test_objects_that_expired_are_as_good_as_others(shop: Shop) -> None:
    """After a commit, after `expire_all`, and in sessions that expire nothing."""
    id = shop.new_order()
    with Session(shop.engine, expire_on_commit=False, info={"script": shop.script}) as session:
        order = session.get_one(Order, id)
        flow = shop.flow(order)
        flow.transition_to("paid")
        session.commit()
        assert order.state == "paid"
        session.expire_all()
        flow.transition_to("shipped")
        session.commit()
        assert order.state == "shipped"
    assert shop.stored(id) == ["paid", "shipped"]


def test_scoped_sessions_are_sessions(shop: Shop) -> None:
    """Through the registry as through the session."""
    registry = scoped_session(shop.sessions)
    order = Order()
    registry.add(order)
    shop.flow(order).transition_to("paid")
    registry.commit()
    id = order.id
    registry.remove()
    assert shop.stored(id) == ["paid"]


def test_a_session_of_several_databases_uses_the_model_s(shop: Shop) -> None:
    """The flow is where its object is."""
    elsewhere = engine_for("sqlite://")
    make = sessionmaker(binds={Parcel: elsewhere, Order: shop.engine}, info={"script": shop.script})
    with make.begin() as session:
        order = Order()
        session.add(order)
        shop.flow(order).transition_to("paid")
        id = order.id
    elsewhere.dispose()
    assert shop.stored(id) == ["paid"]


@pytest.mark.parametrize("mode", ["create_savepoint", "rollback_only"])
def test_a_session_may_be_a_part_of_a_transaction_around_it(
    shop: Shop, mode: Literal["create_savepoint", "rollback_only"]
) -> None:
    """As in test suites, which roll everything back."""
    id = shop.new_order()
    with shop.engine.connect() as connection, connection.begin() as around:
        info = {"script": shop.script}
        with Session(connection, join_transaction_mode=mode, info=info) as session:
            shop.flow(session.get_one(Order, id)).transition_to("paid")
            session.commit()
            assert shop.flow(session.get_one(Order, id)).current_state == "paid"
        around.rollback()
    assert shop.stored(id) == []


def test_autocommit_is_refused(shop: Shop) -> None:
    """Nothing could be undone there; what is asked is answered."""
    id = shop.new_order()
    for engine in (
        shop.engine.execution_options(isolation_level="AUTOCOMMIT"),
        engine_for(shop.url, isolation_level="AUTOCOMMIT"),
    ):
        with Session(engine, info={"script": shop.script}) as session:
            flow = shop.flow(session.get_one(Order, id))
            assert flow.current_state == "pending"
            with pytest.raises(StoreError, match="of the session is in AUTOCOMMIT"):
                flow.transition_to("paid")
        engine.dispose()
    assert shop.stored(id) == []


def test_a_store_elsewhere_is_refused(shop: Shop) -> None:
    """In memory, or in another database: nothing could be one transaction."""
    with shop.sessions() as session:
        order = Order()
        session.add(order)
        with (
            open_store("memory://") as memory,
            pytest.raises(StoreError, match="in no database that a session could reach"),
        ):
            flow_of(OrderFlow, order, store=memory)


def test_what_is_no_flow_and_no_store_is_refused(shop: Shop) -> None:
    """It says what they are."""
    with shop.sessions() as session:
        order = Order()
        session.add(order)
        for flow in (None, Order, OrderFlow.machine):
            with pytest.raises(DefinitionError, match="flow_of takes a flow, not"):
                flow_of(flow, order, store=shop.store)  # type: ignore[arg-type, type-var]  # pyright: ignore[reportArgumentType]
        for store in (None, shop.url):
            with pytest.raises(DefinitionError, match="the store is what open_store returns"):
                flow_of(OrderFlow, order, store=store)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
