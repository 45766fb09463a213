"""Measures on PostgreSQL that a long history costs what a short one costs."""

from __future__ import annotations

from tests.servers.databases import Databases

from benchmarks.history import LONG, MOST, SHORT, TURNS, Histories
from benchmarks.measure import Effort, join, take_turns
from benchmarks.order import order
from benchmarks.postgres.places import place
from benchmarks.report import Row, dearer
from holdfast import Service, open_store


def measure_history(effort: Effort, databases: Databases) -> list[Row]:
    """Compare `handle` and `get` on many transitions with the same on one transition."""
    handled, got = [], []
    for _ in range(effort.runs):
        with place(databases) as url, open_store(url) as store:
            orders = Histories(Service(order, store), effort.transitions)
            rounds = effort.rounds * TURNS
            got.append(take_turns(orders.gets(), rounds))
            handled.append(take_turns(orders.handles(), rounds))
    many = f"{effort.transitions:,} transitions"
    return [
        dearer(f"handle on {many}", join(handled), LONG, SHORT, MOST),
        dearer(f"get on {many}", join(got), LONG, SHORT, MOST),
    ]
