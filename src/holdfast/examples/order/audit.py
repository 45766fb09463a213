"""What must hold after a day, whatever the threads did: checked against the log and the books."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from holdfast import Record
from holdfast.examples.order.day import Day
from holdfast.examples.order.model import Completed, OrderError, OrderState
from holdfast.examples.order.stand_in import Entry
from holdfast.stores.contract import MAX_PAGE, LogRow
from holdfast.stores.verify import Report, verify

Records = Mapping[str, Record[OrderState]]


class Promise(NamedTuple):
    text: str
    breaches: list[str]


class Audit(NamedTuple):
    promises: list[Promise]
    transitions: int
    failures: dict[str, int]
    """How often the calls for an order failed, by its id; without those that never failed."""

    @property
    def broken(self) -> int:
        return sum(bool(promise.breaches) for promise in self.promises)


def audit(day: Day) -> Audit:
    """Hold what was promised of a day against the store, and against the stand-in's books."""
    records = {record.id: record for record in _records(day)}
    log = list(_log(day))
    verified = verify(day.orders.store)
    completed = sum(isinstance(record.state, Completed) for record in records.values())
    promises = (
        (f"orders placed: {len(day.placed):,}, found: {len(records):,}", _lost(day, records)),
        (f"transitions: {len(log):,}, no version missing or made twice", _gaps(records, log)),
        (f"orders charged and delivered: {completed:,}, each once", _books(day, records)),
        ("nobody completed an order they had processed", _self_approved(records)),
        ("no order is left in error", _unrecovered(records)),
        (f"verify: {verified.transitions:,} digests hold", _altered(verified)),
    )
    return Audit(
        [Promise(text, list(breaches)) for text, breaches in promises],
        len(log),
        dict(Counter(row.id for row in log if row.to_type == "OrderError")),
    )


def _records(day: Day) -> Iterator[Record[OrderState]]:
    after: str | None = None
    while True:
        page = day.orders.find(limit=MAX_PAGE, after=after)
        yield from page
        after = page.next
        if after is None:
            return


def _log(day: Day) -> Iterator[LogRow]:
    seq = 0
    while rows := day.orders.store.read_log(after=seq, limit=MAX_PAGE):
        yield from rows
        seq = rows[-1].seq


def _lost(day: Day, records: Records) -> Iterator[str]:
    for id in sorted(day.placed.keys() ^ records.keys()):
        yield f"{id} was placed and is lost" if id in day.placed else f"{id} was never placed"


def _gaps(records: Records, log: Iterable[LogRow]) -> Iterator[str]:
    """Follow every order through the log: 1, 2, 3 …, each entry from where the last one led."""
    reached: dict[str, tuple[int, str | None]] = defaultdict(lambda: (0, None))
    for row in log:
        version, state = reached[row.id]
        if (row.version, row.from_type) != (version + 1, state):
            yield f"{row.id}: {row.version} from {row.from_type} follows {version}, {state}"
        reached[row.id] = row.version, row.to_type
    for id, record in records.items():
        current = record.version, type(record.state).__name__
        if current != reached[id]:
            yield f"{id}: is {current}, and its log ends with {reached[id]}"


def _books(day: Day, records: Records) -> Iterator[str]:
    """Compare what the warehouse and the payment provider did with what the orders say."""
    removals, charges = _by_order(day.world.removals), _by_order(day.world.charges)
    for id in sorted(records.keys() | removals.keys() | charges.keys()):
        state = records[id].state if id in records else None
        removed = [entry.receipt for entry in removals[id]]
        charged = [(entry.receipt, entry.cents) for entry in charges[id]]
        if isinstance(state, Completed):
            sound = removed == [state.removal]
            sound = sound and charged == [(state.charge, state.order.total_cents)]
        elif isinstance(state, OrderError):  # its last call may or may not have been booked
            sound = len(removed) <= 1 and len(charged) <= 1
        else:
            sound = not removed and not charged
        if not sound:
            yield f"{id}: {type(state).__name__}, and the books say {removed}, {charged}"


def _by_order(book: Sequence[Entry]) -> dict[str, list[Entry]]:
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in book:
        entries[entry.order_id].append(entry)
    return entries


def _self_approved(records: Records) -> Iterator[str]:
    for id, record in records.items():
        state = record.state
        if isinstance(state, Completed) and state.completed_by == state.processed_by:
            yield f"{id}: {state.completed_by} processed and completed it"


def _altered(report: Report) -> Iterator[str]:
    for finding in report.findings:
        yield f"{finding.id} at version {finding.version}: {finding.problem}"


def _unrecovered(records: Records) -> Iterator[str]:
    for id, record in records.items():
        if isinstance(record.state, OrderError):
            yield f"{id}: {record.state.problem}, {record.state.detail}"
