"""What handlers raise, whatever it is: told in a line, with the exit code that scripts rely on."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import PLAIN, SHOP, Cli, Done, request, spawn, write_stream

RAISING = SHOP.replace(
    "class Pay(Command):\n",
    """
class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no words")

class Beyond(BaseException):
    pass

class Refused(CommandRejectedError):
    def __str__(self):
        raise ValueError("no words")

class Own(holdfast.HoldfastError):
    pass

def cause(kind):
    import asyncio, sys, click
    match kind:
        case "sys.exit":
            sys.exit(0)
        case "click's Exit":
            raise click.exceptions.Exit(0)
        case "click's error":
            raise click.ClickException("no")
        case "cancelled":
            raise asyncio.CancelledError
        case "beyond":
            raise Beyond("it all")
        case "generator":
            raise GeneratorExit
        case "unspeakable":
            raise Unspeakable
        case "refused":
            raise Refused
        case "own":
            raise Own("of the shop")
        case "pipe":
            raise BrokenPipeError(32, "Broken pipe")
        case "not found":
            orders.get("nobody")
        case "conflict":
            orders.handle("o-2", Place(total=2), expected_version=7)
        case "other store":
            Service(order, open_store("sqlite:///missing.db?mode=ro")).get("o-1")
        case "unreadable":
            raise holdfast.DecodeError("what the customer is cannot be read")
        case "wrong type":
            return 42
        case "library":
            __import__("json").loads("")
        case "interrupt":
            raise KeyboardInterrupt
        case "hang":
            open("hanging", "w").close()
            __import__("time").sleep(60)

class Pay(Command):
""",
).replace(
    "    if command.card == ",
    "    if found := cause(command.card):\n        return found\n    if command.card == ",
)

AWAITED = """
awaited = holdfast.AsyncService(order, orders.store)

slow = Machine("order", state=Pending | Paid, command=Place | Pay | Cancel)
slow.on(place)

@slow.on
async def pay_slowly(state: Pending, command: Pay) -> Paid:
    return pay(state, command)

slowly = holdfast.AsyncService(slow, orders.store)
"""

TOLD = {
    "sys.exit": "SystemExit: 0 (at shop.py:",
    "click's Exit": "Exit: 0 (at shop.py:",
    "click's error": "ClickException: no (at shop.py:",
    "cancelled": "CancelledError (at shop.py:",
    "beyond": "Beyond: it all (at shop.py:",
    "generator": "GeneratorExit (at shop.py:",
    "unspeakable": "Unspeakable: (its text cannot be told: ValueError) (at shop.py:",
    "own": "Own: of the shop (at shop.py:",
    "pipe": "BrokenPipeError: [Errno 32] Broken pipe (at shop.py:",
    "not found": "NotFoundError: order 'nobody' does not exist (at shop.py:",
    "conflict": "VersionConflictError: order 'o-2' ",
    "other store": "StoreError: sqlite:///missing.db does not exist",
    "unreadable": "DecodeError: what the customer is cannot be read (at shop.py:",
    "library": "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (at shop.py:",
    "wrong type": "returned int, and its annotation says Paid; nothing was written",
}
PAST_THE_SERVICE = ("sys.exit", "cancelled", "beyond", "generator")
"""What no service catches: it is no Exception."""


@pytest.fixture
def placed(shop: Path, cli: Cli) -> Path:
    """A shop with an order, whose payment raises what the card says."""
    (shop / "shop.py").write_text(RAISING + AWAITED)
    assert cli("send", "shop:orders", "o-1", "Place", "total=1").code == 0
    return shop


def told(done: Done, code: int, said: str) -> None:
    assert (done.code, done.out) == (code, ""), done
    assert done.err.startswith("Error: ")
    assert done.err.count("\n") == 1, done.err
    assert said in done.err


@pytest.mark.parametrize("options", [[], ["--preview"]], ids=["send", "preview"])
@pytest.mark.parametrize("kind", TOLD)
def test_a_handler_that_fails_ends_a_send_with_its_code(
    cli: Cli, placed: Path, kind: str, options: list[str]
) -> None:
    """Its error is neither the command line's success nor a store's failure; nothing is written."""
    told(cli("send", "shop:orders", "o-1", "Pay", f"card={kind}", *options), 5, TOLD[kind])
    assert len(cli("history", "shop:orders", "o-1").lines) == 1


@pytest.mark.parametrize("target", ["shop:awaited", "shop:slowly"])
@pytest.mark.parametrize("kind", TOLD)
def test_a_handler_that_fails_in_an_event_loop_is_told_too(
    placed: Path, kind: str, target: str
) -> None:
    """In the loop, or in the thread of a service that awaits."""
    done = spawn(placed, "send", target, "o-1", "Pay", f"card={kind}")
    if target == "shop:slowly" and kind in PAST_THE_SERVICE:  # of the task, asyncio tells the rest
        assert (done.code, done.out) == (5, "")
        assert done.err.startswith("Error: ")
        return
    told(done, 5, TOLD[kind])


def test_a_refusal_without_words_is_a_refusal(cli: Cli, placed: Path) -> None:
    """In a call and in a line."""
    done = cli("send", "shop:orders", "o-1", "Pay", "card=refused")
    told(done, 1, "(its text cannot be told: ValueError)")
    name = write_stream(placed / "in.ndjson", [request("o-1", "Pay", card="refused")])
    done = cli("run", "shop:orders", name, "--rejected", "rejects")
    assert (done.code, done.lines[0]["rejected_by_error"]) == (1, {"Refused": 1})


def lines(kind: str) -> list[Any]:
    return [
        request("o-3", "Place", total=3),
        request("o-1", "Pay", card=kind),
        request("o-4", "Place", total=4),
    ]


@pytest.mark.parametrize("kind", TOLD)
def test_a_handler_that_fails_stops_a_run(cli: Cli, placed: Path, kind: str) -> None:
    """Nothing of the batch is applied, and that is what is said."""
    name = write_stream(placed / "in.ndjson", lines(kind))
    done = cli("run", "shop:orders", name)
    told(done, 5, TOLD[kind])
    assert "; 0 of 3 lines are done, run again to go on" in done.err
    assert done.err.endswith("with --reject-errors\n") == (kind not in PAST_THE_SERVICE)
    assert [line["id"] for line in cli("list", "shop:orders").lines] == ["o-1"]


@pytest.mark.parametrize("kind", [kind for kind in TOLD if kind not in PAST_THE_SERVICE])
def test_a_line_whose_handler_fails_can_be_passed(cli: Cli, placed: Path, kind: str) -> None:
    """Whatever its error is called: what a handler raises is the line's, not the store's."""
    name = write_stream(placed / "in.ndjson", lines(kind))
    done = cli("run", "shop:orders", name, "--reject-errors")
    assert (done.code, done.err) == (1, "")
    assert (done.lines[0]["applied"], done.lines[0]["rejected"]) == (2, 1)


@pytest.mark.parametrize("target", ["shop:orders", "shop:awaited", "shop:slowly"])
def test_an_interrupt_stays_one(placed: Path, target: str) -> None:
    """Wherever in a handler it strikes."""
    told(spawn(placed, "send", target, "o-1", "Pay", "card=interrupt"), 130, "Error: interrupted\n")
    assert [line["version"] for line in spawn(placed, "list", target).lines] == [1]


def test_an_interrupt_stops_a_run_as_one(placed: Path) -> None:
    """The batch is not applied."""
    name = write_stream(placed / "in.ndjson", lines("interrupt"))
    done = spawn(placed, "run", "shop:orders", name)
    told(done, 130, "interrupted; 0 of 3 lines are done, run again to go on")


def test_an_interrupt_waits_for_no_handler(placed: Path) -> None:
    """Though it hangs in a thread of the service; nothing is written."""
    send = [*PLAIN, "send", "shop:awaited", "o-1", "Pay", "card=hang"]
    with subprocess.Popen(send, cwd=placed, stdout=-1, stderr=-1, text=True) as process:
        while not (placed / "hanging").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    told(Done(process.returncode, out, err), 130, "Error: interrupted\n")
    assert [line["version"] for line in spawn(placed, "list", "shop:awaited").lines] == [1]


UNREADABLE = """UPDATE entity SET state = '{"$type":"Sent"}' WHERE id = 'o-1'"""


@pytest.mark.parametrize("target", ["shop:orders", "shop:awaited", "shop:slowly"])
def test_what_this_code_cannot_read_is_the_store_s(placed: Path, target: str) -> None:
    """Not the handler's, which was not begun."""
    connection = sqlite3.connect("shop.db")
    with connection:
        connection.execute(UNREADABLE)
    connection.close()
    done = spawn(placed, "send", target, "o-1", "Pay")
    told(done, 4, "the state of order 'o-1' at version 1 cannot be read")


def test_a_target_that_meets_what_it_cannot_read_ends_with_the_store_s_code(
    cli: Cli, placed: Path
) -> None:
    """As it does where a command meets it."""
    (placed / "shop.py").write_text(SHOP + "\ndef make():\n    orders.get('o-1')\n")
    connection = sqlite3.connect("shop.db")
    with connection:
        connection.execute(UNREADABLE)
    connection.close()
    told(cli("list", "shop:make"), 4, "the state of order 'o-1' at version 1 cannot be read")
