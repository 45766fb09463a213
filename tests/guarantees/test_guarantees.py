"""`docs/guarantees.md` claims what is on record, and names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.guarantees.document import document, violations
from tests.guarantees.promises import NOT_PROMISED, OVERALL, PROMISES, STORES, named_tests
from tests.guarantees.records import (
    KEPT,
    ROOT,
    Line,
    Ran,
    Session,
    Total,
    condensed,
    lines_of,
    read,
)

PAGE = KEPT.with_suffix(".md")
SESSION = Session("soak", "today", "c0ffee", "1.0", "3.11", "3.40", "Linux", 2, 1.0, 60)
NUMBER = re.compile(r"\d[\d,.]*\d|\d")
CODE = re.compile(r"`[^`]*`|\[[^]]*\]\([^)]*\)")


def test_the_page_is_what_the_records_make() -> None:
    """Given the records beside it; `make guarantees` makes it anew."""
    assert PAGE.read_text("utf-8") == document(read(KEPT))


def test_the_records_tell_of_no_violation() -> None:
    """A promise that was broken is mended before it is published."""
    assert violations(read(KEPT)) == {}
    assert "broken" not in PAGE.read_text("utf-8")


@pytest.mark.parametrize("test", named_tests())
def test_a_test_that_is_named_exists(test: str) -> None:
    """As a file, a class or a function of it, or a function that its class inherits."""
    file, *names = test.split("::")
    assert (ROOT / file).is_file()
    trees = [ast.parse((ROOT / file).read_text("utf-8"))]
    if len(names) == 2:
        suites = (ROOT / "src/holdfast/testing/conformance").glob("*.py")
        trees += [ast.parse(suite.read_text("utf-8")) for suite in suites]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    defined = {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert defined.issuperset(names)


def test_no_promise_holds_a_figure_of_its_own() -> None:
    """They come from records; so do those of the page, without which it has none."""
    texts = [promise.text for promise in PROMISES] + [*NOT_PROMISED]
    assert [text for text in texts if NUMBER.search(CODE.sub("", text))] == []
    page = document([])
    assert "yes" not in [cell.strip() for cell in page.split("|")]
    assert re.findall(r"[\d,]+ of [\d,]+|\| [\d,]+ \|", page) == []


def test_every_store_says_whether_it_promises_something() -> None:
    """A promise is shown on a store, or not made there, or something is said of it."""
    for promise in PROMISES:
        shown = [store for each in promise.shown for store in each.stores]
        told = [*dict.fromkeys(shown), *promise.not_on, *promise.remarks]
        assert sorted(told) == sorted(STORES), promise.title


def test_figures_of_the_runs_are_summed() -> None:
    """By the name, the class or the file of their test; what failed or did not run is told so."""
    soak, *_ = named_tests()
    lines: list[Line] = [
        Ran(f"{soak}[0]", "passed", 1.0, "18.1", {"kills": 1_000}),
        Ran(f"{soak}[1]", "passed", 1.0, "18.1", {"kills": 234, "acknowledged": 7}),
        Ran(f"{soak}_else[1]", "passed", 1.0, "18.1", {"kills": 5}),
        SESSION,
    ]
    session, total = condensed(lines, named_tests())
    assert session == SESSION
    assert isinstance(total, Total)
    assert (total.passed, total.seen) == (2, {"acknowledged": 7, "kills": 1_234})
    page = document([session, total])
    assert f"`{soak}` | 2 | processes killed: 1,234; commands acknowledged: 7" in page
    assert "18.1" in page
    lines += [Ran(f"{soak}[2]", "failed", 1.0), Ran(f"{soak}[3]", "skipped", 0, reason="no root")]
    page = document(condensed(lines, named_tests()))
    assert "**broken**" in page
    assert f"`{soak}` | 2, and 1 FAILED" in page
    assert f"`{soak}`: 1 of 4 did not run: no root." in page


def test_what_did_not_run_is_not_claimed() -> None:
    """Without records there is no promise that was shown."""
    page = document([SESSION])
    assert page.count("not shown") >= len(PROMISES)
    assert all(f"`{test}`: not part of these runs." in page for test in named_tests())
    assert not any(title in page for title, _, _ in OVERALL)


def test_a_promise_is_shown_by_every_test_that_is_named_for_it() -> None:
    """One that passed does not stand for another that failed, nor for one that did not run."""
    promise = PROMISES[0]
    first, *others = [each.test for each in promise.shown if STORES[0] in each.stores]

    def stance(*ran: Ran) -> str:
        page = document(condensed([*ran, SESSION], named_tests()))
        return next(line for line in page.splitlines() if f"[{promise.title}]" in line)

    passed = [Ran(test, "passed", 1.0) for test in others]
    tests = len(passed) + 1
    assert f"| yes, by {tests - 1} of {tests} tests |" in stance(*passed)
    skipped = Ran(first, "skipped", 0, reason="no root")
    assert f"| yes, by {tests - 1} of {tests} tests |" in stance(*passed, skipped)
    assert "| yes |" in stance(*passed, skipped, Ran(f"{first}[1]", "passed", 1.0))
    assert "| **broken** |" in stance(*passed, Ran(first, "failed", 1.0))
    assert "yes" not in stance(skipped)


def test_a_record_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    """As one is that was being written when the run was killed."""
    path = tmp_path / "soak.jsonl"
    ran = Ran("a", "passed", 1.0)
    path.write_text(lines_of([ran]) + lines_of([SESSION])[:20], "utf-8")
    assert read(path) == [ran]
