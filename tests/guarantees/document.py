"""Makes `docs/guarantees.md` of the promises and the records of runs, and of nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from textwrap import fill

from tests.crash.supervisor import PROGRESS_SECONDS
from tests.guarantees.promises import (
    BUGS,
    LOSES,
    NAMES,
    NOT_PROMISED,
    OVERALL,
    PROMISES,
    STORES,
    Promise,
    Shown,
    named_tests,
)
from tests.guarantees.records import Line, Session, Total

HEAD = """# Guarantees

What Holdfast promises, where, and what shows it. This page is made from the records of runs, which
are in [guarantees.jsonl](guarantees.jsonl): every figure was counted in one of them, and a test
that did not run is said to be such. `make test` and `make soak` leave new records, and
`make guarantees` makes this page of them.

A test named here is part of the source. `make test` runs all of the short ones; those of the soak
take about an hour and a half on two cores with `make soak`, and `make soak SCALE=10` runs ten times
as many.
"""
LEGEND = """*Yes* is promised, and every test that is named for it there ran and passed; *yes, by*
some tests *of* more says that the others did not run, as [What did not run](#what-did-not-run)
lists; *no* is not promised; *as SQLite* rests on the same code and statements, and was not tried
with that setting by itself.
"""
HOW = """## How it is tried

- *Simulation* (`holdfast.testing.simulate`): the service's own code runs on the store in memory and
  on SQLite, and a seed draws who goes on next, who crashes, whose answer is lost, who gives up.
  After each run the log, the entities and all answers are held against each other.
- *Crash harness* (`tests/crash`): worker processes with threads and coroutines write to one store,
  and write down what they ask and what they are told. They are killed, stopped, locked out and cut
  off, and the store comes to grief as well. Then the store is held against all that was written
  down: each acknowledged command once and at the version told, nothing that nobody asked for,
  digests, sums over atomic batches, and linearizability of every entity.
- *Conformance* (`holdfast.testing.StoreConformance`): one suite that every store passes.
"""


def document(lines: Sequence[Line]) -> str:
    """Return the page."""
    totals = _merged(lines)
    sessions = [line for line in lines if isinstance(line, Session)]
    parts = [
        HEAD,
        "## At a glance\n",
        LEGEND,
        *_glance(totals),
        "",
        *_overall(totals),
        "",
        HOW,
        "## Promise by promise\n",
        *(text for promise in PROMISES for text in _promise(promise, totals)),
        "## That the tests can fail\n",
        *_bugs(totals),
        "",
        "## What is not promised\n",
        *_not_promised(totals),
        "",
        "## By what, and when\n",
        *_sessions(sessions, lines),
        "",
        "## What did not run\n",
        *_missing(totals),
    ]
    return "\n".join(parts) + "\n"


def _merged(lines: Sequence[Line]) -> dict[str, Total]:
    """Return what a test came to in all runs together."""
    totals: dict[str, Total] = {}
    for line in lines:
        if isinstance(line, Total):
            totals[line.test] = _sum(totals[line.test], line) if line.test in totals else line
    return totals


def _sum(one: Total, other: Total) -> Total:
    return Total(
        test=one.test,
        session=one.session,
        passed=one.passed + other.passed,
        failed=one.failed + other.failed,
        skipped=one.skipped + other.skipped,
        seen=Counter(one.seen) + Counter(other.seen),
        reasons=sorted({*one.reasons, *other.reasons}),
    )


def _glance(totals: dict[str, Total]) -> Iterator[str]:
    yield from _head(["", *STORES])
    for promise in PROMISES:
        link = f"[{promise.title}](#{_anchor(promise.title)})"
        yield _row([link, *(_stance(promise, store, totals) for store in STORES)])


def _stance(promise: Promise, store: str, totals: dict[str, Total]) -> str:
    """Return whether a store promises it, and whether that was shown."""
    if store in promise.not_on:
        return "no"
    if store in promise.remarks:
        return promise.remarks[store]
    tests = [each.test for each in promise.shown if store in each.stores]
    ran = [totals[test] for test in tests if test in totals and _ran(totals[test])]
    if any(total.failed for total in ran):
        return "**broken**"
    if not ran:
        return "not shown"
    return "yes" if len(ran) == len(tests) else f"yes, by {len(ran)} of {len(tests)} tests"


def _ran(total: Total) -> bool:
    return bool(total.passed or total.failed)


def _overall(totals: dict[str, Total]) -> Iterator[str]:
    yield from _head(["over all runs on record", "counted"])
    named = {each.test for promise in PROMISES for each in promise.shown}
    for title, names, files in OVERALL:
        of_it = [total for test, total in totals.items() if test in named and _in(test, files)]
        if any(map(_ran, of_it)):
            count = sum(total.seen.get(name, 0) for total in of_it for name in names)
            yield _row([title, f"{count:,}"])


def _in(test: str, files: Sequence[str]) -> bool:
    return any(test.startswith(file) for file in files)


def _promise(promise: Promise, totals: dict[str, Total]) -> Iterator[str]:
    yield f"### {promise.title}\n"
    yield _wrapped(promise.text.format(progress=f"{PROGRESS_SECONDS:.0f}")) + "\n"
    if promise.not_on:
        yield f"Not promised: {'; '.join(promise.not_on)}.\n"
    yield from _head(["on", "shown by", "runs that passed", "which saw"])
    for shown in promise.shown:
        yield _shown(shown, totals.get(shown.test))
    yield ""


def _shown(shown: Shown, total: Total | None) -> str:
    if total is None or not _ran(total):
        return _row([", ".join(shown.stores), f"`{shown.test}`", "did not run", ""])
    runs = f"{total.passed:,}" + (f", and {total.failed:,} FAILED" if total.failed else "")
    seen = [f"{NAMES.get(name, name)}: {total.seen[name]:,}" for name in _seen(shown, total)]
    return _row([", ".join(shown.stores), f"`{shown.test}`", runs, "; ".join(seen)])


def _seen(shown: Shown, total: Total) -> list[str]:
    return [name for name in shown.figures if total.seen.get(name)]


def _bugs(totals: dict[str, Total]) -> Iterator[str]:
    yield "Bugs are planted in the code, each of which breaks a promise, and must be found.\n"
    yield from _head(["planted", "by", "found"])
    for test, where in BUGS.items():
        total = totals.get(test)
        of_all = "did not run"
        if total is not None and _ran(total):
            of_all = f"{total.passed:,} of {total.passed + total.failed:,}"
        yield _row([where, f"`{test}`", of_all])


def _not_promised(totals: dict[str, Total]) -> Iterator[str]:
    for text in NOT_PROMISED:
        did_not_run = LOSES in text and not (LOSES in totals and totals[LOSES].passed)
        yield _wrapped(f"- {text}" + (" It did not run." if did_not_run else ""), "  ")


def _sessions(sessions: Sequence[Session], lines: Sequence[Line]) -> Iterator[str]:
    names = ["run", "began", "took", "Holdfast", "Python", "SQLite", "PostgreSQL", "on", "scale"]
    yield from _head(names)
    for session in sessions:
        totals = [line for line in lines if isinstance(line, Total)]
        of_it = [total.postgres for total in totals if total.session == session.name]
        servers = sorted({server for each in of_it for server in each}, key=_numbers)
        yield _row(
            [
                f"`make {session.name}`",
                session.began,
                f"{session.seconds / 60:.0f} min" + ", interrupted" * session.interrupted,
                f"{session.holdfast}, {session.commit}",
                session.python,
                session.sqlite,
                ", ".join(servers) or "none",
                f"{session.system}, {session.cores} cores",
                f"{session.scale:g}",
            ]
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _missing(totals: dict[str, Total]) -> Iterator[str]:
    """Tell of the tests named above that did not run at all, and of those that did in part."""
    found = False
    for test in named_tests():
        total = totals.get(test)
        if total is None:
            found = True
            yield f"- `{test}`: not part of these runs."
        elif total.skipped:
            found = True
            why = "; ".join(total.reasons)
            yield f"- `{test}`: {total.skipped:,} of {_all(total):,} did not run: {why}."
    if not found:
        yield "Every test that is named above ran."


def _all(total: Total) -> int:
    return total.passed + total.failed + total.skipped


def violations(lines: Sequence[Line]) -> Counter[str]:
    """Return the tests that failed, each with how often."""
    return Counter({x.test: x.failed for x in lines if isinstance(x, Total) and x.failed})


def _wrapped(text: str, indent: str = "") -> str:
    return fill(text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _anchor(title: str) -> str:
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -")
    return kept.replace(" ", "-")


def _head(names: Sequence[str]) -> Iterator[str]:
    yield _row(names)
    yield "|" + "---|" * len(names)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
