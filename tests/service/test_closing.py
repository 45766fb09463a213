"""Closing a store lets the calls of other threads end first, and does not wait for ever."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.stores.scenes import play

from holdfast import Context, Record, Service, StoreError, open_store
from holdfast.stores.contract import Store
from holdfast.testing.sample import Add, sample, undisturbed


class Doorway:
    """Holds handlers until they are let through."""

    def __init__(self) -> None:
        self.here, self.through = threading.Event(), threading.Event()

    def wait(self, context: Context) -> None:
        self.here.set()
        assert self.through.wait(20)


class Side:
    """Does something in a thread of its own."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.answer: Any = None
        self.thread = threading.Thread(target=self._work, args=(work,), daemon=True)
        self.thread.start()

    def _work(self, work: Callable[[], object]) -> None:
        try:
            self.answer = work()
        except Exception as error:  # noqa: BLE001 (the answer)
            self.answer = error

    def end(self) -> Any:
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.answer


@pytest.fixture(params=["memory://", "sqlite:///{}/closing.db"], ids=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with open_store(request.param.format(tmp_path)) as store:
        yield store


def test_closing_lets_a_call_end_that_another_thread_has_begun(store: Store) -> None:
    """Given one whose handler runs, its caller has its record, and nobody else is served."""
    doorway = Doorway()
    service = Service(sample, store, deps=doorway.wait)
    call = Side(lambda: service.handle("e", Add()))
    assert doorway.here.wait(10)
    closing = Side(store.close)
    time.sleep(0.05)
    assert closing.thread.is_alive()
    doorway.through.set()
    assert isinstance(call.end(), Record)
    closing.end()
    with pytest.raises(StoreError, match="is closed"):
        service.get("e")


def test_closing_waits_for_a_while_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that takes longer finds the store closed."""
    monkeypatch.setattr("holdfast.stores.contract.CLOSE_SECONDS", 0.05)
    doorway = Doorway()
    service = Service(sample, store, deps=doorway.wait)
    call = Side(lambda: service.handle("e", Add()))
    assert doorway.here.wait(10)
    Side(store.close).end()
    doorway.through.set()
    assert "is closed" in str(call.end())


def test_a_handler_that_closes_its_store_does_not_wait_for_itself(store: Store) -> None:
    """Its call is told that the store is closed."""
    service = Service(sample, store, deps=lambda context: store.close())
    began = time.monotonic()
    with pytest.raises(StoreError, match="is closed"):
        service.handle("e", Add())
    assert time.monotonic() - began < 3


def test_closing_does_not_wait_for_those_who_go_on_calling(store: Store) -> None:
    """What they have begun by then is served; later calls may be, until the store is closed."""
    service = Service(sample, store, deps=undisturbed)
    served: list[int] = []

    def go_on(id: str) -> None:
        while True:
            served.append(service.handle(id, Add()).version)

    customers = [Side(partial(go_on, id)) for id in "abc"]
    while len(served) < 30:
        time.sleep(0.001)
    began = time.monotonic()
    store.close()
    assert time.monotonic() - began < 3
    assert {str(customer.end()).rpartition(" ")[0] for customer in customers} == {
        f"{store.url} is closed; open it again with"
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_does_not_wait_for_the_calls_of_its_parent(tmp_path: Path) -> None:
    """Their threads stayed there."""
    assert play(scene_child, tmp_path / "store.db") == "played\n"


def scene_child(path: str) -> None:
    store = open_store(f"sqlite:///{path}")
    doorway = Doorway()
    call = Side(lambda: Service(sample, store, deps=doorway.wait).handle("e", Add()))
    assert doorway.here.wait(10)
    pid = os.fork()
    if pid == 0:
        began = time.monotonic()
        store.close()
        os._exit(time.monotonic() - began > 3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    doorway.through.set()
    assert isinstance(call.end(), Record)
    store.close()
    print("played")
