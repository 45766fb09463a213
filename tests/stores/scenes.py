"""Plays a function of a test module in a process of its own, which it may fork, starve or kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def command(scene: Callable[..., None], *arguments: object) -> list[str]:
    """Return the command that calls a function of a module with arguments, as text."""
    module = Path(scene.__code__.co_filename).relative_to(ROOT).with_suffix("")
    call = f"from {'.'.join(module.parts)} import {scene.__name__} as play; play(*sys.argv[1:])"
    warnings = ["-W", "error", "-W", "ignore:This process"]  # is multi-threaded, and forks
    program = [sys.executable, *warnings, "-c", f"import sys; {call}"]
    return [*program, *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return the environment in which a scene finds its module."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}


def play(
    scene: Callable[..., None], *arguments: object, within: Sequence[str] = (), seconds: float = 60
) -> str:
    """Play a scene and return what it printed; what fails there fails here.

    `within` is a command that runs another, as `unshare` does.
    """
    done = subprocess.run(
        [*within, *command(scene, *arguments)],
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    return done.stdout
