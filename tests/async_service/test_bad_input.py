"""Mistakes of callers: each gives a clear error at once, and nothing is written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from tests.async_service.support import AsyncSample, Run, WatchedStore, rival_on, service_on

from holdfast import (
    AsyncService,
    Command,
    Context,
    DefinitionError,
    Machine,
    Record,
    Service,
    State,
    ValidationError,
    transact,
)
from holdfast.testing.sample import Add, Create, Open

user: ContextVar[str] = ContextVar("user", default="nobody")


class Stranger(Command):
    pass


class Kept(State):
    pass


class Keep(Command):
    note: str = ""


async def later() -> Any:
    """Return nothing: what a caller forgot to await."""


@pytest.fixture
def unawaited() -> Iterator[Any]:
    """Give a coroutine that nobody awaited."""
    coroutine = later()
    yield coroutine
    coroutine.close()


@pytest.mark.parametrize("verb", ["handle", "preview"])
def test_a_command_of_another_machine(
    run: Run, store: WatchedStore, service: AsyncSample, verb: str
) -> None:
    """It names the commands that there are."""
    with pytest.raises(ValidationError, match="a Stranger is not a command of sample; they are"):
        run(getattr(service, verb)("e", Stranger()))
    assert rival_on(store).history("e") == []


def test_a_coroutine_where_a_value_is_expected(
    run: Run, store: WatchedStore, service: AsyncSample, unawaited: Any
) -> None:
    """As id, as command, in a command, as metadata: the type is named."""
    wrong: list[Callable[[], Any]] = [
        lambda: service.handle(unawaited, Add()),
        lambda: service.handle("e", unawaited),
        lambda: service.handle("e", Create(note=unawaited)),
        lambda: service.handle("e", Add(), metadata={"by": unawaited}),
        lambda: service.handle("e", Add(), key=unawaited),
        lambda: service.get(unawaited),
    ]
    for call in wrong:
        with pytest.raises(ValidationError, match="coroutine"):
            run(call())
    assert rival_on(store).count_by_state() == {}


def test_deps_that_were_not_awaited(store: WatchedStore, unawaited: Any) -> None:
    """It is said where the service is made."""
    with pytest.raises(DefinitionError, match="deps= is a coroutine; await it"):
        service_on(store, unawaited)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_handler_that_returns_a_coroutine_by_mistake(
    run: Run, store: WatchedStore, kind: str
) -> None:
    """The machine's author is told, and nothing stays unawaited."""
    machine = Machine("kept", state=Kept, command=Keep)

    @machine.on
    def keep(state: None, command: Keep) -> Kept:
        return later()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    with pytest.raises(DefinitionError, match="returned a coroutine; await it in an `async def`"):
        run(AsyncService(machine, store).handle("e", Keep()))
    assert rival_on(store).history("e") == []


def test_work_that_is_no_coroutine_function(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """`transact` says which kind of function goes with which service."""

    def stage(transaction: Any) -> int:
        return 1

    async def stage_async(transaction: Any) -> None:
        await transaction.prepare("e", Add())

    with pytest.raises(DefinitionError, match="takes a coroutine function"):
        run(_transact(service, stage))
    with pytest.raises(DefinitionError, match="is a coroutine function; use AsyncService"):
        _ = transact(rival_on(store), stage_async)
    assert rival_on(store).history("e") == []


async def _transact(service: AsyncSample, work: Any) -> Any:
    return await transact(service, work)


def test_hooks_that_are_coroutine_functions(store: WatchedStore) -> None:
    """A service that blocks cannot await them, and does not pretend to."""

    async def hook(answers: object) -> None:
        pass

    service: Service[Any, Any, Any] = rival_on(store)
    with pytest.raises(DefinitionError, match="is a coroutine function; use a plain one"):
        service.handle_many([("e", Add())], atomic=True, before_commit=hook)
    assert service.history("e") == []


def test_requests_are_drawn_where_the_caller_is(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """A generator runs in its own thread and context; what it raises is the caller's."""
    main = threading.get_ident()

    def requests() -> Iterator[tuple[str, Add]]:
        assert (threading.get_ident(), user.get()) == (main, "ada")
        yield "e", Add()
        raise LookupError("no more")

    async def scene() -> None:
        user.set("ada")
        with pytest.raises(LookupError, match="no more"):
            await service.handle_many(requests())

    run(scene())
    assert rival_on(store).history("e") == []


def test_what_is_asked_for_is_drawn_where_the_caller_is(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """Ids and states may come from generators too."""
    main = threading.get_ident()

    def draw(*wanted: Any) -> Iterator[Any]:
        assert threading.get_ident() == main
        yield from wanted

    async def scene() -> None:
        await service.handle("e", Add())
        assert list(await service.get_many(draw("e", "f"))) == ["e"]
        states: Any = draw("Open", Open)
        assert [record.id for record in await service.find(state=states)] == ["e"]

    run(scene())


def test_plain_handlers_see_the_context_variables_of_their_caller(
    run: Run, store: WatchedStore
) -> None:
    """Though they run in a thread, in one chain with others."""
    seen: list[tuple[object, str]] = []

    def look(context: Context) -> None:
        seen.append((context.metadata["by"], user.get()))

    service = service_on(store, look)

    async def scene() -> None:
        from asyncio import gather

        async def call(name: str) -> Record[Any]:
            user.set(name)
            return await service.handle("e", Add(), metadata={"by": name})

        await gather(*(call(f"u-{number}") for number in range(9)))
        user.set("batch")
        from holdfast import Request

        await service.handle_many([Request("f", Add(), metadata={"by": "batch"})])
        await service.preview("f", Add(), metadata={"by": "batch"})
        async with service.begin() as transaction:
            await transaction.prepare("f", Add(), metadata={"by": "batch"})

    run(scene())
    assert len(seen) == 12
    assert all(by == name for by, name in seen)
    assert rival_on(store).get("f").state == Open(2)
