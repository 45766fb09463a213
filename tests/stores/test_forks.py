"""Forking: a child and its parent go on with one store's file, and neither disturbs the other.

Each scene is a process of its own: forking the one that runs the tests would copy its threads'
locks.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.stores.scenes import play

from holdfast import Service, StoreError, open_store
from holdfast.stores.contract import Key, Store
from holdfast.stores.sqlite import SqliteStore
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, sample, undisturbed


def count(store: Store, id: str, times: int = 1) -> int:
    """Add to an entity, and return its version."""
    service = Service(sample, store, deps=undisturbed)
    return [service.handle(id, Add()).version for _ in range(times)][-1]


def fork(child: Callable[[], object]) -> int:
    """Run a function in a forked child, which exits with 0 if it returns."""
    pid = os.fork()
    if pid == 0:
        try:
            child()
            os._exit(0)
        finally:  # reached with an error only
            traceback.print_exc()
            os._exit(1)
    return pid


def wait(*pids: int) -> None:
    """Wait for children, all of which must have succeeded."""
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"the child failed with {status}"


def refuses(store: Store, reason: str) -> None:
    """The store raises StoreError, with the reason, at reading and at writing."""
    for use in (lambda: store.load([Key("sample", "e")]), lambda: store.commit([])):
        with pytest.raises(StoreError, match=reason):
            use()


def scene_the_parent_closes_first(path: str) -> None:
    with open_store(f"sqlite:///{path}") as store:
        count(store, "parent")
        (child_reads, parent_writes), (parent_reads, child_writes) = os.pipe(), os.pipe()

        def child() -> None:
            assert count(store, "child", 3) == 3
            os.write(child_writes, b".")
            os.read(child_reads, 1)
            assert count(store, "child", 3) == 6

        pid = fork(child)
        os.close(child_writes)  # so that reading ends if the child does
        assert count(store, "parent") == 2
        assert os.read(parent_reads, 1) == b"."
    os.write(parent_writes, b".")
    wait(pid)
    with open_store(f"sqlite:///{path}") as store:
        assert store.count("sample") == {"Open": 2}
        assert count(store, "child") == 7
        assert count(store, "parent") == 3
        assert faults(store) == []


def scene_the_child_exits_first(path: str) -> None:
    with open_store(f"sqlite:///{path}") as store:
        count(store, "parent")
        wait(fork(lambda: count(store, "child", 3)), fork(lambda: os._exit(0)))
        assert count(store, "parent") == 2
        wait(fork(store.close))
        assert count(store, "parent") == 3
        assert faults(store) == []


def scene_a_store_that_was_never_used(path: str) -> None:
    with open_store(f"sqlite:///{path}") as store:
        wait(fork(lambda: count(store, "child", 3)))
        assert count(store, "child") == 4


def scene_a_daemon_leaves_the_folder(path: str) -> None:
    os.chdir(Path(path).parent)
    with open_store(f"sqlite:///{Path(path).name}") as store:
        count(store, "parent")

        def child() -> None:
            os.chdir("/")
            assert count(store, "parent") == 2

        wait(fork(child))
        assert count(store, "parent") == 3


def scene_a_closed_store(path: str) -> None:
    store = open_store(f"sqlite:///{path}")
    count(store, "parent")
    store.close()
    wait(fork(lambda: refuses(store, "is closed")))


def scene_several_stores_on_one_file(path: str) -> None:
    with open_store(f"sqlite:///{path}") as one, open_store(f"sqlite:///{path}") as other:
        count(one, "parent")
        count(other, "parent")

        def child() -> None:
            count(one, "child", 3)
            time.sleep(0.1)
            count(other, "child", 3)

        pid = fork(child)
        one.close()
        count(other, "parent")
        other.close()
        wait(pid)
    with open_store(f"sqlite:///{path}") as store:
        assert count(store, "child") == 7
        assert count(store, "parent") == 4


def scene_other_threads_are_at_work(path: str) -> None:
    stop = threading.Event()

    def work(store: Store, id: str) -> None:
        service = Service(sample, store, deps=undisturbed)
        while not stop.is_set():
            service.handle(id, Add())
            service.history(id, limit=5)
            service.count_by_state()

    with open_store(f"sqlite:///{path}?synchronous=NORMAL") as store:
        threads = [threading.Thread(target=work, args=(store, f"t-{i}")) for i in range(4)]
        for thread in threads:
            thread.start()
        pids = []
        for i in range(10):
            pids.append(fork(lambda i=i: count(store, f"c-{i}", 20)))  # type: ignore[misc]
            time.sleep(0.01)
        wait(*pids)
        stop.set()
        for thread in threads:
            thread.join()
        assert [count(store, f"c-{i}") for i in range(10)] == [21] * 10
        assert faults(store) == []


def scene_a_thread_holds_the_store_for_too_long(path: str) -> None:
    entered, leave = threading.Event(), threading.Event()

    def clock() -> datetime:
        if threading.current_thread() is not threading.main_thread():
            entered.set()
            leave.wait()
        return datetime.now(UTC)

    url = f"sqlite:///{path}?busy_timeout_seconds=0.1"
    with open_store(url, clock=clock) as store:
        count(store, "parent")
        thread = threading.Thread(target=store.load, args=([Key("sample", "parent")],))
        thread.start()
        entered.wait()
        wait(fork(lambda: refuses(store, "by another thread during a fork")))
        leave.set()
        thread.join()
        assert count(store, "parent") == 2


def scene_a_thread_reads_on_for_too_long(path: str) -> None:
    with open_store(f"sqlite:///{path}?busy_timeout_seconds=0.1") as store:
        assert isinstance(store, SqliteStore)
        count(store, "parent")
        leave = [threading.Event(), threading.Event()]
        entered = threading.Semaphore(0)

        def read(connection: object, leave: threading.Event) -> None:
            entered.release()
            leave.wait()

        threads = [
            threading.Thread(target=store.connections.read, args=(read, each)) for each in leave
        ]
        for thread in threads:  # the second finds the writer taken, and reads beside it
            thread.start()
            entered.acquire()
        leave[0].set()
        threads[0].join()
        wait(fork(lambda: refuses(store, "by another thread during a fork")))
        leave[1].set()
        threads[1].join()
        assert count(store, "parent") == 2


def scene_what_a_child_inherits_is_never_closed(path: str) -> None:
    entered, leave = threading.Event(), threading.Event()

    def read(connection: object) -> None:
        entered.set()
        leave.wait()

    with open_store(f"sqlite:///{path}?busy_timeout_seconds=0.1") as store:
        assert isinstance(store, SqliteStore)
        count(store, "parent")
        thread = threading.Thread(target=store.connections.read, args=(read,))
        thread.start()
        entered.wait()
        store.count("sample")  # on a connection beside the writer's, which nobody uses by now

        def child() -> None:
            refuses(store, "by another thread during a fork")
            gc.collect()
            connections = [o for o in gc.get_objects() if isinstance(o, sqlite3.Connection)]
            assert len(connections) == 2
            for connection in connections:
                connection.execute("SELECT 1")

        wait(fork(child))
        leave.set()
        thread.join()
        assert count(store, "parent") == 2


def scene_a_store_in_memory_is_in_use(path: str) -> None:
    entered, leave = threading.Event(), threading.Event()

    def clock() -> datetime:
        if threading.current_thread() is not threading.main_thread():
            entered.set()
            leave.wait()
        return datetime.now(UTC)

    with open_store("memory://", clock=clock) as store:
        count(store, "parent")
        thread = threading.Thread(target=store.load, args=([Key("sample", "parent")],))
        thread.start()
        entered.wait()
        wait(fork(lambda: refuses(store, "stayed with the parent process")))
        leave.set()
        thread.join()
        assert count(store, "parent") == 2


def scene_a_store_in_memory(url: str) -> None:
    with open_store(url) as store:
        count(store, "parent")
        wait(fork(lambda: refuses(store, "stayed with the parent process")))
        assert count(store, "parent") == 2


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(scene, id=name.removeprefix("scene_").replace("_", " "))
        for name, scene in list(globals().items())
        if name.startswith("scene_") and scene is not scene_a_store_in_memory
    ],
)
def test_a_forked_process_uses_the_file_as_its_parent_does(
    scene: Callable[[str], None], tmp_path: Path
) -> None:
    """Nothing that either of them was told is stored gets lost, whoever ends first."""
    play(scene, tmp_path / "fork.db")


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:"])
def test_what_is_in_memory_stays_with_the_parent(url: str) -> None:
    """A child is told so, instead of writing to a copy that nobody sees."""
    play(scene_a_store_in_memory, url)
