"""Hooks of what coroutines send: in the service's own transactions, and in their callers'."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.service.bills import BillCommand, BillState, Diary, Note, Pay, Place, bill, raising

from holdfast import (
    AsyncService,
    AsyncTransaction,
    BatchError,
    DefinitionError,
    GuardFailedError,
    Service,
    open_store,
    transact,
)
from holdfast.stores.contract import Store

COMMITTED = ["after_commit", "after_commit 2"]
AsyncBills = AsyncService[BillState, BillCommand, Diary]


@pytest.fixture
def diary() -> Diary:
    """Return what the hooks write down."""
    return Diary()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return a store with one bill."""
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/bills.db"}
    url = urls.get(request.param) or request.getfixturevalue("postgres_url")
    with open_store(url, migrate=True) as store:
        Service(bill, store, deps=Diary()).handle("b-1", Place(5))
        yield store


def test_hooks_run_in_their_order(store: Store, diary: Diary) -> None:
    """As they do for callers that block."""

    async def main() -> None:
        bills: AsyncBills = AsyncService(bill, store, deps=diary)
        assert (await bills.handle("b-1", Pay())).version == 2

    asyncio.run(main())
    assert diary.hooks == ["guard", "guard 2", "before", "after", *COMMITTED]


def test_calls_that_are_coalesced_have_their_own_hooks(store: Store, diary: Diary) -> None:
    """What one refuses or raises is the answer of its own call."""

    async def main() -> list[Any]:
        bills: AsyncBills = AsyncService(bill, store, deps=diary)
        await asyncio.gather(*[bills.handle(f"b-{n}", Place(5)) for n in range(2, 20)])
        diary.entries.clear()
        diary.acts["after"] = lambda change: change.id != "b-3" or raising(LookupError())(change)
        cards = {"b-2": "blocked"}
        calls = [bills.handle(f"b-{n}", Pay(cards.get(f"b-{n}", "4"))) for n in range(1, 20)]
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(main())
    assert [type(answer) for answer in answers[1:3]] == [GuardFailedError, LookupError]
    assert [answer.version for answer in (*answers[:1], *answers[3:])] == [2] * 17
    assert diary.hooks.count("after_commit") == 17
    assert Service(bill, store, deps=diary).get("b-3").version == 1


def test_every_command_of_an_atomic_batch_is_told_that_it_failed(
    store: Store, diary: Diary
) -> None:
    """The one that is refused of its refusal, the others of the batch; each once."""

    async def main() -> None:
        bills: AsyncBills = AsyncService(bill, store, deps=diary)
        await bills.handle("b-2", Place(5))
        diary.entries.clear()
        with pytest.raises(BatchError):
            await bills.handle_many([("b-1", Pay()), ("b-2", Pay(card="blocked"))], atomic=True)

    asyncio.run(main())
    assert [entry[4] for entry in diary.entries if entry[0] == "on_failure"] == [
        "GuardFailedError",
        "BatchError",
    ]


def test_hooks_see_the_context_variables_of_their_caller(store: Store, diary: Diary) -> None:
    """All of them, wherever they run."""
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    seen: dict[str, str] = {}
    for hook in ("guard", "before", "after", "after_commit", "on_guard_failure"):
        diary.acts[hook] = lambda change, hook=hook: seen.__setitem__(hook, caller.get())  # type: ignore[misc]  # (a default binds it)

    async def main() -> None:
        bills: AsyncBills = AsyncService(bill, store, deps=diary)
        caller.set("ann")
        with pytest.raises(GuardFailedError):
            await bills.handle("b-1", Pay("blocked"))
        await bills.handle("b-1", Pay())

    asyncio.run(main())
    assert set(seen) == set(diary.acts)
    assert set(seen.values()) == {"ann"}


def test_a_hook_joins_with_a_service_that_blocks(store: Store, diary: Diary) -> None:
    """One that is awaited is refused at once."""
    other = Service(bill, store, deps=Diary())

    async def main() -> None:
        bills: AsyncBills = AsyncService(bill, store, deps=diary)
        diary.acts["before"] = lambda change: other.handle("b-2", Place(1))
        diary.acts["after"] = raising(LookupError("no"))
        with pytest.raises(LookupError):
            await bills.handle("b-1", Pay())
        assert await bills.history("b-2") == []
        del diary.acts["after"]
        diary.acts["before"] = lambda change: asyncio.run(bills.handle("b-2", Place(1)))
        with pytest.raises(DefinitionError):
            await bills.handle("b-1", Pay())
        diary.acts["before"] = lambda change: asyncio.run(bills.get("b-1"))
        with pytest.raises(DefinitionError):
            await bills.handle("b-1", Pay())
        assert (await bills.get("b-1")).version == 1

    asyncio.run(main())


def test_what_transact_does_again_has_not_failed(store: Store, diary: Diary) -> None:
    """Nobody is told of a conflict that is answered with another run."""
    runs: list[int] = []

    async def main() -> None:
        bills: AsyncBills = AsyncService(bill, store, deps=diary)

        async def work(together: AsyncTransaction[BillState, BillCommand]) -> None:
            await together.prepare("b-1", Pay())
            runs.append(len(runs))
            if len(runs) < 3:
                await bills.handle("b-1", Note("in between"))

        await transact(bills, work)

    asyncio.run(main())
    assert len(runs) == 3
    assert "on_failure" not in diary.hooks


def test_a_transaction_has_the_hooks_of_what_it_stages(store: Store, diary: Diary) -> None:
    """Around its one commit."""

    async def main() -> None:
        bills: AsyncBills = AsyncService(bill, store, deps=diary)
        async with bills.begin() as together:
            await together.prepare("b-1", Pay())
            await together.prepare("b-1", Note("x"))
        assert (await bills.get("b-1")).version == 3

    asyncio.run(main())
    assert diary.hooks[-6:] == ["before", "after", *COMMITTED * 2]


def test_hooks_join_a_connection_that_is_awaited(postgres_url: str, diary: Diary) -> None:
    """In its transaction; what follows the commit is handed over."""
    due: list[Callable[[], None]] = []

    async def main() -> None:
        with open_store(postgres_url, migrate=True) as store:
            bills: AsyncBills = AsyncService(bill, store, deps=diary)
            await bills.handle("b-1", Place(5))
            async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
                joined = bills.on(connection, on_commit=due.append)
                diary.acts["after"] = raising(LookupError("no"))
                with pytest.raises(LookupError):
                    await joined.handle("b-1", Pay())
                diary.acts.clear()
                diary.entries.clear()
                assert (await joined.handle("b-1", Pay())).version == 2
                assert diary.hooks == ["guard", "guard 2", "before", "after"]
                assert (await bills.get("b-1")).version == 1
                await connection.commit()
            assert (await bills.get("b-1")).version == 2

    asyncio.run(main())
    for function in due:
        function()
    assert diary.hooks[-2:] == COMMITTED
