"""The help: it names every verb and exit code, and is there at once."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from tests.cli.conftest import Cli

from holdfast.cli.app import VERBS, app
from holdfast.cli.exits import MEANINGS, Exit


def test_the_help_names_every_verb_and_every_exit_code(cli: Cli) -> None:
    """A newcomer finds the verbs, and a script's author the exit codes."""
    done = cli("--help")
    assert done.code == 0
    for verb in VERBS:
        assert f"\n  {verb} " in done.out
    for code, meaning in MEANINGS.items():
        assert f"\n  {code.value} " in done.out
        assert meaning.split(":")[0] in done.out
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_that_tells_its_options(cli: Cli, verb: str) -> None:
    """Each option of a verb is explained."""
    done = cli(verb, "--help")
    assert done.code == 0
    command = app.get_command(click.Context(app), verb)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.opts[0] in done.out


def test_the_version_is_told(cli: Cli) -> None:
    """`--version` tells the name and the version of the package."""
    assert cli("--version").out == f"holdfast {version('holdfast')}\n"


def test_the_help_imports_no_verb() -> None:
    """What a verb needs is imported when it is called."""
    script = (
        "import sys; from holdfast.cli.app import app; app(['--help'], standalone_mode=False);"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = {name for name in done.stderr.split() if name.startswith(("holdfast.cli.", "rich"))}
    assert "holdfast.cli.app" in loaded
    assert loaded <= {"holdfast.cli.app", "holdfast.cli.exits", "holdfast.cli.text"}
    assert {"sqlite3", "asyncio"}.isdisjoint(done.stderr.split())


def test_a_verb_that_does_not_exist_is_refused(cli: Cli) -> None:
    """The exit code is that of a usage error."""
    done = cli("lst")
    assert done.code == Exit.USAGE
    assert "No such command 'lst'" in done.err


def test_the_command_is_installed() -> None:
    """The entry point of the package is there and runs."""
    script = Path(sys.executable).parent / "holdfast"
    done = subprocess.run([str(script), "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"holdfast {version('holdfast')}\n"
