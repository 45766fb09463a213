"""The verbs that look at machines alone: `graph`, `check`."""

from __future__ import annotations

import click
import msgspec

from holdfast.cli.exits import Exit
from holdfast.cli.output import (
    EPILOG,
    format_option,
    in_json,
    write,
    write_facts,
    write_lines,
    write_table,
)
from holdfast.cli.target import find_machine
from holdfast.machine.check import Check


@click.command(epilog=EPILOG)
@click.argument("target")
@click.option("--json", "as_json", is_flag=True, help="Write states and edges as a line of JSON.")
def graph(*, target: str, as_json: bool) -> None:
    """Draw a machine as a Mermaid diagram, for Markdown files and the like.

    TARGET may also name a Machine or a Flow. The text is the same on a terminal and in a pipe.
    """
    found = find_machine(target).graph()
    if as_json:
        write_lines([msgspec.structs.asdict(found)])
    else:
        write(found.mermaid(), end="")


@click.command(epilog=EPILOG)
@click.argument("target")
@format_option
def check(*, target: str, as_json: bool | None) -> None:
    """Look for what a machine leaves out.

    States that nothing leads to and commands that no state takes are mistakes: the exit code is 1
    then. Pairs of a state and a command without a handler may be on purpose, and are listed.
    TARGET may also name a Machine or a Flow.
    """
    found = find_machine(target).check()
    if in_json(as_json):
        write_lines([{**msgspec.structs.asdict(found), "sound": found.sound}])
    else:
        write_facts(
            {
                found.machine: "sound" if found.sound else "has mistakes",
                "states that nothing leads to": ", ".join(found.unreachable) or "none",
                "commands that no state takes": ", ".join(found.unused) or "none",
                "pairs without a handler": str(len(found.unhandled)),
            }
        )
        if found.unhandled:
            write()
            write_table(("state", "has no handler for"), _by_state(found))
    if not found.sound:
        click.get_current_context().exit(Exit.FOUND)


def _by_state(found: Check) -> list[tuple[str, str]]:
    refused: dict[str, list[str]] = {}
    for state, command in found.unhandled:
        refused.setdefault(state or "(none)", []).append(command)
    return [(state, ", ".join(commands)) for state, commands in refused.items()]
