"""The verb `simulate`: runs under faults that seeds draw, and the story of one of them."""

from __future__ import annotations

import re
from typing import Any

import click

from holdfast.cli.exits import Exit
from holdfast.cli.output import MAX_SHOWN, write, write_facts, write_lines
from holdfast.cli.progress import show_progress
from holdfast.cli.target import find_machine_and_deps
from holdfast.cli.text import visible
from holdfast.testing.simulation import Report, VacuousError, ViolationError, simulate, tell
from holdfast.testing.simulation.setup import STORES

VIOLATION = re.compile(r" *\d+  VIOLATION: ")


@click.command("simulate")
@click.argument("target", required=False)
@click.option("--seed", type=click.IntRange(min=0), help="Tell the story of this run alone.")
@click.option(
    "--seeds", "count", type=click.IntRange(min=1), default=1_000, show_default=True,
    help="How many runs to simulate.",
)  # fmt: skip
@click.option(
    "--from", "first", type=click.IntRange(min=0), default=0, show_default=True,
    help="The seed of the first run.",
)  # fmt: skip
@click.option(
    "--store", "stores", type=click.Choice(STORES), multiple=True,
    help="A store to simulate on; may be given several times.  [default: all]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Write what was seen as a line of JSON.")
def simulate_runs(
    *,
    target: str | None,
    seed: int | None,
    count: int,
    first: int,
    stores: tuple[str, ...],
    as_json: bool,
) -> None:
    """Simulate crashes, lost answers and callers who meet, and look for broken promises.

    TARGET may also name a Machine; without one the machines are generated. The store of a Service
    is not touched, its dependencies are called: name one whose dependencies are stand-ins.

    Each run is drawn from its seed: clients send commands that conflict, repeat and are refused to
    few entities; processes end, connections are lost, callers give up. Afterwards the log, the
    entities and all answers are held against each other. --seed lives through one run again, line
    by line, the same on a terminal and in a pipe.

    Exit codes: 0 sound, 1 a promise was broken, or too little was seen to tell.
    """
    machine, deps = (None, None) if target is None else find_machine_and_deps(target)
    options: dict[str, Any] = {"deps": deps, "stores": stores or STORES}
    if seed is not None:
        _tell_story(machine, seed, options, as_json=as_json)
        return
    with show_progress("Simulating", "runs", total=count) as progress:
        try:
            seeds = range(first, first + count)
            report = simulate(machine, seeds=seeds, progress=progress, **options)
        except ViolationError as error:
            _show_violation(error, target, as_json=as_json)
        except VacuousError as error:
            _show_missing(error, as_json=as_json)
        else:
            _show(report, as_json=as_json)
            return
    click.get_current_context().exit(Exit.FOUND)


def _show_missing(error: VacuousError, *, as_json: bool) -> None:
    if as_json:
        write_lines([{"sound": False, "runs": error.runs, "missing": error.missing}])
    else:
        write(f"{error}")


def _tell_story(machine: Any, seed: int, options: dict[str, Any], *, as_json: bool) -> None:
    story: list[str] = []
    shown = _Shown()
    violations = tell(machine, seed, story.append if as_json else shown.tell, **options)
    if as_json:
        write_lines([{"seed": seed, "violations": violations, "story": story}])
    elif not violations:
        write("\nNo promise is broken.")
    else:
        shown.end()
    if violations:
        click.get_current_context().exit(Exit.FOUND)


class _Shown:
    """A story as people read it: of the violations at its end the first, and how many more."""

    def __init__(self) -> None:
        self._violations = 0

    def tell(self, line: str) -> None:
        """Write a line, where it is not one violation too many."""
        self._violations += VIOLATION.match(line) is not None
        if self._violations <= MAX_SHOWN:
            _write_line(line)

    def end(self) -> None:
        """Write how many violations were left out."""
        if self._violations > MAX_SHOWN:
            write(f"and {self._violations - MAX_SHOWN:,} more")


def _write_line(line: str) -> None:
    write(visible(line))


def _show_violation(error: ViolationError, target: str | None, *, as_json: bool) -> None:
    if as_json:
        found = {"seed": error.seed, "violations": error.violations, "story": error.story}
        write_lines([{"sound": False, **found}])
        return
    write(f"Seed {error.seed} breaks a promise:\n")
    for violation in error.violations[:MAX_SHOWN]:
        _write_line(f"  {violation}")
    if len(error.violations) > MAX_SHOWN:
        write(f"  and {len(error.violations) - MAX_SHOWN:,} more")
    write("\nThe shortest story found:\n")
    shown = _Shown()
    for line in error.story:
        shown.tell(line)
    shown.end()
    again = " ".join(["holdfast simulate", *([target] if target else []), f"--seed {error.seed}"])
    write(f"\nThe whole story: {again}")


def _show(report: Report, *, as_json: bool) -> None:
    counts = dict(sorted(report.counts.items()))
    if as_json:
        write_lines([{"sound": True, "runs": report.runs, "counts": counts}])
        return
    facts = {"runs": f"{report.runs:,}, no promise broken"}
    write_facts(facts | {name: f"{count:,}" for name, count in counts.items()})
