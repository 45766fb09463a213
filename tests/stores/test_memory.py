"""The store in memory: what SQLite's indexes refuse it refuses too, and no page costs all of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from holdfast import StoreError, open_store
from holdfast.stores.contract import Key, Store
from holdfast.testing.conformance.base import service_on, stored, versions
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add
from holdfast.testing.writes import write


@pytest.fixture(params=["memory://", "sqlite:///:memory:"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Give an empty store, which must agree with itself in the end."""
    with open_store(request.param) as store:
        yield store
        assert faults(store) == []


@pytest.mark.parametrize("atomic", [True, False])
def test_of_two_writes_of_one_entity_one_is_too_late(store: Store, *, atomic: bool) -> None:
    """Though none of them may be in a commit with the other."""
    outcomes = store.commit([write("e", "Open"), write("e", "Open", "Closed")], atomic=atomic)
    assert [outcome.applied for outcome in outcomes] == [not atomic, False]
    assert versions(store, "e") == [] if atomic else [1]


def test_threads_that_take_turns_at_any_moment_lose_nothing() -> None:
    """Given a Python that lets another thread go on after each instruction or two."""
    interval = sys.getswitchinterval()
    with open_store("memory://") as store:
        service = service_on(store, attempts=100_000)
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: [service.handle("e", Add()) for _ in range(100)], range(4)))
        finally:
            sys.setswitchinterval(interval)
        assert service.get("e").version == 400
        assert faults(store) == []


def test_a_version_is_not_logged_twice() -> None:
    """A write whose log does not lead from the one version to the other is refused."""
    with open_store("memory://") as store:
        row = stored(store, write("e", "Open"))
        made = write("e", "Open", on=row)
        twice = replace(made, log=tuple(replace(entry, version=1) for entry in made.log))
        with pytest.raises(StoreError, match="nothing was written"):
            store.commit([twice, write("f", "Open")])
        assert versions(store, "e") == [1]
        assert versions(store, "f") == []


def test_a_page_costs_what_is_on_it() -> None:
    """Whatever the length of the history: of a key, of a time, and of the last versions."""
    reads: list[Callable[[Store], object]] = [
        lambda store: store.history("sample", "e", after=store_length - 9, limit=9),
        lambda store: store.load([Key("sample", "e", ("k",))]),
        lambda store: store.transition_at("sample", "e", version=store_length),
        lambda store: store.transition_at("sample", "e", time="2026-01-02T03:04:05.000000Z"),
    ]
    best: list[list[float]] = []
    for store_length in (10, 10_000):
        with open_store("memory://") as store:
            states = ["Open"] * store_length
            stored(store, write("e", *states, keys=["k"]))
            best.append([min(seconds(read, store) for _ in range(30)) for read in reads])
    assert [long < 20 * short for short, long in zip(*best, strict=True)] == [True] * len(reads)


def test_what_a_transaction_waits_for_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that a transaction waits for is told so, and neither waits for ever."""
    monkeypatch.setattr("holdfast.stores.memory.PATIENCE_SECONDS", 0.05)
    with open_store("memory://") as store, ThreadPoolExecutor(1) as pool:

        def act(joined: Store) -> None:
            stored(joined, write("e", "Open"))
            with pytest.raises(StoreError, match=r"transaction of another thread for 0\.05 s"):
                pool.submit(store.history, "sample", "e", limit=1).result()

        store.transact(act)
        assert versions(store, "e") == [1]


def seconds(read: Callable[[Store], object], store: Store) -> float:
    """Return how long a read takes."""
    began = time.perf_counter()
    read(store)
    return time.perf_counter() - began
