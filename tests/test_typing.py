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
MYPY = ("mypy", "--strict", "--warn-unreachable", "--config-file=", "--python-version=3.11")


def planted(usage: Path) -> set[int]:
    """Return the lines that are marked as mistakes."""
    lines = usage.read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("  # error")}


def told(usage: Path, found: dict[int, str], lines: set[int]) -> str:
    """Return what was said about some lines, with their text."""
    text = usage.read_text("utf-8").splitlines()
    return "".join(
        f"\n{line}: {text[line - 1].strip()} {found.get(line, '')}" for line in sorted(lines)
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


def found_by_mypy(usage: Path, folder: Path) -> dict[int, str]:
    """Return mypy's errors by line."""
    output = run(*MYPY, f"--cache-dir={folder}/cache", str(usage), cwd=folder)
    errors: dict[int, str] = {}
    for line in output.splitlines():
        match = re.match(rf"(.*){usage.name}:(\d+): error: (.*)", line)
        if match:
            errors[int(match[2])] = match[3]
        else:
            assert ": note: " in line or line.startswith("Found "), line
    return errors


def found_by_pyright(usage: Path, folder: Path) -> dict[int, str]:
    """Return pyright's errors by line; it checks a copy, since the project leaves the file out."""
    (folder / usage.name).write_text(usage.read_text("utf-8"), "utf-8")
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable, usage.name, cwd=folder)
    report = json.loads(output)
    assert report["summary"]["filesAnalyzed"] == 1
    return {
        finding["range"]["start"]["line"] + 1: finding["message"]
        for finding in report["generalDiagnostics"]
        if finding["severity"] == "error"
    }


@pytest.mark.parametrize(("name", "at_least"), [("usage.py", 90), ("members.py", 20)])
@pytest.mark.parametrize("find", [found_by_mypy, found_by_pyright])
def test_a_type_checker_finds_the_planted_mistakes_and_no_others(
    find: Callable[[Path, Path], dict[int, str]], name: str, at_least: int, tmp_path: Path
) -> None:
    """The correct uses around them, and what they assert of their types, pass."""
    usage = FOLDER / name
    found = find(usage, tmp_path)

    mistakes = planted(usage)
    assert len(mistakes) >= at_least
    missed = mistakes - found.keys()
    wrong = found.keys() - mistakes
    assert not missed, f"these pass: {told(usage, found, missed)}"
    assert not wrong, f"these do not: {told(usage, found, wrong)}"
