"""The table of figures, targets and verdicts, and the versions of all that was measured."""

from __future__ import annotations

import platform
import sqlite3
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Spread, Times, ratios, spread

LIBRARIES = (
    "holdfast",
    "msgspec",
    "automat",
    "dbos",
    "eventsourcing",
    "psycopg",
    "python-statemachine",
    "transitions",
    "xstate-statemachine",
)


class Row(NamedTuple):
    """One comparison. `met` is None where nothing is demanded."""

    what: str
    other: str
    ours: str = ""
    theirs: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None


def faster(what: str, times: Times, ours: str, other: str, at_least: float | None = None) -> Row:
    """Return how many times as fast as the other we are."""
    ratio = ratios(times, other, ours)
    ours_seconds, others_seconds = _medians(times, ours, other)
    row = Row(what, other, ours_seconds, others_seconds, bracketed(ratio))
    if at_least is None:
        return row
    return row._replace(target=f"at least {at_least:g}", met=ratio.middle >= at_least)


def dearer(what: str, times: Times, ours: str, other: str, at_most: float) -> Row:
    """Return how many times as much one thing of ours costs as another."""
    ratio = ratios(times, ours, other)
    ours_seconds, others_seconds = _medians(times, ours, other)
    met = ratio.middle <= at_most
    target = f"at most {at_most:g}"
    return Row(what, other, ours_seconds, others_seconds, bracketed(ratio), target, met)


def missing(what: str, other: str) -> Row:
    """Return the row of a library that is not there to be measured."""
    return Row(what, other, theirs="not installed")


def print_rows(rows: Sequence[Row], *, judge: bool) -> None:
    """Print the table; with `judge` it says which targets were met."""
    table = Table(title="Medians, and in brackets the quartiles of the ratios round by round")
    for heading in ("what", "compared with"):
        table.add_column(heading, overflow="fold")
    for heading in ("holdfast", "other", "ratio", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("met")
    for row in rows:
        verdict = "" if row.met is None or not judge else ("yes" if row.met else "NO")
        table.add_row(*row[:-1], verdict)
    console = Console(highlight=False)
    console.width = max(console.width, 120)
    console.print(table)


def print_versions() -> None:
    """Print what was measured, and on what."""
    print(f"Python {platform.python_version()} ({platform.python_implementation()}),", end=" ")
    print(f"SQLite {sqlite3.sqlite_version}, {platform.platform()}, {sys.executable}")
    print(", ".join(f"{name} {_version(name)}" for name in LIBRARIES))


def duration(seconds: float) -> str:
    """Return seconds in the unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def bracketed(ratio: Spread) -> str:
    """Return a spread as text: median, then the quartiles."""
    return f"{ratio.middle:.3g} ({ratio.low:.3g} to {ratio.high:.3g})"


def _medians(times: Times, *names: str) -> list[str]:
    return [duration(spread(times[name]).middle) for name in names]


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
