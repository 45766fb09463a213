"""Services of typed machines in the transactions of sessions."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import BigInteger, ForeignKey, SmallInteger, String, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)
from tests.ext.sqlalchemy.shop import (
    Base,
    Free,
    Leave,
    Order,
    OrderFlow,
    Seat,
    Shop,
    Take,
    Taken,
    TicketFlow,
    engine_for,
    seat,
)

from holdfast import AsyncService, Machine, Service, open_store
from holdfast.errors import (
    DefinitionError,
    InvalidTransitionError,
    NotFoundError,
    StoreError,
    VersionConflictError,
)
from holdfast.ext.sqlalchemy import Stateful, joined
from holdfast.stores.contract import Store


def test_a_service_takes_part(shop: Shop) -> None:
    """Every verb of it sees what the session wrote, and nobody else does before the commit."""
    seats = Service(seat, shop.store)
    with shop.sessions() as session:
        mine = joined(seats, session)
        mine.handle("1a", Take("alice"))
        assert mine.get("1a").state == Taken("alice")
        assert [each.version for each in mine.history("1a")] == [1]
        assert mine.at("1a", version=1).version == 1
        assert [each.id for each in mine.find(state=Taken)] == ["1a"]
        assert mine.count_by_state()["Taken"] == 1
        assert mine.allowed("1a") == (Leave,)
        assert [each.id for each in mine.store.entities(limit=9)] == ["1a"]
        assert mine.store.checkpoint("nobody") is None
        with pytest.raises(NotFoundError):
            seats.get("1a")
        session.rollback()
        with pytest.raises(NotFoundError):
            mine.get("1a")
        with pytest.raises(InvalidTransitionError):
            mine.handle("1a", Leave())
        mine.handle_many([("1a", Take("bob")), ("1b", Take("carol"))], atomic=True)
        session.commit()
    assert [each.id for each in seats.find(state=Taken)] == ["1a", "1b"]


def test_the_state_is_mirrored_in_the_model(shop: Shop) -> None:
    """In rows that the session has loaded, and in others; undone with the savepoint."""
    with shop.sessions.begin() as session:
        session.add_all([Seat(name="1a"), Seat(name="1b")])
    with shop.sessions() as session:
        seats = joined(Service(seat, shop.store), session, model=Seat)
        loaded = session.get_one(Seat, "1a")

        def status() -> str | None:
            return loaded.status

        seats.handle("1a", Take("alice"))
        seats.handle("1b", Take("bob"))
        seats.handle("none", Take("carol"))
        assert status() == "Taken"
        with session.begin_nested() as savepoint:
            seats.handle("1a", Leave())
            assert status() == "Free"
            seats.handle("1a", Leave())
            assert status() is None
            savepoint.rollback()
        assert status() == "Taken"
        session.commit()
    with shop.sessions() as session:
        assert [session.get_one(Seat, name).status for name in ("1a", "1b")] == ["Taken", "Taken"]


def test_the_state_is_mirrored_in_what_was_just_added(shop: Shop) -> None:
    """Nothing of it was loaded yet, nor is it when the commit expires nothing."""
    with shop.sessions(expire_on_commit=False) as session:
        session.add(new := Seat(name="1a"))
        seats = joined(Service(seat, shop.store), session, model=Seat)
        seats.handle("1a", Take("alice"))
        assert new.status == "Taken"
        session.commit()
        assert new.status == "Taken"
    with shop.sessions() as session:
        assert session.get_one(Seat, "1a").status == "Taken"


def test_the_state_is_mirrored_where_a_model_inherits_it(shop: Shop) -> None:
    """And where the id is not its key."""

    class Own(DeclarativeBase):
        pass

    class Place(Stateful, Own):
        __tablename__ = "places"
        __machine__ = seat
        __machine_id__ = "name"
        __machine_state__ = "status"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(10))
        kind: Mapped[str]
        status: Mapped[str | None]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "place"}  # noqa: RUF012

    class Box(Place):
        __tablename__ = "boxes"
        __machine_id__ = "number"
        number: Mapped[int] = mapped_column(ForeignKey("places.id"), primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "box"}  # noqa: RUF012

    class Stool(Place):
        __mapper_args__ = {"polymorphic_identity": "stool"}  # noqa: RUF012

    Own.metadata.create_all(shop.engine)
    with Session(shop.engine) as session:
        places = [Place(name="p"), Stool(name="s"), Box(name="b"), Box(name="other")]
        session.add_all(places)
        session.commit()
        for place, id in zip(places, ("p", "s", "3"), strict=False):
            seats = joined(Service(seat, shop.store), session, model=type(place))
            seats.handle(id, Take("alice"))
        assert [place.status for place in places] == ["Taken", "Taken", "Taken", None]
        session.commit()
        assert [place.status for place in places] == ["Taken", "Taken", "Taken", None]


@pytest.mark.parametrize("scoped", [False, True])
def test_the_state_is_mirrored_whoever_writes_it_in_the_session(shop: Shop, scoped: bool) -> None:
    """A transaction that the service was joined to, and a callback with a service of its own."""
    id = shop.new_order()
    everybody = Service(seat, shop.store)
    tickets = Service(TicketFlow.machine, shop.store)
    shop.script.acts["before"] = lambda order: everybody.handle("1b", Take("bob"))
    registry = scoped_session(shop.sessions)
    with registry() as session:
        session.add_all([Seat(name="1a"), Seat(name="1b")])
        around = registry if scoped else session
        seats = joined(everybody, around, model=Seat)
        transaction = joined(tickets, around).begin()
        transaction.prepare("t-1", TicketFlow.compiled.commands["closed"]())
        transaction.join(seats).prepare("1a", Take("alice"))
        transaction.commit()
        shop.flow(session.get_one(Order, id)).transition_to("paid")
        assert [each.status for each in session.scalars(select(Seat))] == ["Taken", "Taken"]
        session.commit()
    with shop.sessions() as session:
        joined(everybody, session).handle("1a", Leave())
        session.commit()
        assert [session.get_one(Seat, name).status for name in ("1a", "1b")] == ["Taken", "Taken"]


@pytest.mark.parametrize("id", ["40000", "3000000000", "-3000000000", "9" * 19, "1" * 30])
def test_ids_that_no_row_can_have_are_mirrored_nowhere(shop: Shop, id: str) -> None:
    """They are larger than the column, and no reason to fail; what is not, is found."""

    class Own(DeclarativeBase):
        pass

    class Locker(Stateful, Own):
        __tablename__ = "lockers"
        __machine__ = seat
        __machine_state__ = "status"
        number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
        status: Mapped[str | None]

    class Room(Stateful, Own):
        __tablename__ = "rooms"
        __machine__ = seat
        __machine_id__ = "number"
        __machine_state__ = "status"
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(BigInteger)
        status: Mapped[str | None]

    Own.metadata.create_all(shop.engine)
    with Session(shop.engine) as session:
        session.add_all([Locker(number=7), Room(number=3_000_000_000)])
        lockers = joined(Service(seat, shop.store), session, model=Locker)
        joined(Service(seat, shop.store), session, model=Room)
        for each in (id, "7"):
            lockers.handle(each, Take("alice"))
        session.commit()
        assert session.scalars(select(Locker.status)).all() == ["Taken"]
        taken = "Taken" if id == "3000000000" else None
        assert session.scalars(select(Room.status)).all() == [taken]


def test_what_came_too_late_is_not_mirrored(shop: Shop) -> None:
    """Another was there between the decision and the write: the row is as that left it."""
    early = Service(seat, shop.store)
    late: Machine[Free | Taken, Take | Leave, object] = Machine(
        "seat", state=Free | Taken, command=Take | Leave, deps=object
    )

    @late.on
    def take(state: Free | None, command: Take) -> Taken:
        early.handle("1a", Take("early"))
        early.handle("1a", Leave())
        return Taken(command.by)

    with shop.sessions() as session:
        session.add(Seat(name="1a", status="Free"))
        session.commit()
        with pytest.raises(VersionConflictError):
            joined(Service(late, shop.store, deps=object()), session, model=Seat).handle(
                "1a", Take("late")
            )
        session.commit()
        assert session.get_one(Seat, "1a").status == "Free"
    assert early.get("1a").version == 2


def test_a_history_may_be_erased_with_its_row(shop: Shop) -> None:
    """In one transaction, which brings both back where it is rolled back."""
    id = shop.new_order()
    with shop.sessions() as session:
        shop.flow(session.get_one(Order, id)).transition_to("paid")
        session.commit()
        orders = joined(Service(OrderFlow.machine, shop.store), session, model=Order)
        for end, states in ((session.rollback, ["paid"]), (session.commit, [])):
            order = session.get_one(Order, id)
            orders.purge(str(id))
            assert (order.state, shop.flow(order).current_state) == ("pending", "pending")
            session.delete(order)
            end()
            assert [each for each in shop.stored(id) if each] == states
        session.add(again := Order(id=id))
        assert shop.flow(again).current_state == "pending"


def test_a_model_tells_which_database(shop: Shop) -> None:
    """Of a session with several, the service takes that of the model, or of what is named."""
    elsewhere = engine_for("sqlite://")
    with sessionmaker(binds={Base: elsewhere, Seat: shop.engine, Order: elsewhere})() as session:
        joined(Service(seat, shop.store), session, model=Seat).handle("1", Take("a"))
        named = joined(Service(seat, shop.store), session, bind_arguments={"bind": shop.engine})
        named.handle("2", Take("b"))
        session.commit()
    elsewhere.dispose()
    assert len(Service(seat, shop.store).find().records) == 2


def test_one_service_serves_the_sessions_of_all_threads(shop: Shop) -> None:
    """A scoped session is asked at every call which session it is."""
    registry = scoped_session(shop.sessions)
    seats = joined(Service(seat, shop.store), registry)

    def reserve(name: str) -> None:
        seats.handle(name, Take(name))
        registry.commit() if name != "t2" else registry.rollback()
        registry.remove()

    threads = [threading.Thread(target=reserve, args=[f"t{number}"]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.id for each in Service(seat, shop.store).find()] == ["t0", "t1", "t3"]


def test_a_connection_forgets_stores_that_come_and_go(shop: Shop) -> None:
    """It outlives them, in the pool of the engine."""
    kept: set[Store] = set()
    for number in range(20):
        with open_store(shop.url) as store, Session(shop.engine) as session:
            joined(Service(seat, store), session).handle(f"s{number}", Take("alice"))
            kept.update(session.connection().info["holdfast.joined"].values())
            session.commit()
    with Session(shop.engine) as session:
        assert len(kept) == 20
        assert len(kept.intersection(session.connection().info["holdfast.joined"].values())) <= 8


def test_a_joined_service_can_be_joined_elsewhere(shop: Shop) -> None:
    """It is on the store again, and not on two sessions."""
    with shop.sessions() as session:
        first = joined(Service(seat, shop.store), session)
        first.handle("1", Take("a"))
        session.commit()
        with shop.sessions() as other:
            second = joined(first, other)
            second.handle("1", Leave())
            assert first.get("1").version == 1
            other.commit()
        assert first.get("1").version == 2


def test_what_does_not_fit_is_refused(shop: Shop) -> None:
    """A service that awaits wants a session that is awaited; a model wants to be one."""
    with Session(shop.engine) as session:
        with pytest.raises(DefinitionError, match="is joined by a Service"):
            joined(AsyncService(seat, shop.store), session)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        with pytest.raises(DefinitionError, match="joins a session, not sessionmaker"):
            joined(Service(seat, shop.store), shop.sessions)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        with pytest.raises(DefinitionError, match="joined takes a Service or an AsyncService"):
            joined(seat, session)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        with pytest.raises(StoreError, match="is joined to a session, whose connection it takes"):
            joined(Service(seat, shop.store), session).on(session.connection())
        with pytest.raises(DefinitionError, match="no mapped class"):
            joined(Service(seat, shop.store), session, model=Take)
        driver = session.connection().connection.driver_connection
        session.connection().exec_driver_sql("INSERT INTO parcels (order_id) VALUES (1)")
        with pytest.raises(DefinitionError, match="is in a transaction already"):
            joined(Service(seat, shop.store).on(driver), session)
