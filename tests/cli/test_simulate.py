"""`holdfast simulate`: runs under faults, and the story of one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Cli
from tests.simulation.bugs import BUGS
from tests.simulation.planting import planted
from tests.simulation.test_planted_bugs import first_violation

from holdfast.cli.exits import Exit
from holdfast.testing.simulation.setup import Setup

FORGETFUL = """
from holdfast import Command, Machine, State

class On(State):
    times: int

class Press(Command):
    pass

switch = Machine("switch", state=On, command=Press)
pressed = []

@switch.on
def press(state: On | None, command: Press) -> On:
    pressed.append(command)
    return On(len(pressed))
"""


def test_runs_are_counted(cli: Cli) -> None:
    """Without a TARGET the machines are generated."""
    done = cli("simulate", "--seeds", "30")
    assert done.code == Exit.DONE
    assert "30, no promise broken" in done.out
    [told] = cli("simulate", "--seeds", "30", "--json").lines
    assert (told["sound"], told["runs"]) == (True, 30)
    assert told["counts"]["transitions"] > 100


def test_a_seed_tells_its_story(cli: Cli) -> None:
    """Line by line; it is the same story each time."""
    done = cli("simulate", "--seed", "7", "--store", "memory://")
    assert done.code == Exit.DONE
    assert "    0  seed 7: generated" in done.out
    assert "No promise is broken." in done.out
    assert done == cli("simulate", "--seed", "7", "--store", "memory://")
    [told] = cli("simulate", "--seed", "7", "--store", "memory://", "--json").lines
    assert told["violations"] == []
    assert "\n".join(told["story"]) in done.out


def test_a_user_s_own_machine_is_simulated(cli: Cli, shop: Path) -> None:
    """The TARGET of the other verbs; the store of the service is not touched."""
    done = cli("simulate", "shop:orders", "--seeds", "20")
    assert (done.code, done.err) == (Exit.DONE, "")
    assert cli("simulate", "shop:order", "--seed", "1").code == Exit.DONE
    assert not (shop / "shop.db").exists()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_broken_promise_is_told_with_a_short_story(
    cli: Cli, shop: Path, options: list[str]
) -> None:
    """And how to see the whole of it."""
    (shop / "lamp.py").write_text(FORGETFUL, "utf-8")
    done = cli("simulate", "lamp:switch", "--seeds", "20", *options)
    assert done.code == Exit.FOUND
    assert "its command leads to" in done.out
    assert "VIOLATION" in done.out
    if not options:
        assert "The whole story: holdfast simulate lamp:switch --seed " in done.out


def test_more_violations_than_are_shown_are_counted(cli: Cli, shop: Path) -> None:
    """The list ends, in the story as well; the count does not, and JSON has all."""
    (shop / "lamp.py").write_text(FORGETFUL, "utf-8")
    seed, violations = next(
        (told["seed"], len(told["violations"]))
        for seed in map(str, range(200))
        for told in cli("simulate", "lamp:switch", "--seed", seed, "--json").lines
        if len(told["violations"]) > 20
    )
    story = cli("simulate", "lamp:switch", "--seed", str(seed)).out
    assert story.count("VIOLATION") == 20
    assert story.endswith(f"\nand {violations - 20} more\n")
    done = cli("simulate", "lamp:switch", "--from", str(seed), "--seeds", "1").out
    before, _, _ = done.partition("The shortest story")
    assert before.count("its command leads to") == 20
    assert f"\n  and {violations - 20} more\n" in before


def test_the_story_of_a_broken_promise_ends_with_1(cli: Cli) -> None:
    """So that a script can look for the first good commit."""
    with planted(*BUGS["no version check in memory"].changes):
        found = first_violation(Setup(stores=["memory://"]))
        assert found is not None
        done = cli("simulate", "--seed", str(found.seed), "--store", "memory://")
    assert done.code == Exit.FOUND
    assert "VIOLATION" in done.out
    assert "No promise is broken." not in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", "seven"], "'seven' is not a valid integer"),
        (["--seeds", "0"], "0 is not in the range"),
        (["--store", "postgresql://"], "is not one of"),
        (["holdfast.examples.order:order"], "order takes deps"),
        (["nowhere:machine"], "there is no module nowhere"),
    ],
)
def test_what_cannot_be_begun_is_told(cli: Cli, arguments: list[str], words: str) -> None:
    """With the exit code of a usage error."""
    done = cli("simulate", *arguments)
    assert done.code == Exit.USAGE
    assert words in done.err


def test_it_needs_no_pytest() -> None:
    """Who installs the package simulates; the tools of its tests are not there."""
    program = "import sys; sys.modules['pytest'] = None; from holdfast.cli import main; main()"
    command = [sys.executable, "-c", program, "simulate", "--seeds", "3"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (Exit.DONE, "")
