"""The document of the command line: it holds every verb, option and exit code."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from holdfast.cli.app import VERBS, app
from holdfast.cli.exits import MEANINGS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_shown_at_work_with_its_options(verb: str) -> None:
    """A reader meets each verb in a command that runs, and each option by its name."""
    command = app.get_command(click.Context(app), verb)
    assert command is not None
    assert f"holdfast {verb} " in DOCUMENT
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in DOCUMENT


def test_every_exit_code_is_explained() -> None:
    """The table is the one of the help."""
    for code, meaning in MEANINGS.items():
        assert f"| {code.value} | {meaning} |" in DOCUMENT
