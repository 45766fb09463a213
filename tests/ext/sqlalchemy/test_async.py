"""Services and flows in the transactions of sessions that are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session
from tests.ext.sqlalchemy.shop import (
    Free,
    Leave,
    Order,
    OrderFlow,
    Parcel,
    Seat,
    Shop,
    Take,
    Taken,
    seat,
)

from holdfast import AsyncService, Machine, Service, Transition
from holdfast.errors import DefinitionError, NotFoundError, StoreError, VersionConflictError
from holdfast.ext.sqlalchemy import flow_of, joined

Main = Callable[[async_sessionmaker[AsyncSession]], Awaitable[None]]


class Refused(Exception):  # noqa: N818 (a test raises it)
    pass


@asynccontextmanager
async def opened(shop: Shop) -> AsyncGenerator[async_sessionmaker[AsyncSession]]:
    """Return what makes sessions on an engine of this event loop."""
    engine = create_async_engine(shop.url.replace("postgresql://", "postgresql+psycopg://"))
    yield async_sessionmaker(engine, info={"script": shop.script}, expire_on_commit=False)
    await engine.dispose()


def run(shop: Shop, main: Main) -> None:
    async def whole() -> None:
        async with opened(shop) as sessions:
            await main(sessions)

    asyncio.run(whole())


def bring(session: AsyncSession, shop: Shop, order: Order, state: str) -> Awaitable[Transition]:
    """Bring an order into a state."""
    return session.run_sync(lambda _: shop.flow(order).transition_to(state))


def test_a_service_takes_part(postgres_shop: Shop) -> None:
    """Its verbs are awaited; a rollback undoes them, and a commit keeps them."""
    shop = postgres_shop

    async def main(sessions: async_sessionmaker[AsyncSession]) -> None:
        everybody = AsyncService(seat, shop.store)
        async with sessions() as session:
            mine = joined(everybody, session, model=Seat)
            session.add(chair := Seat(name="1a"))
            await mine.handle("1a", Take("alice"))
            assert (await mine.get("1a")).state == Taken("alice")
            assert [each.version for each in await mine.history("1a")] == [1]
            assert await mine.allowed("1a") == (Leave,)
            with pytest.raises(VersionConflictError):
                await mine.handle("1a", Leave(), expected_version=7)
            with pytest.raises(NotFoundError):
                await everybody.get("1a")
            await session.rollback()
            with pytest.raises(NotFoundError):
                await mine.get("1a")
            session.add(chair := Seat(name="1a"))
            async with session.begin_nested():
                await mine.handle("1a", Take("bob"))
                savepoint = await session.begin_nested()
                await mine.handle("1a", Leave())
                await savepoint.rollback()
            await session.refresh(chair)
            assert chair.status == "Taken"
            await session.commit()
        assert (await everybody.get("1a")).state == Taken("bob")

    run(shop, main)


def test_hooks_run_in_the_session(postgres_shop: Shop) -> None:
    """They are plain functions, and use it as such; what follows the commit waits for it."""
    shop, calls = postgres_shop, list[str]()
    machine: Machine[Free | Taken, Take | Leave, Session] = Machine(
        "bench", state=Free | Taken, command=Take | Leave, deps=Session
    )

    @machine.on
    def take(state: Free | None, command: Take) -> Taken:
        return Taken(command.by)

    @machine.before
    def prepare(deps: Session) -> None:
        deps.add(Parcel(order_id=len(deps.scalars(select(Parcel)).all())))

    @machine.after
    def refuse(transition: Transition) -> None:
        calls.append(f"after {transition.id}")
        if transition.id == "refused":
            raise Refused

    @machine.after_commit
    def tell(transition: Transition, deps: Session) -> None:
        calls.append(f"after_commit {transition.id} {len(deps.scalars(select(Parcel)).all())}")

    async def main(sessions: async_sessionmaker[AsyncSession]) -> None:
        async with sessions() as session:
            async with session.begin():
                service = AsyncService(machine, shop.store, deps=session.sync_session)
                benches = joined(service, session)
                await benches.handle("kept", Take("alice"))
                with pytest.raises(Refused):
                    await benches.handle("refused", Take("alice"))
                assert calls == ["after kept", "after refused"]
            assert calls == ["after kept", "after refused", "after_commit kept 1"]
            async with session.begin():
                savepoint = await session.begin_nested()
                await benches.handle("undone", Take("alice"))
                await savepoint.rollback()
            assert calls[3:] == ["after undone"]

    run(shop, main)
    assert Service(machine, shop.store, deps=Session()).count_by_state()["Taken"] == 1


def test_a_flow_is_used_within_run_sync(postgres_shop: Shop) -> None:
    """With all that it does in a session that is not awaited."""
    shop = postgres_shop
    id = shop.new_order()
    shop.script.acts["before"] = lambda order: setattr(order, "lines", order.lines + 1)

    async def main(sessions: async_sessionmaker[AsyncSession]) -> None:
        async with sessions() as session:
            order = await session.get_one(Order, id)
            await bring(session, shop, order, "paid")
            await session.rollback()
            await session.refresh(order)
            assert (order.lines, order.state) == (1, "pending")
            async with session.begin_nested():
                await bring(session, shop, order, "paid")
            savepoint = await session.begin_nested()
            await bring(session, shop, order, "shipped")
            await savepoint.rollback()
            assert "after_commit paid" not in shop.script.calls
            await session.commit()
            assert shop.script.calls[-1] == "after_commit paid"
            await session.refresh(order)
            assert (order.lines, order.state) == (2, "paid")

    run(shop, main)
    assert shop.stored(id) == ["paid"]


def test_a_commit_may_be_cancelled_in_what_follows_it(postgres_shop: Shop) -> None:
    """The transition stays, what the callback did is undone, and the session can be used."""
    shop, begun = postgres_shop, asyncio.Event()
    id = shop.new_order()

    def wait(order: Order) -> None:
        session = Session.object_session(order)
        assert session is not None
        session.add(Parcel(order_id=order.id))
        session.flush()
        begun.set()
        session.execute(text("SELECT pg_sleep(60)"))

    shop.script.acts["after_commit"] = wait

    async def main(sessions: async_sessionmaker[AsyncSession]) -> None:
        async with sessions() as session:
            await bring(session, shop, await session.get_one(Order, id), "paid")
            committing = asyncio.create_task(session.commit())
            await begun.wait()
            committing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await committing
            assert not session.in_transaction()
            assert (await session.scalars(select(Parcel))).all() == []

    run(shop, main)
    assert shop.stored(id) == ["paid"]


def test_outside_of_it_the_flow_is_refused(postgres_shop: Shop) -> None:
    """And the error says where to call it."""
    shop = postgres_shop

    async def main(sessions: async_sessionmaker[AsyncSession]) -> None:
        async with sessions() as session:
            session.add(order := Order())
            with pytest.raises(StoreError, match=r"await session.run_sync"):
                shop.flow(order)
            flow = await session.run_sync(lambda _: shop.flow(order))
            with pytest.raises(StoreError, match=r"await session.run_sync"):
                flow.transition_to("paid")
            assert await session.run_sync(lambda _: flow.current_state) == "pending"

    run(shop, main)


def test_scoped_sessions_are_sessions(postgres_shop: Shop) -> None:
    """Each task has its own, through one service."""
    shop = postgres_shop

    async def main(sessions: async_sessionmaker[AsyncSession]) -> None:
        registry = async_scoped_session(sessions, scopefunc=asyncio.current_task)
        seats = joined(AsyncService(seat, shop.store), registry)

        async def reserve(name: str) -> None:
            await seats.handle(name, Take(name))
            await (registry.rollback() if name == "b" else registry.commit())
            await registry.remove()

        await asyncio.gather(*[reserve(name) for name in "abc"])

    run(shop, main)
    assert [each.id for each in Service(seat, shop.store).find()] == ["a", "c"]


def test_a_service_that_blocks_is_refused(postgres_shop: Shop) -> None:
    """It would hold up the event loop, and could not wait."""
    session = AsyncSession()
    with pytest.raises(DefinitionError, match="is joined by an AsyncService"):
        joined(Service(seat, postgres_shop.store), session)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_an_order_may_have_been_loaded_by_anything(postgres_shop: Shop) -> None:
    """The flow finds the session of its object."""
    shop = postgres_shop
    id = shop.new_order()

    async def main(sessions: async_sessionmaker[AsyncSession]) -> None:
        async with sessions.begin() as session:
            order = (await session.scalars(select(Order).where(Order.in_state("pending")))).one()
            flow = await session.run_sync(lambda _: flow_of(OrderFlow, order, store=shop.store))
            await session.run_sync(lambda _: flow.transition_to("cancelled"))

    run(shop, main)
    assert shop.stored(id) == ["cancelled"]
