"""What the command line shows of secret fields: `***`, in tables and in JSON."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.cli.conftest import Cli

SECRET = "4111-1111"
VAULT = """
from holdfast import Command, Machine, Service, State, field, open_store

class Open(State):
    owner: str
    card: str = field(secret=True)

class Store(Command):
    owner: str
    card: str = field(name="number", secret=True)

vault = Machine("vault", state=Open, command=Store)

@vault.on
def keep(state: Open | None, command: Store) -> Open:
    return Open(owner=command.owner, card=command.card)

vaults = Service(vault, open_store("sqlite:///vault.db"))
"""


@pytest.fixture(autouse=True)
def vault(shop: Path, cli: Cli) -> None:
    """One entity, whose state and command hold a secret."""
    (shop / "safe.py").write_text(VAULT, "utf-8")
    done = cli("send", "safe:vaults", "v-1", "Store", "owner=al", f"number={SECRET}", "--json")
    assert done.code == 0, done.err
    assert done.lines[0]["state"] == {"$type": "Open", "owner": "al", "card": "***"}


def test_the_secret_is_stored() -> None:
    """Masks are for showing."""
    connection = sqlite3.connect("vault.db")
    [[state]] = connection.execute("SELECT state FROM entity")
    connection.close()
    assert SECRET in state


@pytest.mark.parametrize("how", ["--json", "--table"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "safe:vaults"),
        ("show", "safe:vaults", "v-1"),
        ("history", "safe:vaults", "v-1"),
        ("send", "safe:vaults", "v-1", "Store", "owner=bo", f"number={SECRET}2"),
        ("send", "safe:vaults", "v-1", "Store", "owner=bo", f"number={SECRET}2", "--preview"),
    ],
)
def test_no_verb_shows_a_secret(cli: Cli, arguments: tuple[str, ...], how: str) -> None:
    """The rest of what is stored is shown."""
    done = cli(*arguments, how)

    assert done.code == 0, done.err
    assert SECRET not in done.out + done.err
    is_bare = arguments[0] == "list" and how == "--table"
    assert is_bare or "***" in done.out
    assert is_bare or "al" in done.out or "bo" in done.out


def test_history_in_json_masks_the_command_and_the_state(cli: Cli) -> None:
    """Under the names that are stored."""
    [entry] = cli("history", "safe:vaults", "v-1", "--json").lines

    assert entry["command"] == {"$type": "Store", "owner": "al", "number": "***"}
    assert entry["state"] == {"$type": "Open", "owner": "al", "card": "***"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([f'{{"$type":"Store","owner":"al","number":["{SECRET}"]}}'], "$.number"),
        ([f'{{"$type":"Store","owner":"al","number":"{SECRET}'], "not valid at $: "),
        ([f'{{"number":"{SECRET}"}}', f"number={SECRET}"], "no field may come after it"),
        ([f'["Store", "{SECRET}"]'], "no command that is written so"),
        ([f"number={SECRET}"], "no command that is written so"),
        (["Store", f"number:={SECRET}"], "number:= takes JSON ("),
        (["Store", f"number:={SECRET}\udcff"], "number is not valid Unicode"),
        (["Store", f"number={SECRET}\udcff"], "number is not valid Unicode"),
        (["Store", SECRET], "field 1 is not written as name=value"),
        (["Store", f"={SECRET}"], "field 1 is not written as name=value"),
        (["Store", f"number={SECRET}"], "missing required field `owner`"),
        (["Store", f"number={SECRET}", f"number={SECRET}"], "number is given twice"),
        (["Store", f"numbr={SECRET}"], "no field 'numbr' (did you mean number?)"),
        (["Store", "--metadata", SECRET], "--metadata 1 is not written as name=value"),
        (["Store", "--metadata", f"n:={SECRET}"], "n:= takes JSON ("),
    ],
)
def test_a_refused_secret_is_not_told(cli: Cli, given: list[str], said: str) -> None:
    """The message names the field, however it was written."""
    done = cli("send", "safe:vaults", "v-1", *given)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert SECRET not in done.err
    assert "4111" not in done.err


RENAMED = {
    "a class": VAULT.replace("Open", "Opened").replace("Store", "Keep"),
    "a field": VAULT.replace("card", "number_of_card").replace('"number"', '"digits"'),
}


@pytest.mark.parametrize("how", ["--json", "--table"])
@pytest.mark.parametrize("what", RENAMED)
def test_what_was_renamed_shows_no_value(cli: Cli, shop: Path, what: str, how: str) -> None:
    """Nobody knows any more which of them are secret."""
    (shop / "safe.py").write_text(RENAMED[what], "utf-8")
    for verb in ("list", "show", "history"):
        done = cli(verb, "safe:vaults", *(["v-1"] if verb != "list" else []), how)
        assert done.code == 0, done.err
        assert SECRET not in done.out + done.err
        assert '"al"' not in done.out
        assert "***" in done.out or (verb, how) == ("list", "--table")
    [entry] = cli("history", "safe:vaults", "v-1", "--json").lines
    assert entry["command"] == {"$type": "Store", "owner": "***", "number": "***"}
    assert entry["state"] == {"$type": "Open", "owner": "***", "card": "***"}


def test_an_error_about_what_was_renamed_tells_no_value(cli: Cli, shop: Path) -> None:
    """Though it cannot be read."""
    (shop / "safe.py").write_text(RENAMED["a class"], "utf-8")
    for options in ([], ["--preview"]):
        done = cli("send", "safe:vaults", "v-1", "Keep", "owner=bo", "number=5", *options)
        assert (done.code, done.out) == (4, "")
        assert SECRET not in done.err
