"""Writes results: tables for people at a terminal, JSON lines for programs in a pipe."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from holdfast.cli.exits import Failure, output_failure
from holdfast.cli.text import visible, visible_json

if TYPE_CHECKING:
    from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

EPILOG = "TARGET is like shop:orders. `holdfast --help` tells more, and lists the exit codes."
"""Ends the help of a verb."""

ROWS_OF_A_TABLE = 1_000
"""A longer table is written in parts, each with its head."""
MAX_SHOWN = 20
"""How many violations or findings are shown to people; JSON holds more."""
COLUMN_CHARACTERS = 12
"""What a column needs on average to be readable; a time then takes two lines."""
NUMBERS = {"version", "position"}
"""Columns aligned to the right."""


def format_option(function: F) -> F:
    """Add `--json/--table`, passed as `as_json`; None leaves the choice to the output."""
    return click.option(
        "--json/--table",
        "as_json",
        default=None,
        help="Write JSON lines, or tables.  [default: tables on a terminal, JSON lines in a pipe]",
    )(function)


def in_json(as_json: bool | None) -> bool:  # noqa: FBT001 (it is what the option gave)
    """Return whether the output is to be JSON."""
    return not sys.stdout.isatty() if as_json is None else as_json


def write(text: str = "", *, end: str = "\n") -> None:
    """Write text to the standard output; raises Failure where that does not take it."""
    try:
        click.echo(text + end, nl=False)
    except OSError as error:
        raise output_failure(error) from error


def hint(text: str) -> None:
    """Write to the standard error what is not the result; whether anybody reads it is no matter."""
    with suppress(OSError):
        click.echo(visible(text), err=True)


@contextmanager
def after(done: str) -> Generator[None]:
    """Have an output that cannot be written tell what was done all the same."""
    try:
        yield
    except Failure as failure:
        raise Failure(f"{done}; {failure.message}", failure.code) from failure


def write_lines(objects: Iterable[Mapping[str, Any]]) -> None:
    """Write each object as a line of JSON."""
    for value in objects:
        write(visible_json(msgspec.json.encode(value).decode()))


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows of text, which may hold anything, under the names of their columns.

    Where the terminal is too narrow for a table, each row is written as facts.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if console.width < COLUMN_CHARACTERS * len(columns):
        for row in rows:
            write_facts(dict(zip(columns, row, strict=True)))
            write()
        return
    for part in _parts(rows, ROWS_OF_A_TABLE):
        with console.capture() as drawn:
            console.print(_table(columns, part))
        write("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in NUMBERS else "left",
            overflow="fold",
            no_wrap=name in NUMBERS,
        )
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table


def write_facts(facts: Mapping[str, str]) -> None:
    """Write names and values, one to a line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        write(f"{name:{width}}  {visible(value)}".rstrip())


def program(*, from_anywhere: bool = False) -> str:
    """Return how to call this command again: by its name, or as it was called if no path has it."""
    from shutil import which

    called = Path(sys.argv[0])
    if called.stem != "holdfast" or which("holdfast"):
        return "holdfast"
    return shlex.quote(str(called.absolute() if from_anywhere else called))


def raw(text: str | None) -> msgspec.Raw | None:
    """Return stored JSON, to be written as it is within an object."""
    return None if text is None else msgspec.Raw(text.encode())


def short_time(text: str) -> str:
    """Return a stored time to the second: `2024-02-29 12:00:00Z`."""
    return f"{text[:10]} {text[11:19]}Z"


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
