"""`holdfast demo`: a day at a shop, lived by competing workers and then held to its promises."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import click
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from holdfast import open_store
from holdfast.cli.console import output_console
from holdfast.cli.exits import Exit
from holdfast.cli.options import NewFile
from holdfast.cli.output import program
from holdfast.cli.text import count_of, visible
from holdfast.examples.order.audit import Audit, audit
from holdfast.examples.order.day import WORKERS, Day, Progress
from holdfast.examples.order.model import Completed, OrderError, OrderState, Pending, Processing
from holdfast.stores import url_of

TARGET = "holdfast.examples.order:service"
LONGEST_STORY = 9
"""The most transitions of the order whose audit trail is shown, where there is a choice."""
MOST_NAMED = 5
"""How many hot spots, and how many breaches of one promise, are told."""


@click.command()
@click.option(
    "--orders", "count", type=click.IntRange(1, 99_999), default=3_000, show_default=True,
    help="How many orders to place.",
)  # fmt: skip
@click.option(
    "--seed", default=1, show_default=True, help="Draws the orders; how workers meet differs."
)
@click.option("--path", type=NewFile(), help="Keep the store in this file; it must be new.")
@click.option("--keep", is_flag=True, help="Keep the store in a temporary file, and say where.")
def demo(*, count: int, seed: int, path: Path | None, keep: bool) -> None:
    """Live through a shop's day: competing workers, a payment outage, recovery, and the proof.

    Ends with status 1 if a promise is broken: an order lost, charged twice, left in error, a
    version missing, a digest that does not fit.
    """
    console = output_console()
    with _file(path, keep=keep) as file, open_store(url_of(str(file))) as store:
        day = Day(store, count=count, seed=seed)
        console.print(f"[bold]Holdfast demo[/]: a day at a shop, from seed {seed}.")
        console.print(
            f"{count_of(count, 'order')}, {len(WORKERS)} workers at once, one SQLite file, each "
            "commit flushed to disk.\n"
        )
        _watch(console, day)
        found = audit(day)
        _show_states(console, day, found)
        _show_story(console, day, found)
        _show_diagram(console, day)
        _show_speed(console, day, found)
        _show_promises(console, found)
    _conclude(console, day, found, file if path or keep else None)


@contextmanager
def _file(path: Path | None, *, keep: bool) -> Generator[Path, None, None]:
    """Yield where the store will be; a temporary folder goes away again unless it is kept."""
    if path is not None:
        if path.exists():
            raise click.BadParameter(f"{path} exists; name a new file", param_hint="--path")
        yield path.absolute()
    elif keep:
        yield Path(mkdtemp(prefix="holdfast-")) / "orders.db"
    else:
        with TemporaryDirectory(prefix="holdfast-") as folder:
            yield Path(folder) / "orders.db"


def _watch(console: Console, day: Day) -> None:
    """Live through the day and show how far it is."""
    with closing(day.run()) as progress:  # its workers end with it, whatever happens here
        if console.is_terminal:
            _draw_bars(console, progress)
        else:
            _print_events(console, progress)


def _draw_bars(console: Console, progress: Iterable[Progress]) -> None:
    columns = (
        TextColumn("{task.description:10}"),
        BarColumn(bar_width=max(18, min(console.width - 62, 60))),
        TextColumn("{task.fields[count]:>13}{task.fields[seconds]:7.1f} s"),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=console, auto_refresh=False) as bars:
        rows: dict[str, TaskID] = {}
        for now in progress:
            if now.phase not in rows:
                rows[now.phase] = bars.add_task(now.phase.title(), count="", seconds=0.0, note="")
            bars.update(
                rows[now.phase],
                total=now.total or 1,
                completed=now.done if now.total else 1,
                count=f"{now.done:,}/{now.total:,}",
                seconds=now.seconds,
                note=_note(now),
                refresh=True,
            )


def _note(now: Progress) -> str:
    if now.payment_down:
        return f"[red]payment down, {now.in_error:,} in error"
    return f"[yellow]{now.in_error:,} in error" if now.in_error else ""


def _print_events(console: Console, progress: Iterable[Progress]) -> None:
    down = False
    for now in progress:
        if now.payment_down != down:
            down = now.payment_down
            state = "goes down" if down else "is up again"
            console.print(f"{now.phase.title()}: the payment {state} at order {now.done:,}")
        if now.over:
            console.print(
                f"{now.phase.title()}: {now.done:,} of {now.total:,} orders in "
                f"{now.seconds:.1f} s, {now.in_error:,} in error"
            )


def _heading(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/]")


def _table(*columns: str) -> Table:
    """Return an empty table; `>` before a column's name aligns it to the right, the last wraps."""
    named = any(name.lstrip(">") for name in columns)
    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_header=named
    )
    for place, name in enumerate(columns, 1):
        right = name.startswith(">")
        table.add_column(
            name.lstrip(">"),
            justify="right" if right else "left",
            no_wrap=place < len(columns),
        )
    return table


def _show_states(console: Console, day: Day, found: Audit) -> None:
    counts = dict.fromkeys(day.orders.machine.graph().states, 0) | day.orders.count_by_state()
    width = max(1, min(console.width - 26, 60))
    block = "#" if console.options.ascii_only else "\N{FULL BLOCK}"
    _heading(console, "Where the orders are")
    table = _table("", ">", "")
    for state, count in counts.items():
        bar = block * -(-count * width // max(counts.values()))
        table.add_row(state, f"{count:,}", f"[{_color(state)}]{bar}")
    console.print(table)
    console.print(_outage(found, counts["OrderError"], day.world.answers_lost))


def _outage(found: Audit, left: int, answers_lost: int) -> str:
    failed = len(found.failures)
    if not failed:
        return "No order failed."
    told = f"{count_of(failed, 'order')} failed while the payment was down; {left or 'none'} left."
    if not answers_lost:
        return told
    return (
        f"{told} {count_of(answers_lost, 'call')} that failed had taken the money; sent again "
        "under the same token, none of them took it twice."
    )


def _color(state: str | None) -> str:
    return {"Completed": "green", "Cancelled": "yellow", "OrderError": "red"}.get(
        state or "", "blue"
    )


def _show_story(console: Console, day: Day, found: Audit) -> None:
    """Show the audit trail of an order that failed and was recovered."""
    id = _eventful(day, found)
    history = day.orders.history(id)
    _heading(console, f"What happened to {id}")
    table = _table(">v", "UTC", "who", "command", "state", "")
    for entry in history:
        table.add_row(
            str(entry.version),
            f"{entry.at:%H:%M:%S.%f}"[:-3],
            entry.metadata["by"],
            entry.command_type,
            f"[{_color(entry.to_state)}]{entry.to_state}",
            _remark(entry.state),
        )
    console.print(table)


def _eventful(day: Day, found: Audit) -> str:
    """Return the order with the most failures whose story is not too long; any, if none failed."""
    shown = sorted(found.failures, key=lambda id: (-found.failures[id], id))
    brief = (id for id in shown if day.orders.get(id).version <= LONGEST_STORY)
    return next(brief, next(iter(shown or day.placed)))


def _remark(state: OrderState | None) -> str:
    match state:
        case Pending():
            return f"total {state.order.total_cents / 100:,.2f}"
        case Processing():
            return f"token {state.token[:8]}"
        case OrderError():
            return state.detail + (f", retry {state.retries}" if state.retries else "")
        case Completed():
            return f"{state.removal[:10]}, {state.charge[:10]}"
        case _:
            return getattr(state, "reason", "")


def _show_diagram(console: Console, day: Day) -> None:
    _heading(console, "The machine, as Mermaid")
    console.print(day.orders.machine.graph().mermaid(), end="", markup=False)


def _show_speed(console: Console, day: Day, found: Audit) -> None:
    placed, counts = len(day.placed), day.counts
    worked = found.transitions - placed
    seconds = day.seconds["working"] + day.seconds["recovering"]
    _heading(console, "How fast, and what was in the way")
    table = _table(">", "", "")
    for count, what, remark in (
        (placed, "orders placed", f"{placed / day.seconds['placing']:,.0f}/s, many to a commit"),
        (worked, "transitions by the workers", f"{worked / seconds:,.0f}/s, sharing commits"),
        (counts["conflict"], "version conflicts", _outcomes(day)),
        (counts["too late"], "commands came too late", "somebody else had been faster"),
        (counts["own order"], "commands were forbidden", "nobody completes their own order"),
    ):
        if count:
            table.add_row(f"{count:,}", what, remark)
    console.print(table)
    spots = day.orders.contention(MOST_NAMED)
    hottest = ", ".join(f"{spot.id} ({spot.conflicts})" for spot in spots)
    console.print(f"Most conflicts on {hottest}." if spots else "No order met a conflict.")


def _outcomes(day: Day) -> str:
    return f"{day.counts['retry']:,} decided again, {day.counts['gave up']:,} given up"


def _show_promises(console: Console, found: Audit) -> None:
    _heading(console, "What was promised")
    for promise in found.promises:
        mark = "[red]BROKEN[/]" if promise.breaches else "[green]ok[/]"
        console.print(f"{mark}  {promise.text}")
        for breach in promise.breaches[:MOST_NAMED]:
            console.print(f"    {breach}", markup=False, style="red")
        if len(promise.breaches) > MOST_NAMED:
            console.print(f"    and {len(promise.breaches) - MOST_NAMED:,} more", style="red")


def _conclude(console: Console, day: Day, found: Audit, file: Path | None) -> None:
    """Say what was shown and what to do next, or what was broken, and end with the exit code."""
    console.print()
    if file is not None:
        console.print(f"The store is {visible(url_of(str(file)))}", soft_wrap=True, markup=False)
    if found.broken:
        console.print(f"[red]{found.broken} of {len(found.promises)} promises were broken.[/]")
        click.get_current_context().exit(Exit.FOUND)
    console.print(_shown(day, found))
    console.print(f"Next: {visible(_next(file))}", soft_wrap=True, markup=False)


def _shown(day: Day, found: Audit) -> str:
    """Return what was lived through, and only that."""
    met = ["conflicts"] * bool(day.counts["conflict"]) + ["an outage"] * bool(found.failures)
    through = f", with {' and '.join(met)}" if met else ", and nobody in anybody's way"
    return (
        f"Shown: {count_of(found.transitions, 'transition')} by {len(WORKERS)} threads on one "
        f"file{through}: nothing lost, nothing done twice."
    )


def _next(file: Path | None) -> str:
    """Return the command that looks into the store; the target knows one name only."""
    holdfast = program()
    if file is None:
        return f"{holdfast} demo --path orders.db && {holdfast} list {TARGET}"
    if file.name != "orders.db":
        return f"{holdfast} verify {shlex.quote(url_of(str(file)))}"
    if file.parent == Path.cwd():
        return f"{holdfast} list {TARGET}"
    return f"cd {shlex.quote(str(file.parent))} && {program(from_anywhere=True)} list {TARGET}"
