"""Threads that share a store share its commits, and nothing else: not errors, not interruptions."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from tests.stores.scenes import play

from holdfast import Retry, Service, StoreError, open_store
from holdfast.stores import utc_now
from holdfast.stores.sqlite import SqliteStore
from holdfast.stores.sqlite.connections import Connections
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, Interrupt, sample, undisturbed
from holdfast.testing.writes import write

THREADS = 32


def service_on(store: SqliteStore, interrupt: Interrupt = undisturbed) -> Service[Any, Any, Any]:
    """Return a service whose calls go on for as long as they meet conflicts."""
    return Service(sample, store, deps=interrupt, retry=Retry(attempts=500, budget_seconds=60))


class CountingStore(SqliteStore):
    """A file that counts its transactions, and may be told to fail or to be slow in them."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), clock=utc_now)
        self.transactions = 0
        self.before: Callable[[], object] = lambda: None
        connections = self.connections
        assert isinstance(connections, Connections)
        write, write_at_once = connections.write, connections.write_at_once

        def counted(apply: Callable[..., Any]) -> Callable[..., Any]:
            def count_and_apply(*given: Any) -> Any:
                self.transactions += 1
                self.before()
                return apply(*given)

            return count_and_apply

        def count_and_write(timeout_seconds: float | None, apply: Any, *given: Any) -> Any:
            return write(timeout_seconds, counted(apply), *given)

        def count_and_write_at_once(apply: Any, *given: Any) -> Any:
            return write_at_once(counted(apply), *given)

        connections.write = cast("Any", count_and_write)  # type: ignore[method-assign]
        connections.write_at_once = cast(  # type: ignore[method-assign]
            "Any", count_and_write_at_once
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file goes."""
    return tmp_path / "store.db"


def test_threads_share_transactions(path: Path) -> None:
    """Given a slow disk, many threads need few transactions, and each learns of its own write."""
    with CountingStore(path) as store:
        service = service_on(store)
        store.before = lambda: time.sleep(0.002)

        def work(name: int) -> list[int]:
            return [service.handle(f"e-{name}", Add()).version for _ in range(20)]

        with ThreadPoolExecutor(THREADS) as pool:
            versions = list(pool.map(work, range(THREADS)))
        assert versions == [list(range(1, 21))] * THREADS
        assert store.transactions < THREADS * 20 / 4
        assert faults(store) == []


def test_a_thread_alone_writes_at_once(path: Path) -> None:
    """One transaction for each call, and no other thread."""
    with CountingStore(path) as store:
        service = service_on(store)
        before = set(threading.enumerate())
        for _ in range(5):
            service.handle("e", Add())
        assert store.transactions == 5
        assert set(threading.enumerate()) <= before


def test_nothing_acknowledged_is_lost_on_hot_entities(path: Path) -> None:
    """Given conflicts within one transaction, what was acknowledged is what there is."""
    with CountingStore(path) as store:
        service = service_on(store)
        acknowledged: Counter[str] = Counter()

        def work(name: int) -> list[tuple[str, int]]:
            ids = [f"e-{(name + turn) % 3}" for turn in range(15)]
            return [(id, service.handle(id, Add()).version) for id in ids]

        with ThreadPoolExecutor(THREADS) as pool:
            made = [pair for pairs in pool.map(work, range(THREADS)) for pair in pairs]
        assert len(set(made)) == len(made) == THREADS * 15
        acknowledged.update(id for id, _ in made)
        assert {id: service.get(id).version for id in acknowledged} == acknowledged
        assert faults(store) == []


def test_no_thread_starves(path: Path) -> None:
    """Given threads that write without a pause, each has its turn, the grouped and the others."""
    with CountingStore(path) as store:
        service = service_on(store)
        going_on = threading.Event()
        done: Counter[int] = Counter()

        def work(name: int) -> None:
            while not going_on.is_set():
                if name % 8 == 0:
                    service.handle_many([(f"e-{name}", Add()), (f"f-{name}", Add())], atomic=True)
                else:
                    service.handle(f"e-{name}", Add())
                done[name] += 1

        with ThreadPoolExecutor(THREADS) as pool:
            results = [pool.submit(work, name) for name in range(THREADS)]
            try:
                patience = time.monotonic() + 20
                while min(done[name] for name in range(THREADS)) < 10:
                    assert time.monotonic() < patience, f"not all had ten turns: {done}"
                    time.sleep(0.01)
            finally:
                going_on.set()
            for result in results:
                result.result()
        assert faults(store) == []


def test_a_locked_file_is_waited_for_once(path: Path) -> None:
    """Given threads that write together, none waits longer than a thread alone does."""
    with (
        open_store(f"sqlite:///{path}?busy_timeout_seconds=1") as store,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        store.migrate()
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()

        def work(n: int) -> float:
            with pytest.raises(StoreError, match="locked"):
                store.commit([write(f"e-{n}", "Open")])
            return time.monotonic() - began

        with ThreadPoolExecutor(8) as pool:
            assert max(pool.map(work, range(8))) < 1.7


@pytest.mark.parametrize("role", ["leading", "waiting"])
def test_an_interrupted_thread_leaves_the_others_going(path: Path, role: str) -> None:
    """Ctrl-C in the thread that writes for all, and in one that waits, ends that thread only."""
    assert play(scene_interrupted, path, role) == "interrupted\n"


def scene_interrupted(path: str, role: str) -> None:
    store = CountingStore(Path(path))
    service = service_on(store)
    service.handle("first", Add())
    holding = threading.Event()
    main = threading.get_ident()

    def interrupt() -> None:
        time.sleep(0.2)
        signal.pthread_kill(main, signal.SIGINT)

    def slow() -> None:
        holding.set()
        if threading.get_ident() == main or role == "waiting":
            time.sleep(0.5)

    store.before = slow
    made: list[int] = []
    ended: list[int] = []

    def work(name: int) -> None:
        holding.wait(10)
        time.sleep(0.1)  # the main thread is to be the first that waits
        made.extend(service.handle(f"e-{name}", Add()).version for _ in range(5))
        ended.append(name)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    if role == "waiting":
        leader = threading.Thread(target=service.handle, args=("leader", Add()), daemon=True)
        leader.start()
        holding.wait(10)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        service.handle("main", Add())
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted")
    store.before = lambda: None
    for thread in threads:
        thread.join(20)
    assert len(ended) == 8, f"of 8 threads {len(ended)} ended"
    assert sorted(made) == sorted([1, 2, 3, 4, 5] * 8)
    service.handle("last", Add())
    assert faults(store) == []
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_fork_while_threads_write_loses_nothing(path: Path) -> None:
    """The parent's threads go on; a child is served, or refused with a reason; none hangs."""
    play(scene_fork, path)


def scene_fork(path: str) -> None:
    store = open_store(f"sqlite:///{path}")
    assert isinstance(store, SqliteStore)
    service = service_on(store)
    service.handle("child", Add())
    going_on = threading.Event()
    made: Counter[int] = Counter()

    def work(name: int) -> None:
        while not going_on.is_set():
            service.handle(f"e-{name}", Add())
            made[name] += 1

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        time.sleep(0.05)
        pid = os.fork()
        if pid == 0:
            try:
                service.handle("child", Add())
                os._exit(0)
            except StoreError as error:
                os._exit(0 if "fork" in str(error) else 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    going_on.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert {name: service.get(f"e-{name}").version for name in made} == made
    assert faults(store) == []
    store.close()
