"""The help desk example's README runs as it stands, and names what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "src" / "holdfast" / "examples" / "helpdesk" / "README.md"


def test_the_readme_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """Its commands, pasted in order into an empty folder, print what it shows."""
    runner = ROOT / "tests" / "test_snippets.py"
    command = [sys.executable, "-W", "error", str(runner), str(README)]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tickets.db").exists()


def test_the_readme_names_every_module() -> None:
    """The table of files is complete."""
    modules = {path.name for path in README.parent.glob("*.py")} - {"__init__.py"}
    assert modules == set(re.findall(r"`(\w+\.py)`", README.read_text("utf-8")))
