"""The verb `send`: commands as people write them, what is refused and why, previews, outputs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from tests.cli.conftest import PLAIN, SHOP, Cli, spawn

from holdfast.cli.fields import fields_of

MANY = """
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

from holdfast import AsyncService, Command, Machine, Meta, Service, State, field, open_store

class Size(Enum):
    SMALL = "s"
    LARGE = "l"

class Part(Command):
    name: str

class Kept(State):
    command: "Keep"

class Keep(Command):
    text: str = ""
    perhaps: str | None = "unset"
    count: Annotated[int, Meta(ge=0)] = 0
    ratio: float = 0.0
    sure: bool = False
    tags: list[str] = []
    at: datetime | None = None
    size: Size = Size.SMALL
    kind: Literal["a", "b"] = "a"
    part: Part | None = None
    other: int | str = 0
    renamed: str = field(default="", name="called")

class Need(Command):
    total: Annotated[int, Meta(gt=0)]
    note: str = ""

machine = Machine("kept", state=Kept, command=Keep | Need)

@machine.on
def keep(state: None, command: Keep) -> Kept:
    return Kept(command=command)

kept = Service(machine, open_store("sqlite:///kept.db"))
awaited = AsyncService(machine, open_store("sqlite:///kept.db"))

slow = Machine("slow", state=Kept, command=Keep)

@slow.on
async def keep_slowly(state: None, command: Keep) -> Kept:
    import asyncio
    await asyncio.sleep(0)
    if command.text == "fail":
        raise ConnectionError("no line")
    return Kept(command=command)

slowly = AsyncService(slow, open_store("sqlite:///kept.db"))
"""


FOREIGN = """
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import attrs
from pydantic import BaseModel, Field, PositiveInt, SecretStr

from holdfast import Machine, Service, State, open_store

@attrs.frozen
class Attrs:
    _x: int
    named: str = attrs.field(default="", alias="called")

class Model(BaseModel, frozen=True):
    total: int = Field(alias="sum")
    note: str = Field(default="", max_length=5)
    pin: SecretStr = SecretStr("")
    hosts: list[IPv4Address] = []
    few: PositiveInt = 1

@dataclass(frozen=True)
class Data:
    pair: tuple[str, int] = ("", 0)
    names: tuple[str, ...] = ()
    free: Any = None

class Kept(State):
    command: str

machine = Machine("foreign", state=Kept, command=Attrs | Model | Data)

@machine.on
def keep(state: None, command: Attrs | Model | Data) -> Kept:
    if isinstance(command, Model):
        return Kept(command=f"{command!r} pin {command.pin.get_secret_value()}")
    return Kept(command=repr(command))

foreign = Service(machine, open_store("sqlite:///foreign.db"))
"""


@pytest.fixture
def foreign(shop: Path) -> None:
    """A module `foreign` with a service whose commands are of other kinds."""
    (shop / "foreign.py").write_text(FOREIGN, "utf-8")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["Attrs", "_x=5"], "Attrs(_x=5, named='')"),
        (["Attrs", "_x=5", "named=7"], "Attrs(_x=5, named='7')"),
        (["Model", "sum=5"], "Model(total=5, note='', pin="),
        (["Model", "sum=5", "note=42", "few=3"], "note='42'"),
        (["Model", "sum=5", "pin=4711"], "pin 4711"),
        (["Model", "sum=5", 'hosts=["10.0.0.1"]', "pin=[]"], "[IPv4Address('10.0.0.1')]"),
        (["Data", 'pair=["a", 1]', 'names=["b"]'], "Data(pair=('a', 1), names=('b',), free=None)"),
        (["Data", "free=5"], "free='5'"),
        (["Data", "free:=5"], "free=5"),
    ],
)
def test_commands_of_other_kinds_are_written_alike(
    cli: Cli, foreign: None, given: Sequence[str], kept: str
) -> None:
    """By the names that are stored, each value as its field takes it."""
    done = cli("send", "foreign:foreign", "k", *given)
    assert done.code == 0, done.err
    assert kept in done.lines[0]["state"]["command"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["Attrs"], "missing required field `_x`; Attrs takes _x: int, named: str (optional)"),
        (["Attrs", "x=5"], "Attrs has no field 'x'"),
        (["Attrs", "_x=many"], "not valid at $._x: Expected `int`, got `str`"),
        (["Model", "total=5"], "Model has no field 'total'"),
        (
            ["Model", "sum=many"],
            "not valid at $.sum: Expected `int`, got `str`; Model takes sum: in",
        ),
        (["Model", "sum=1", "note=toolong"], "at $.note: String should have at most 5 characters"),
        (["Model", "sum=1", "note=123456"], "at $.note: String should have at most 5 characters"),
        (["Model", "sum=1", "few=0"], "at $.few: Input should be greater than 0"),
        (["Model", "sum=1", "pin=4711", "hosts=1"], "at $.hosts: Input should be a valid list"),
        (["Model"], "pin: SecretStr (optional), hosts: list[IPv4Address] (optional)"),
        (["Data", "pair=[1]"], "names: tuple[str, ...] (optional), free: Any (optional)"),
    ],
)
def test_what_another_kind_does_not_take_is_told_alike(
    cli: Cli, foreign: None, given: Sequence[str], message: str
) -> None:
    """With the names to be used, and the types that were declared."""
    done = cli("send", "foreign:foreign", "k", *given)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "4711" not in done.err


@pytest.fixture
def many(shop: Path) -> Path:
    """A module `many` with services whose commands have fields of many types."""
    (shop / "many.py").write_text(MANY, "utf-8")
    (shop / "noisy.py").write_text("import sys; print(1, file=sys.stderr); print(2)\n" + MANY)
    return shop


def history(cli: Cli, id: str = "o-1") -> list[Any]:
    return cli("history", "shop:orders", id).lines


def test_a_command_is_applied(cli: Cli) -> None:
    """In a pipe the entity is a line of JSON, as it is afterwards, with what it takes next."""
    done = cli("send", "shop:orders", "o-1", "Place", "total=4200")
    assert (done.code, done.err) == (0, "")
    [line] = done.lines
    shown = cli("show", "shop:orders", "o-1").lines[0]
    assert line == {**shown, "deleted": False}
    assert line["state"] == {"$type": "Pending", "total": 4200}
    assert line["allowed"] == ["Pay", "Cancel"]


def test_a_person_sees_what_show_shows(cli: Cli) -> None:
    """The table is the one of `show`."""
    done = cli("send", "shop:orders", "o-1", "Place", "total=4200", "--table")
    assert done.code == 0
    assert done.out == cli("show", "shop:orders", "o-1", "--table").out


def test_a_command_may_be_json(cli: Cli) -> None:
    """The whole of it, with its type."""
    done = cli("send", "shop:orders", "o-1", '{"$type": "Place", "total": 7}')
    assert done.lines[0]["state"]["total"] == 7


def test_a_deletion_is_told(cli: Cli) -> None:
    """The state is the one that was deleted, and what creates the entity is allowed."""
    cli("send", "shop:orders", "o-1", "Place", "total=1")
    [line] = cli("send", "shop:orders", "o-1", "Cancel", "reason=broke").lines
    assert (line["deleted"], line["state_type"], line["version"]) == (True, "Pending", 2)
    assert line["allowed"] == ["Place"]
    cli("send", "shop:orders", "o-2", "Place", "total=1")
    done = cli("send", "shop:orders", "o-2", "Cancel", "reason=broke", "--table")
    assert "state    (deleted), was Pending\n" in done.out


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ("text=42", "text", "42"),
        ("text=", "text", ""),
        ("text=a=b:=c\nd", "text", "a=b:=c\nd"),
        ('text:="42"', "text", "42"),
        ("perhaps=null", "perhaps", "null"),
        ("perhaps:=null", "perhaps", None),
        ("count=42", "count", 42),
        ("ratio=1.5", "ratio", 1.5),
        ("sure=true", "sure", True),
        ('tags=["x", "y"]', "tags", ["x", "y"]),
        ("at=2024-02-29T13:00:00+01:00", "at", "2024-02-29T12:00:00.000000Z"),
        ("size=l", "size", "l"),
        ("kind=b", "kind", "b"),
        ('part={"$type": "Part", "name": "p"}', "part", {"$type": "Part", "name": "p"}),
        ("other=7", "other", "7"),
        ("other:=7", "other", 7),
        ("called=me", "called", "me"),
    ],
)
def test_the_declared_type_decides_what_a_value_means(
    cli: Cli, many: Path, given: str, field: str, value: object
) -> None:
    """Text where the field takes that text, JSON where it does not, and after := always."""
    done = cli("send", "many:kept", "k", "Keep", given)
    assert done.code == 0, done.err
    assert done.lines[0]["state"]["command"][field] == value


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["Kep"], "kept takes no command 'Kep' (did you mean Keep?); its commands are Keep, Need"),
        (["keep"], "(did you mean Keep?)"),
        (["Delete"], "kept takes no command 'Delete'; its commands are"),
        (["Need", "totl=3"], "Need has no field 'totl' (did you mean total?); Need takes total:"),
        (["Need"], "missing required field `total`; Need takes total: int (gt=0), note: str (opt"),
        (["Need", "total=0"], "not valid at $.total: Expected `int` >= 1; Need takes"),
        (["Need", "total=many"], "not valid at $.total: Expected `int`, got `str`; Need takes"),
        (["Need", "total:=many"], "total:= takes JSON (JSON is malformed"),
        (["Need", "3"], "field 1 is not written as name=value"),
        (["Need", "note=x", "=3"], "field 2 is not written as name=value"),
        (["Need", "count:=" + "[" * 100_000], "count:= takes JSON that is not nested so deeply"),
        (["Keep total=3"], "kept takes no command that is written so; its commands are Keep"),
        (["Need", "total=3", "total:=4"], "total is given twice"),
        (["Keep", "size=xl"], "not valid at $.size: Invalid enum value 'xl'; Keep takes"),
        (["Keep", "size=xl"], "size: 's' | 'l' (optional)"),
        (["Keep", "kind=c"], "kind: 'a' | 'b' (optional)"),
        (["Keep", "tags=x"], "tags: list[str] (optional)"),
        (["Keep", "part=3"], "perhaps: str | null (optional)"),
        (["Keep", r'text:="\u0000"'], "NUL character at $.text; Keep takes"),
        (['{"$type": "Need"}'], "missing required field `total`; Need takes total: int"),
        (['{"$type": "Ned"}'], "its commands are Keep, Need"),
        (['{"$type": 3}'], "its commands are Keep, Need"),
        (["{"], "its commands are Keep, Need"),
        (['{"$type": "Need", "total": 3}', "note=x"], "so no field may come after it"),
        (["Keep", "--metadata", "by"], "--metadata 1 is not written as name=value"),
        (["Keep", "--by", "al", "--metadata", "by=bo"], "--by gives the metadata by already"),
        (["Keep", "--metadata", "n:=x"], "n:= takes JSON (JSON is malformed"),
        (["Keep", "--preview", "--key", "k"], "--preview writes nothing, so it takes no --key"),
        (["Keep", "--expect", "-1"], "--expect"),
    ],
)
def test_what_is_no_command_is_not_begun(
    cli: Cli, many: Path, given: Sequence[str], message: str
) -> None:
    """The message says what there is instead; no store is made."""
    done = cli("send", "many:kept", "k", *given)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.splitlines()[-1].startswith("Error: ")
    assert not (many / "kept.db").exists()


@pytest.mark.parametrize(
    ("id", "options", "message"),
    [
        ("", [], "the id is empty"),
        ("a\0b", [], "the id"),
        ("x" * 5000, [], "the id"),
        ("o-1", ["--key", ""], "the key is empty"),
        ("o-1", ["--key", "x" * 5000], "the key"),
        ("o-1", ["--metadata", "text=" + "x" * 70_000], "the metadata takes"),
    ],
)
def test_what_no_store_can_hold_is_not_begun(
    cli: Cli, shop: Path, id: str, options: Sequence[str], message: str
) -> None:
    """Ids, keys and metadata are checked before anything is opened."""
    done = cli("send", "shop:orders", id, "Place", "total=1", *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not (shop / "shop.db").exists()


def test_a_class_of_another_kind_tells_its_fields_too() -> None:
    """Names and types come from its annotations; what has a default is optional."""

    @dataclass(frozen=True)
    class Move:
        place: Annotated[str, "where"]
        steps: int = 1

    assert [str(field) for field in fields_of(Move)] == ["place: str", "steps: int (optional)"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["Place", "total=1"], "Place cannot be applied to order 'o-1', in state Paid; allowed: C"),
        (["Cancel", "reason=no"], "paid orders stay: no"),
    ],
)
def test_a_refusal_writes_nothing(cli: Cli, command: Sequence[str], message: str) -> None:
    """A command that the machine or a handler refuses ends with 1 and the reason, in one line."""
    cli("send", "shop:orders", "o-1", "Place", "total=1")
    cli("send", "shop:orders", "o-1", "Pay")
    for options in ([], ["--preview"]):
        done = cli("send", "shop:orders", "o-1", *command, *options)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"Error: {message}")
        assert done.err.count("\n") == 1
    assert len(history(cli)) == 2


def test_an_expected_version_is_held_to(cli: Cli) -> None:
    """A decision on another version than the one found is a conflict; 0 means no entity."""
    assert cli("send", "shop:orders", "o-1", "Place", "total=1", "--expect", "0").code == 0
    late = cli("send", "shop:orders", "o-1", "Pay", "--expect", "7")
    assert (late.code, late.out) == (5, "")
    assert late.err.startswith("Error: order 'o-1' is at version 1, not 7; nothing was written")
    assert cli("send", "shop:orders", "o-1", "Pay", "--expect", "1", "--preview").code == 0
    assert cli("send", "shop:orders", "o-1", "Pay", "--expect", "7", "--preview").code == 5
    assert cli("send", "shop:orders", "o-1", "Pay", "--expect", "1").code == 0


def test_a_key_is_applied_once(cli: Cli) -> None:
    """The same command gets the first answer again; another command is refused."""
    cli("send", "shop:orders", "o-1", "Place", "total=1")
    first = cli("send", "shop:orders", "o-1", "Pay", "--key", "k")
    again = cli("send", "shop:orders", "o-1", "Pay", "--key", "k")
    other = cli("send", "shop:orders", "o-1", "Pay", "card=1", "--key", "k")
    assert first == again
    assert (other.code, len(history(cli))) == (1, 2)
    assert "key 'k' was used" in other.err


def test_metadata_is_recorded(cli: Cli) -> None:
    """Who, and what else is named, as text or as JSON."""
    options = ["--by", "alice", "--metadata", "reason=a=b", "--metadata", "n:=[1]"]
    assert cli("send", "shop:orders", "o-1", "Place", "total=1", *options).code == 0
    assert history(cli)[0]["metadata"] == {"by": "alice", "reason": "a=b", "n": [1]}


def test_a_preview_writes_nothing(cli: Cli) -> None:
    """It shows what would be, in a line of JSON or side by side."""
    cli("send", "shop:orders", "o-1", "Place", "total=1")
    done = cli("send", "shop:orders", "o-1", "Pay", "--by", "al", "--preview")
    [line] = done.lines
    assert line.pop("at").endswith("Z")
    assert line == {
        "preview": True,
        "machine": "order",
        "id": "o-1",
        "version": 2,
        "command": {"$type": "Pay", "card": ""},
        "before": {"$type": "Pending", "total": 1},
        "after": {"$type": "Paid", "total": 1},
        "metadata": {"by": "al"},
    }
    assert cli("send", "shop:orders", "o-1", "Pay", "--preview", "--table").out == (
        "order    o-1\n"
        "version  2, not written\n"
        "\n"
        "        before    after\n"
        "───────────────────────\n"
        "state   Pending   Paid\n"
        "total   1         1\n"
    )
    assert len(history(cli)) == 1


def test_a_preview_shows_births_and_deletions(cli: Cli) -> None:
    """A state that is not there is null, and (none) or (deleted) in a table."""
    cli("send", "shop:orders", "o-1", "Place", "total=1")
    born = ["send", "shop:orders", "o-2", "Place", "total=2", "--preview"]
    gone = ["send", "shop:orders", "o-1", "Cancel", "reason=x", "--preview"]
    assert cli(*born).lines[0]["before"] is None
    assert cli(*gone).lines[0]["after"] is None
    assert "state   (none)   Pending\n" in cli(*born, "--table").out
    assert "state   Pending   (deleted)\n" in cli(*gone, "--table").out


def test_a_preview_makes_no_store(cli: Cli, shop: Path) -> None:
    """A look from the wrong folder leaves nothing behind."""
    done = cli("send", "shop:orders", "o-1", "Place", "total=1", "--preview")
    assert done.code == 4
    assert "does not exist" in done.err
    assert not (shop / "shop.db").exists()


def test_what_a_handler_raises_is_told_in_a_line(cli: Cli) -> None:
    """With its type and its place, and no traceback; nothing is written."""
    cli("send", "shop:orders", "o-1", "Place", "total=1")
    done = cli("send", "shop:orders", "o-1", "Pay", "card=unplugged")
    assert (done.code, done.out) == (5, "")
    assert done.err.startswith("Error: ConnectionError: no line to the bank (at shop.py:")
    assert done.err.count("\n") == 1
    assert len(history(cli)) == 1


@pytest.mark.parametrize("target", ["many:awaited", "many:slowly"])
def test_a_service_that_awaits_is_a_target(many: Path, target: str) -> None:
    """With handlers that are coroutine functions and with others; previews too, then reads."""
    command = ["send", target, "k", "Keep", "text=x"]
    first = spawn(many, *command)
    assert (first.code, first.err) == (0, "")
    preview = spawn(many, "send", target, "k2", "Keep", "--preview")
    assert (preview.code, preview.err) == (0, "")
    refused = spawn(many, *command)
    assert (refused.code, refused.out) == (1, "")
    assert [line["id"] for line in spawn(many, "list", target).lines] == ["k"]
    assert len(spawn(many, "history", target, "k").lines) == 1
    assert spawn(many, "show", target, "k").lines[0]["version"] == 1
    assert "stateDiagram" in spawn(many, "graph", target).out


def test_a_handler_that_awaits_and_fails_is_told_in_a_line(many: Path) -> None:
    """As any other."""
    done = spawn(many, "send", "many:slowly", "k", "Keep", "text=fail")
    assert done.code == 5
    assert done.err.startswith("Error: ConnectionError: no line (at many.py:")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("output", ["--json", "--table"])
def test_a_command_that_was_applied_is_said_to_be_where_it_cannot_be_shown(
    cli: Cli, shop: Path, output: str
) -> None:
    """The exit code tells it from all that writes nothing."""
    send = [*PLAIN, "send", "shop:orders", "o-1", "Place", "total=1", output]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(send, cwd=shop, check=False, stdout=full, stderr=-1, text=True)
    assert done.stderr == (
        "Error: Place was applied, as version 1; cannot write the output: No space left on device\n"
    )
    assert done.returncode == 6
    assert len(history(cli)) == 1


def test_nobody_who_reads_is_no_failure_of_a_command(cli: Cli, shop: Path) -> None:
    """A pipe that is closed ends it quietly, as it ends others, and the command is applied."""
    send = [*PLAIN, "send", "shop:orders", "o-1", "Place", "total=1"]
    process = subprocess.Popen(send, cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")
    assert len(history(cli)) == 1


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:"])
@pytest.mark.parametrize(
    "verb", [["send", "shop:orders", "o-1", "Place", "total=1"], ["list", "shop:orders"],
             ["show", "shop:orders", "o-1"], ["history", "shop:orders", "o-1"],
             ["verify", "shop:orders"]],
)  # fmt: skip
def test_a_store_in_memory_is_refused(cli: Cli, shop: Path, verb: Sequence[str], url: str) -> None:
    """What ends with the process is neither applied nor looked at."""
    (shop / "shop.py").write_text(SHOP.replace("sqlite:///shop.db", url))
    done = cli(*verb)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"Error: {url} is empty, and ends with this process and all that is applied; use a store "
        "in a file, like sqlite:///shop.db\n"
    )


def test_a_store_in_memory_will_do_for_a_preview(cli: Cli, shop: Path) -> None:
    """Nothing is to be kept."""
    (shop / "shop.py").write_text(SHOP.replace("sqlite:///shop.db", "memory://"))
    done = cli("send", "shop:orders", "o-1", "Place", "total=1", "--preview")
    assert (done.code, done.lines[0]["version"]) == (0, 1)


def test_two_who_send_at_once_are_both_applied(many: Path) -> None:
    """Processes that meet on one store wait for each other."""
    commands = [[*PLAIN, "send", "shop:orders", f"o-{n}", "Place", "total=1"] for n in range(4)]
    started = [
        subprocess.Popen(command, cwd=many, stdout=subprocess.DEVNULL) for command in commands
    ]
    assert [process.wait(60) for process in started] == [0, 0, 0, 0]
    assert len(spawn(many, "list", "shop:orders").lines) == 4


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("send shop:orders o-1 _", ["Place", "Pay", "Cancel"]),
        ("send shop : orders o-1 P", ["Place", "Pay"]),
        ("send shop:orders o-1 Pay _", ["card="]),
        ("send shop : orders o-1 Pay card = 3 _", []),
        ("send many:kept o-1 Keep text=a t", ["tags="]),
        ("send many:machine o-1 Need --by me _", ["total=", "note="]),
        ("send many:kept o-1 Need note = ", []),
        ("send noisy:kept o-1 Need t", ["total="]),
        ("send nowhere:orders o-1 _", []),
        ("send shop:nothing o-1 _", []),
        ("send shop:orders o-1 Nothing _", []),
        ("sen", ["send"]),
    ],
)
def test_bash_completes_commands_and_fields(
    many: Path, words: str, completions: Sequence[str]
) -> None:
    """Names that the target's machine has are offered, in words that bash broke up too."""
    typed = f"holdfast {words}".removesuffix("_").rstrip()
    place = len(typed.split()) - (0 if words.endswith("_") else 1)
    env = {"_HOLDFAST_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(place)}
    done = spawn(many, env={**os.environ, **env})
    assert (done.code, done.err) == (0, "")
    assert done.out.split() == [f"plain,{name}" for name in completions]


def test_bash_puts_no_space_after_a_field(many: Path) -> None:
    """The script that bash evaluates says so where it fills in a completion."""
    env = {**os.environ, "_HOLDFAST_COMPLETE": "bash_source"}
    done = spawn(many, env=env)
    assert "[[ $value == *= ]] && compopt -o nospace" in done.out
    subprocess.run(["bash", "-n"], input=done.out, check=True, text=True)
