"""What must hold after a day, whatever the threads did: checked against the log and the books."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from holdfast import Record
from holdfast.examples.order.day import Day
from holdfast.examples.order.model import Completed, OrderError, OrderState
from holdfast.examples.order.stand_in import Entry
from holdfast.stores.contract import MAX_PAGE, LogRow

Records = Mapping[str, Record[OrderState]]


class Promise(NamedTuple):
    text: str
    breaches: list[str]


def audit(day: Day) -> list[Promise]:
    """Return what was promised of the day, each with the breaches that were found."""
    records = {record.id: record for record in _records(day)}
    log = list(_log(day))
    promises = {
        f"{len(day.placed):,} orders placed, {len(records):,} found": _lost(day, records),
        f"{len(log):,} transitions, every order's versions without a gap": _gaps(records, log),
        "each completed order charged once, delivered once; no other": _books(day, records),
        "nobody completed an order they had processed": _self_approved(records),
        "no order is left in error": _unrecovered(records),
    }
    return [Promise(text, list(breaches)) for text, breaches in promises.items()]


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


def _unrecovered(records: Records) -> Iterator[str]:
    for id, record in records.items():
        if isinstance(record.state, OrderError):
            yield f"{id}: {record.state.problem}, {record.state.detail}"
