"""mypy and pyright find every mistake that is planted in `typing/usage.py`, and no other."""

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
USAGE = ROOT / "tests" / "typing" / "usage.py"
MYPY = ("mypy", "--strict", "--warn-unreachable", "--config-file=", "--python-version=3.11")


def planted() -> set[int]:
    """Return the lines that are marked as mistakes."""
    lines = USAGE.read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("  # error")}


def told(found: dict[int, str], lines: set[int]) -> str:
    """Return what was said about some lines, with their text."""
    text = USAGE.read_text("utf-8").splitlines()
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


def found_by_mypy(folder: Path) -> dict[int, str]:
    """Return mypy's errors by line."""
    output = run(*MYPY, f"--cache-dir={folder}/cache", str(USAGE), cwd=folder)
    errors: dict[int, str] = {}
    for line in output.splitlines():
        match = re.match(r"(.*)usage\.py:(\d+): error: (.*)", line)
        if match:
            errors[int(match[2])] = match[3]
        else:
            assert ": note: " in line or line.startswith("Found "), line
    return errors


def found_by_pyright(folder: Path) -> dict[int, str]:
    """Return pyright's errors by line; it checks a copy, since the project leaves the file out."""
    (folder / "usage.py").write_text(USAGE.read_text("utf-8"), "utf-8")
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable, "usage.py", cwd=folder)
    report = json.loads(output)
    assert report["summary"]["filesAnalyzed"] == 1
    return {
        finding["range"]["start"]["line"] + 1: finding["message"]
        for finding in report["generalDiagnostics"]
        if finding["severity"] == "error"
    }


@pytest.mark.parametrize("find", [found_by_mypy, found_by_pyright])
def test_a_type_checker_finds_the_planted_mistakes_and_no_others(
    find: Callable[[Path], dict[int, str]], tmp_path: Path
) -> None:
    """The correct uses around them, and what they assert of their types, pass."""
    found = find(tmp_path)

    assert len(planted()) > 90
    missed = planted() - found.keys()
    wrong = found.keys() - planted()
    assert not missed, f"these pass: {told(found, missed)}"
    assert not wrong, f"these do not: {told(found, wrong)}"
