"""What runs of tests leave behind: a line for each test that ran, and what it saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "records"
KEPT = ROOT / "docs" / "guarantees.jsonl"


class Session(msgspec.Struct, tag="session"):
    """A run of tests, and by what it was run."""

    name: str
    began: str
    commit: str
    holdfast: str
    python: str
    sqlite: str
    system: str
    cores: int
    scale: float
    seconds: int = 0
    interrupted: bool = False


class Ran(msgspec.Struct, tag="ran"):
    """A test that ran, or did not."""

    test: str
    outcome: str
    seconds: float
    postgres: str | None = None
    seen: dict[str, int] = {}
    reason: str = ""


class Total(msgspec.Struct, tag="total"):
    """What all runs of a test came to, in one session."""

    test: str
    session: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    postgres: list[str] = []
    seen: dict[str, int] = {}
    reasons: list[str] = []


Line = Session | Ran | Total
_DECODER = msgspec.json.Decoder(Line)


def lines_of(lines: Iterable[Line]) -> str:
    """Return records as text, a line for each."""
    return "".join(f"{msgspec.json.encode(line).decode()}\n" for line in lines)


def read(path: Path) -> list[Line]:
    """Return the records of a file; a line that was cut short is none."""
    text, _, _ = path.read_text("utf-8").rpartition("\n")
    return [_DECODER.decode(line) for line in text.splitlines()]


def condensed(lines: Sequence[Line], tests: Sequence[str]) -> list[Line]:
    """Return one session's records by test: its name, its class or its file, as they are asked."""
    *_, session = [line for line in lines if isinstance(line, Session)]
    totals: dict[str, Total] = {}
    for ran in lines:
        if isinstance(ran, Ran):
            for test in tests:
                if covers(test, ran.test):
                    total = totals.setdefault(test, Total(test, session.name))
                    _add(total, ran)
    return [session, *(_settled(totals[test]) for test in tests if test in totals)]


def covers(test: str, ran: str) -> bool:
    """Whether a name is that of a test that ran, or of what holds it."""
    return ran == test or ran.startswith((f"{test}[", f"{test}::"))


def _add(total: Total, ran: Ran) -> None:
    setattr(total, ran.outcome, getattr(total, ran.outcome) + 1)
    total.seconds += ran.seconds
    total.seen = Counter(total.seen) + Counter(ran.seen)
    if ran.reason and ran.reason not in total.reasons:
        total.reasons = sorted([*total.reasons, ran.reason])
    if ran.postgres and ran.postgres not in total.postgres:
        total.postgres = sorted([*total.postgres, ran.postgres])


def _settled(total: Total) -> Total:
    total.seconds = round(total.seconds, 1)
    total.seen = dict(sorted(total.seen.items()))
    return total
