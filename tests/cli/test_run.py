"""The verb `run`: what it applies, what it rejects, where it stops."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import tracemalloc
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.cli.conftest import (
    GOOD,
    PLAIN,
    SHOP,
    Cli,
    rejects,
    request,
    spawn,
    states,
    summary,
    write_stream,
)

from holdfast import open_store
from holdfast.cli.stream import MAX_LINE_BYTES


def test_a_stream_is_applied_in_order(cli: Cli, shop: Path) -> None:
    """Several lines for one entity see each other's results, within a batch and across."""
    lines = [
        request("o-1", "Place", total=1),
        request("o-2", "Place", total=2),
        request("o-1", "Pay"),
        request("o-2", "Cancel", reason="late"),
        request("o-2", "Place", total=3),
    ]
    done = cli("run", "shop:orders", write_stream(shop / "in.ndjson", lines), "--batch", "2")
    assert done.code == 0
    assert summary(done) == (0, 5, 0, 0)
    assert states(cli) == {"o-1": "Paid", "o-2": "Pending"}
    assert not list(shop.glob("*rejected*"))


def test_the_summary_is_written_for_people_too(cli: Cli, shop: Path) -> None:
    """Counts, the errors by kind, the file of the rejected lines, the rate."""
    lines = [request("o-1", "Place", total=1), request("o-1", "Place", total=1), "{"]
    name = write_stream(shop / "in.ndjson", lines)
    out = cli("run", "shop:orders", name, "--table").out
    assert out.startswith(
        "lines                     3\n"
        "done before               0\n"
        "applied                   1\n"
        "already applied           0\n"
        "rejected                  2\n"
        "  InvalidTransitionError  1\n"
        "  ValidationError         1\n"
        "rejected lines            in in.rejected-"
    )
    assert " lines/s\n" in out
    again = cli("run", "shop:orders", name, "--table").out
    assert "applied                   0\n" in again
    assert again.endswith("time                      nothing was left to do\n")


def test_fields_of_a_line_are_recorded(cli: Cli, shop: Path) -> None:
    """The key, the metadata and the time of a line are those of the transition."""
    line = request(
        "o-1", "Place", total=1, line_key="k-1", line_metadata={"by": "al"},
        line_at="2024-02-29T13:00:00.5+01:00",
    )  # fmt: skip
    cli("run", "shop:orders", write_stream(shop / "in.ndjson", [line]))
    [made] = cli("history", "shop:orders", "o-1").lines
    assert (made["key"], made["metadata"], made["at"]) == (
        "k-1", {"by": "al"}, "2024-02-29T12:00:00.500000Z"
    )  # fmt: skip


def test_a_finished_file_run_again_applies_nothing(cli: Cli, shop: Path) -> None:
    """It is known by its content, whatever it is called, and the rejected lines are kept."""
    lines = [request("o-1", "Place", total=1), "{", request("o-1", "Pay"), ""]
    name = write_stream(shop / "in.ndjson", lines)
    assert summary(cli("run", "shop:orders", name)) == (0, 2, 0, 1)
    kept = rejects(shop)
    again = cli("run", "shop:orders", name)
    assert (again.code, summary(again)) == (1, (3, 0, 0, 1))
    assert rejects(shop) == kept
    (shop / name).rename(shop / "moved.ndjson")
    assert summary(cli("run", "shop:orders", "moved.ndjson")) == (3, 0, 0, 0)
    assert len(cli("history", "shop:orders", "o-1").lines) == 2


def test_a_line_without_a_key_has_that_of_its_place(cli: Cli, shop: Path) -> None:
    """Even where the progress is lost, as by a careless hand, nothing is applied twice."""
    lines = ["{", request("o-1", "Place", total=1), request("o-1", "Pay")]
    name = write_stream(shop / "in.ndjson", lines)
    cli("run", "shop:orders", name)
    mark = sha256((shop / name).read_bytes()).hexdigest()[:16]
    keys = [line["key"] for line in cli("history", "shop:orders", "o-1").lines]
    assert keys == [f"{mark}:2", f"{mark}:3"]
    connection = sqlite3.connect("shop.db")
    with connection:
        connection.execute("DELETE FROM checkpoint")
    connection.close()
    assert summary(cli("run", "shop:orders", name)) == (0, 0, 2, 1)
    assert [entry["line"] for entry in rejects(shop)] == [1]
    assert len(cli("history", "shop:orders", "o-1").lines) == 2


def test_lines_with_keys_are_applied_once_in_changed_files_too(cli: Cli, shop: Path) -> None:
    """A key that was used, in another file or above in this one, is answered by what it made."""
    first = request("o-1", "Place", total=1, line_key="a")
    second = request("o-1", "Pay", line_key="b")
    third = request("o-2", "Place", total=2, line_key="c")
    assert summary(cli("run", "shop:orders", write_stream(shop / "1.ndjson", [first]))) == (
        0, 1, 0, 0
    )  # fmt: skip
    lines = [first, second, third, third, second]
    done = cli("run", "shop:orders", write_stream(shop / "2.ndjson", lines))
    assert (done.code, summary(done)) == (0, (0, 2, 3, 0))
    assert states(cli) == {"o-1": "Paid", "o-2": "Pending"}


def test_a_key_of_another_command_is_rejected(cli: Cli, shop: Path) -> None:
    """The same key for something else is no repetition."""
    lines = [
        request("o-1", "Place", total=1, line_key="a"),
        request("o-1", "Place", total=2, line_key="a"),
    ]
    cli("run", "shop:orders", write_stream(shop / "in.ndjson", lines), "--batch", "1")
    [entry] = rejects(shop)
    assert (entry["line"], entry["error"]) == (2, "KeyReusedError")


HALF = r"it holds one half of a surrogate pair, like \ud800, which is no character"
UNKNOWN_FLY = "$.$type: Invalid value 'Fly'; order takes Place, Pay, Cancel"
BROKEN: dict[str, tuple[str | bytes, str]] = {
    "no JSON": ("{", "the line is no request: Input data was truncated"),
    "half a line": ('{"id": "o-1", "command": {"$type"', "the line is no request: "),
    "text": ('"x"', "Expected `object`, got `str`"),
    "a list": ("[]", "Expected `object`, got `array`"),
    "two objects": ("{} {}", "the line is no request"),
    "no id": ('{"command": {"$type": "Pay"}}', "missing required field `id`"),
    "a number as id": ('{"id": 1, "command": {"$type": "Pay"}}', "Expected `str`, got `int`"),
    "an empty id": ('{"id": "", "command": {"$type": "Pay"}}', "the id is empty"),
    "a long id": (json.dumps(request("x" * 10_000, "Pay")), "the limit is 512"),
    "a NUL in the id": ('{"id": "a\\u0000", "command": {"$type": "Pay"}}', "NUL"),
    "half a surrogate pair": ('{"id": "\\ud800", "command": {"$type": "Pay"}}', HALF),
    "half a pair in the command": (json.dumps(request("o", "Cancel", reason="a\ud800")), HALF),
    "half a pair at the end": ('{"id": "o", "command": {"$type": "Pay"}, "key": "\\uDBFF"}', HALF),
    "no command": ('{"id": "o-1"}', "missing required field `command`"),
    "a null command": ('{"id": "o-1", "command": null}', "got `null`"),
    "no tag": (
        '{"id": "o-1", "command": {"card": "x"}}',
        "missing required field `$type`; order takes",
    ),
    "an unknown tag": ('{"id": "o-1", "command": {"$type": "Fly"}}', UNKNOWN_FLY),
    "a missing field": ('{"id": "o-1", "command": {"$type": "Place"}}', "field `total`"),
    "an unknown field": (
        '{"id": "o-1", "command": {"$type": "Pay", "crad": "1"}}',
        "unknown field `crad`",
    ),
    "a wrong type": ('{"id": "o-1", "command": {"$type": "Place", "total": "1"}}', "$.total"),
    "NaN": ('{"id": "o-1", "command": {"$type": "Place", "total": NaN}}', "malformed"),
    "infinity": ('{"id": "o-1", "command": {"$type": "Place", "total": 1e999}}', "out of range"),
    "an unknown key": ('{"id": "o-1", "kye": "1", "command": {"$type": "Pay"}}', "field `kye`"),
    "an empty key": ('{"id": "o-1", "key": "", "command": {"$type": "Pay"}}', "the key is empty"),
    "metadata that is none": (json.dumps(request("o", "Pay", line_metadata=[1])), "$.metadata"),
    "much metadata": (json.dumps(request("o", "Pay", line_metadata={"x": "y" * 70_000})), "limit"),
    "a time without zone": (
        json.dumps(request("o", "Pay", line_at="2024-02-29T12:00:00")),
        "timezone",
    ),
    "no time": (json.dumps(request("o", "Pay", line_at="yesterday")), "Invalid RFC3339"),
    "a time that UTC has not": (
        json.dumps(request("o", "Place", total=1, line_at="0001-01-01T00:00:00+05:00")),
        "before year 1",
    ),
    "an earlier time": (
        json.dumps(request("good", "Pay", line_at="2001-01-01T00:00:00Z")),
        "before the last transition",
    ),
    "deep nesting": ('{"id": "o", "metadata": {"x": ' + "[" * 100_000, "the line is no request"),
    "bytes that are no UTF-8": (b'{"id": "\xff\xfe", "command": {"$type": "Pay"}}', "the line is"),
    "a large command": (json.dumps(request("o", "Cancel", reason="x" * 1_100_000)), "the limit is"),
    "an enormous line": (
        json.dumps(request("o", "Cancel", reason="x" * MAX_LINE_BYTES)),
        "the limit is 4,194,304",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_line_is_rejected_with_its_reason(cli: Cli, shop: Path, kind: str) -> None:
    """The lines around it are applied, and its text is kept with what is wrong with it."""
    line, reason = BROKEN[kind]
    broken = line if isinstance(line, bytes) else line.encode()
    after = json.dumps(request("after", "Place", total=1)).encode()
    (shop / "in.ndjson").write_bytes(json.dumps(GOOD).encode() + b"\n" + broken + b"\n" + after)
    done = cli("run", "shop:orders", "in.ndjson")
    assert (done.code, done.err) == (1, "")
    assert summary(done) == (0, 2, 0, 1)
    [entry] = rejects(shop)
    assert entry["line"] == 2
    assert entry["error"] == "ValidationError"
    assert reason in entry["reason"]
    assert entry["cut"] == (kind == "an enormous line")
    shown = broken.decode(errors="backslashreplace")
    assert entry["text"] == (shown[:1000] if entry["cut"] else shown)
    assert states(cli) == {"good": "Pending", "after": "Pending"}


def test_lines_may_end_and_begin_as_other_systems_write_them(cli: Cli, shop: Path) -> None:
    """A byte order mark, carriage returns, blank lines, no newline at the end."""
    first, second = json.dumps(GOOD), json.dumps(request("good", "Pay"))
    text = f"\ufeff{first}\r\n\r\n   \n{second}"
    (shop / "in.ndjson").write_bytes(text.encode())
    assert summary(cli("run", "shop:orders", "in.ndjson")) == (0, 2, 0, 0)
    assert summary(cli("run", "shop:orders", "in.ndjson")) == (2, 0, 0, 0)


@pytest.mark.parametrize("content", [b"", b"\n", b"\n \n\n"])
def test_a_file_without_a_command_is_done_at_once(cli: Cli, shop: Path, content: bytes) -> None:
    """Nothing is not an error."""
    (shop / "in.ndjson").write_bytes(content)
    done = cli("run", "shop:orders", "in.ndjson")
    assert (done.code, summary(done)) == (0, (0, 0, 0, 0))


def test_the_end_of_a_long_line_belongs_to_the_content(cli: Cli, shop: Path) -> None:
    """A file that differs there only is another file."""
    for end in "ab":
        text = "x" * (MAX_LINE_BYTES + 1_500_000) + end
        (shop / f"{end}.ndjson").write_text(f"{text}\n{json.dumps(GOOD)}\n")
    first = cli("run", "shop:orders", "a.ndjson", "--rejected", os.devnull)
    assert summary(first) == (0, 1, 0, 1)
    other = cli("run", "shop:orders", "b.ndjson", "--rejected", os.devnull)
    assert other.lines[0]["done_before"] == 0


def test_the_standard_input_is_a_file_like_others(cli: Cli, shop: Path) -> None:
    """It has a fingerprint too, so that the same again applies nothing."""
    text = json.dumps(GOOD) + "\n{\n"
    first = cli("run", "shop:orders", "-", stdin=text)
    assert (first.code, summary(first)) == (1, (0, 1, 0, 1))
    assert len(list(shop.glob("stdin.rejected-*.ndjson"))) == 1
    again = cli("run", "shop:orders", "-", stdin=text)
    assert (again.code, summary(again)) == (1, (2, 0, 0, 1))


def test_a_pipe_with_a_name_is_read_once(shop: Path) -> None:
    """What a shell makes of <(...) can be read only once, and that is enough."""
    os.mkfifo(shop / "pipe")
    process = subprocess.Popen(
        [*PLAIN, "run", "shop:orders", "pipe"],
        cwd=shop, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    (shop / "pipe").write_text(json.dumps(GOOD))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["applied"] == 1


@pytest.mark.parametrize("arguments", [["missing.ndjson"], ["."], ["in.ndjson", "--batch", "0"]])
def test_a_wrong_argument_is_told(cli: Cli, shop: Path, arguments: list[str]) -> None:
    """Nothing is begun."""
    (shop / "in.ndjson").touch()
    done = cli("run", "shop:orders", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "Error: Invalid value for" in done.err
    assert not (shop / "shop.db").exists()


STOP = [
    request("o-1", "Place", total=1),
    "{",
    request("o-2", "Place", total=2),
    request("o-2", "Pay"),
    request("o-3", "Place", total=3),
    request("o-1", "Pay", card="unplugged"),
    request("o-4", "Place", total=4),
]


def test_an_error_of_a_handler_stops_the_run_at_its_batch(cli: Cli, shop: Path) -> None:
    """The line is named, its batch is not applied; once the cause is gone the run goes on."""
    name = write_stream(shop / "in.ndjson", STOP)
    done = cli("run", "shop:orders", name, "--batch", "4")
    assert (done.code, done.out) == (5, "")
    assert done.err == (
        "Error: line 6: ConnectionError: no line to the bank (at shop.py:30 in pay); nothing of "
        "lines 5 to 7 was applied; 4 of 7 lines are done, run again to go on, or reject "
        "such lines with --reject-errors\n"
    )
    assert states(cli) == {"o-1": "Pending", "o-2": "Paid"}
    assert [entry["line"] for entry in rejects(shop)] == [2]

    (shop / "shop.py").write_text(SHOP.replace('"unplugged"', '"never"'))
    done = cli("run", "shop:orders", name, "--batch", "4")
    assert (done.code, summary(done)) == (1, (4, 3, 0, 1))
    assert states(cli) == {"o-1": "Paid", "o-2": "Paid", "o-3": "Pending", "o-4": "Pending"}
    assert [entry["line"] for entry in rejects(shop)] == [2]


@pytest.mark.parametrize("size", ["1", "2", "4", "500"])
def test_a_line_whose_handler_fails_is_rejected_on_request(cli: Cli, shop: Path, size: str) -> None:
    """With the error's type and text; what comes after it is decided without it."""
    pair = [request("o-5", "Pay", card="unplugged"), request("o-5", "Place", total=5)]
    name = write_stream(shop / "in.ndjson", [*STOP, pair[1], *pair, request("o-1", "Pay")])
    done = cli("run", "shop:orders", name, "--batch", size, "--reject-errors")
    assert (done.code, done.err) == (1, "")
    assert summary(done) == (0, 7, 0, 4)
    entries = [(entry["line"], entry["id"], entry["error"]) for entry in rejects(shop)]
    assert entries == [
        (2, None, "ValidationError"),
        (6, "o-1", "ConnectionError"),
        (9, "o-5", "ConnectionError"),
        (10, "o-5", "InvalidTransitionError"),
    ]
    assert rejects(shop)[1]["reason"] == "no line to the bank"
    assert rejects(shop)[1]["text"] == json.dumps(STOP[5])
    assert states(cli)["o-1"] == "Paid"
    again = cli("run", "shop:orders", name, "--reject-errors")
    assert summary(again) == (11, 0, 0, 4)


def test_a_line_is_decided_under_one_token(cli: Cli, shop: Path) -> None:
    """Though another line of its batch fails: what is sound is not sent a second time."""
    told = SHOP.replace("def place(state: None, command: Place)", PLACE_AND_TELL)
    (shop / "shop.py").write_text(told)
    name = write_stream(shop / "in.ndjson", STOP)
    assert cli("run", "shop:orders", name, "--reject-errors").code == 1
    with open_store("sqlite:///shop.db") as store:
        stored = [row.token for row in store.read_log(limit=9) if row.command_type == "Place"]
    assert (shop / "tokens").read_text("utf-8").split() == stored


PLACE_AND_TELL = """def place(state: None, command: Place, context: holdfast.Context) -> Pending:
    with open("tokens", "a") as file:
        print(context.token, file=file)
    return told(command)

def told(command: Place)"""


def test_a_store_that_fails_is_no_error_of_a_line(cli: Cli, shop: Path) -> None:
    """Its lines are not passed over."""
    name = write_stream(shop / "in.ndjson", [GOOD])
    cli("run", "shop:orders", name)
    connection = sqlite3.connect("shop.db")
    with connection:
        connection.execute("""UPDATE entity SET state = '{"$type":"Sent"}'""")
    connection.close()
    other = write_stream(shop / "other.ndjson", [request("good", "Pay")])
    done = cli("run", "shop:orders", other, "--reject-errors")
    assert done.code == 4
    assert "0 of 1 lines are done, run again to go on\n" in done.err
    assert not list(shop.glob("*.rejected-*"))


def test_the_traceback_of_a_handler_is_shown_on_request(cli: Cli, shop: Path) -> None:
    """Down to the line that raised."""
    done = cli("--traceback", "run", "shop:orders", write_stream(shop / "in.ndjson", STOP))
    assert done.code == 5
    assert 'raise ConnectionError("no line to the bank")' in done.err
    assert done.err.splitlines()[-1].startswith("Error: line 6: ConnectionError")


CLASH = """
others = Service(order, orders.store)

class Clash(Command):
    times: int

clash = Machine("order", state=Pending | Paid, command=Place | Cancel | Clash)
clash.on(place)
clashes = []

@clash.on
def collide(state: Pending, command: Clash, context: holdfast.Context) -> Pending:
    if len(clashes) < command.times:
        clashes.append(1)
        others.handle(context.id, Cancel(reason="meanwhile"))
        others.handle(context.id, Place(total=99))
    return state

clashing = Service(
    clash, orders.store, retry=holdfast.Retry(attempts=3, initial_seconds=0.001)
)
"""


@pytest.fixture
def clashing(cli: Cli, shop: Path) -> str:
    """A stream whose third line meets as many conflicts as its command says, and two rejects."""
    (shop / "shop.py").write_text(SHOP + CLASH)
    placed = write_stream(shop / "placed.ndjson", [request("o-1", "Place", total=1)])
    assert cli("run", "shop:clashing", placed).code == 0
    lines = ["{", request("o-1", "Place", total=2), request("o-1", "Clash", times=5)]
    return write_stream(shop / "in.ndjson", lines)


def test_conflicts_are_decided_again(cli: Cli, shop: Path, clashing: str) -> None:
    """The rejected lines are those of the last decision, each once."""
    (shop / "shop.py").write_text(SHOP + CLASH.replace("attempts=3", "attempts=9"))
    done = cli("run", "shop:clashing", clashing)
    assert (done.code, summary(done)) == (1, (0, 1, 0, 2))
    assert [entry["line"] for entry in rejects(shop)] == [1, 2]


def test_conflicts_that_do_not_end_stop_the_run(cli: Cli, shop: Path, clashing: str) -> None:
    """Nothing is claimed; run again, it goes on, and the rejected lines are there once."""
    done = cli("run", "shop:clashing", clashing)
    assert (done.code, done.out) == (5, "")
    assert "changed under every one of 3 attempts" in done.err
    assert "0 of 3 lines are done, run again to go on" in done.err

    (shop / "shop.py").write_text(SHOP + CLASH.replace("attempts=3", "attempts=9"))
    assert summary(cli("run", "shop:clashing", clashing)) == (0, 1, 0, 2)
    assert [entry["line"] for entry in rejects(shop)] == [1, 2]


UNCERTAIN = """
from holdfast.stores.contract import CommitUncertainError
from holdfast.stores.sqlite import SqliteStore

lost = []
commit = orders.store.commit

def commit_and_lose(*args, **options):
    answers = commit(*args, **options)
    lost.append(answers)
    raise CommitUncertainError("the line went dead")

orders.store.commit = commit_and_lose
orders = Service(order, orders.store, retry=holdfast.Retry(attempts=2, initial_seconds=0.001))
"""


def test_an_outcome_that_is_not_known_is_not_claimed(cli: Cli, shop: Path) -> None:
    """Run again, the run goes on from where the store stands; nothing is applied twice."""
    (shop / "shop.py").write_text(SHOP + UNCERTAIN)
    lines = [request("o-1", "Place", total=1), "{", request("o-1", "Pay")]
    name = write_stream(shop / "in.ndjson", lines)
    done = cli("run", "shop:orders", name, "--batch", "2")
    assert (done.code, done.out) == (4, "")
    assert "whether" in done.err
    assert "run again to go on" in done.err

    (shop / "shop.py").write_text(SHOP)
    assert summary(cli("run", "shop:orders", name, "--batch", "2")) == (2, 1, 0, 1)
    assert len(cli("history", "shop:orders", "o-1").lines) == 2
    assert [entry["line"] for entry in rejects(shop)] == [2]


def test_a_file_that_grows_meanwhile_is_read_as_it_was(cli: Cli, shop: Path) -> None:
    """What was appended belongs to another content."""
    grow = "with open('in.ndjson', 'a') as file: file.write('{')"
    (shop / "shop.py").write_text(
        SHOP.replace("return Pending(", f"{grow}\n    return Pending(", 1)
    )
    name = write_stream(shop / "in.ndjson", [request(f"o-{n}", "Place", total=n) for n in range(9)])
    assert summary(cli("run", "shop:orders", name, "--batch", "2")) == (0, 9, 0, 0)


@pytest.mark.parametrize("change", ["seek(299_990), file.write('9')", "truncate(250_050)"])
def test_a_file_that_is_changed_meanwhile_is_told(cli: Cli, shop: Path, change: str) -> None:
    """No run claims to have applied a file that there never was."""
    body = f"with open('in.ndjson', 'r+') as file: file.{change}"
    (shop / "shop.py").write_text(
        SHOP.replace("return Pending(", f"{body}\n    return Pending(", 1)
    )
    lines = [request("o", "Place", total=1), *["{" + "x" * 98] * 3_000]
    done = cli("run", "shop:orders", write_stream(shop / "in.ndjson", lines))
    assert (done.code, done.out) == (5, "")
    assert "in.ndjson changed while it was read" in done.err


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:"])
def test_a_store_in_memory_is_refused(cli: Cli, shop: Path, url: str) -> None:
    """What is lost at once is not called applied."""
    (shop / "shop.py").write_text(SHOP.replace("sqlite:///shop.db", url))
    done = cli("run", "shop:orders", write_stream(shop / "in.ndjson", [GOOD, "{"]))
    assert (done.code, done.out) == (2, "")
    assert f"{url} is empty, and ends with this process and all that is applied" in done.err
    assert not list(shop.glob("*.rejected-*"))


def test_memory_does_not_grow_with_the_file(cli: Cli, shop: Path) -> None:
    """A line at a time, and a batch at a time."""
    peaks = []
    for count in (300, 800, 3_000):  # the first one warms up
        lines = [request(f"{count}-{n}", "Cancel", reason="x" * 4_000) for n in range(count)]
        name = write_stream(shop / f"{count}.ndjson", [*lines, request(f"{count}", "Pay")])
        del lines
        tracemalloc.start()
        assert cli("run", "shop:orders", name, "--batch", "100").code == 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        Path(name).unlink()
    assert peaks[2] - peaks[1] < 500_000, peaks  # and the file has 9 MB more


def test_the_command_runs_as_installed(shop: Path) -> None:
    """In a process of its own: the summary on one stream, nothing on the other."""
    done = spawn(shop, "run", "shop:orders", write_stream(shop / "in.ndjson", [GOOD]))
    assert (done.code, done.err, done.lines[0]["applied"]) == (0, "", 1)


def test_a_name_that_is_no_text_is_a_name(shop: Path) -> None:
    """Of the stream, and so of the rejected lines; what is no character of it is escaped."""
    write_stream(shop / "in\udcff.ndjson", [GOOD, "{"])
    done = spawn(shop, "run", "shop:orders", "in\udcff.ndjson")
    assert (done.code, done.err) == (1, "")
    assert done.lines[0]["file"] == r"in\udcff.ndjson"
    assert done.lines[0]["rejected_file"].startswith(r"in\udcff.rejected-")


def test_a_clock_that_stands_still_is_no_reason_to_fail(
    cli: Cli, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a coarse one does for a short run."""
    monkeypatch.setattr("holdfast.cli.run.time", SimpleNamespace(monotonic=lambda: 5.0))
    done = cli("run", "shop:orders", write_stream(shop / "in.ndjson", [GOOD]))
    assert (done.code, done.lines[0]["seconds"], done.lines[0]["lines_per_second"]) == (0, 0, 1000)
