"""Measures transitions on PostgreSQL: one at a time and in batches, beside raw psycopg."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing

from tests.servers.databases import Databases

from benchmarks.handle import (
    BATCH,
    OURS,
    OurOrders,
    ids_of,
    rows_beside,
    sample_batches,
    sample_each,
)
from benchmarks.measure import Effort, Sample, join, take_turns
from benchmarks.postgres.places import empty_place, place
from benchmarks.postgres.raw import RawOrders, Statements
from benchmarks.report import Row, faster, missing
from benchmarks.rivals import find_server_rivals

RAW = "raw psycopg"
ALONE = "its statements alone"
SINGLE = "handle"


def measure_handle(effort: Effort, databases: Databases) -> list[Row]:
    """Compare `handle` on one connection with raw psycopg, and with libraries."""
    found, absent = find_server_rivals()
    ids = ids_of(effort)
    runs = []
    for _ in range(effort.runs):
        with ExitStack() as stack:
            contestants = _contestants(stack, databases, ids)
            samples: dict[str, Sample] = {
                name: sample_each(orders.handle, ids) for name, orders in contestants.items()
            }
            for name, opener in found.items():
                url = stack.enter_context(empty_place(databases))
                rival = stack.enter_context(closing(opener(url, ids)))
                samples[name] = sample_each(rival.handle, ids)
            runs.append(take_turns(samples, effort.rounds))
    rows = rows_beside("handle", join(runs), 0.9, RAW)
    return rows + [missing("handle", name) for name in absent]


def measure_batches(effort: Effort, databases: Databases) -> list[Row]:
    """Compare `handle_many` with the same statements in batches as long, and with `handle`."""
    ids = ids_of(effort)
    runs = []
    for _ in range(effort.runs):
        with ExitStack() as stack:
            contestants = _contestants(stack, databases, ids)
            samples: dict[str, Sample] = {
                name: sample_batches(orders.handle_many, ids)
                for name, orders in contestants.items()
            }
            samples[SINGLE] = sample_each(contestants[OURS].handle, ids)
            runs.append(take_turns(samples, effort.rounds))
    times = join(runs)
    what = f"handle_many, {BATCH} a batch"
    beside = {name: figures for name, figures in times.items() if name != SINGLE}
    return [*rows_beside(what, beside, 0.6, RAW), faster(what, times, OURS, SINGLE, 5)]


def _contestants(
    stack: ExitStack, databases: Databases, ids: Sequence[str]
) -> dict[str, OurOrders | Statements]:
    """Open ours, raw psycopg and its statements alone, each on orders of its own."""
    ours = OurOrders(stack.enter_context(place(databases)), ids)
    contestants: dict[str, OurOrders | Statements] = {OURS: stack.enter_context(closing(ours))}
    for name, raw in ((RAW, RawOrders), (ALONE, Statements)):
        url = stack.enter_context(place(databases))
        OurOrders(url, ids).close()
        contestants[name] = stack.enter_context(closing(raw(url)))
    return contestants
