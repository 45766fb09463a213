"""Waits for other writers of an SQLite file: how long they are, and what time is recorded after."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast import StoreError, open_store
from holdfast.machine.canonical import format_time
from holdfast.stores.contract import Checkpoint, Store
from holdfast.stores.sqlite import SqliteStore
from holdfast.testing.conformance.base import history, stored
from holdfast.testing.writes import write


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Give a store that waits for two seconds."""
    with open_store(f"sqlite:///{path}?busy_timeout_seconds=2") as store:
        stored(store, write("e", "Open"))
        yield store


@pytest.fixture
def other(path: Path, store: Store) -> Iterator[sqlite3.Connection]:
    """Give a connection of another process that is writing to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def seconds_to_refusal(
    store: Store, timeout_seconds: float | None, checkpoint: Checkpoint | None = None
) -> float:
    """Return how long it takes until a write is refused."""
    began = time.monotonic()
    with pytest.raises(StoreError, match="nothing was written"):
        store.commit([write("f", "Open")], checkpoint=checkpoint, timeout_seconds=timeout_seconds)
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("timeout", "bounds"),
    [(None, (1.9, 3)), (0.3, (0.25, 1)), (9, (1.9, 3)), (0.0, (0, 0.2))],
)
@pytest.mark.parametrize(
    "checkpoint", [None, Checkpoint("reader", 1)], ids=["", "with a checkpoint"]
)
def test_the_wait_is_the_shorter_of_two_bounds(
    store: Store,
    other: sqlite3.Connection,
    checkpoint: Checkpoint | None,
    timeout: float | None,
    bounds: tuple[float, float],
) -> None:
    """That of the file, and that of the call; none at all is none at all."""
    assert bounds[0] <= seconds_to_refusal(store, timeout, checkpoint) < bounds[1]
    other.execute("ROLLBACK")
    assert store.count("sample") == {"Open": 1}
    stored(store, write("f", "Open"))


@pytest.mark.parametrize("timeout", [None, 1.5])
def test_waits_for_threads_and_for_processes_are_one(
    store: Store, other: sqlite3.Connection, timeout: float | None
) -> None:
    """Who waits for another thread, which waits for another process, waits no longer for that."""
    waiting = threading.Thread(target=seconds_to_refusal, args=(store, 1.2))
    waiting.start()
    time.sleep(0.1)
    bound = timeout or 2
    assert bound - 0.2 <= seconds_to_refusal(store, timeout) < bound + 0.5
    waiting.join()


@pytest.mark.parametrize(("timeout", "bounds"), [(None, (1.9, 3)), (0.3, (0.25, 1))])
def test_the_wait_for_a_thread_is_bounded_too(
    store: Store, timeout: float | None, bounds: tuple[float, float]
) -> None:
    """It is told that there are threads that write, whatever they do there."""
    assert isinstance(store, SqliteStore)
    writing, leave = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        writing.set()
        leave.wait(20)

    holder = threading.Thread(target=store.connections.write, args=(None, hold))
    holder.start()
    assert writing.wait(10)
    began = time.monotonic()
    with pytest.raises(StoreError, match="written by other threads"):
        store.commit([write("f", "Open")], timeout_seconds=timeout)
    assert bounds[0] <= time.monotonic() - began < bounds[1]
    leave.set()
    holder.join()
    stored(store, write("f", "Open"))


def test_a_wait_that_was_shorter_is_not_remembered(store: Store, other: sqlite3.Connection) -> None:
    """The next call waits as long as the file says."""
    seconds_to_refusal(store, 0.1)
    assert 1.9 <= seconds_to_refusal(store, None) < 3


def test_what_had_to_wait_is_dated_by_when_it_was_written(
    store: Store, other: sqlite3.Connection
) -> None:
    """So that no row was recorded before the one below it in the log."""
    waiting = threading.Thread(target=lambda: stored(store, write("late", "Open")))
    waiting.start()
    time.sleep(0.3)
    released = format_time(datetime.now(UTC))
    other.execute("ROLLBACK")
    waiting.join()
    [row] = history(store, "late")
    assert row.recorded_at > released
