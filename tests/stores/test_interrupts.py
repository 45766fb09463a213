"""Interrupts: whatever a signal cuts short, the store works afterwards, in every thread.

Each scene is a process of its own, whose main thread is interrupted at moments drawn by chance.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import FrameType

import pytest
from tests.stores.scenes import play

from holdfast import Service, StoreError, open_store
from holdfast.stores.contract import Checkpoint, Store
from holdfast.stores.sqlite import SqliteStore
from holdfast.testing.conformance.base import SampleService
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, sample, undisturbed

INTERRUPTS = 150
SECONDS = 0.7
MOST_SECONDS = 20.0
LONGEST_SECONDS = 4e-4
"""How long a call goes on at most before it is interrupted."""

USES: dict[str, Callable[[SampleService], object]] = {
    "reads": lambda service: service.get("e"),
    "reads of several statements": lambda service: service.at("e", version=1),
    "reads with a key": lambda service: service.handle("e", Add(), key="k"),
    "writes": lambda service: service.handle("e", Add()),
    "writes with a timeout": lambda service: service.handle("e", Add(), timeout=5),
    "writes as a whole": lambda service: service.handle_many(
        [("e", Add()), ("f", Add())], atomic=True
    ),
}


class Interrupts:
    """Raises KeyboardInterrupt in the main thread, once for each time it is armed."""

    def __init__(self) -> None:
        self.armed = False
        self.fired = 0
        signal.signal(signal.SIGALRM, self.interrupt)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            self.fired += 1
            raise KeyboardInterrupt

    def cut_short(self, act: Callable[[], object]) -> bool:
        """Do something, which may be interrupted after a time drawn by chance; tell if it was."""
        before = self.fired
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, LONGEST_SECONDS))
            act()
            self.armed = False
        except KeyboardInterrupt:
            pass
        return self.fired > before


def scene_one_thread(url: str, use: str) -> None:
    """After each interrupt another thread, and another process, find the store as ever."""
    interrupts = Interrupts()
    with open_store(url) as store, ThreadPoolExecutor(1) as another:
        service = Service(sample, store, deps=undisturbed)
        service.handle("e", Add(), key="k")
        end = time.monotonic() + MOST_SECONDS
        while interrupts.fired < INTERRUPTS and time.monotonic() < end:
            if interrupts.cut_short(lambda: USES[use](service)):
                expect_usable(store, another)
        assert interrupts.fired > 20, f"only {interrupts.fired} interrupts"
        assert faults(store) == []
    print("played")


def expect_usable(store: Store, another: ThreadPoolExecutor) -> None:
    """Nothing is held, neither in this process nor in the file."""
    if isinstance(store, SqliteStore) and not store.url.endswith(":memory:"):
        path = store.url.removeprefix("sqlite:///").partition("?")[0]
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            position = (store.checkpoint("reader") or 0) + 1
            parameters = ("reader", position, "now")
            other.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?)", parameters)
            other.execute("COMMIT")
        assert store.checkpoint("reader") == position, "an old moment is read for ever"
    position = another.submit(store.checkpoint, "reader").result(5) or 0
    moved = Checkpoint("reader", position + 1, position)
    [outcome] = another.submit(store.commit, [], checkpoint=moved).result(5)
    assert outcome.applied


URLS = pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "sqlite:///:memory:",
        "sqlite:///{}/store.db?synchronous=NORMAL&busy_timeout_seconds=2",
    ],
    ids=["memory", "SQLite in memory", "SQLite"],
)


@URLS
@pytest.mark.parametrize("use", USES)
def test_an_interrupt_leaves_the_store_whole(tmp_path: Path, url: str, use: str) -> None:
    """What was cut short is written as a whole or not at all; no lock is left held, no transaction
    open, and what is read is what there is.
    """
    assert play(scene_one_thread, url.format(tmp_path), use) == "played\n"


REFUSAL = (
    "in the midst of a call of the same thread, by a hook or by a signal handler; nothing was "
    "written: a hook calls services, which join its transaction, and a signal handler calls it "
    "when that call is over"
)
CALLS: dict[str, Callable[[SampleService], object]] = {
    "get": lambda service: service.get("e"),
    "at": lambda service: service.at("e", version=1),
    "handle": lambda service: service.handle("from the handler", Add()),
    "handle in time": lambda service: service.handle("from the handler", Add(), timeout=5),
}


def scene_a_signal_handler_calls(url: str, call: str) -> None:
    """A program with one thread, whose signal handler calls the store, comes to its end."""
    with open_store(url) as store:
        service = Service(sample, store, deps=undisturbed)
        service.handle("e", Add())
        answers: list[object] = []
        refusals: set[str] = set()

        def answer(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            try:
                answers.append(CALLS[call](service))
            except StoreError as error:
                answers.append(None)
                refusals.add(str(error).partition(" was called ")[2])
            finally:
                signal.signal(signal.SIGALRM, answer)

        signal.signal(signal.SIGALRM, answer)
        made = 1
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, LONGEST_SECONDS))
            service.handle("e", Add(), timeout=5 if made % 2 else None)
            made += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert service.get("e").version == made
        answered = [answer for answer in answers if answer is not None]
        assert len(answered) > 10, f"{len(answered)} of {len(answers)} were answered"
        assert refusals <= {REFUSAL}
        assert faults(store) == []
    print("played")


@URLS
@pytest.mark.parametrize("call", CALLS)
def test_a_call_from_a_signal_handler_does_not_wait_for_the_call_it_came_into(
    tmp_path: Path, url: str, call: str
) -> None:
    """It is answered, or refused at once."""
    assert play(scene_a_signal_handler_calls, url.format(tmp_path), call) == "played\n"
