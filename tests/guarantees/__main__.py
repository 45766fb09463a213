"""Takes the records of the last runs in, and makes `docs/guarantees.md` of what is on record."""

from __future__ import annotations

import sys

from tests.guarantees.document import document, violations
from tests.guarantees.promises import named_tests
from tests.guarantees.records import BUILT, KEPT, Line, Session, condensed, lines_of, read

PAGE = KEPT.with_suffix(".md")


def main() -> int:
    """Return 1 where there is nothing to take in, or where a promise was broken."""
    kept = read(KEPT) if KEPT.exists() else []
    taken: list[Line] = []
    for path in sorted(BUILT.glob("*.jsonl")):
        lines = read(path)
        if any(isinstance(line, Session) for line in lines):
            taken += condensed(lines, named_tests())
        else:
            print(f"{path} is of a run that did not come to its end: left out", file=sys.stderr)
    if not taken:
        print(f"{BUILT} has no records of a whole run: run make test, make soak", file=sys.stderr)
        return 1
    names = {line.name for line in taken if isinstance(line, Session)}
    lines = sorted([*_others(kept, names), *taken], key=_place)
    KEPT.write_text(lines_of(lines), "utf-8")
    PAGE.write_text(document(lines), "utf-8")
    broken = violations(lines)
    for test, times in broken.items():
        print(f"{test} failed {times} times: see what it told", file=sys.stderr)
    return 1 if broken else 0


def _others(kept: list[Line], names: set[str]) -> list[Line]:
    """Return what is on record of runs other than these."""
    return [line for line in kept if _session_of(line) not in names]


def _session_of(line: Line) -> str:
    return line.name if isinstance(line, Session) else getattr(line, "session", "")


def _place(line: Line) -> tuple[str, str]:
    """Return where a record stands among the others: sessions first."""
    return getattr(line, "test", ""), _session_of(line)


if __name__ == "__main__":
    sys.exit(main())
