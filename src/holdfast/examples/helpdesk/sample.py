"""Writes a made-up event log in the shape of the real one, where that is not at hand.

python -m holdfast.examples.helpdesk.sample tickets.xes.gz --tickets 300 --seed 1
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from gzip import GzipFile
from pathlib import Path
from random import Random

HEAD = """<?xml version="1.0" encoding="utf-8" ?>
<log xes.version="1849-2016" xes.features="nested-attributes" \
xmlns="http://www.xes-standard.org/">
"""
START = datetime(2010, 1, 13, 8, tzinfo=UTC)
DESK = "Value 5"
"""The account that closes what has been resolved for 15 days."""
CHOICES = {
    "seriousness": 1,
    "customer": 397,
    "product": 21,
    "responsible_section": 7,
    "seriousness_2": 4,
    "service_level": 4,
    "service_type": 4,
    "support_section": 7,
    "workgroup": 4,
}
"""How many values each attribute has."""

# What follows what, in parts of about a hundred. An empty name is the beginning, or the end.
FOLLOWS: dict[str, dict[str, float]] = {
    "": {"Assign seriousness": 95, "Insert ticket": 3, "Take in charge ticket": 2},
    "Insert ticket": {"Assign seriousness": 94, "Take in charge ticket": 3, "Wait": 3},
    "Assign seriousness": {
        "Take in charge ticket": 83,
        "Assign seriousness": 9,
        "Resolve ticket": 5,
        "Wait": 2,
        "Require upgrade": 0.5,
        "Create SW anomaly": 0.5,
    },
    "Take in charge ticket": {
        "Resolve ticket": 69,
        "Wait": 25,
        "Take in charge ticket": 2,
        "Require upgrade": 2,
        "Create SW anomaly": 1,
        "Schedule intervention": 1,
    },
    "Wait": {
        "Resolve ticket": 52,
        "Take in charge ticket": 38,
        "Wait": 8,
        "Require upgrade": 1,
        "": 1,
    },
    "Require upgrade": {"Resolve ticket": 70, "Require upgrade": 14, "Wait": 13, "": 3},
    "Create SW anomaly": {
        "Resolve ticket": 64,
        "Require upgrade": 17,
        "Resolve SW anomaly": 10,
        "Create SW anomaly": 9,
    },
    "Resolve SW anomaly": {"Resolve ticket": 50, "Require upgrade": 50},
    "Schedule intervention": {"Resolve ticket": 80, "Take in charge ticket": 20},
    "Resolve ticket": {"Closed": 91, "Resolve ticket": 5, "Take in charge ticket": 3.5, "": 0.5},
    "Closed": {"": 99.6, "Closed": 0.3, "Take in charge ticket": 0.1},
}

# Each of these was seen in the real log; a small sample drawn by chance would lack most of them.
RARE: tuple[tuple[str, ...], ...] = (
    ("Resolve ticket", "Closed"),
    ("Resolve ticket", "Take in charge ticket", "Resolve ticket", "Closed"),
    ("Wait", "Resolve ticket", "Closed"),
    ("Create SW anomaly", "Resolve SW anomaly", "Resolve ticket", "Closed"),
    ("Take in charge ticket", "Resolve SW anomaly", "Resolve ticket", "Closed"),
    (
        "Assign seriousness",
        "Create SW anomaly",
        "Create SW anomaly",
        "Resolve SW anomaly",
        "Resolve SW anomaly",
        "Require upgrade",
        "Resolve ticket",
        "Closed",
    ),
    (
        "Assign seriousness",
        "Take in charge ticket",
        "Create SW anomaly",
        "Resolve ticket",
        "RESOLVED",
        "INVALID",
        "Closed",
        "VERIFIED",
    ),
    (
        "Assign seriousness",
        "Create SW anomaly",
        "Require upgrade",
        "VERIFIED",
        "DUPLICATE",
        "Resolve ticket",
        "Closed",
    ),
    ("Assign seriousness", "Take in charge ticket", "Resolve ticket", "Closed", "Closed"),
    (
        "Assign seriousness",
        "Resolve ticket",
        "Closed",
        "Take in charge ticket",
        "Resolve ticket",
        "Closed",
    ),
    ("Assign seriousness", "Resolve ticket", "Assign seriousness", "Resolve ticket", "Closed"),
    ("Assign seriousness", "Resolve ticket", "Wait", "Resolve ticket", "Closed"),
    ("Take in charge ticket", "Schedule intervention", "Resolve ticket", "Closed"),
)


def write_sample(log: Path, *, tickets: int = 300, seed: int = 1) -> int:
    """Write a log of at least the rare tickets, compressed; return how many events it has."""
    random = Random(seed)
    written = 0
    with log.open("wb") as raw, GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        file.write(HEAD.encode())
        for number in range(1, max(tickets, len(RARE)) + 1):
            rare = number <= len(RARE)
            activities = RARE[number - 1] if rare else tuple(_walk(random))
            _write_ticket(file, f"Case {number}", activities, random)
            written += len(activities)
        file.write(b"</log>\n")
    return written


def _walk(random: Random) -> Iterator[str]:
    activity = ""
    while True:
        follows = FOLLOWS[activity]
        activity = random.choices(list(follows), list(follows.values()))[0]
        if not activity:
            return
        yield activity


def _write_ticket(file: GzipFile, id: str, activities: Sequence[str], random: Random) -> None:
    particulars = {name: f"Value {random.randint(1, n)}" for name, n in CHOICES.items()}
    time = START + timedelta(minutes=random.randrange(4 * 365 * 24 * 60))
    before = ""
    file.write(b"\t<trace>\n" + _attribute(2, "concept:name", id))
    for activity in activities:
        time += _pause(before, activity, random)
        resource = DESK if activity == "Closed" else f"Value {random.randint(1, 22)}"
        _write_event(file, activity, resource, time, particulars)
        before = activity
    file.write(b"\t</trace>\n")


def _write_event(
    file: GzipFile, activity: str, resource: str, time: datetime, particulars: dict[str, str]
) -> None:
    file.write(b"\t\t<event>\n")
    file.write(_attribute(3, "concept:name", activity))
    file.write(_attribute(3, "org:resource", resource))
    file.write(_attribute(3, "time:timestamp", time.isoformat(timespec="seconds"), kind="date"))
    for name, value in particulars.items():
        file.write(_attribute(3, name, value))
    file.write(b"\t\t</event>\n")


def _attribute(depth: int, name: str, value: str, *, kind: str = "string") -> bytes:
    return ("\t" * depth + f'<{kind} key="{name}" value="{value}" />\n').encode()


def _pause(before: str, activity: str, random: Random) -> timedelta:
    if before == "Resolve ticket" and activity == "Closed":
        return timedelta(days=15, seconds=random.randint(6, 20))
    if activity == before and random.random() < 0.4:
        return timedelta()
    return timedelta(seconds=int(random.expovariate(1 / 100_000)))


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(description="Write a made-up event log of tickets.")
    parser.add_argument("log", type=Path, help="the .xes.gz file to write")
    parser.add_argument("--tickets", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        events = write_sample(options.log, tickets=options.tickets, seed=options.seed)
    except OSError as error:
        sys.stderr.write(f"{options.log} was not written: {error}\n")
        return 1
    sys.stdout.write(f"{events:,} events written to {options.log}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
