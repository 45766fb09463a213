"""mypy and pyright find every mistake that is planted in the files of `typing`, and no other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "typing"
FILES = {
    "coroutines.py": 70,
    "flows.py": 42,
    "hooks.py": 18,
    "members.py": 20,
    "rows.py": 10,
    "sessions.py": 12,
    "usage.py": 90,
}
"""The files, and how many mistakes are planted in each at least."""
VERSIONS = ("3.11", "3.12", "3.13")
MYPY = ("mypy", "--strict", "--warn-unreachable", "--config-file=")

Places = dict[tuple[str, int], str]
"""What is said of lines of the files."""


def planted() -> set[tuple[str, int]]:
    """Return the lines that are marked as mistakes."""
    return {
        (name, number)
        for name in FILES
        for number, line in enumerate(lines_of(name), 1)
        if line.endswith("  # error")
    }


def lines_of(name: str) -> list[str]:
    return (FOLDER / name).read_text("utf-8").splitlines()


def told(found: Places, places: set[tuple[str, int]]) -> str:
    """Return what was said about some lines, with their text."""
    return "".join(
        f"\n{name}:{number}: {lines_of(name)[number - 1].strip()} {found.get((name, number), '')}"
        for name, number in sorted(places)
    )


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def found_by_mypy(version: str, folder: Path) -> Places:
    """Return mypy's errors."""
    options = (f"--python-version={version}", f"--cache-dir={folder}/cache")
    output = run(*MYPY, *options, *(str(FOLDER / name) for name in FILES), cwd=folder)
    errors: Places = {}
    for line in output.splitlines():
        match = re.match(r".*?(\w+\.py):(\d+): error: (.*)", line)
        if match:
            errors[match[1], int(match[2])] = match[3]
        else:
            assert ": note: " in line or line.startswith("Found "), line
    return errors


def found_by_pyright(version: str, folder: Path) -> Places:
    """Return pyright's errors; it checks copies, since the project leaves the files out."""
    for name in FILES:
        (folder / name).write_text((FOLDER / name).read_text("utf-8"), "utf-8")
    options = ("--outputjson", "--pythonpath", sys.executable, "--pythonversion", version)
    report = json.loads(run("pyright", *options, *FILES, cwd=folder))
    assert report["summary"]["filesAnalyzed"] == len(FILES)
    return {
        (Path(finding["file"]).name, finding["range"]["start"]["line"] + 1): finding["message"]
        for finding in report["generalDiagnostics"]
        if finding["severity"] == "error"
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("find", [found_by_mypy, found_by_pyright])
def test_a_type_checker_finds_the_planted_mistakes_and_no_others(
    find: Callable[[str, Path], Places], version: str, tmp_path: Path
) -> None:
    """The correct uses around them, and what they assert of their types, pass."""
    found = find(version, tmp_path)

    mistakes = planted()
    missed = mistakes - found.keys()
    wrong = found.keys() - mistakes
    assert not missed, f"these pass: {told(found, missed)}"
    assert not wrong, f"these do not: {told(found, wrong)}"


@pytest.mark.parametrize(("name", "at_least"), FILES.items())
def test_many_mistakes_are_planted(name: str, at_least: int) -> None:
    """As many as there were, at the least."""
    assert len([place for place in planted() if place[0] == name]) >= at_least


def test_the_versions_are_those_that_the_package_names() -> None:
    """All that the classifiers promise are checked."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert tuple(re.findall(r"Python :: (3\.\d+)", text)) == VERSIONS
