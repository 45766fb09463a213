"""The verbs that look at machines: the diagram, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Cli

MERMAID = """stateDiagram-v2
    Pending
    Paid
    [*] --> Pending : Place
    Pending --> Paid : Pay
    Pending --> [*] : Cancel
    Paid --> [*] : Cancel
"""


@pytest.fixture
def faulty(shop: Path) -> None:
    """A machine with a state that nothing leads to, and a command that no state takes."""
    path = shop / "shop.py"
    path.write_text(
        path.read_text("utf-8")
        + """
class Lost(State):
    pass

class Ignored(Command):
    pass

faulty = Machine("faulty", state=Pending | Lost, command=Place | Ignored)
faulty.on(place)
""",
        "utf-8",
    )


def test_a_graph_is_mermaid_wherever_it_goes(cli: Cli) -> None:
    """A pipe gets the same text as a terminal, to be put into a file."""
    assert cli("graph", "shop:orders") == (0, MERMAID, "")


def test_a_graph_is_json_on_request(cli: Cli) -> None:
    """Programs get states and edges."""
    [graph] = cli("graph", "shop:order", "--json").lines
    assert graph["states"] == ["Pending", "Paid"]
    assert graph["edges"][0] == {
        "source": None, "command": "Place", "target": "Pending", "handler": "place"
    }  # fmt: skip


def test_a_sound_machine_passes_with_its_pairs_listed(cli: Cli) -> None:
    """Pairs without a handler may be on purpose."""
    done = cli("check", "shop:orders", "--table")
    assert done.code == 0
    assert done.out.startswith("order                         sound\n")
    assert "pairs without a handler       5\n" in done.out
    assert "Paid      Place, Pay" in done.out
    assert "(none)    Pay, Cancel" in done.out


def test_a_check_is_one_json_line_in_a_pipe(cli: Cli) -> None:
    """Programs get the findings by kind."""
    [found] = cli("check", "shop:orders").lines
    assert found["sound"] is True
    assert found["unhandled"][0] == [None, "Pay"]


def test_mistakes_of_a_machine_are_told_by_the_exit_code(cli: Cli, faulty: None) -> None:
    """What can never be reached and what is never taken make a build fail."""
    done = cli("check", "shop:faulty", "--table")
    assert done.code == 1
    assert "faulty                        has mistakes\n" in done.out
    assert "states that nothing leads to  Lost\n" in done.out
    assert "commands that no state takes  Ignored\n" in done.out
    assert cli("check", "shop:faulty").lines[0]["unreachable"] == ["Lost"]
