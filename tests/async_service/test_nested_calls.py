"""Handlers and hooks that call the service that runs them: answered, or refused, at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
from tests.async_service.support import Run, WatchedStore, outcome, rival_on, service_on, until
from tests.async_service.test_async_handlers import Count, Counting, Tally, on

from holdfast import (
    Context,
    DefinitionError,
    Record,
    RetriesExhaustedError,
    Retry,
    transact,
)
from holdfast.testing.sample import Add, Open

Sends = Callable[[Any, str], Awaitable[object]]

WAYS: dict[str, Sends] = {
    "handle": lambda service, id: service.handle(id, Count(10)),
    "handle_many": lambda service, id: _first(service.handle_many([(id, Count(10))])),
    "preview": lambda service, id: service.preview(id, Count(10)),
    "prepare": lambda service, id: service.begin().prepare(id, Count(10)),
}


async def _first(many: Awaitable[list[Any]]) -> object:
    [answer] = await many
    if isinstance(answer, Exception):
        raise answer
    return answer


class Sender:
    """Asks by sending a command where a call's metadata says so."""

    service: Counting
    way: Sends = staticmethod(WAYS["handle"])
    pause_seconds = 0.0

    async def __call__(self, command: Count, context: Context) -> None:
        if "to" in context.metadata:
            await asyncio.sleep(self.pause_seconds)
            await self.way(self.service, context.metadata["to"])


def sending(store: WatchedStore, **options: Any) -> tuple[Counting, Sender]:
    sender = Sender()
    sender.service = on(store, sender, **options)
    return sender.service, sender


@pytest.mark.parametrize("way", WAYS)
def test_an_awaited_handler_may_not_send_a_command_to_its_own_entity(
    run: Run, store: WatchedStore, way: str
) -> None:
    """It is told at once, and those who wait for the entity go on."""

    async def scene() -> None:
        service, sender = sending(store)
        sender.way = WAYS[way]
        own = outcome(service.handle("e", Count(), metadata={"to": "e"}))
        refused, other = await asyncio.gather(own, service.handle("e", Count()))
        assert isinstance(refused, DefinitionError)
        assert "tally 'e' sent a command to that entity itself; nothing was written" in str(refused)
        assert (other.version, other.state) == (1, Tally(1))

    run(scene())


def test_awaited_handlers_may_send_commands_to_each_others_entities(
    run: Run, store: WatchedStore
) -> None:
    """Given x that sends to y while y sends to x, neither waits for the other."""

    async def scene() -> None:
        service, sender = sending(store, retry=Retry(attempts=100, initial_seconds=0.001))
        sender.pause_seconds = 0.005
        calls = [("x", "y"), ("y", "x")]
        answers = await asyncio.gather(
            *(outcome(service.handle(id, Count(), metadata={"to": to})) for id, to in calls)
        )
        assert {type(answer) for answer in answers} <= {Record, RetriesExhaustedError}
        for id in "xy":
            versions = [entry.version for entry in await service.history(id)]
            assert versions == list(range(1, len(versions) + 1))
            assert versions

    run(scene())


def test_a_command_to_another_entity_does_not_wait_for_its_chain(
    run: Run, store: WatchedStore
) -> None:
    """Given a chain that waits, a handler of another entity is answered all the same."""

    async def scene() -> None:
        free = asyncio.Event()
        here: list[int] = []

        async def ask(command: Count, context: Context) -> None:
            here.append(command.by)
            if "to" in context.metadata:
                await service.handle(context.metadata["to"], Count(10))
            if command.by == 100:
                await free.wait()

        service = on(store, ask)
        held = asyncio.create_task(service.handle("y", Count(100)))
        await until(lambda: here)
        assert (await service.handle("x", Count(), metadata={"to": "y"})).version == 1
        free.set()
        assert (await held).state == Tally(110)

    run(scene())


def test_a_full_queue_keeps_no_handler_from_going_on(
    run: Run, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The places of calls are not needed for what their handlers and they themselves ask."""
    monkeypatch.setattr("holdfast.service.intake.MAX_UNANSWERED", 2)

    async def scene() -> None:
        service, _ = sending(store)
        calls = (service.handle(f"x-{n}", Count(), metadata={"to": f"y-{n}"}) for n in range(20))
        assert {record.version for record in await asyncio.gather(*calls)} == {1}
        assert await service.count_by_state() == {"Tally": 40}

    run(scene())


def test_what_an_awaited_handler_has_started_may_send_commands_later(
    run: Run, store: WatchedStore
) -> None:
    """To the entity of that handler, once it has ended."""

    async def scene() -> None:
        ended = asyncio.Event()
        started: list[asyncio.Task[Record[Tally]]] = []

        async def later() -> Record[Tally]:
            await ended.wait()
            return await service.handle("e", Count(10))

        async def ask(command: Count, context: Context) -> None:
            if command.by == 1:
                started.append(asyncio.create_task(later()))

        service = on(store, ask)
        await service.handle("e", Count(1))
        ended.set()
        assert (await started[0]).state == Tally(11)

    run(scene())


class Blocking:
    """Has plain handlers wait for what the event loop does."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ask: Callable[[Context], Coroutine[Any, Any, object]] | None = None
        self.answers: list[object] = []

    def __call__(self, context: Context) -> None:
        if self.ask is not None and context.id == "outer":
            asked = asyncio.run_coroutine_threadsafe(outcome(self.ask(context)), self.loop)
            self.answers.append(asked.result(10))


def test_a_plain_handler_that_waits_for_a_read_is_answered(run: Run, store: WatchedStore) -> None:
    """Though it holds the thread that applies commands."""

    async def scene() -> None:
        blocking = Blocking()
        service = service_on(store, blocking)
        await service.handle("inner", Add(5))
        for ask in (service.get, service.history, service.allowed):
            blocking.ask = lambda context, ask=ask: ask("inner")
            await service.handle("outer", Add())
        record = blocking.answers[0]
        assert isinstance(record, Record)
        assert record.state == Open(5)
        assert not any(isinstance(answer, Exception) for answer in blocking.answers)

    run(scene())


def _sample_ways() -> dict[str, Sends]:
    return {
        "handle": lambda service, id: service.handle(id, Add()),
        "handle_many": lambda service, id: service.handle_many([(id, Add())]),
        "preview": lambda service, id: service.preview(id, Add()),
        "prepare": lambda service, id: service.begin().prepare(id, Add()),
        "purge": lambda service, id: service.purge(id),
    }


@pytest.mark.parametrize("way", _sample_ways())
def test_a_plain_handler_that_waits_for_a_command_is_refused(
    run: Run, store: WatchedStore, way: str
) -> None:
    """It holds the thread that would apply it; whatever it sends, and however deep."""

    async def scene() -> None:
        blocking = Blocking()
        service = service_on(store, blocking)
        send = _sample_ways()[way]

        async def ask(context: Context) -> object:
            return await send(service, "inner")

        blocking.ask = ask
        assert (await service.handle("outer", Add())).version == 1
        [refused] = blocking.answers
        assert isinstance(refused, DefinitionError)
        assert "a handler or guard of sample 'outer' sent a command through AsyncService" in str(
            refused
        )
        assert await service.history("inner") == []

    run(scene())


def test_nor_may_a_handler_that_it_waits_for(run: Run, store: WatchedStore) -> None:
    """Given a plain handler that calls a blocking service, whose handler waits for a command."""

    async def scene() -> None:
        blocking = Blocking()
        between = rival_on(store, blocking)
        service = service_on(store, lambda context: between.handle("outer", Add()))
        blocking.ask = lambda context: service.handle("inner", Add())
        await service.handle("first", Add())
        assert isinstance(blocking.answers[0], DefinitionError)
        assert "a handler or guard of sample 'first' sent a command" in str(blocking.answers[0])

    run(scene())


def test_an_awaited_handler_may_send_commands_to_plain_ones(run: Run, store: WatchedStore) -> None:
    """Their thread waits for nobody who awaits."""

    async def scene() -> None:
        plain = service_on(store)

        async def ask(command: Count, context: Context) -> None:
            assert (await plain.handle("inner", Add())).version == 1

        assert (await on(store, ask).handle("e", Count())).version == 1

    run(scene())


def test_a_blocking_hook_that_waits_for_a_command_is_refused(run: Run, store: WatchedStore) -> None:
    """A read it is given."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        seen: list[object] = []

        def hook(conflict: object) -> None:
            works = outcome(service.handle("f", Add())), service.count_by_state()
            seen.extend(asyncio.run_coroutine_threadsafe(w, loop).result(10) for w in works)

        service = service_on(store, retry=Retry(on_conflict=hook))
        await outcome(service.handle("e", Add(), expected_version=9))
        assert isinstance(seen[0], DefinitionError)
        assert "a hook sent a command through AsyncService" in str(seen[0])
        assert seen[1] == {}

    run(scene())


def test_an_awaited_hook_may_send_commands(run: Run, store: WatchedStore) -> None:
    """What is about to be committed waits for it, and nobody waits for that."""

    async def scene() -> None:
        async def hook(answers: Sequence[Any]) -> None:
            await service.handle("log", Count(len(answers)))

        service = on(store)
        await service.handle_many([("e", Count()), ("f", Count())], atomic=True, before_commit=hook)
        assert (await service.get("log")).state == Tally(2)

    run(scene())


def test_the_work_of_a_transaction_is_no_handler(run: Run, store: WatchedStore) -> None:
    """What `transact` runs may call the service as anybody may."""

    async def scene() -> None:
        service = service_on(store)

        async def work(transaction: Any) -> int:
            await transaction.prepare("a", Add())
            return (await service.handle("b", Add())).version

        assert await transact(service, work) == 1

    run(scene())
    service = service_on(store)
    version = transact(rival_on(store), lambda _: run(service.handle("b", Add())).version)
    assert version == 2


def test_reads_do_not_wait_for_a_slow_plain_handler(run: Run, store: WatchedStore) -> None:
    """They have a thread of their own."""

    async def scene() -> None:
        here, free = threading.Event(), threading.Event()

        def slow(context: Context) -> None:
            if context.id == "slow":
                here.set()
                assert free.wait(20)

        service = service_on(store, slow)
        await service.handle("e", Add())
        call = asyncio.create_task(service.handle("slow", Add()))
        await until(here.is_set)
        assert (await service.get("e")).version == 1
        assert len(await service.find()) == 1
        assert not call.done()
        free.set()
        await call

    run(scene())
