"""Measures the transitions of flows, each with a guard and a callback, beside raw `sqlite3`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing

from benchmarks.handle import OURS, RAW, ids_of, rows_beside, sample_each, sqlite
from benchmarks.measure import Effort, Sample, join, take_turns
from benchmarks.raw import METADATA, RawOrders
from benchmarks.report import Row, dearer
from holdfast import Flow, open_store

CIRCLE = ("paid", "packed", "shipped", "pending")
FRESH = "holdfast, made anew"
NOTIFIED = "holdfast, notified after the commit"


class Order:
    in_stock = True
    calls = 0


class Circle(Flow[Order], abstract=True):
    pending = Flow.state(initial=True)
    paid = Flow.state()
    packed = Flow.state()
    shipped = Flow.state()
    pending.to(paid)
    paid.to(packed)
    packed.to(shipped)
    shipped.to(pending)


class OrderFlow(Circle):
    """Calls back in the transaction that writes."""


class NotifiedFlow(Circle):
    """Calls back after the commit."""


@OrderFlow.guard()
@NotifiedFlow.guard()
def in_stock(order: Order) -> bool:
    return order.in_stock


@OrderFlow.before()
@NotifiedFlow.after_commit()
def count(order: Order) -> None:
    order.calls += 1


class FlowOrders:
    """Orders that go round, in the store of a URL; each is a flow that is kept, or made anew."""

    def __init__(
        self, url: str, ids: Sequence[str], flow: type[Circle] = OrderFlow, *, fresh: bool = False
    ) -> None:
        self.store = open_store(url)
        self.flow = flow
        self.fresh = fresh
        self.order = Order()
        self.flows = {id: flow(self.order, store=self.store, id=id) for id in ids}
        self.places = dict.fromkeys(ids, 0)
        for id in ids:
            self.handle(id)

    def handle(self, id: str) -> None:
        place = self.places[id]
        flow = self.flow(self.order, store=self.store, id=id) if self.fresh else self.flows[id]
        flow.transition_to(CIRCLE[place % len(CIRCLE)], metadata=METADATA)
        self.places[id] = place + 1

    def close(self) -> None:
        self.store.close()


def measure_flow(effort: Effort, directory: str) -> list[Row]:
    """Compare flows with raw statements, and one with a long history with one without."""
    ids = ids_of(effort)
    runs = []
    for _ in range(effort.runs):
        with ExitStack() as stack, tempfile.TemporaryDirectory(dir=directory) as folder:
            raw = stack.enter_context(closing(RawOrders(f"{folder}/raw.db", "NORMAL", ids)))
            samples: dict[str, Sample] = {RAW: sample_each(raw.handle, ids)}
            for number, (name, kind, fresh) in enumerate(
                [(OURS, OrderFlow, False), (FRESH, OrderFlow, True), (NOTIFIED, NotifiedFlow, True)]
            ):
                url = sqlite(f"{folder}/{number}.db", "NORMAL")
                orders = stack.enter_context(closing(FlowOrders(url, ids, kind, fresh=fresh)))
                samples[name] = sample_each(orders.handle, ids)
            runs.append(take_turns(samples, effort.rounds))
    times = join(runs)
    rows = []
    for name, words in (
        (OURS, ""),
        (FRESH, ", made anew"),
        (NOTIFIED, ", made anew, after commit"),
    ):
        one = {OURS: times[name], RAW: times[RAW]}
        rows += rows_beside(f"transition_to{words}, NORMAL", one, 0.4)
    return [*rows, _measure_length(effort, directory)]


def _measure_length(effort: Effort, directory: str) -> Row:
    """Compare a flow with many transitions behind it with one that has hardly any."""
    long, short = f"{effort.transitions:,} transitions behind", "1 transition behind"
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        orders = FlowOrders(sqlite(f"{folder}/a.db", "NORMAL"), ["long"], fresh=True)
        with closing(orders):
            for _ in range(effort.transitions):
                orders.handle("long")
            others = ids_of(effort)
            orders.places.update(dict.fromkeys(others, 0))
            samples = {
                long: sample_each(orders.handle, ["long"] * len(others)),
                short: sample_each(orders.handle, others),
            }
            times = take_turns(samples, effort.rounds)
    return dearer(f"transition_to, {long}", times, long, short, 1.2)
