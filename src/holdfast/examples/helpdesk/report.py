"""Reports what became of the tickets in a store: by state, the longest lifecycles, the rate.

python -m holdfast.examples.helpdesk.report sqlite:///tickets.db
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import nsmallest
from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from holdfast import HoldfastError, Record, Service, open_store
from holdfast.examples.helpdesk.machine import ticket
from holdfast.examples.helpdesk.model import TicketCommand, TicketState
from holdfast.stores import read_only

Tickets = Service[TicketState, TicketCommand, None]
LONGEST = 10


@dataclass(frozen=True)
class Lifecycle:
    """What one ticket went through."""

    id: str
    transitions: int
    lasted: timedelta
    reopened: int
    states: tuple[str, ...]
    """The state after each transition."""


@dataclass(frozen=True)
class Report:
    """What is shown."""

    states: dict[str, int]
    """Tickets by state, in the order of the machine's definition; none are left out."""
    longest: list[Lifecycle]
    """The tickets with the most transitions, and of equal ones those that lasted longest, first."""
    transitions: int
    written_in: timedelta
    """From the first transition written to the last."""


def report(tickets: Tickets) -> Report:
    """Read a store."""
    counts = tickets.count_by_state()
    longest = nsmallest(LONGEST, _records(tickets), key=_shortness)
    transitions, written_in = _written(tickets)
    return Report(
        {state: counts[state] for state in tickets.machine.graph().states if state in counts},
        [_lifecycle(tickets, record) for record in longest],
        transitions,
        written_in,
    )


def show(report: Report, console: Console) -> None:
    """Print a report: tables with bars on a terminal, bare columns in a pipe."""
    for table in (_state_table(report, console), _longest_table(report, console)):
        console.print(table)
        if not console.is_terminal:
            console.print()
    seconds = report.written_in.total_seconds()
    rate = f": {report.transitions / seconds:,.0f} a second" if seconds else ""
    console.print(
        f"{report.transitions:,} transitions of {sum(report.states.values()):,} tickets, "
        f"written in {seconds:.2f} s{rate}",
        highlight=False,
    )


def _records(tickets: Tickets) -> Iterator[Record[TicketState]]:
    page = tickets.find(limit=1_000)
    yield from page
    while page.next is not None:
        page = tickets.find(limit=1_000, after=page.next)
        yield from page


def _shortness(record: Record[TicketState]) -> tuple[int, timedelta, str]:
    return -record.version, record.created_at - record.updated_at, record.id


def _lifecycle(tickets: Tickets, record: Record[TicketState]) -> Lifecycle:
    history = tickets.history(record.id)
    return Lifecycle(
        record.id,
        record.version,
        record.updated_at - record.created_at,
        record.state.facts.reopened,
        tuple(transition.to_state or "deleted" for transition in history),
    )


def _written(tickets: Tickets) -> tuple[int, timedelta]:
    count, times, after = 0, [], 0
    while rows := tickets.store.read_log(after=after, limit=1_000):
        count += len(rows)
        after = rows[-1].seq
        times += [rows[0].recorded_at, rows[-1].recorded_at]
    if not times:
        return 0, timedelta()
    return count, datetime.fromisoformat(max(times)) - datetime.fromisoformat(min(times))


def _table(title: str, console: Console) -> Table:
    lines = box.SIMPLE_HEAD if console.is_terminal else None
    return Table(title=title, title_justify="left", box=lines, pad_edge=False)


def _state_table(report: Report, console: Console) -> Table:
    table = _table("Tickets by state", console)
    table.add_column("state")
    table.add_column("tickets", justify="right")
    most = max(report.states.values(), default=0)
    for state, count in report.states.items():
        bar = ["█" * round(40 * count / most) or "▏"] if console.is_terminal else []
        table.add_row(state, f"{count:,}", *bar)
    return table


def _longest_table(report: Report, console: Console) -> Table:
    table = _table("The ten longest lifecycles", console)
    table.add_column("ticket", no_wrap=True)
    for name in ("transitions", "days", "reopened"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("states")
    for lifecycle in report.longest:
        table.add_row(
            escape(lifecycle.id),
            str(lifecycle.transitions),
            f"{lifecycle.lasted / timedelta(days=1):.1f}",
            str(lifecycle.reopened),
            " > ".join(_runs(lifecycle.states)),
        )
    return table


def _runs(states: tuple[str, ...]) -> Iterator[str]:
    for state, run in groupby(states):
        times = len(list(run))
        yield state if times == 1 else f"{state} x{times}"


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(description="Report what became of the tickets in a store.")
    parser.add_argument("url", help="the store, such as sqlite:///tickets.db")
    url = parser.parse_args().url
    try:
        with open_store(read_only(url)) as store:
            found = report(Service(ticket, store))
    except HoldfastError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    console = Console()
    if console.is_terminal:
        show(found, console)
    else:
        sys.stdout.write(_plain(found))
    return 0


def _plain(report: Report) -> str:
    """Return the report as lines of whatever length, without blanks at their ends."""
    console = Console(width=1_000, force_terminal=False)
    with console.capture() as capture:
        show(report, console)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


if __name__ == "__main__":
    sys.exit(main())
