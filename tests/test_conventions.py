"""The rules of CONTRIBUTING.md that a test can hold."""

from __future__ import annotations

import os
import re
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IGNORED = re.compile(r"# *(noqa|type: *ignore|pyright: *ignore)")
CODE = r"(noqa: [A-Z]+\d+(, [A-Z]+\d+)*|(type|pyright): ignore\[[\w-]+(, [\w-]+)*\])"
NAMED = re.compile(rf"# {CODE}( +(# )?\(\S.*\))?")
REASONED = re.compile(r".* \(\S.*\)")


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


def test_a_checkout_between_releases_says_so() -> None:
    """While there is something unreleased, the version is that of no release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    unreleased = "## [Unreleased]" in changelog
    assert project["version"].endswith(".dev0") == unreleased
    heads = re.findall(r"^## .*$", changelog, re.MULTILINE)[unreleased:]
    assert heads
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head) for head in heads)


@pytest.mark.parametrize("goals", [["demo"], ["test"], ["lint", "types"]])
def test_a_checkout_that_was_moved_says_what_to_do(tmp_path: Path, goals: list[str]) -> None:
    """Its environment belongs to another place; only cleaning and help go without one."""
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "ready").write_text("/elsewhere\n")
    done = make(tmp_path, *goals)
    assert done.returncode == 2
    assert "moved or copied from /elsewhere, where its .venv belongs: run make clean" in done.stderr
    assert "make demo" in make(tmp_path, "help").stdout
    assert make(tmp_path, "clean").returncode == 0
    assert not (tmp_path / ".venv").exists()


def make(folder: Path, *goals: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", *goals], cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
