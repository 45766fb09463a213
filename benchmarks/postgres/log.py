"""Measures readers of the log on PostgreSQL: pages, what nobody has numbered yet, idle polls."""

from __future__ import annotations

from statistics import median
from time import perf_counter

from tests.servers.databases import Databases

from benchmarks.handle import OurOrders, ids_of
from benchmarks.measure import Effort
from benchmarks.order import order
from benchmarks.postgres.places import place
from benchmarks.report import Row, duration
from holdfast.service.records import decode_transition
from holdfast.stores.contract import MAX_PAGE, Store

MANY = 100_000
TARGET = 50_000
POLLS = 200
POLL_SECONDS = 0.001


def measure_log(effort: Effort, databases: Databases) -> list[Row]:
    """Time the reading of a log that is not numbered, of the same again, and of its end."""
    ids = ids_of(effort)
    transitions = min(MANY, effort.transitions * 10)
    with place(databases) as url:
        orders = OurOrders(url, ids)
        for _ in range(transitions // len(ids) - 1):
            orders.handle_many(ids)
        store = orders.store
        began = perf_counter()
        last = store.read_log(limit=1)[0].seq
        first_seconds = perf_counter() - began
        seconds = perf_counter() - began + _read(store, decoded=False, after=last)
        rates = {
            decoded: median(
                transitions / _read(store, decoded=decoded) for _ in range(effort.rounds)
            )
            for decoded in (False, True)
        }
        polls = [_poll(store, after=transitions) for _ in range(POLLS)]
        orders.close()
    idle = median(polls)
    return [
        Row(f"catching up {transitions:,} unnumbered", "", ours=duration(seconds)),
        Row("the first page of them", "", ours=duration(first_seconds)),
        Row("read_log, rows/s", "", ours=f"{rates[False]:,.0f}"),
        Row(
            *("read_log, decoded transitions/s", "", f"{rates[True]:,.0f}"),
            target=f"at least {TARGET:,}",
            met=rates[True] >= TARGET,
        ),
        Row(
            *("an idle poll", "", duration(idle)),
            target=f"at most {duration(POLL_SECONDS)}",
            met=idle <= POLL_SECONDS,
        ),
    ]


def _read(store: Store, *, decoded: bool, after: int = 0) -> float:
    """Read the log in pages, as a subscriber does; returns the seconds."""
    began = perf_counter()
    while rows := store.read_log(after=after, limit=MAX_PAGE):
        after = rows[-1].seq
        if decoded:
            for row in rows:
                decode_transition(order, row)
    return perf_counter() - began


def _poll(store: Store, after: int) -> float:
    began = perf_counter()
    assert store.read_log(after=after, limit=MAX_PAGE) == []
    return perf_counter() - began
