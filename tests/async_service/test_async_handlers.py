"""Handlers that are coroutine functions: awaited side by side, cancelled alone, never half done."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeAlias

import pytest
from tests.async_service.support import Run, WatchedStore, outcome, unanswered, until

from holdfast import (
    AsyncService,
    Command,
    CommandRejectedError,
    Context,
    DefinitionError,
    HandlerCancelledError,
    Machine,
    Record,
    Retry,
    Service,
    State,
    transact,
)


class Tally(State):
    count: int = 0


class Count(Command):
    by: int = 1


class Reset(Command):
    pass


Ask: TypeAlias = Callable[[Count, Context], Awaitable[object]]
Counting: TypeAlias = AsyncService[Tally, Count | Reset, Ask]
user: ContextVar[str] = ContextVar("user", default="nobody")

tally = Machine("tally", state=Tally, command=Count | Reset, deps=Ask)


@tally.on
async def count(state: Tally | None, command: Count, deps: Ask, context: Context) -> Tally:
    await deps(command, context)
    made = (state or Tally()).count + command.by
    if made < 0:
        raise CommandRejectedError(f"the count cannot become {made}")
    return Tally(made)


@tally.on
def reset(state: Tally, command: Reset) -> Tally:
    return Tally()


async def at_once(command: Count, context: Context) -> None:
    """Ask nobody."""


class Gate:
    """Asks nobody, but waits where a call is told to, until it is let through."""

    def __init__(self) -> None:
        self.here: list[int] = []
        self.through = asyncio.Event()

    async def __call__(self, command: Count, context: Context) -> None:
        self.here.append(command.by)
        if context.metadata.get("waits"):
            await self.through.wait()


def on(store: WatchedStore, ask: Ask = at_once, **options: Any) -> Counting:
    return AsyncService(tally, store, deps=ask, **options)


def test_a_blocking_service_refuses_the_machine(store: WatchedStore) -> None:
    """At construction, and it says what takes it."""
    with pytest.raises(DefinitionError, match="bind it with AsyncService"):
        Service(tally, store, deps=at_once)


def test_calls_for_one_entity_are_decided_in_order_and_written_together(
    run: Run, store: WatchedStore
) -> None:
    """Handlers that are coroutine functions and those that are not."""

    async def scene() -> None:
        gate = Gate()
        service = on(store, gate)
        first = asyncio.create_task(service.handle("e", Count(1), metadata={"waits": True}))
        await until(lambda: gate.here)
        others = [asyncio.create_task(service.handle("e", Count(n))) for n in range(2, 50)]
        last = asyncio.create_task(service.handle("e", Reset()))
        await asyncio.sleep(0.01)
        assert gate.here == [1]
        gate.through.set()
        records = await asyncio.gather(first, *others, last)
        assert [record.version for record in records] == list(range(1, 51))
        assert gate.here == list(range(1, 50))
        assert records[-1].state == Tally()

    run(scene())
    assert store.commits == [{"e": 1}, {"e": 49}]


def test_slow_handlers_of_different_entities_run_at_once(run: Run, store: WatchedStore) -> None:
    """In `handle` and in `handle_many`."""

    async def scene() -> None:
        barrier = asyncio.Barrier(20)

        async def meet(command: Count, context: Context) -> None:
            await barrier.wait()

        service = on(store, meet)
        records = await asyncio.gather(*(service.handle(f"e-{n}", Count()) for n in range(20)))
        assert {record.version for record in records} == {1}
        answers = await service.handle_many([(f"e-{n}", Count()) for n in range(20)])
        assert [a.version for a in answers if isinstance(a, Record)] == [2] * 20

    run(scene())


def test_a_caller_that_is_cancelled_in_its_handler_writes_nothing(
    run: Run, store: WatchedStore
) -> None:
    """The handler is cancelled with it, and the rest of the chain goes on."""

    async def scene() -> None:
        gate = Gate()
        service = on(store, gate)
        one = asyncio.create_task(service.handle("e", Count(1), metadata={"waits": True}))
        await until(lambda: gate.here)
        chain = [
            asyncio.create_task(service.handle("e", Count(by), metadata={"waits": by == 100}))
            for by in (10, 100, 1000)
        ]
        other = asyncio.create_task(service.handle("other", Count()))
        gate.through.set()
        await one
        gate.through.clear()
        await until(lambda: 100 in gate.here)
        chain[1].cancel()
        before, after = await asyncio.gather(chain[0], chain[2])
        assert (before.version, after.version, after.state) == (2, 3, Tally(1011))
        assert chain[1].cancelled()
        assert (await other).version == 1

    run(scene())


def test_a_handler_that_ignores_its_cancellation_writes_nothing_all_the_same(
    run: Run, store: WatchedStore
) -> None:
    """Nobody waits for what it made."""

    async def scene() -> None:
        here = asyncio.Event()

        async def stubborn(command: Count, context: Context) -> None:
            here.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(20)

        service = on(store, stubborn)
        call = asyncio.create_task(service.handle("e", Count()))
        await here.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await service.drain()
        assert await service.history("e") == []

    run(scene())


def test_a_timeout_in_a_handler_is_its_callers_error(run: Run, store: WatchedStore) -> None:
    """Nothing is written for it, and the others of the chain are."""

    async def impatient(command: Count, context: Context) -> None:
        if command.by == 10:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(20)

    async def scene() -> None:
        service = on(store, impatient)
        one, late, three = await asyncio.gather(
            *(outcome(service.handle("e", Count(by))) for by in (1, 10, 100))
        )
        assert isinstance(late, TimeoutError)
        assert isinstance(one, Record)
        assert isinstance(three, Record)
        assert (one.version, three.version, three.state) == (1, 2, Tally(101))

    run(scene())


def test_a_timeout_around_a_call_cancels_its_handler(run: Run, store: WatchedStore) -> None:
    """And leaves nothing behind."""

    async def scene() -> None:
        ended: list[str] = []

        async def slow(command: Count, context: Context) -> None:
            try:
                await asyncio.sleep(20)
            finally:
                ended.append("cancelled")

        service = on(store, slow)
        await service.count_by_state()  # opens the file
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await service.handle("e", Count())
        await until(lambda: ended)
        assert await service.history("e") == []

    run(scene())


def test_a_handler_that_was_cancelled_by_what_it_awaited_harms_nobody_else(
    run: Run, store: WatchedStore
) -> None:
    """Its caller gets an error, having cancelled nothing itself; the chain goes on."""

    async def broken(command: Count, context: Context) -> None:
        if command.by == 10:
            nobody: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nobody.cancel()
            await nobody

    async def scene() -> None:
        service = on(store, broken)
        one, gone, three = await asyncio.gather(
            *(outcome(service.handle("e", Count(by))) for by in (1, 10, 100))
        )
        assert isinstance(gone, HandlerCancelledError)
        assert isinstance(one, Record)
        assert isinstance(three, Record)
        assert three.state == Tally(101)
        answers = await service.handle_many([("e", Count(10)), ("f", Count(10)), ("e", Count())])
        assert [type(a) for a in answers] == [HandlerCancelledError, HandlerCancelledError, Record]
        told = "the handler of Count on tally 'e' was cancelled; nothing was written"
        assert str(answers[0]) == str(gone) == told
        with pytest.raises(HandlerCancelledError, match=told):
            await service.preview("e", Count(10))
        with pytest.raises(HandlerCancelledError, match=told):
            await service.begin().prepare("e", Count(10))

    run(scene())


def test_a_cancelled_batch_writes_nothing(run: Run, store: WatchedStore) -> None:
    """Given `handle_many` whose handlers are awaited, all of them are cancelled with it."""

    async def scene() -> None:
        gate = Gate()
        service = on(store, gate)
        requests = [(f"e-{n}", Count()) for n in range(5)]
        slow = on(
            store,
            lambda command, context: gate(command, Context(context.now, metadata={"waits": 1})),
        )
        batch = asyncio.create_task(slow.handle_many(requests))
        await until(lambda: len(gate.here) == 5)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
        assert await service.count_by_state() == {}

    run(scene())


def test_handlers_see_the_context_variables_of_their_caller(run: Run, store: WatchedStore) -> None:
    """Of their own, not of whoever began the chain; what they set stays with them."""

    async def scene() -> None:
        seen: dict[int, str] = {}

        async def look(command: Count, context: Context) -> None:
            await asyncio.sleep(0.001)
            seen[command.by] = user.get()
            user.set("overwritten")

        service = on(store, look)

        async def call(number: int) -> None:
            user.set(f"user-{number}")
            await service.handle("e", Count(number))
            assert user.get() == f"user-{number}"

        await asyncio.gather(*(call(number) for number in range(1, 20)))
        assert seen == {number: f"user-{number}" for number in range(1, 20)}
        user.set("importer")
        await service.handle_many([("f", Count(100))])
        await service.preview("f", Count(101))
        async with service.begin() as transaction:
            await transaction.prepare("f", Count(102))
        assert [seen[by] for by in (100, 101, 102)] == ["importer"] * 3

    run(scene())


def test_a_conflict_awaits_the_handler_again(run: Run, store: WatchedStore) -> None:
    """On what is there by then, under the same token; who was cancelled meanwhile is left out."""

    async def scene() -> None:
        rival = on(store)
        tokens: list[str] = []

        async def disturbed(command: Count, context: Context) -> None:
            tokens.append(context.token)
            if len(tokens) == 1:
                await rival.handle("e", Count(10))

        service = on(store, disturbed, retry=Retry(initial_seconds=0.1, jitter=False))
        call = asyncio.create_task(service.handle("e", Count(100)))
        given_up = asyncio.create_task(service.handle("e", Count(1000)))
        await until(lambda: len(tokens) == 2)
        given_up.cancel()
        record = await call
        assert (record.version, record.state) == (2, Tally(110))
        assert len(tokens) == 3
        assert tokens[0] == tokens[2]
        assert given_up.cancelled()

    run(scene())


def test_transactions_await_handlers(run: Run, store: WatchedStore) -> None:
    """`transact` runs its work again on a conflict."""

    async def scene() -> None:
        service = on(store)
        runs: list[int] = []

        async def work(transaction: Any) -> int:
            runs.append(1)
            first = await transaction.prepare("a", Count(1))
            await transaction.prepare("b", Count(first.version))
            if len(runs) < 3:
                await service.handle("b", Count(5))
            return len(runs)

        assert await transact(service, work) == 3
        assert (await service.get("a")).version == 1
        assert (await service.get("b")).state == Tally(11)

    run(scene())


def test_a_handler_that_returns_a_coroutine_is_told(run: Run, store: WatchedStore) -> None:
    """A forgotten await is an error of the definition, whichever kind the handler is."""
    forgetful = Machine("forgetful", state=Tally, command=Count | Reset)

    async def later() -> Tally:
        return Tally()

    @forgetful.on
    async def first(state: None, command: Count) -> Tally:
        return later()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    @forgetful.on
    def second(state: None, command: Reset) -> Tally:
        return later()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    async def scene() -> None:
        service = AsyncService(forgetful, store)
        for command in (Count(), Reset()):
            with pytest.raises(DefinitionError, match="returned a coroutine; await it"):
                await service.handle("e", command)
        assert await service.history("e") == []

    run(scene())


def test_a_task_of_the_service_that_is_cancelled_cancels_its_callers_only(
    run: Run, store: WatchedStore
) -> None:
    """Given a framework that cancels every task it finds, the next call is served."""

    async def scene() -> None:
        gate = Gate()
        service = on(store, gate)
        before = asyncio.all_tasks()
        calls = [
            asyncio.create_task(outcome(service.handle("e", Count(by), metadata={"waits": True})))
            for by in (1, 10)
        ]
        await until(lambda: gate.here)
        late = asyncio.create_task(outcome(service.handle("e", Count(100))))
        await asyncio.sleep(0.01)
        for task in asyncio.all_tasks() - before - {*calls, late}:
            task.cancel()
        answers = await asyncio.gather(*calls, late)
        assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 3
        assert unanswered(service) == 0
        gate.through.set()
        assert (await service.handle("e", Count(1000))).state == Tally(1000)

    run(scene())


class Belongings:
    """What a caller keeps in a context variable."""


belongings: ContextVar[Belongings] = ContextVar("belongings")


def test_an_entity_that_is_always_in_use_keeps_nothing_of_its_first_caller(
    run: Run, store: WatchedStore
) -> None:
    """The task that serves many callers sees the context variables of none."""

    async def scene() -> None:
        gate = Gate()
        service = on(store, gate)
        kept: list[weakref.ref[Belongings]] = []

        async def first() -> None:
            thing = Belongings()
            kept.append(weakref.ref(thing))
            belongings.set(thing)
            await service.handle("e", Count(1))

        calling = asyncio.create_task(first())
        await until(lambda: unanswered(service))
        going_on = asyncio.create_task(service.handle("e", Count(10), metadata={"waits": True}))
        await calling
        del calling
        await until(lambda: 10 in gate.here)
        gc.collect()
        assert kept[0]() is None
        gate.through.set()
        await going_on

    run(scene())
