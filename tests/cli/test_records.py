"""The verbs that look at entities, on what is stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Cli, request, write_stream

from holdfast.cli import records

Fill = Callable[..., None]


@pytest.fixture
def fill(shop: Path, cli: Cli) -> Fill:
    """Apply requests to the shop's store."""

    def apply(*requests: Any) -> None:
        done = cli("run", "shop:orders", write_stream(shop / "fill.ndjson", requests))
        assert done.code == 0, done.err + done.out

    return apply


def edit(statement: str) -> None:
    connection = sqlite3.connect("shop.db")
    with connection:
        connection.execute(statement)
    connection.close()


AT = "2024-02-29T13:00:00+01:00"


@pytest.fixture
def filled(fill: Fill) -> None:
    """Two orders placed, one of them paid, and one placed and cancelled."""
    fill(
        request("o-1", "Place", total=1, line_at=AT, line_metadata={"reason": "new", "by": "al"}),
        request("o-2", "Place", total=2, line_at=AT),
        request("o-3", "Place", total=3, line_at=AT),
        request("o-2", "Pay", card="4242", line_at=AT),
        request("o-3", "Cancel", reason="broke", line_at=AT),
    )


def test_a_list_has_live_entities_with_their_states(cli: Cli, filled: None) -> None:
    """In a pipe each is a line of JSON with the whole state."""
    first, second = cli("list", "shop:orders").lines
    assert first == {
        "machine": "order",
        "id": "o-1",
        "version": 1,
        "state_type": "Pending",
        "state": {"$type": "Pending", "total": 1},
        "created_at": "2024-02-29T12:00:00.000000Z",
        "updated_at": "2024-02-29T12:00:00.000000Z",
    }
    assert (second["id"], second["version"], second["state_type"]) == ("o-2", 2, "Paid")


def test_a_list_is_a_table_on_request(cli: Cli, filled: None) -> None:
    """People get columns."""
    assert cli("list", "shop:orders", "--table").out == (
        "id    state     version   updated\n"
        "──────────────────────────────────────────────\n"
        "o-1   Pending         1   2024-02-29 12:00:00Z\n"
        "o-2   Paid            2   2024-02-29 12:00:00Z\n"
    )


def test_a_list_is_narrowed_to_states(cli: Cli, filled: None) -> None:
    """One state, or several."""
    paid = cli("list", "shop:orders", "--state", "Paid").lines
    both = cli("list", "shop:orders", "--state", "Paid", "--state", "Pending").lines
    twice = cli("list", "shop:orders", "--state", "Paid", "--state", "Paid").lines
    assert twice == paid
    assert [line["id"] for line in paid] == ["o-2"]
    assert [line["id"] for line in both] == ["o-1", "o-2"]


def test_a_list_of_a_state_that_is_none_is_refused(cli: Cli, filled: None) -> None:
    """A typing mistake is no empty answer."""
    done = cli("list", "shop:orders", "--state", "Payd")
    assert (done.code, done.out) == (2, "")
    assert "Payd is no state of order; use Pending, Paid" in done.err


def test_a_list_tells_how_to_go_on(cli: Cli, fill: Fill) -> None:
    """What the limit leaves out is said on the standard error, and --after finds it."""
    fill(*(request(f"o {n}", "Place", total=n) for n in range(5)))
    first = cli("list", "shop:orders", "--limit", "2")
    assert [line["id"] for line in first.lines] == ["o 0", "o 1"]
    assert first.err == "There are more: --after 'o 1', or --all\n"
    second = cli("list", "shop:orders", "--limit", "3", "--after", "o 1")
    assert [line["id"] for line in second.lines] == ["o 2", "o 3", "o 4"]
    assert second.err == ""


@pytest.mark.parametrize("output", ["--json", "--table"])
def test_a_list_of_all_crosses_pages(cli: Cli, fill: Fill, output: str) -> None:
    """However many pages the store needs, each entity comes once and in order."""
    ids = [f"o-{n:04}" for n in range(2_100)]
    fill(*(request(id, "Place", total=1) for id in ids))
    done = cli("list", "shop:orders", "--all", output)
    shown = [line["id"] for line in done.lines] if output == "--json" else done.out.split()
    assert [id for id in shown if id.startswith("o-")] == ids
    assert done.err == ""


def test_an_entity_is_shown_with_what_it_takes(cli: Cli, filled: None) -> None:
    """In a pipe as one line of JSON."""
    [shown] = cli("show", "shop:orders", "o-1").lines
    assert shown["state"] == {"$type": "Pending", "total": 1}
    assert shown["allowed"] == ["Pay", "Cancel"]


def test_an_entity_is_shown_to_people(cli: Cli, filled: None) -> None:
    """Facts first, then the state."""
    assert cli("show", "shop:orders", "o-1", "--table").out == (
        "order    o-1\n"
        "state    Pending\n"
        "version  1\n"
        "created  2024-02-29 12:00:00Z\n"
        "updated  2024-02-29 12:00:00Z\n"
        "allowed  Pay, Cancel\n"
        "\n"
        "{\n"
        '  "$type": "Pending",\n'
        '  "total": 1\n'
        "}\n"
    )


@pytest.mark.parametrize(
    ("id", "code", "said"),
    [
        ("o-9", 3, "order 'o-9' does not exist"),
        ("o-3", 3, "order 'o-3' was deleted at version 2; its history is still there"),
        ("", 2, "the id is empty"),
        ("x" * 600, 2, "the limit is 512"),
    ],
)
def test_an_entity_that_is_not_there_is_said_to_be_so(
    cli: Cli, filled: None, id: str, code: int, said: str
) -> None:
    """With an exit code of its own."""
    done = cli("show", "shop:orders", id)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_a_state_of_other_code_is_shown_as_it_is_stored(cli: Cli, filled: None) -> None:
    """What this code cannot read can still be looked at."""
    edit("""UPDATE entity SET state_type = 'Sent', state = '{"$type":"Sent"}' WHERE id = 'o-1'""")
    [shown] = cli("show", "shop:orders", "o-1").lines
    assert (shown["state_type"], shown["state"], shown["allowed"]) == (
        "Sent", {"$type": "Sent"}, None
    )  # fmt: skip
    assert "allowed  (this code cannot read the state)" in (
        cli("show", "shop:orders", "o-1", "--table").out
    )
    assert cli("list", "shop:orders").lines[0]["state_type"] == "Sent"


def test_a_history_has_everything_recorded(cli: Cli, filled: None) -> None:
    """In a pipe each transition is a line of JSON."""
    first, second = cli("history", "shop:orders", "o-2").lines
    assert second["digest"] != first["digest"]
    assert second["token"] != first["token"]
    varying = {"digest", "token", "recorded_at", "key", "position"}
    assert {name: value for name, value in second.items() if name not in varying} == {
        "machine": "order",
        "id": "o-2",
        "version": 2,
        "kind": "command",
        "from_state": "Pending",
        "to_state": "Paid",
        "command_type": "Pay",
        "command": {"$type": "Pay", "card": "4242"},
        "state": {"$type": "Paid", "total": 2},
        "metadata": {},
        "at": "2024-02-29T12:00:00.000000Z",
    }


def test_a_history_is_a_table_for_people(cli: Cli, filled: None) -> None:
    """Who and why come first in the metadata."""
    table = cli("history", "shop:orders", "o-1", "--table", columns=120).out
    assert table.splitlines()[-1] == (
        '      1   2024-02-29 12:00:00Z   Place {"total":1}   (none) → Pending   by al, reason: new'
    )


def test_a_deleted_entity_has_a_history(cli: Cli, filled: None) -> None:
    """The last transition says that it was deleted."""
    table = cli("history", "shop:orders", "o-3", "--table", columns=120).out
    assert 'Cancel {"reason":"broke"}   Pending → (deleted)' in table


def test_a_purged_history_has_its_stubs(cli: Cli, shop: Path, filled: None) -> None:
    """What was erased is shown as erased."""
    (shop / "purge.py").write_text("import shop\nshop.orders.purge('o-2')\norders = shop.orders")
    table = cli("history", "purge:orders", "o-2", "--table", columns=120).out
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["1", "2", "3"]
    assert table.count("(purged)") == 2
    assert "(deletion)   Paid → (deleted)" in table
    assert [line["kind"] for line in cli("history", "shop:orders", "o-2").lines] == [
        "purged", "purged", "deletion"
    ]  # fmt: skip


def test_a_history_is_read_from_a_version_on(cli: Cli, fill: Fill) -> None:
    """--after and --limit cut it, and what is left out is said."""
    for total in (1, 2):
        fill(request("o", "Place", total=total), request("o", "Cancel", reason="no"))
    done = cli("history", "shop:orders", "o", "--after", "1", "--limit", "2")
    assert [line["version"] for line in done.lines] == [2, 3]
    assert done.err == "There are more: --after 3, or --all\n"
    assert cli("history", "shop:orders", "o", "--after", "4") == (0, "", "")
    assert len(cli("history", "shop:orders", "o", "--all").lines) == 4


def test_the_history_of_nothing_is_told_as_such(cli: Cli, filled: None) -> None:
    """An id that never was has the exit code of its own."""
    done = cli("history", "shop:orders", "o-9")
    assert (done.code, done.out, done.err) == (3, "", "Error: order 'o-9' does not exist\n")


def test_a_narrow_terminal_gets_facts_in_place_of_a_table(cli: Cli, filled: None) -> None:
    """Columns of two characters help nobody."""
    assert cli("history", "shop:orders", "o-1", "--table", columns=40).out == (
        "version   1\n"
        "at        2024-02-29 12:00:00Z\n"
        'command   Place {"total":1}\n'
        "states    (none) → Pending\n"
        "metadata  by al, reason: new\n"
        "\n"
    )


EVIL = "x\x1b[31m\x9b31m\u202e[bold]\u2028y"


@pytest.mark.parametrize("output", ["--json", "--table"])
@pytest.mark.parametrize("verb", ["list", "show", "history"])
def test_no_text_from_the_data_controls_the_terminal(
    cli: Cli, fill: Fill, verb: str, output: str
) -> None:
    """Escapes, marks that reorder text and markup come out as what they are."""
    fill(
        request(EVIL, "Place", total=1, line_metadata={"by": EVIL, EVIL: EVIL}),
        request(EVIL, "Cancel", reason=EVIL),
        request(EVIL, "Place", total=2),
    )
    done = cli(verb, "shop:orders", *([] if verb == "list" else [EVIL]), output, columns=400)
    assert done.code == 0
    assert {"\x1b", "\x9b", "\u202e", "\u2028"}.isdisjoint(done.out)
    assert "[bold]" in done.out
    if output == "--json":
        assert done.lines[0]["id"] == EVIL
    else:
        assert "x\\x1b[31m\\x9b31m\\u202e[bold]\\u2028y" in done.out or verb == "history"


def test_an_error_does_not_control_the_terminal_either(cli: Cli, filled: None) -> None:
    """Messages quote what was given."""
    assert cli("show", "shop:orders", EVIL).err.rstrip("\n").isprintable()


TOO_MANY = "this is more than any store holds, which is 9,223,372,036,854,775,807"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "shop:orders", "--after", "\udcff"], "the id '\\udcff' is not valid Unicode"),
        (["list", "shop:orders", "--after", "x" * 600], "takes 600 bytes; the limit is 512"),
        (
            ["list", "shop:orders", "--limit", "1" + "0" * 23],
            TOO_MANY,
        ),
        (["list", "shop:orders", "--limit", "0"], "0 is not in the range x>=1"),
        (["history", "shop:orders", "o-1", "--after", f"{2**63}"], TOO_MANY),
        (["history", "shop:orders", "o-1", "--after", "-1"], "-1 is not in the range x>=0"),
        (["history", "shop:orders", "o-1", "--limit", f"{2**63}"], TOO_MANY),
        (
            ["send", "shop:orders", "o-1", "Pay", "--expect", f"{2**63}"],
            TOO_MANY,
        ),
    ],
)
def test_what_no_store_can_hold_is_not_asked_for(
    cli: Cli, filled: None, arguments: list[str], said: str
) -> None:
    """It is a wrong argument, told before anything is read."""
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("number", [f"{2**63 - 1}", "1000000000000"])
def test_the_largest_numbers_are_numbers(cli: Cli, filled: None, number: str) -> None:
    """Nothing lies above them, and a limit may be as high as one likes."""
    assert cli("history", "shop:orders", "o-1", "--after", number).lines == []
    assert len(cli("history", "shop:orders", "o-1", "--limit", number).lines) == 1
    assert len(cli("list", "shop:orders", "--limit", number).lines) == 2
    conflict = cli("send", "shop:orders", "o-1", "Pay", "--expect", number)
    assert conflict.code == 5


def test_what_takes_several_pages_is_shown_whole(
    cli: Cli, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the pages of a store, and up to a limit within one of them."""
    fill(*[request("o-1", "Place", total=1), request("o-1", "Cancel", reason="x")] * 4)
    fill(*[request(f"p-{n}", "Place", total=n) for n in range(7)])
    monkeypatch.setattr(records, "MAX_PAGE", 3)
    shown = [line["version"] for line in cli("history", "shop:orders", "o-1", "--all").lines]
    assert shown == [1, 2, 3, 4, 5, 6, 7, 8]
    five = cli("history", "shop:orders", "o-1", "--after", "1", "--limit", "5")
    assert [line["version"] for line in five.lines] == [2, 3, 4, 5, 6]
    assert five.err == "There are more: --after 6, or --all\n"
    ids = [line["id"] for line in cli("list", "shop:orders", "--all").lines]
    assert ids == [f"p-{n}" for n in range(7)]
    assert len(cli("list", "shop:orders", "--limit", "5").lines) == 5
