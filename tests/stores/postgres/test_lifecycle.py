"""Restarts, forks, threads and schemas: a store goes on where it can, and lets go at the end."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import psycopg
import pytest
from tests.servers.databases import Database
from tests.servers.postgres import PostgresServer
from tests.stores.postgres.accounts import migrated
from tests.stores.postgres.conftest import Open, waiting
from tests.stores.scenes import play

from holdfast import open_store
from holdfast.errors import StoreError
from holdfast.stores.contract import Key, Store
from holdfast.testing.conformance.base import find_row, service_on, stored, versions
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add
from holdfast.testing.sample import Open as OpenState
from holdfast.testing.writes import write

SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = 'holdfast_test_application'"
)


def sessions(raw: psycopg.Connection) -> int:
    """Return how many connections the application has to the database."""
    [count] = raw.execute(SESSIONS).fetchone() or [0]
    return int(count)


@pytest.fixture
def own_url(own_postgres_server: PostgresServer) -> str:
    """Return the URL of a store on a server of the test's own."""
    database = Database(own_postgres_server, own_postgres_server.create_database())
    return migrated(database, "application")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_is_survived(
    own_postgres_server: PostgresServer, own_url: str, mode: Literal["fast", "immediate"]
) -> None:
    """Connections that the restart ended are replaced before anybody uses them."""
    with open_store(own_url) as store:
        service = service_on(store)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: service.handle(f"e-{i}", Add()), range(20)))
        own_postgres_server.restart(mode)
        for i in range(20):
            assert service.handle(f"e-{i}", Add()).version == 2
        assert faults(store) == []


def test_a_server_that_starts_is_waited_for(
    own_postgres_server: PostgresServer, own_url: str
) -> None:
    """A call that comes while it is away is answered when it is back."""
    with open_store(own_url) as store, ThreadPoolExecutor(1) as pool:
        row = stored(store, write("e", "Open"))
        own_postgres_server.stop("immediate")
        asked = pool.submit(store.load, [Key("sample", "e")])
        time.sleep(0.3)
        own_postgres_server.start()
        assert asked.result()[0].entity == row


def test_a_server_that_was_long_away_is_found_again(
    own_postgres_server: PostgresServer, own_url: str
) -> None:
    """It is said what is wrong meanwhile, and nothing has to be done afterwards."""
    with open_store(f"{own_url}?connect_timeout=1") as store:
        row = stored(store, write("e", "Open"))
        own_postgres_server.stop("immediate")
        for _ in range(3):
            with pytest.raises(StoreError, match="cannot connect to postgresql://"):
                find_row(store, "e")
        own_postgres_server.start()
        deadline = time.monotonic() + 10
        while True:
            try:
                assert find_row(store, "e") == row
            except StoreError:
                assert time.monotonic() < deadline
            else:
                break


def test_ended_sessions_are_replaced(store: Store, raw: psycopg.Connection) -> None:
    """No call notices, though all connections of the pool were ended."""
    service = service_on(store)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: service.handle(f"e-{i}", Add()), range(20)))
    query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s"
    raw.execute(query, ["holdfast_test_application"])
    assert [service.handle("e-1", Add()).version for _ in range(5)] == [2, 3, 4, 5, 6]


def test_an_ended_session_is_not_written_to(store: Store, raw: psycopg.Connection) -> None:
    """So what becomes of a write is known, though the connections that were idle are gone."""
    stored(store, write("a", "Open"))
    query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s"
    raw.execute(query, ["holdfast_test_application"])
    stored(store, write("b", "Open"))


def test_closing_ends_all_sessions(open: Open, raw: psycopg.Connection) -> None:
    """Those of threads as well."""
    store = open()
    service = service_on(store)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: service.handle(f"e-{i}", Add()), range(40)))
    assert sessions(raw) > 0
    store.close()
    deadline = time.monotonic() + 5
    while sessions(raw):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nothing_is_opened_before_it_is_used(raw: psycopg.Connection, application_url: str) -> None:
    """Neither a connection nor a thread."""
    threads = set(threading.enumerate())
    with open_store(application_url):
        assert sessions(raw) == 0
        assert set(threading.enumerate()) == threads


def test_the_pool_is_as_large_as_it_is_told(open: Open, raw: psycopg.Connection) -> None:
    """Threads wait for each other's connections."""
    store = open("holdfast_pool_size=2")
    with ThreadPoolExecutor(8) as pool:
        counts = [pool.submit(store.count, "sample") for _ in range(100)]
        assert [count.result() for count in counts] == [{}] * 100
    assert sessions(raw) <= 2


def test_those_who_wait_have_their_turns(open: Open) -> None:
    """Of many threads on few connections none is passed by."""
    store = open("holdfast_pool_size=2")
    end = time.monotonic() + 1

    def work(_: int) -> int:
        calls = 0
        while time.monotonic() < end:
            store.count("sample")
            calls += 1
        return calls

    with ThreadPoolExecutor(8) as pool:
        calls = list(pool.map(work, range(8)))
    assert min(calls) > max(calls) / 4


def test_connections_that_nobody_needs_are_closed(
    open: Open,
    raw: psycopg.Connection,
    other: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some time after they were used last, as soon as another one is given back."""
    monkeypatch.setattr("holdfast.stores.postgres.pool.LOOK_SECONDS", 0)
    store = open()
    store.count("sample")
    other.execute("LOCK TABLE holdfast.entity")
    with ThreadPoolExecutor(3) as pool:
        counts = [pool.submit(store.count, "sample") for _ in range(3)]
        waiting(raw, 3)
        other.rollback()
        assert [count.result() for count in counts] == [{}] * 3
    assert sessions(raw) == 3
    store.count("sample")
    assert sessions(raw) == 3
    monkeypatch.setattr("holdfast.stores.postgres.pool.IDLE_SECONDS", -60)
    store.count("sample")
    deadline = time.monotonic() + 10
    while sessions(raw) > 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sessions(raw) == 0
    assert store.count("sample") == {}


def test_connections_that_are_all_in_use(
    open: Open, raw: psycopg.Connection, other: psycopg.Connection
) -> None:
    """Whoever waits for one in vain is told, and what to raise."""
    store = open("holdfast_pool_size=1&connect_timeout=1")
    store.count("sample")
    other.execute("LOCK TABLE holdfast.entity")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(store.count, "sample")
        waiting(raw)
        with pytest.raises(StoreError, match=r"in use, and none .* raise holdfast_pool_size"):
            store.checkpoint("reader")
        other.rollback()
        assert first.result() == {}


def test_schemas_are_stores_of_their_own(postgres_url: str) -> None:
    """In one database, whatever the name."""
    names = ["holdfast", "shop", "My Shop", 'quo"ted', "select"]
    for name in names:
        with open_store(url_in(postgres_url, name), migrate=True) as store:
            service_on(store).handle("e", Add(len(name)))
            assert store.flaws() == []
    for name in names:
        with open_store(url_in(postgres_url, name)) as store:
            assert service_on(store).get("e").state == OpenState(len(name))
            assert faults(store) == []


def url_in(url: str, schema: str) -> str:
    from urllib.parse import quote

    return f"{url}?holdfast_schema={quote(schema)}"


def test_a_child_has_connections_of_its_own(application_url: str) -> None:
    """It neither uses its parent's nor ends them, and both write the same store."""
    told = "2 sessions\nchild 2\nparent 3\n"
    assert play(fork_and_write, application_url) == told
    with open_store(application_url) as store:
        assert versions(store, "e") == [1, 2, 3]
        assert faults(store) == []


def fork_and_write(url: str) -> None:
    """Write, fork, write in the child, then in the parent."""
    with open_store(url) as store:
        service = service_on(store)
        service.handle("e", Add())
        child = os.fork()
        if child == 0:
            version = service.handle("e", Add()).version
            with psycopg.connect(url, autocommit=True) as connection:
                print(sessions(connection) - 1, "sessions")
            print("child", version, flush=True)
            store.close()
            return
        assert os.waitpid(child, 0)[1] == 0
        print("parent", service.handle("e", Add()).version)


def test_a_child_of_a_parent_with_threads(application_url: str) -> None:
    """It is forked while others write, and hangs at no lock of theirs."""
    assert play(fork_among_threads, application_url).split() == ["child"] * 5 + ["parent"]
    with open_store(application_url) as store:
        assert faults(store) == []


def fork_among_threads(url: str) -> None:
    """Fork again and again while threads write; each child writes."""
    done = threading.Event()
    with open_store(url) as store, ThreadPoolExecutor(4) as pool:
        service = service_on(store, attempts=100)

        def work(i: int) -> None:
            while not done.is_set():
                service.handle(f"e-{i}", Add())

        workers = [pool.submit(work, i) for i in range(4)]
        for turn in range(5):
            time.sleep(0.05)
            child = os.fork()
            if child == 0:
                service.handle(f"child-{turn}", Add())
                print("child", flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        done.set()
        for worker in workers:
            worker.result()
    print("parent")


def test_interrupts_leave_the_store_as_it_is(application_url: str) -> None:
    """Wherever they come into a call, the next is answered, on no more connections than before."""
    assert play(interrupt_calls, f"{application_url}?holdfast_pool_size=1") == "played\n"


class Interrupt(BaseException):
    """What a signal raises."""


def interrupt_calls(url: str) -> None:
    """Interrupt calls that would use the one connection there is, again and again."""

    def interrupt(*_: object) -> None:
        raise Interrupt

    signal.signal(signal.SIGALRM, interrupt)
    chance = random.Random(1)
    with open_store(url) as store:
        service = service_on(store)
        service.handle("e", Add())
        interrupts = 0
        for _ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, 4e-3))
                service.handle("e", Add())
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                interrupts += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert interrupts > 50, interrupts
        with ThreadPoolExecutor(1) as pool:
            pool.submit(service.handle, "e", Add()).result()
        assert faults(store) == []
    print("played")


def test_a_signal_handler_that_calls_the_store_is_answered_or_refused(application_url: str) -> None:
    """It never waits for the call that it came into."""
    assert play(call_from_handlers, f"{application_url}?holdfast_pool_size=1") == "played\n"


def call_from_handlers(url: str) -> None:
    """Call a store from a signal handler, wherever its own calls are."""
    refusals: list[str] = []
    chance = random.Random(1)
    with open_store(url) as store:
        service = service_on(store)
        service.handle("e", Add())

        def call(*_: object) -> None:
            try:
                service.handle("from the handler", Add())
            except StoreError as error:
                refusals.append(str(error))

        signal.signal(signal.SIGALRM, call)
        for _ in range(300):
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, 4e-3))
            service.handle("e", Add())
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(refusals) > 20
        assert {"in the midst of a call of the same thread" in text for text in refusals} == {True}
        assert service.get("e").version == 301
        assert faults(store) == []
    print("played")


def test_a_store_that_is_forgotten_leaves_nothing(application_url: str) -> None:
    """Without being closed it ends with the process, and says nothing."""
    assert play(use_and_forget, application_url) == ""


def use_and_forget(url: str) -> None:
    """Use a store and neither close nor keep it."""
    service_on(open_store(url)).handle("e", Add())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Closing a store ends the threads of its pool."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if "pool" in thread.name]
    assert left == []
