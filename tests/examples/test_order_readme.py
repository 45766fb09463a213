"""The order example's README runs as it stands, and shows the machine as it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from holdfast.examples.order import order

ROOT = Path(__file__).parents[2]
README = ROOT / "src" / "holdfast" / "examples" / "order" / "README.md"


def test_the_readme_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """Its blocks, pasted in order into an empty folder, work."""
    runner = ROOT / "tests" / "test_snippets.py"
    command = [sys.executable, "-W", "error", str(runner), str(README)]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_draws_the_machine() -> None:
    """The diagram is the one that the annotations declare."""
    drawn = re.search(r"```mermaid\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert drawn is not None
    assert drawn[1] == order.graph().mermaid()


def test_the_readme_names_every_module() -> None:
    """The table of files is complete."""
    modules = {path.name for path in README.parent.glob("*.py")} - {"__init__.py"}
    assert modules == set(re.findall(r"`(\w+\.py)`", README.read_text("utf-8")))
