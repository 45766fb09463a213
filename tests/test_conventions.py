"""The rules of CONTRIBUTING.md that a test can hold."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IGNORED = re.compile(r"# *(noqa|type: *ignore|pyright: *ignore)")
CODE = r"(noqa: [A-Z]+\d+(, [A-Z]+\d+)*|(type|pyright): ignore\[[\w-]+(, [\w-]+)*\])"
NAMED = re.compile(rf"# {CODE}( +(# )?\(\w.*\))?")
REASONED = re.compile(r".* \(\w.*\)")


def comments(path: Path) -> Iterator[str]:
    """The comments of a file that ignore a check."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT and IGNORED.search(token.string):
                yield token.string


def unsound(comment: str, *, reason: bool) -> bool:
    """Whether a comment ignores more than it names, or says no reason where it should."""
    parts = re.split(r"  (?=# (?:noqa|type:|pyright:))", comment)
    named = all(NAMED.fullmatch(part) for part in parts)
    return not named or (reason and not REASONED.fullmatch(comment))


@pytest.mark.parametrize("folder", ["benchmarks", "src", "tests"])
def test_an_ignored_check_names_its_code_and_in_the_package_its_reason(folder: str) -> None:
    """So that it ignores nothing else, and can go when its reason has gone."""
    paths = [path for path in (ROOT / folder).rglob("*.py") if "typing" not in path.parts]
    found = [(path.name, comment) for path in paths for comment in comments(path)]
    assert len(found) > 5
    assert [one for one in found if unsound(one[1], reason=folder == "src")] == []


@pytest.mark.parametrize(
    ("comment", "named", "reasoned"),
    [
        ("# noqa", False, False),
        ("# type: ignore", False, False),
        ("# noqa: S307", True, False),
        ("# noqa: S307, BLE001 (annotations are code)", True, True),
        ("# noqa: S307 because", False, False),
        ("# type: ignore[misc]  # (a default)", True, True),
        ("# type: ignore[misc]  # pyright: ignore[reportX]", True, False),
        ("# type: ignore[misc]  # pyright: ignore[reportX] (planted)", True, True),
        ("# type: ignore  # pyright: ignore[reportX] (planted)", False, False),
    ],
)
def test_what_ignores_too_much_is_found(comment: str, named: bool, reasoned: bool) -> None:
    """Whoever it is for."""
    assert unsound(comment, reason=False) is not named
    assert unsound(comment, reason=True) is not reasoned


def test_no_module_is_named_for_what_it_might_hold() -> None:
    """A name tells what lives there."""
    names = {path.stem for path in (ROOT / "src").rglob("*.py")}
    assert names.isdisjoint({"common", "helper", "helpers", "manager", "misc", "util", "utils"})
