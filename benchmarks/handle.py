"""Measures durable transitions on SQLite: one at a time and in batches, beside raw `sqlite3`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from time import perf_counter

from benchmarks.measure import Effort, Sample, Times, join, take_turns
from benchmarks.order import CIRCLE, PLACE, OrderCommand, order
from benchmarks.raw import METADATA, NEXT, RawOrders, Statements
from benchmarks.report import Row, faster, missing
from benchmarks.rivals import Open, find_store_rivals
from holdfast import Request, Service, open_store

OURS = "holdfast"
RAW = "raw sqlite3"
ALONE = "its statements alone"
BATCH = 100


def measure_full(effort: Effort, directory: str) -> list[Row]:
    """Compare `handle` where every transition is on the disk before it is acknowledged."""
    runs, absent = _compare("FULL", effort, directory, ["eventsourcing"])
    return rows_beside("handle, FULL", runs, 0.85) + [
        missing("handle, FULL", name) for name in absent
    ]


def measure_normal(effort: Effort, directory: str) -> list[Row]:
    """Compare `handle` where the last transitions can vanish when the power fails."""
    runs, absent = _compare("NORMAL", effort, directory, ["xstate-statemachine"])
    return rows_beside("handle, NORMAL", runs, 0.7) + [
        missing("handle, NORMAL", name) for name in absent
    ]


def measure_batches(effort: Effort, directory: str) -> list[Row]:
    """Compare `handle_many` with the same statements in batches as long."""
    ids = ids_of(effort)
    runs: list[Times] = []
    for _ in range(effort.runs):
        with ExitStack() as stack, _folder(directory) as folder:
            ours = stack.enter_context(closing(OurOrders(sqlite(f"{folder}/a.db", "FULL"), ids)))
            raw = stack.enter_context(closing(RawOrders(f"{folder}/b.db", "FULL", ids)))
            alone = stack.enter_context(closing(Statements(f"{folder}/c.db", "FULL", ids)))
            samples = {
                OURS: sample_batches(ours.handle_many, ids),
                RAW: sample_batches(raw.handle_many, ids),
                ALONE: sample_batches(alone.handle_many, ids),
            }
            runs.append(take_turns(samples, effort.rounds))
    return rows_beside(f"handle_many, {BATCH} a batch, FULL", join(runs), 0.7)


class OurOrders:
    """The order service, on the store of a URL."""

    def __init__(self, url: str, ids: Sequence[str]) -> None:
        self.store = open_store(url)
        self.service = Service(order, self.store)
        self.commands: dict[str, OrderCommand] = dict.fromkeys(ids, CIRCLE[0])
        for answer in self.service.handle_many(
            [Request(id, PLACE, metadata=METADATA) for id in ids]
        ):
            assert not isinstance(answer, Exception), answer

    def handle(self, id: str) -> None:
        command = self.commands[id]
        self.service.handle(id, command, metadata=METADATA)
        self.commands[id] = NEXT[command]

    def handle_many(self, ids: Sequence[str]) -> None:
        commands = self.commands
        batch = [Request(id, commands[id], metadata=METADATA) for id in ids]
        for id, answer in zip(ids, self.service.handle_many(batch), strict=True):
            if isinstance(answer, Exception):
                raise answer
            commands[id] = NEXT[commands[id]]

    def close(self) -> None:
        self.store.close()


def _compare(
    synchronous: str, effort: Effort, directory: str, rivals: Sequence[str]
) -> tuple[Times, list[str]]:
    """Time ours, raw statements and the libraries that come with this durability."""
    found, absent = find_store_rivals(rivals)
    openers: dict[str, Open] = {
        OURS: lambda path, ids: OurOrders(sqlite(path, synchronous), ids),
        RAW: lambda path, ids: RawOrders(path, synchronous, ids),
        ALONE: lambda path, ids: Statements(path, synchronous, ids),
        **found,
    }
    return join([_run(openers, effort, directory) for _ in range(effort.runs)]), absent


def rows_beside(what: str, times: Times, target: float, raw: str = RAW) -> list[Row]:
    """Compare ours with all others; it has to reach the target beside the raw side."""
    targets = {raw: target}
    return [faster(what, times, OURS, name, targets.get(name)) for name in times if name != OURS]


def _run(openers: dict[str, Open], effort: Effort, directory: str) -> Times:
    ids = ids_of(effort)
    with ExitStack() as stack, _folder(directory) as folder:
        samples: dict[str, Sample] = {}
        for number, (name, opener) in enumerate(openers.items()):
            orders = stack.enter_context(closing(opener(f"{folder}/{number}.db", ids)))
            samples[name] = sample_each(orders.handle, ids)
        return take_turns(samples, effort.rounds)


def sample_each(handle: Callable[[str], object], ids: Sequence[str]) -> Sample:
    """Move every order on once."""

    def sample() -> float:
        began = perf_counter()
        for id in ids:
            handle(id)
        return (perf_counter() - began) / len(ids)

    return sample


def sample_batches(handle_many: Callable[[Sequence[str]], object], ids: Sequence[str]) -> Sample:
    """Move every order on once, so many at a time."""
    batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]

    def sample() -> float:
        began = perf_counter()
        for batch in batches:
            handle_many(batch)
        return (perf_counter() - began) / len(ids)

    return sample


def sqlite(path: str, synchronous: str) -> str:
    """Return the URL of a file that is as durable as that."""
    return f"sqlite:///{path}?synchronous={synchronous}"


def ids_of(effort: Effort) -> list[str]:
    """Return the ids of so many orders."""
    return [f"o-{number:06}" for number in range(effort.entities)]


def _folder(directory: str) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=directory)
