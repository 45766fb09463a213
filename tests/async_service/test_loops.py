"""One service serves several event loops, one after the other and at once, forked and shut down."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.async_service.support import (
    AsyncSample,
    Run,
    WatchedStore,
    outcome,
    rival_on,
    service_on,
    total,
    unanswered,
    until,
)
from tests.stores.scenes import play

from holdfast import AsyncService, Context, Record, StoreError, open_store
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, Open, sample, undisturbed


def test_event_loops_one_after_the_other(run: Run, service: AsyncSample) -> None:
    """A service belongs to none of them."""
    for version in range(1, 6):
        assert run(service.handle("e", Add())).version == version


def test_loops_that_are_over_are_forgotten(store: WatchedStore, service: AsyncSample) -> None:
    """Even where callers had to wait for a place."""
    seen: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def scene() -> None:
        seen.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(service.handle("e", Add()) for _ in range(9)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdfast.service.intake.MAX_UNANSWERED", 2)
        for _ in range(3):
            asyncio.run(scene())
    gc.collect()
    assert [loop() is None for loop in seen[:2]] == [True, True]


def test_event_loops_at_once_in_several_threads(run: Run, store: WatchedStore) -> None:
    """Their callers share chains and commits, and each is answered in its own loop."""
    service = service_on(store)

    async def scene(name: int) -> list[int]:
        own = asyncio.get_running_loop()
        versions: list[int] = []

        async def call() -> None:
            record = await service.handle("hot", Add())
            assert asyncio.get_running_loop() is own
            versions.append(record.version)
            assert (await service.handle(f"own-{name}", Add())).id == f"own-{name}"

        await asyncio.gather(*(call() for _ in range(100)))
        return versions

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: run(scene(name)), range(4)))

    assert sorted(version for versions in found for version in versions) == list(range(1, 401))


def test_a_loop_that_is_closed_in_mid_flight_harms_no_other(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """What it sent stays written; the callers of other loops are answered."""
    told: list[dict[str, Any]] = []
    loop = asyncio.new_event_loop()
    store.hold()
    pending = loop.create_task(service.handle("e", Add(1)))
    loop.run_until_complete(until(lambda: store.commits))
    assert not pending.done()
    loop.close()
    store.release()

    record = run(service.handle("e", Add(10)))

    assert (record.version, record.state) == (2, Open(11))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "call_exception_handler", told.append)
        del pending
        gc.collect()
    assert [context["message"] for context in told] == ["Task was destroyed but it is pending!"]


def test_a_loop_that_ends_cancels_its_callers(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """`asyncio.run` that ends while a batch is written ends at once."""

    async def scene() -> asyncio.Task[Record[object]]:
        store.hold()
        call = asyncio.create_task(service.handle("e", Add()))
        await until(lambda: store.commits)
        return call

    call = run(scene())
    assert call.cancelled()
    store.release()
    assert run(service.handle("e", Add())).version == 2


def test_closing_finishes_what_was_accepted(run: Run, tmp_path: Path) -> None:
    """Every caller has its record, though nobody waited for it before the block ended."""

    async def scene() -> list[Record[object]]:
        async with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
            service = AsyncService(sample, store, deps=undisturbed)
            calls = [asyncio.create_task(service.handle(f"e-{n % 9}", Add())) for n in range(200)]
            await asyncio.sleep(0)
        return await asyncio.gather(*calls)

    assert len(run(scene())) == 200


def test_closing_does_not_wait_for_those_who_go_on_calling(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """They get StoreError, and so does whoever comes later."""

    async def scene() -> None:
        going_on = True
        served = 0

        async def customer() -> None:
            nonlocal served
            while going_on:
                await service.handle("e", Add())
                served += 1

        async with store:
            customers = [asyncio.create_task(outcome(customer())) for _ in range(5)]
            await until(lambda: served > 5)
        going_on = False
        refused = [str(answer) for answer in await asyncio.gather(*customers) if answer is not None]
        assert all("is closed" in text for text in refused)
        for work in (service.handle("e", Add()), service.get("e"), service.history("e")):
            with pytest.raises(StoreError, match="is closed; open it again"):
                await work
        assert unanswered(service) == 0
        with open_store(store.url) as again:
            assert total(again, "e") == served

    run(scene())


def test_closing_that_is_cancelled_closes(run: Run, store: WatchedStore) -> None:
    """A block whose end is cancelled has closed the store all the same."""
    service = service_on(store)

    async def block() -> None:
        async with store:
            store.hold()
            call = asyncio.create_task(outcome(service.handle("e", Add())))
            await until(lambda: store.commits)
            threading.Timer(0.1, store.release).start()
        await call

    async def scene() -> None:
        task = asyncio.create_task(block())
        await until(lambda: store.commits)
        await asyncio.sleep(0.01)
        task.cancel()
        assert isinstance(await outcome(_done(task)), asyncio.CancelledError)
        with pytest.raises(StoreError, match="is closed"):
            await service.handle("e", Add())

    run(scene())


async def _done(task: asyncio.Task[None]) -> None:
    await task


def test_draining_waits_for_loops_that_run_only(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """A loop that was stopped with calls pending keeps nobody from closing."""
    loop = asyncio.new_event_loop()
    store.hold()
    pending = loop.create_task(service.handle("e", Add()))
    loop.run_until_complete(until(lambda: store.commits))
    store.release()

    run(service.drain())

    assert loop.run_until_complete(pending).version == 1
    loop.close()


def test_a_plain_script_needs_no_shutdown(tmp_path: Path) -> None:
    """Given a script that closes nothing, it ends at once and quietly, and what it did is there."""
    began = time.monotonic()
    assert play(scene_a_plain_script, tmp_path / "store.db") == "200\n"
    assert time.monotonic() - began < 20


def scene_a_plain_script(path: str) -> None:
    service = AsyncService(sample, open_store(f"sqlite:///{path}"), deps=undisturbed)

    async def main() -> int:
        await asyncio.gather(*(service.handle(f"e-{n % 9}", Add()) for n in range(200)))
        return len([entry for n in range(9) for entry in await service.history(f"e-{n}")])

    print(asyncio.run(main()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("used", ["unused", "used"])
def test_a_service_made_before_a_fork_serves_every_child(tmp_path: Path, used: str) -> None:
    """As servers do that load the application first: parent and children go on side by side."""
    play(scene_workers, tmp_path / "store.db", used)


def scene_workers(path: str, used: str) -> None:
    store = open_store(f"sqlite:///{path}")
    service = AsyncService(sample, store, deps=undisturbed)

    async def work() -> None:
        await asyncio.gather(*(service.handle("hot", Add()) for _ in range(50)))

    if used == "used":
        asyncio.run(work())
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(work())
                os._exit(0)
            finally:  # reached with an error only
                os._exit(1)
        children.append(pid)
    asyncio.run(work())
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert store.count("sample") == {"Open": 1}
    versions = [row.version for row in store.history("sample", "hot", limit=1000)]
    assert versions == list(range(1, 201 + 50 * (used == "used")))
    assert faults(store) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_does_not_wait_for_the_calls_of_its_parent(tmp_path: Path) -> None:
    """Forked while some are under way, it serves its own, and drains."""
    play(scene_fork_in_mid_flight, tmp_path / "store.db")


def scene_fork_in_mid_flight(path: str) -> None:
    store = open_store(f"sqlite:///{path}")
    here, free = threading.Event(), threading.Event()

    def wait(context: Context) -> None:
        if context.id == "slow":
            here.set()
            assert free.wait(20)

    service = AsyncService(sample, store, deps=wait)

    async def child() -> None:
        async with asyncio.timeout(10):
            assert (await service.handle("child", Add())).version == 1
            await service.drain()

    async def parent() -> None:
        call = asyncio.create_task(service.handle("slow", Add()))
        await until(here.is_set)
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(child())
                os._exit(0)
            finally:  # reached with an error only
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0  # noqa: ASYNC222 (the child needs nobody here)
        free.set()
        assert (await call).version == 1

    asyncio.run(parent())


def test_the_thread_goes_when_there_is_nothing_to_do(
    run: Run, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And another comes when there is."""
    monkeypatch.setattr("holdfast.service.coalescer.IDLE_SECONDS", 0.02)
    service = service_on(store)

    def threads() -> int:
        return sum(thread.name == "holdfast" for thread in threading.enumerate())

    before = threads()
    for version in range(1, 4):
        assert run(service.handle("e", Add())).version == version
        run(until(lambda: threads() <= before))
    assert rival_on(store).get("e").version == 3
