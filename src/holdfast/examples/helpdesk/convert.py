"""Converts an event log of tickets to a stream of commands, one JSON object a line.

python -m holdfast.examples.helpdesk.convert tickets.xes.gz commands.ndjson
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from holdfast.examples.helpdesk.model import (
    AssignSeriousness,
    Close,
    CreateAnomaly,
    Insert,
    JudgeAnomaly,
    RequireUpgrade,
    Resolve,
    ResolveAnomaly,
    ScheduleIntervention,
    TakeInCharge,
    TicketCommand,
    Wait,
)
from holdfast.examples.helpdesk.xes import Event, LogError, read_tickets

# The log has two attributes for the seriousness; `seriousness` is the same in all of it.
COMMANDS: dict[str, Callable[[Event], TicketCommand]] = {
    "Insert ticket": lambda event: Insert(),
    "Assign seriousness": lambda event: AssignSeriousness(event.attributes["seriousness_2"]),
    "Take in charge ticket": lambda event: TakeInCharge(event.resource),
    "Wait": lambda event: Wait(),
    "Create SW anomaly": lambda event: CreateAnomaly(),
    "Resolve SW anomaly": lambda event: ResolveAnomaly(),
    "RESOLVED": lambda event: JudgeAnomaly("RESOLVED"),
    "INVALID": lambda event: JudgeAnomaly("INVALID"),
    "DUPLICATE": lambda event: JudgeAnomaly("DUPLICATE"),
    "VERIFIED": lambda event: JudgeAnomaly("VERIFIED"),
    "Require upgrade": lambda event: RequireUpgrade(),
    "Schedule intervention": lambda event: ScheduleIntervention(),
    "Resolve ticket": lambda event: Resolve(event.resource),
    "Closed": lambda event: Close(),
}


def lines(log: Path) -> Iterator[dict[str, Any]]:
    """Yield each event of the log as a line for `holdfast run`.

    The key is the event's place in its ticket, so that of a later export of the same log, with
    events added, only the new ones are applied.
    """
    for id, events in read_tickets(log):
        for place, event in enumerate(events, 1):
            yield {
                "id": id,
                "command": command_of(id, event),
                "metadata": {"by": event.resource, **event.attributes},
                "at": event.time,
                "key": f"event-{place}",
            }


def command_of(id: str, event: Event) -> TicketCommand:
    """Return what an event asked of its ticket; raises LogError."""
    if event.activity not in COMMANDS:
        raise LogError(f"{id}: no event is known that is {event.activity!r}")
    try:
        return COMMANDS[event.activity](event)
    except KeyError as error:
        raise LogError(f"{id}: an event {event.activity!r} has no {error.args[0]}") from error


def convert(log: Path, stream: Path) -> int:
    """Write the commands of a log to a file, and return how many they are.

    The file is there once it is whole; where that fails, nothing is, or what was there before.
    """
    if stream.exists() and not stream.is_file():  # a pipe
        return _write(log, stream)
    part = stream.with_name(f"{stream.name}.part")
    try:
        written = _write(log, part)
        part.replace(stream)
    finally:
        part.unlink(missing_ok=True)
    return written


def _write(log: Path, stream: Path) -> int:
    written = 0
    with stream.open("wb") as file:
        for line in lines(log):
            file.write(msgspec.json.encode(line) + b"\n")
            written += 1
    return written


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(description="Convert an event log of tickets to commands.")
    parser.add_argument("log", type=Path, help="an XES file, .xes or .xes.gz")
    parser.add_argument("stream", type=Path, help="the NDJSON file to write")
    options = parser.parse_args()
    try:
        written = convert(options.log, options.stream)
    except (OSError, LogError) as error:
        sys.stderr.write(f"{options.log} was not converted: {error}\n")
        return 1
    sys.stdout.write(f"{written:,} commands written to {options.stream}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
