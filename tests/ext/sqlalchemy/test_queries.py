"""States and last transitions of models as expressions of queries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Uuid,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import CompileError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    mapped_column,
)
from tests.ext.sqlalchemy.shop import (
    Free,
    Label,
    Leave,
    Order,
    OrderFlow,
    Pair,
    Seat,
    Shop,
    Take,
    Taken,
    Ticket,
    TicketFlow,
    engine_for,
    seat,
)

from holdfast import Flow, Service, open_store
from holdfast.errors import DefinitionError, QueryError
from holdfast.ext.sqlalchemy import Stateful, flow_of, joined


class Review(Flow[Order]):
    open = Flow.state(initial=True)
    done = Flow.state()

    open.to(done)


NAMES = ["pending", "paid", "shipped", "cancelled"]


@pytest.fixture
def session(shop: Shop) -> Iterator[Session]:
    """Return a session with an order in each state, 1 to 4, and one more that is paid."""
    with shop.sessions() as session:
        for states in ([], ["paid"], ["paid", "shipped"], ["cancelled"], ["paid"]):
            order = Order()
            session.add(order)
            for state in states:
                shop.flow(order).transition_to(state, metadata={"by": "alice", "n": 1})
        session.commit()
        yield session


def ids(session: Session, *conditions: ColumnElement[bool]) -> list[int]:
    """Return the orders for which conditions hold."""
    return list(session.scalars(select(Order.id).where(*conditions).order_by(Order.id)))


def test_in_state_finds_what_is_in_one_of_the_states(session: Session) -> None:
    """By names, by the attributes of the flow, none of them, and the initial one among them."""
    assert ids(session, Order.in_state("paid")) == [2, 5]
    assert ids(session, Order.in_state(OrderFlow.shipped, "cancelled")) == [3, 4]
    assert ids(session, Order.in_state("pending")) == [1]
    assert ids(session, Order.in_state("pending", "paid")) == [1, 2, 5]
    assert ids(session, Order.in_state(*NAMES)) == [1, 2, 3, 4, 5]
    assert ids(session, Order.in_state()) == []


def test_not_in_state_finds_the_others(session: Session) -> None:
    """Without names it excludes nothing."""
    assert ids(session, Order.not_in_state("paid")) == [1, 3, 4]
    assert ids(session, Order.not_in_state("pending")) == [2, 3, 4, 5]
    assert ids(session, Order.not_in_state("pending", "shipped")) == [2, 4, 5]
    assert ids(session, Order.not_in_state(*NAMES)) == []
    assert ids(session, Order.not_in_state()) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", NAMES)
def test_both_are_the_negation_of_each_other(session: Session, name: str) -> None:
    """Also where SQLAlchemy negates them."""
    inside = ids(session, Order.in_state(name))
    assert ids(session, ~Order.not_in_state(name)) == inside
    outside = ids(session, Order.not_in_state(name))
    assert ids(session, ~Order.in_state(name)) == outside
    assert sorted(inside + outside) == [1, 2, 3, 4, 5]


def test_a_recorded_initial_state_and_a_purged_history_count_as_initial(
    shop: Shop, session: Session
) -> None:
    """As they do for the flow."""
    shop.flow(session.get_one(Order, 1)).record_initial()
    session.commit()
    Service(OrderFlow.machine, shop.store, deps=session.get_one(Order, 2)).purge("2")
    assert shop.flow(session.get_one(Order, 2)).current_state == "pending"
    assert ids(session, Order.in_state("pending")) == [1, 2]
    assert ids(session, Order.not_in_state("pending")) == [3, 4, 5]
    assert ids(session, Order.not_in_state("paid")) == [1, 2, 3, 4]


def test_they_combine_with_other_conditions(session: Session) -> None:
    """In any place of a query that takes a condition, and for an alias too."""
    other = aliased(Order)
    assert ids(session, Order.in_state("paid"), Order.id > 2) == [5]
    assert ids(session, or_(Order.in_state("pending"), Order.in_state("shipped"))) == [1, 3]
    pairs = (
        select(Order.id, other.id)
        .join(other, other.id > Order.id)
        .where(Order.in_state("paid"), other.in_state("cancelled"), other.not_in_state("pending"))
    )
    assert session.execute(pairs).all() == [(2, 4)]
    for condition in (Order.in_state("paid"), Order.in_state("pending", "shipped")):
        assert session.scalar(select(func.count()).where(condition)) == 2
    assert session.scalar(select(func.count()).where(Order.not_in_state("paid"))) == 3
    assert session.scalar(select(func.count()).where(Order.not_in_state("pending"))) == 4
    shown = select(Order.id, Order.in_state("paid")).order_by(Order.id).limit(2)
    assert [(id, bool(is_paid)) for id, is_paid in session.execute(shown)] == [
        (1, False),
        (2, True),
    ]


def test_they_see_what_the_session_has_not_committed(shop: Shop, session: Session) -> None:
    """And not what it rolled back."""
    shop.flow(session.get_one(Order, 1)).transition_to("paid")
    assert ids(session, Order.in_state("paid")) == [1, 2, 5]
    session.rollback()
    assert ids(session, Order.in_state("paid")) == [2, 5]


def test_a_state_that_is_none_is_refused() -> None:
    """The error lists those that there are."""
    with pytest.raises(QueryError, match="payed is no state of order; use cancelled, paid"):
        Order.in_state("payed")
    with pytest.raises(QueryError, match="is no state of seat; use Free, Taken"):
        Seat.not_in_state(Order)


def test_states_that_are_no_names_are_refused() -> None:
    """A list of them among others; and a class that is mapped to nothing has no states."""
    with pytest.raises(QueryError, match=r"\['paid', 'shipped'\] is no state of order"):
        Order.in_state(["paid", "shipped"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(QueryError, match="None is no state of order"):
        Order.not_in_state(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(DefinitionError, match="Stateful'> is no mapped class of SQLAlchemy"):
        Stateful.in_state("paid")


def test_a_query_can_be_printed() -> None:
    """Without a database, as PostgreSQL would be asked."""
    last = Order.most_recent_transition()
    for query in (
        select(Order.id).where(Order.in_state("paid")),
        select(Order.id).where(Order.in_state("pending")),
        select(last.actor, last.at),
        select(Ticket.id).where(Ticket.not_in_state("open")),
    ):
        assert "holdfast." in str(query)


def test_the_most_recent_transition_is_columns(session: Session) -> None:
    """They are selected, compared and sorted by, and NULL where there was none."""
    last = Order.most_recent_transition()
    rows = session.execute(
        select(Order.id, last.version, last.from_state, last.to_state).order_by(Order.id)
    ).all()
    assert rows == [
        (1, None, None, None),
        (2, 1, None, "paid"),
        (3, 2, "paid", "shipped"),
        (4, 1, None, "cancelled"),
        (5, 1, None, "paid"),
    ]
    told = select(last.kind, last.actor, last.reason, last.key, last.metadata)
    assert session.execute(told.where(Order.id == 3)).one() == (
        "command",
        "alice",
        None,
        None,
        {"by": "alice", "n": 1},
    )
    assert ids(session, last.actor == "alice", last.to_state == "paid") == [2, 5]
    assert session.execute(select(last.to_state).where(Order.id == 3)).one().to_state == "shipped"
    other = aliased(Order)
    newest = select(other.id).order_by(other.most_recent_transition().version.desc().nulls_last())
    assert session.scalars(newest.limit(1)).one() == 3


def test_its_columns_can_be_grouped_by(session: Session) -> None:
    """Each is one expression, however often it is named."""
    last = Order.most_recent_transition()
    counted = select(last.to_state, func.count()).group_by(last.to_state)
    assert {(state, count) for state, count in session.execute(counted)} == {
        (None, 1),
        ("paid", 2),
        ("shipped", 1),
        ("cancelled", 1),
    }


def test_a_mirror_is_filled_from_it(session: Session) -> None:
    """Where the column came after the rows, in one statement."""
    session.execute(update(Order).values(state="unknown"))
    last = Order.most_recent_transition().to_state
    session.execute(update(Order).values(state=func.coalesce(last, "pending")))
    expected = ["pending", "paid", "shipped", "cancelled", "paid"]
    assert session.scalars(select(Order.state).order_by(Order.id)).all() == expected


def test_its_times_are_moments(session: Session) -> None:
    """In UTC, and comparable with others."""
    last, now = Order.most_recent_transition(), datetime.now(UTC)
    at, recorded_at = session.execute(select(last.at, last.recorded_at).where(Order.id == 2)).one()
    assert abs(now - at) < timedelta(minutes=5)
    assert at.tzinfo is UTC
    assert recorded_at >= at
    assert ids(session, last.at > now - timedelta(hours=1)) == [2, 3, 4, 5]
    assert ids(session, last.at > now + timedelta(hours=1)) == []


def test_a_typed_machine_has_no_initial_state(shop: Shop) -> None:
    """An instance without an entity is in no state, and so is one whose entity is deleted."""
    with shop.sessions() as session:
        session.add_all([Seat(name=name) for name in ("a", "b", "c", "d")])
        seats = joined(Service(seat, shop.store), session)
        for name, commands in {"a": [], "b": [1], "c": [1, 2], "d": [1, 2, 3]}.items():
            for number in commands:
                seats.handle(name, Take("x") if number == 1 else Leave())

        def names(condition: ColumnElement[bool]) -> list[str]:
            return list(session.scalars(select(Seat.name).where(condition).order_by(Seat.name)))

        assert names(Seat.in_state(Taken)) == ["b"]
        assert names(Seat.in_state("Free", Taken)) == ["b", "c"]
        assert names(Seat.not_in_state(Free)) == ["a", "b", "d"]
        assert names(Seat.not_in_state()) == ["a", "b", "c", "d"]


def test_ids_may_be_uuids_and_texts(shop: Shop) -> None:
    """As the databases keep them, and as another column than the key."""
    with shop.sessions() as session:
        tickets = [Ticket(id=uuid4()) for _ in range(3)]
        labels = [Label(name=name) for name in ("x", "Ünï", "x ")]
        for thing in [*tickets, *labels]:
            session.add(thing)
            flow = flow_of(TicketFlow, thing, store=shop.store)
            if thing not in (tickets[0], labels[0]):
                flow.transition_to("closed")
        session.commit()
        for model, things in ((Ticket, tickets), (Label, labels)):
            for condition, expected in (
                (model.in_state("closed"), things[1:]),
                (model.not_in_state("closed"), things[:1]),
                (model.in_state("open"), things[:1]),
                (model.not_in_state("open"), things[1:]),
                (model.most_recent_transition().to_state == "closed", things[1:]),
            ):
                found = session.scalars(select(model).where(condition)).all()
                assert set(found) == set(expected)


def test_ids_that_no_instance_has_find_none(shop: Shop, session: Session) -> None:
    """The machine may have entities besides: they break no query, and match no other id."""
    pay = OrderFlow.compiled.commands["paid"]
    machine = Service(OrderFlow.machine, shop.store, deps=session.get_one(Order, 1))
    shop.script.acts = {}
    for id in ("x", "01", "1.0", "1x", " 1", "-1", "-0", "9" * 19, "9" * 40, "\u0661", "1\n"):
        machine.handle(id, pay())
    assert ids(session, Order.in_state("paid")) == [2, 5]
    assert ids(session, ~Order.in_state("paid")) == [1, 3, 4]
    assert ids(session, Order.not_in_state("pending")) == [2, 3, 4, 5]
    closed = Service(TicketFlow.machine, shop.store)
    for id in ("x", "0" * 36, uuid4().hex, str(uuid4()).upper()):
        closed.handle(id, TicketFlow.compiled.commands["closed"]())
    assert session.scalars(select(Ticket).where(Ticket.in_state("closed"))).all() == []


def test_large_and_negative_ids_are_ids(shop: Shop) -> None:
    """As far as the database's integers go."""

    class Wide(DeclarativeBase):
        pass

    class Big(Stateful, Wide):
        __tablename__ = "bigs"
        __machine__ = TicketFlow
        id: Mapped[int] = mapped_column(BigInteger, primary_key=True)

    Wide.metadata.create_all(shop.engine)
    with shop.sessions() as session:
        numbers = [-(2**63) + 1, -5, 0, 10**18, 2**63 - 1]
        for number in numbers:
            session.add(big := Big(id=number))
            flow_of(TicketFlow, big, store=shop.store).transition_to("closed")
        session.add(recorded := Big(id=2**63 - 2))
        flow_of(TicketFlow, recorded, store=shop.store).record_initial()
        found = session.scalars(select(Big.id).where(Big.in_state("closed"))).all()
        assert sorted(found) == numbers


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Uuid(as_uuid=False), "0a" * 16),
        (Uuid(as_uuid=False), "0a0b0c0d-0a0b-0a0b-0a0b-0a0b0c0d0a0b"),
        (Uuid(native_uuid=False), UUID(int=5)),
    ],
    ids=["digits", "hyphens", "not native"],
)
def test_spellings_of_one_id_are_one(shop: Shop, kind: object, value: object) -> None:
    """A UUID that is given as text is the same entity as it is read back."""

    class Own(DeclarativeBase):
        pass

    class Thing(Stateful, Own):
        __tablename__ = "things"
        __machine__ = TicketFlow
        id: Mapped[object] = mapped_column(kind, primary_key=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    Own.metadata.create_all(shop.engine)
    with shop.sessions() as session:
        session.add(thing := Thing(id=value))
        flow_of(TicketFlow, thing, store=shop.store).transition_to("closed")
        session.commit()
        session.expire_all()
        thing = session.scalars(select(Thing).where(Thing.in_state("closed"))).one()
        assert flow_of(TicketFlow, thing, store=shop.store).current_state == "closed"
        assert session.scalars(select(Thing).where(Thing.not_in_state("closed"))).all() == []


def test_models_that_do_not_fit_are_refused() -> None:
    """What to declare is said."""

    class Own(DeclarativeBase):
        pass

    class Blob(Stateful, Own):
        __tablename__ = "blobs"
        __machine__ = TicketFlow
        id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)

    class Lost(Stateful, Own):
        __tablename__ = "lost"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Misspelt(Stateful, Own):
        __tablename__ = "misspelt"
        __machine__ = TicketFlow
        __machine_state__ = "stat"
        id: Mapped[int] = mapped_column(primary_key=True)

    for model, told in (
        (Pair, 'a primary key of several columns: .* __machine_id__ = "number"'),
        (Blob, "Blob.id is a LargeBinary.*, which has no text of its own"),
        (Lost, "Lost names no flow and no machine"),
        (Misspelt, "Misspelt maps no column under the name 'stat'"),
    ):
        with pytest.raises(DefinitionError, match=told):
            model.in_state("closed")


def test_another_machine_may_govern_the_model_besides(shop: Shop) -> None:
    """It is named at each question."""
    with shop.sessions() as session:
        session.add_all([first := Order(), second := Order()])
        flow_of(TicketFlow, first, store=shop.store).transition_to("closed")
        shop.flow(second).transition_to("paid")
        assert (first.state, second.state) == ("pending", "paid")
        assert ids(session, Order.in_state("closed", machine=TicketFlow)) == [first.id]
        assert ids(session, Order.not_in_state("closed", machine=TicketFlow)) == [second.id]
        last = Order.most_recent_transition(machine=TicketFlow)
        assert ids(session, last.to_state == "closed") == [first.id]
        assert ids(session, Order.in_state("paid")) == [second.id]


def test_a_second_flow_may_have_a_column_of_its_own(shop: Shop) -> None:
    """And a flow that inherits from another is another."""

    class ReturnFlow(TicketFlow):
        pass

    class Own(DeclarativeBase):
        pass

    class Thing(Stateful, Own):
        __tablename__ = "things"
        __machine__ = TicketFlow
        __machine_state__ = "state"
        id: Mapped[int] = mapped_column(primary_key=True)
        state: Mapped[str] = mapped_column(default="open")
        back: Mapped[str] = mapped_column(default="open")

    Own.metadata.create_all(shop.engine)
    with Session(shop.engine) as session:
        session.add(thing := Thing())
        flow_of(ReturnFlow, thing, store=shop.store, state="back").transition_to("closed")
        assert (thing.state, thing.back) == ("open", "closed")
        session.commit()
        for condition in (
            Thing.in_state("open"),
            Thing.in_state("closed", machine=ReturnFlow),
            Thing.most_recent_transition(machine=ReturnFlow).to_state == Thing.back,
        ):
            assert session.scalars(select(Thing).where(condition)).all() == [thing]


def test_last_transitions_asked_for_twice_are_grouped_and_sorted_by(session: Session) -> None:
    """They are the same expressions."""
    query = (
        select(Order.most_recent_transition().to_state, func.count())
        .group_by(Order.most_recent_transition().to_state, Order.most_recent_transition().actor)
        .order_by(Order.most_recent_transition().to_state)
    )
    found = {row[0]: row[1] for row in session.execute(query)}
    assert found == {None: 1, "paid": 2, "shipped": 1, "cancelled": 1}


def test_last_transitions_of_two_kinds_are_told_apart_in_one_query(
    shop: Shop, session: Session
) -> None:
    """By the name that each is given: of two flows, or of an order and another one."""
    paid = session.scalars(select(Order).where(Order.in_state("paid"))).all()
    for order in paid:
        flow_of(Review, order, store=shop.store).transition_to("done")
    last = Order.most_recent_transition()
    review = Order.most_recent_transition(machine=Review, name="review")
    assert review is not last
    query = select(last.to_state, review.to_state, func.count())
    grouped = query.where(Order.in_state("paid")).group_by(last.to_state, review.to_state)
    rows = session.execute(grouped.order_by(review.to_state.desc(), last.to_state)).all()
    assert [tuple(row) for row in rows] == [("paid", "done", len(paid))]
    assert [row.review_to_state for row in rows] == ["done"]
    other = aliased(Order)
    its = other.most_recent_transition(name="other")
    pairs = select(last.to_state, its.to_state).join(other, other.id == Order.id)
    ordered = pairs.distinct().order_by(its.to_state, last.to_state)
    assert all(one == another for one, another in session.execute(ordered))


def test_a_store_may_have_another_schema(postgres_url: str) -> None:
    """The model says which."""

    class Own(DeclarativeBase):
        pass

    class Thing(Stateful, Own):
        __tablename__ = "things"
        __machine__ = TicketFlow
        __machine_schema__ = "Own schema"
        id: Mapped[int] = mapped_column(primary_key=True)

    engine = engine_for(postgres_url)
    Own.metadata.create_all(engine)
    with open_store(f"{postgres_url}?holdfast_schema=Own%20schema", migrate=True) as store:
        store.count("things")
        with Session(engine) as session:
            session.add(thing := Thing())
            flow_of(TicketFlow, thing, store=store).transition_to("closed")
            assert session.scalars(select(Thing).where(Thing.in_state("closed"))).all() == [thing]
            assert session.scalars(select(Thing).where(Thing.in_state("open"))).all() == []
            last = Thing.most_recent_transition()
            assert session.scalars(select(last.to_state)).all() == ["closed"]
    engine.dispose()


def test_no_other_database_has_a_store() -> None:
    """It says which have."""
    statement = select(Order.id).where(Order.in_state("paid"))
    with pytest.raises(CompileError, match="a store is on SQLite or PostgreSQL, not on mysql"):
        statement.compile(dialect=mysql.dialect())
