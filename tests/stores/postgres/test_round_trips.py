"""How often the store goes to the server, counted where it passes by."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.flow.orders import Order, order_flow
from tests.service.bills import Diary, Pay, Place, bill
from tests.stores.postgres.conftest import Open
from tests.stores.postgres.proxy import Proxy

from holdfast import AsyncService, Service
from holdfast.record import Request
from holdfast.stores.contract import Checkpoint, Key, Store, Write
from holdfast.stores.postgres.statements import Statements
from holdfast.stores.postgres.writing import ENTRY
from holdfast.testing.conformance.base import SampleService, row_of, service_on, stored
from holdfast.testing.sample import Add, sample, undisturbed
from holdfast.testing.writes import write

WARM_UP = 2
"""After so many calls a connection is open and has planned its statements."""

IDS = [f"e-{place}" for place in range(100)]


def round_trips(proxy: Proxy, act: Callable[[int], object]) -> int:
    """Return how many round trips an act takes, once the connection is in use."""
    for turn in range(WARM_UP):
        act(turn)
    before = proxy.round_trips
    act(WARM_UP)
    return proxy.round_trips - before


@pytest.fixture
def store(open: Open, proxy: Proxy) -> Store:
    """Return a store behind the proxy."""
    return open(url=proxy.url)


@pytest.fixture
def service(store: Store) -> SampleService:
    return service_on(store)


@pytest.mark.parametrize("ids", [IDS[:1], IDS])
@pytest.mark.parametrize("keys", [(), ("k", "l")])
def test_a_load_is_one(
    proxy: Proxy, store: Store, ids: Sequence[str], keys: tuple[str, ...]
) -> None:
    """Whether it is one entity or many, with keys or without."""
    asked = [Key("sample", id, keys) for id in ids]
    assert round_trips(proxy, lambda _: store.load(asked)) == 1


def test_a_write_is_one(proxy: Proxy, store: Store) -> None:
    """Whether the entity is new or not."""
    assert round_trips(proxy, lambda turn: stored_alone(store, f"new-{turn}")) == 1
    stored(store, write("e", "Open"))

    def change(_: int) -> int:
        row = row_of(store, "e")
        before = proxy.round_trips
        store.commit([write("e", "Open", on=row, tokens=["t"])])
        return proxy.round_trips - before

    assert [change(turn) for turn in range(WARM_UP + 1)][-1] == 1


def stored_alone(store: Store, id: str) -> None:
    [outcome] = store.commit([write(id, "Open")])
    assert outcome.applied


def test_a_batch_is_one(proxy: Proxy, store: Store) -> None:
    """A hundred entities and all their transitions are one statement."""
    assert round_trips(proxy, lambda turn: store.commit(batch(turn))) == 1


def batch(turn: int) -> list[Write]:
    return [write(f"{id}-{turn}", "Open", "Closed") for id in IDS]


def test_a_command_is_two(proxy: Proxy, service: SampleService) -> None:
    """One to load, one to write; with a key as well."""
    assert round_trips(proxy, lambda _: service.handle("e", Add())) == 2
    assert round_trips(proxy, lambda turn: service.handle("e", Add(), key=f"k-{turn}")) == 2


def test_many_commands_are_two(proxy: Proxy, service: SampleService) -> None:
    """However many they are, up to what a batch holds."""
    requests = [Request(id, Add()) for id in IDS]
    assert round_trips(proxy, lambda _: service.handle_many(requests)) == 2


def test_a_lone_coroutine_waits_for_nobody(proxy: Proxy, store: Store) -> None:
    """Its command is the same two round trips."""

    async def handle_some() -> int:
        service = AsyncService(sample, store, deps=undisturbed)
        for _ in range(WARM_UP):
            await service.handle("e", Add())
        before = proxy.round_trips
        await service.handle("e", Add())
        return proxy.round_trips - before

    assert asyncio.run(handle_some()) == 2


@pytest.mark.parametrize("ids", [IDS, ["hot"] * 100], ids=["of many", "of one"])
def test_coroutines_share_round_trips(proxy: Proxy, store: Store, ids: Sequence[str]) -> None:
    """A hundred commands at once, of many entities or of one, are a few round trips."""

    async def handle_all() -> int:
        service = AsyncService(sample, store, deps=undisturbed)
        await service.handle("other", Add())
        before = proxy.round_trips
        await asyncio.gather(*(service.handle(id, Add()) for id in ids))
        return proxy.round_trips - before

    assert asyncio.run(handle_all()) <= 8


def test_threads_share_commits(proxy: Proxy, service: SampleService) -> None:
    """Each has loaded by itself; what comes while others write is written together."""
    start = threading.Barrier(len(IDS))

    def handle(id: str) -> None:
        start.wait()
        service.handle(id, Add())

    with ThreadPoolExecutor(len(IDS)) as pool:
        trips = round_trips(proxy, lambda _: list(pool.map(handle, IDS)))
    assert len(IDS) < trips < 1.5 * len(IDS)


def test_what_is_all_or_nothing_is_a_transaction(proxy: Proxy, store: Store) -> None:
    """It begins, locks, writes and commits; new entities' places are held, a checkpoint moves."""
    rows = {id: stored(store, write(id, "Open")) for id in ("a", "b")}

    def change(_: int) -> int:
        writes = [write(id, "Open", on=row_of(store, id)) for id in rows]
        before = proxy.round_trips
        store.commit(writes, atomic=True)
        return proxy.round_trips - before

    assert [change(turn) for turn in range(WARM_UP + 1)][-1] == 4
    assert round_trips(proxy, lambda turn: store.commit(batch(turn), atomic=True)) == 5
    moves = [Checkpoint("reader", 1), Checkpoint("reader", 2, 1), Checkpoint("reader", 3, 2)]
    assert round_trips(proxy, lambda turn: store.commit([], checkpoint=moves[turn])) == 4


def test_a_conflict_is_one_more(proxy: Proxy, store: Store) -> None:
    """Why a write came too late is asked in a statement of its own, for all that did."""
    store.commit([write(id, "Open") for id in IDS])
    late = [write(id, "Open") for id in IDS]
    assert round_trips(proxy, lambda _: store.commit(late)) == 2


def test_an_idle_poll_is_two(proxy: Proxy, store: Store) -> None:
    """The page, and whether there is more to number; a full page is one."""
    store.commit([write(id, "Open") for id in IDS])
    assert len(store.read_log(limit=200)) == 100
    assert round_trips(proxy, lambda _: store.read_log(after=100, limit=9)) == 2
    assert round_trips(proxy, lambda _: store.read_log(limit=9)) == 1


def test_the_statements_that_write_take_the_same() -> None:
    """One of them a transition, the other columns of them, each in the same order."""
    statements = Statements("holdfast")
    assert statements.names("write") == statements.names("write_many") == ENTRY


def test_a_transition_with_hooks_is_few(proxy: Proxy, store: Store) -> None:
    """Its load, the transaction's two ends, one to hold the row twice and one to write it.

    Two more show the transition to the hooks that take it.
    """
    bills = Service(bill, store, deps=Diary())
    ids = iter([f"b-{place}" for place in range(10)])
    bills.handle_many([(f"b-{place}", Place(5)) for place in range(10)])
    for _ in range(6):  # until the driver has prepared the statements
        bills.handle(next(ids), Pay())
    assert round_trips(proxy, lambda _: bills.handle(next(ids), Pay())) == 6 + 2


@pytest.mark.parametrize(("calls", "trips"), [(False, 2), (True, 6)])
def test_a_transition_of_a_flow_is_told_as_it_was_written(
    proxy: Proxy, store: Store, calls: bool, trips: int
) -> None:
    """It is not read back: without callbacks inside it is a command, with them as with hooks."""
    flow = order_flow()
    if calls:
        flow.before(to="purchased")(lambda order, change: None)
    orders = [flow(Order(), store=store, id=str(place)) for place in range(9)]
    for order in orders:
        order.transition_to("checking_out")
    for order in orders[:6]:  # until the driver has prepared the statements
        order.transition_to("purchased")
    assert round_trips(proxy, lambda turn: orders[6 + turn].transition_to("purchased")) == trips
