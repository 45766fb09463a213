"""Hooks of calls that share a thread: they see their callers' context, and harm nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextvars import ContextVar
from typing import Any

import pytest
from tests.async_service.support import Run, WatchedStore, rival_on, service_on, total, until

from holdfast import (
    AsyncService,
    Conflict,
    Machine,
    Record,
    Request,
    RetriesExhaustedError,
    Retry,
    Service,
    VersionConflictError,
)
from holdfast.stores.contract import Outcome, Write
from holdfast.testing.sample import Add, Open

user: ContextVar[str] = ContextVar("user", default="nobody")


class TooHotError(Exception):
    """What the hook raises."""


async def caught(work: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns or raises, what ends programs too."""
    try:
        return await work
    except BaseException as error:  # noqa: BLE001 (the answer)
        return error


@pytest.mark.parametrize("raised", [TooHotError, SystemExit])
def test_what_a_hook_raises_reaches_the_call_that_met_the_conflict(
    run: Run, store: WatchedStore, raised: type[BaseException]
) -> None:
    """Beside it nothing is lost, and nothing is applied twice."""

    def hook(conflict: Conflict) -> None:
        raise raised(conflict.id)

    service = service_on(store, retry=Retry(on_conflict=hook))

    async def scene() -> None:
        store.hold()
        warm = asyncio.create_task(service.handle("warm", Add()))
        await until(lambda: store.commits)
        answers = [
            asyncio.create_task(caught(work))
            for work in (
                service.handle("a", Add(), expected_version=9),
                service.handle("b", Add()),
                service.handle("c", Add()),
            )
        ]
        store.release()
        await warm
        assert [type(await answer) for answer in answers] == [raised, Record, Record]

    run(scene())
    assert [rival_on(store).get(id).version for id in "bc"] == [1, 1]


def test_nothing_is_applied_again_once_a_commit_was_asked(
    run: Run, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the commit ends with, it may have happened."""
    commit = store.commit

    def commit_and_end(writes: Sequence[Write], **options: Any) -> list[Outcome]:
        commit(writes, **options)
        raise SystemExit(3)

    monkeypatch.setattr(store, "commit", commit_and_end)
    service = service_on(store)

    async def scene() -> None:
        answers = await asyncio.gather(*(caught(service.handle(id, Add())) for id in "abb"))
        assert [type(answer) for answer in answers] == [SystemExit] * 3
        monkeypatch.setattr(store, "commit", commit)

    run(scene())
    assert (total(store, "a"), total(store, "b")) == (1, 2)


@pytest.mark.parametrize("kind", ["plain", "awaited"])
def test_hooks_see_the_context_variables_of_their_caller(
    run: Run, store: WatchedStore, kind: str
) -> None:
    """Though the commit is made in a thread, or in a task that serves many callers."""
    seen: list[tuple[str, str]] = []
    retry = Retry(on_conflict=lambda conflict: seen.append((conflict.id, user.get())), attempts=1)
    service = AsyncService(counter(kind), store, retry=retry)
    rival = Service(counter("plain"), store)

    def overtake(writes: Sequence[Write]) -> None:
        store.before_commit = lambda writes: None
        rival.handle(writes[0].entity.id, Add())

    async def expect(id: str) -> None:
        user.set(f"caller of {id}")
        with pytest.raises(VersionConflictError):
            await service.handle(id, Add(), expected_version=9)

    async def scene() -> None:
        await asyncio.gather(*(expect(f"e-{number}") for number in range(5)))
        user.set("late")
        store.before_commit = overtake
        with pytest.raises(RetriesExhaustedError):
            await service.handle("l", Add())
        user.set("purge")
        store.before_commit = overtake
        with pytest.raises(RetriesExhaustedError):
            await service.purge("l")
        user.set("batch")
        await service.handle_many([Request("b", Add(), expected_version=9)])
        await service.handle_many(
            [("b", Add())], atomic=True, before_commit=lambda _: seen.append(("", user.get()))
        )

    run(scene())
    told = [("l", "late"), ("l", "purge"), ("b", "batch"), ("", "batch")]
    expected = [(f"e-{number}", f"caller of e-{number}") for number in range(5)]
    assert sorted(seen) == sorted([*expected, *told])


def counter(kind: str) -> Machine[Open, Add, None]:
    """Return a machine that counts, in a plain handler or in one that is awaited."""
    machine = Machine("counter", state=Open, command=Add)

    def add(state: Open | None, command: Add) -> Open:
        return Open((state or Open()).count + command.by)

    async def add_later(state: Open | None, command: Add) -> Open:
        return add(state, command)

    machine.on(add if kind == "plain" else add_later)
    return machine
