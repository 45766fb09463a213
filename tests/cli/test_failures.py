"""What goes wrong around the command: each is one line and an exit code, and nothing is lost."""

from __future__ import annotations

import errno
import os
import pty
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import PLAIN, SHOP, Cli, Done, request, spawn, write_stream

from holdfast.cli.rejects import Rejects

VERBS = {
    "run": ["run", "shop:orders", "in.ndjson"],
    "list": ["list", "shop:orders"],
    "show": ["show", "shop:orders", "o-1"],
    "history": ["history", "shop:orders", "o-1"],
    "verify": ["verify", "shop:orders"],
}
LINES = [request(f"o-{n}", "Place", total=n) for n in range(20)]


@pytest.fixture
def filled(shop: Path, cli: Cli) -> Path:
    """A shop with twenty orders, and a stream that pays them."""
    cli("run", "shop:orders", write_stream(shop / "placed.ndjson", LINES))
    write_stream(shop / "in.ndjson", [request(f"o-{n}", "Pay") for n in range(20)])
    return shop


def one_line(done: Done, code: int, said: str) -> None:
    assert (done.code, done.out) == (code, ""), done.err
    assert done.err.startswith("Error: ")
    assert done.err.count("\n") == 1
    assert said in done.err


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"This is a letter, not a database. " * 100, "the file is no SQLite database"),
        (None, "malformed"),
    ],
)
def test_a_damaged_store_is_told(
    cli: Cli, filled: Path, verb: str, content: bytes | None, said: str
) -> None:
    """The damage is not made worse."""
    path = filled / "shop.db"
    if content is None:
        page_bytes = 4096
        whole = path.read_bytes()
        content = whole[:page_bytes] + b"\x99" * (len(whole) - page_bytes)
    path.write_bytes(content)
    done = cli(*VERBS[verb])
    one_line(done, 4, said)
    assert path.read_bytes() == content


@pytest.mark.parametrize("verb", VERBS)
def test_a_store_of_newer_code_is_told(cli: Cli, filled: Path, verb: str) -> None:
    """An old command does not touch what it cannot understand."""
    connection = sqlite3.connect("shop.db")
    with connection:
        connection.execute("INSERT INTO migration VALUES (9999, 'future', 9999, '')")
    connection.close()
    one_line(cli(*VERBS[verb]), 4, "upgrade holdfast")


def test_a_locked_store_is_told_and_the_run_goes_on_later(cli: Cli, filled: Path) -> None:
    """The wait is bounded."""
    (filled / "shop.py").write_text(SHOP.replace("shop.db", "shop.db?busy_timeout_seconds=0.05"))
    other = sqlite3.connect("shop.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    done = cli(*VERBS["run"])
    one_line(done, 4, "another process is writing: try again")
    assert "0 of 20 lines are done, run again to go on" in done.err
    other.execute("ROLLBACK")
    other.close()
    assert cli(*VERBS["run"]).lines[0]["applied"] == 20


def test_a_full_store_is_told_and_the_run_goes_on_later(cli: Cli, filled: Path) -> None:
    """What was committed before is there."""
    (filled / "shop.py").write_text(
        SHOP
        + "\norders.store.migrate()\n"
        + "connection = orders.store.connections.open_writer()\n"
        + "pages = connection.execute('PRAGMA page_count').fetchone()[0]\n"
        + "connection.execute(f'PRAGMA max_page_count = {pages + 4}')\n"
    )
    lines = [request(f"o-{n % 20}", "Pay", card="x" * 2_000) for n in range(20)]
    name = write_stream(filled / "in.ndjson", lines)
    done = cli("run", "shop:orders", name, "--batch", "1")
    one_line(done, 4, "the disk is full: free some space")
    assert "of 20 lines are done, run again to go on" in done.err
    (filled / "shop.py").write_text(SHOP)
    [summary] = cli("run", "shop:orders", name, "--batch", "1").lines
    assert 0 < summary["done_before"] < 20
    assert summary["done_before"] + summary["applied"] == 20
    assert cli("verify", "shop:orders").code == 0


# The superuser writes where nobody may, unless that right is given up before the command starts.
WITHOUT_OVERRIDE = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_store_that_may_not_be_written_is_told(filled: Path, what: str) -> None:
    """Nothing is written, and nothing is lost."""
    (filled / "data").mkdir()
    (filled / "shop.db").rename(filled / "data" / "shop.db")
    (filled / "shop.py").write_text(SHOP.replace("shop.db", "data/shop.db"))
    before = (filled / "data" / "shop.db").read_bytes()
    (filled / "data" / "shop.db").chmod(0o444)
    (filled / "data").chmod(0o555 if what == "folder" else 0o755)
    try:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_OVERRIDE, *PLAIN, *VERBS["run"]],
            cwd=filled, check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    finally:
        (filled / "data").chmod(0o755)
    one_line(Done(done.returncode, done.stdout, done.stderr), 4, "allow this process to write")
    assert (filled / "data" / "shop.db").read_bytes() == before


def test_a_state_that_this_code_cannot_read_stops_a_run(cli: Cli, filled: Path) -> None:
    """The line is named, and the entity."""
    connection = sqlite3.connect("shop.db")
    with connection:
        connection.execute("""UPDATE entity SET state = '{"$type":"Sent"}' WHERE id = 'o-4'""")
    connection.close()
    one_line(cli(*VERBS["run"]), 4, "line 5: the state of order 'o-4' at version 1 cannot be read")


class Full:
    """A file on a disk that is full."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, text: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_too_full_for_the_rejected_lines_stops_the_run(
    cli: Cli, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be kept is not passed over."""
    name = write_stream(filled / "in.ndjson", [request("new", "Place", total=1), "{"])
    resume = Rejects.resume

    def resume_on_a_full_disk(rejects: Any, after: int) -> None:
        resume(rejects, after)
        rejects._file = Full(rejects._file)

    with monkeypatch.context() as patch:
        patch.setattr(Rejects, "resume", resume_on_a_full_disk)
        done = cli("run", "shop:orders", name)
    one_line(done, 5, "No space left on device; nothing of this batch was applied, run again")
    assert cli("show", "shop:orders", "new").code == 3
    assert cli("run", "shop:orders", name).lines[0]["applied"] == 1


def test_a_full_disk_under_the_rejected_lines_is_told_in_one_line(filled: Path) -> None:
    """By the system itself, which refuses the closing as well."""
    name = write_stream(filled / "in.ndjson", [request("new", "Place", total=1), "{"])
    done = spawn(filled, "run", "shop:orders", name, "--rejected", "/dev/full")
    one_line(done, 5, "cannot write the rejected lines to /dev/full: No space left on device;")
    assert "(at " not in done.err


SLOW = SHOP.replace("    return Paid(", "    import time; time.sleep(0.03)\n    return Paid(")


def test_an_interrupted_run_says_how_far_it_came(filled: Path, cli: Cli) -> None:
    """Ctrl-C ends it without a traceback; run again, it goes on."""
    (filled / "shop.py").write_text(SLOW)
    process = subprocess.Popen(
        [*PLAIN, *VERBS["run"], "--batch", "1"],
        cwd=filled, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "Paid" not in {line["state_type"] for line in cli("list", "shop:orders").lines}:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    one_line(Done(process.returncode, out, err), 130, "interrupted; ")
    assert err.endswith(" of 20 lines are done, run again to go on\n")
    [summary] = spawn(filled, *VERBS["run"]).lines
    assert summary["done_before"] > 0
    assert summary["done_before"] + summary["applied"] == 20


def test_an_interrupted_look_is_told_in_one_line(shop: Path) -> None:
    """Wherever Ctrl-C strikes, as in the middle of an import."""
    (shop / "shop.py").write_text("import time\nopen('begun', 'w').close()\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [*PLAIN, "list", "shop:orders"],
        cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (shop / "begun").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    one_line(Done(process.returncode, out, err), 130, "Error: interrupted\n")


def test_what_a_target_prints_may_meet_a_closed_pipe_too(filled: Path) -> None:
    """The last of the output is written within the command."""
    (filled / "shop.py").write_text(SHOP + "\nprint('loaded')\n")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [*PLAIN, "list", "shop:orders", "--after", "z"],
        cwd=filled, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize("output", ["--json", "--table"])
def test_a_reader_that_goes_away_is_no_error(filled: Path, cli: Cli, output: str) -> None:
    """`| head` ends the command quietly."""
    lines = [request(f"n-{n:05}", "Place", total=n) for n in range(3_000)]
    cli("run", "shop:orders", write_stream(filled / "many.ndjson", lines))
    process = subprocess.Popen(
        [*PLAIN, "list", "shop:orders", "--all", output],
        cwd=filled, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 141


BARE = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""The environment of a shell that asks Python for nothing; its output is buffered."""


@pytest.mark.parametrize("environment", [BARE, {**BARE, "PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize(
    "arguments", [["list", "shop:orders", "--all"], ["--help"], ["list", "--help"], ["--version"]]
)
def test_an_output_that_is_full_is_told(
    filled: Path, arguments: list[str], environment: dict[str, str]
) -> None:
    """What was not shown is not claimed to be."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PLAIN, *arguments],
            cwd=filled, check=False, stdout=full, stderr=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
    assert done.stderr == "Error: cannot write the output: No space left on device\n"
    assert done.returncode == 6


CLOSED = {
    "list shop:orders >&-": (6, "Error: cannot write the output: Bad file descriptor\n"),
    "--help >&-": (6, "Error: cannot write the output: Bad file descriptor\n"),
    "run shop:orders - <&-": (2, "Error: cannot read standard input: Bad file descriptor\n"),
    "show shop:orders nobody 2>&-": (3, ""),
    "show shop:orders nobody 2>/dev/full": (3, ""),
    "list shop:orders --limit 1 2>/dev/full >/dev/null": (0, ""),
    "run shop:orders placed.ndjson 2>/dev/full >/dev/null": (0, ""),
    "run shop:orders placed.ndjson 2>&- >/dev/null": (0, ""),
    "run shop:orders in.ndjson >&- 2>&-": (6, ""),
}


@pytest.mark.parametrize("call", CLOSED)
def test_a_stream_that_is_closed_is_told(filled: Path, call: str) -> None:
    """With the exit code where there is no other way; the store is not written in its place."""
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(PLAIN)} {call}"],
        cwd=filled, check=False, capture_output=True, text=True, timeout=60, env=BARE,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == CLOSED[call]
    assert spawn(filled, "verify", "shop:orders").code == 0


def test_an_encoding_without_the_characters_shows_escapes(filled: Path) -> None:
    """An old terminal is no reason to fail."""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "COLUMNS": "100"}
    done = spawn(filled, "history", "shop:orders", "o-1", "--table", env=environment)
    assert (done.code, done.err) == (0, "")
    assert "(none) \\u2192 Pending" in done.out


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """Call the command with a terminal of 90 columns on both its outputs; return what it shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PLAIN, *arguments],
        cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "90", "LINES": "30"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux tells the end
            break
        if not part:
            break
        shown += part
    os.close(ours)
    process.wait(60)
    return shown.decode()


def test_a_terminal_gets_tables_and_a_progress_bar(filled: Path) -> None:
    """Without an option."""
    (filled / "shop.py").write_text(SLOW)
    shown = on_a_terminal(filled, *VERBS["run"], "--batch", "2")
    assert "Applying" in shown
    assert "━" in shown
    assert "already applied  0" in shown
    listed = on_a_terminal(filled, "list", "shop:orders", "--limit", "2")
    assert "state" in listed
    assert '{"' not in listed
    assert "There are more: --after o-1, or --all" in listed


def test_a_terminal_is_not_controlled_by_the_data(filled: Path, cli: Cli) -> None:
    """Not by rows, not by errors."""
    evil: Any = "e\x1b]0;title\x07\x9b2J"
    lines = [request(evil, "Place", total=1, line_metadata={"by": evil})]
    cli("run", "shop:orders", write_stream(filled / "evil.ndjson", lines))
    for verb, *rest in (["list"], ["show", evil], ["history", evil], ["show", evil + "?"]):
        shown = on_a_terminal(filled, verb, "shop:orders", *rest)
        assert "e\\x1b]0;title\\x07" in shown
        assert "\x1b]" not in shown
        assert "\x9b" not in shown
        assert "\x07" not in shown


def test_an_error_that_nobody_foresaw_is_one_line_too(cli: Cli, shop: Path) -> None:
    """With the place where it happened."""
    (shop / "shop.py").write_text(SHOP + "\norders.store.find = None\n")
    (shop / "shop.db").touch()
    done = cli("list", "shop:orders")
    one_line(done, 5, "TypeError: 'NoneType' object is not callable (at ")
