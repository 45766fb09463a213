"""Opening, closing, opening again; threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.errors import NotFoundError, StoreError
from holdfast.record import Context
from holdfast.service.service import Service
from holdfast.stores.contract import Checkpoint, Key, Store
from holdfast.testing.clock import ManualClock
from holdfast.testing.conformance.base import (
    Opener,
    Suite,
    commit_one,
    service_on,
    stored,
    versions,
)
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, Open, sample
from holdfast.testing.writes import write

THREADS = 8

USES: dict[str, Callable[[Store], object]] = {
    "load": lambda store: store.load([Key("sample", "e")]),
    "commit": lambda store: store.commit([write("new", "Open")]),
    "history": lambda store: store.history("sample", "e", limit=1),
    "transition_at": lambda store: store.transition_at("sample", "e", version=1),
    "find": lambda store: store.find("sample", limit=1),
    "count": lambda store: store.count("sample"),
    "entities": lambda store: store.entities(limit=1),
    "read_log": lambda store: store.read_log(limit=1),
    "checkpoint": lambda store: store.checkpoint("reader"),
    "migrate": lambda store: store.migrate(),
}


class Lifecycles(Suite):
    """A store is opened by its first use and closed once; what it was given stays."""

    @pytest.mark.parametrize("use", USES)
    def test_any_use_opens_it(self, open: Opener, use: str) -> None:
        """Nothing has to be called before anything else."""
        with open() as store:
            USES[use](store)

    @pytest.mark.parametrize("use", USES)
    def test_a_closed_store_refuses_every_use(self, open: Opener, use: str) -> None:
        """It says that it is closed; it neither opens itself again nor crashes."""
        store = open()
        stored(store, write("e", "Open"))
        store.close()
        with pytest.raises(StoreError, match="closed"):
            USES[use](store)

    @pytest.mark.parametrize("used", [True, False])
    def test_closing_twice_is_harmless(self, open: Opener, used: bool) -> None:  # noqa: FBT001 (a case)
        """Whether it was used or not."""
        store = open()
        if used:
            stored(store, write("e", "Open"))
        store.close()
        store.close()
        with pytest.raises(StoreError):
            store.count("sample")

    def test_a_block_closes_it(self, open: Opener) -> None:
        """Though it ends with an error, which goes on as it is."""
        store = open()

        def fail() -> None:
            with store:
                stored(store, write("e", "Open"))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        with pytest.raises(StoreError):
            store.count("sample")

    def test_what_was_written_is_found_again(self, open: Opener, clock: ManualClock) -> None:
        """By a store that is opened anew: entities, the log, keys, and where readers are."""
        if self.forgets:
            pytest.skip(self.forgets)
        with open(clock=clock) as store:
            row = stored(store, write("e", "Open", "Closed", keys=["k"], tokens=["t"]))
            store.commit([write("gone", "Open", None)], checkpoint=Checkpoint("reader", 3))
            before = store.read_log(limit=9)
        with open(clock=clock) as store:
            [loaded] = store.load([Key("sample", "e", ("k",))])
            assert (loaded.entity, loaded.applied["k"].row) == (row, before[0])
            assert store.read_log(limit=9) == before
            assert store.checkpoint("reader") == 3
            assert commit_one(store, write("e", "Open", "Closed", tokens=["t"])).applied
            assert faults(store) == []

    def test_two_open_at_once_see_each_other(self, open: Opener) -> None:
        """What one has written the other finds, and both number one log."""
        if self.forgets:
            pytest.skip(self.forgets)
        with open() as one, open() as other:
            row = stored(one, write("a", "Open"))
            stored(other, write("a", "Closed", on=row))
            assert not commit_one(one, write("a", "Closed", on=row)).applied
            stored(one, write("b", "Open"))
            assert [r.seq for r in other.read_log(limit=9)] == [1, 2, 3]


class Threads(Suite):
    """A store is safe for threads."""

    @pytest.fixture
    def threads(self) -> None:
        """Skip what threads do at once, for a store that says why they may not."""
        if self.is_one_threads:
            pytest.skip(self.is_one_threads)

    @pytest.mark.usefixtures("threads")
    def test_one_writer_wins_each_version(self, store: Store) -> None:
        """Of several that expect the same version, one is applied."""
        start = threading.Barrier(THREADS)
        row = stored(store, write("e", "Open"))

        def try_to_write(i: int) -> bool:
            made = write("e", "Closed", on=row, tokens=[f"t-{i}"])
            start.wait()
            return commit_one(store, made).applied

        with ThreadPoolExecutor(THREADS) as pool:
            assert sorted(pool.map(try_to_write, range(THREADS))) == [False] * 7 + [True]
        assert versions(store, "e") == [1, 2]

    @pytest.mark.usefixtures("threads")
    def test_nothing_is_lost_between_threads(self, store: Store) -> None:
        """Each of many increments, on an entity of one's own and on a shared one, is counted."""
        service = service_on(store, attempts=1_000)

        def work(i: int) -> None:
            for _ in range(20):
                service.handle(f"own-{i}", Add())
                service.handle("shared", Add())

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, range(THREADS)))
        assert service.get("shared").state == Open(20 * THREADS)
        assert service.get("shared").version == 20 * THREADS
        assert [service.get(f"own-{i}").version for i in range(THREADS)] == [20] * THREADS

    @pytest.mark.usefixtures("threads")
    def test_readers_see_whole_transitions(self, store: Store) -> None:
        """While others write, the row and the log of an entity agree with themselves."""
        service = service_on(store, attempts=1_000)
        service.handle("e", Add())
        done = threading.Event()

        def read() -> int:
            reads = 0
            while not done.is_set() or not reads:
                record = service.get("e")
                assert record.state == Open(record.version)
                assert len(service.history("e")) >= record.version
                assert service.count_by_state() == {"Open": 1}
                assert len(service.find().records) == 1
                reads += 1
            return reads

        with ThreadPoolExecutor(THREADS) as pool:
            readers = [pool.submit(read) for _ in range(THREADS - 2)]
            try:
                list(pool.map(lambda _: [service.handle("e", Add()) for _ in range(50)], range(2)))
            finally:
                done.set()
            assert all(reader.result() > 0 for reader in readers)

    @pytest.mark.usefixtures("threads")
    def test_closing_lets_a_call_end_that_another_thread_has_begun(self, open: Opener) -> None:
        """Given one whose handler is asked, its caller has its record."""
        store = open()
        begun, closing = threading.Event(), threading.Event()

        def wait(context: Context) -> None:
            begun.set()
            assert closing.wait(10)

        with ThreadPoolExecutor(2) as pool:
            call = pool.submit(Service(sample, store, deps=wait).handle, "e", Add())
            assert begun.wait(10)
            end = pool.submit(store.close)
            with pytest.raises(TimeoutError):
                end.result(timeout=0.05)
            closing.set()
            assert call.result().version == 1
            end.result()

    @pytest.mark.usefixtures("threads")
    def test_one_may_close_it_while_others_use_it(self, open: Opener) -> None:
        """They are told that it is closed, and what was written before is whole."""
        store = open()
        service = service_on(store)
        stored(store, write("e", "Open"))
        started = threading.Barrier(THREADS)

        def work(i: int) -> bool:
            started.wait()
            try:
                for _ in range(10_000):
                    service.handle(f"e-{i}", Add())
                    with pytest.raises(NotFoundError):
                        service.get("unknown")
            except StoreError as error:
                return "closed" in str(error)
            return False

        with ThreadPoolExecutor(THREADS) as pool:
            workers = [pool.submit(work, i) for i in range(THREADS - 1)]
            started.wait()
            store.close()
            assert all(worker.result() for worker in workers)
