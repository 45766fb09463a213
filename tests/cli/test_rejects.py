"""The file of rejected lines: what is in it, whose it is, who may read it, when it is on disk."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import GOOD, SHOP, Cli, rejects, request, states, summary, write_stream

from holdfast.stores.sqlite import SqliteStore

OTHERS = """
other = Machine("other", state=Pending | Paid, command=Place | Pay | Cancel)
other.on(place)
others = Service(other, orders.store)
elsewhere = Service(order, open_store(os.environ.get("ELSEWHERE", "sqlite:///elsewhere.db")))
"""


@pytest.mark.parametrize("other", ["shop:others", "shop:elsewhere"])
def test_the_same_file_may_be_run_for_another_machine_or_store(
    cli: Cli, shop: Path, other: str
) -> None:
    """What was done and rejected for one is neither done nor rejected for the other."""
    (shop / "shop.py").write_text(SHOP + OTHERS)
    first = request("o-1", "Place", total=1)
    name = write_stream(shop / "in.ndjson", [first, request("o-1", "Pay"), "{", first])
    cli("run", other, write_stream(shop / "first.ndjson", [first]))
    assert summary(cli("run", "shop:orders", name)) == (0, 2, 0, 2)
    [file] = shop.glob("in.rejected-*.ndjson")
    before = file.read_bytes()
    done = summary(cli("run", other, name))
    assert done == ((0, 0, 0, 4) if other == "shop:others" else (0, 1, 0, 3))
    assert file.read_bytes() == before
    assert len(list(shop.glob("in.rejected-*.ndjson"))) == 2
    assert summary(cli("run", "shop:orders", name)) == (4, 0, 0, 2)
    assert summary(cli("run", other, name)) == (4, 0, 0, done[3])


@pytest.mark.parametrize("other", ["shop:others", "shop:elsewhere"])
def test_the_rejected_lines_of_another_run_are_not_taken_over(
    cli: Cli, shop: Path, other: str
) -> None:
    """Even where both are told to use one file."""
    (shop / "shop.py").write_text(SHOP + OTHERS)
    name = write_stream(shop / "in.ndjson", ["{", request("o-1", "Place", total=1)])
    cli("run", "shop:orders", name, "--rejected", "rejects")
    before = (shop / "rejects").read_bytes()
    done = cli("run", other, name, "--rejected", "rejects")
    assert (done.code, done.out) == (2, "")
    assert "rejects holds something else than the rejected lines of this input for this" in done.err
    assert (shop / "rejects").read_bytes() == before


def test_a_store_is_the_same_however_its_file_is_named(
    cli: Cli, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a path that is relative or absolute."""
    (shop / "shop.py").write_text(SHOP + OTHERS)
    name = write_stream(shop / "in.ndjson", ["{", request("o-1", "Place", total=1)])
    assert summary(cli("run", "shop:elsewhere", name)) == (0, 1, 0, 1)
    monkeypatch.setenv("ELSEWHERE", f"sqlite:///{shop}/elsewhere.db")
    assert summary(cli("run", "shop:elsewhere", name)) == (2, 0, 0, 1)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o440])
def test_the_rejected_lines_may_be_read_by_those_who_may_read_the_input(
    cli: Cli, shop: Path, mode: int
) -> None:
    """And by nobody else: they repeat it."""
    name = write_stream(shop / "in.ndjson", ["{", request("o-1", "Place", total=1)])
    (shop / name).chmod(mode)
    cli("run", "shop:orders", name)
    [file] = shop.glob("in.rejected-*.ndjson")
    assert file.stat().st_mode & 0o777 == mode | 0o600


def test_what_came_through_a_pipe_is_for_its_owner(cli: Cli, shop: Path) -> None:
    """Nobody knows who else might have read it."""
    cli("run", "shop:orders", "-", stdin="{\n")
    [file] = shop.glob("stdin.rejected-*.ndjson")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_refused_line_is_kept_with_the_reason_of_the_handler(cli: Cli, shop: Path) -> None:
    """And with what identifies it; run from there once mended, it is applied."""
    lines = [
        request("o-1", "Pay"),
        request("o-1", "Place", total=1),
        request("o-1", "Pay"),
        request("o-1", "Cancel", reason="late"),
    ]
    name = write_stream(shop / "in.ndjson", lines)
    done = cli("run", "shop:orders", name)
    assert done.code == 1
    [result] = done.lines
    assert result["rejected_by_error"] == {"InvalidTransitionError": 1, "CommandRejectedError": 1}
    first, second = rejects(shop)
    assert first["reason"] == "Pay cannot be applied to order 'o-1', which does not exist; " + (
        "allowed: Place"
    )
    assert second == {
        "input": first["input"],
        "line": 4,
        "id": "o-1",
        "error": "CommandRejectedError",
        "reason": "paid orders stay: late",
        "text": json.dumps(lines[3]),
        "cut": False,
    }
    assert [entry["line"] for entry in (first, second)] == [1, 4]
    assert result["rejected_file"] == f"in.rejected-{first['input'][:8]}.ndjson"


def test_the_rejected_lines_go_where_they_are_told_to(cli: Cli, shop: Path) -> None:
    """A file that was named is there afterwards, even if no line was rejected."""
    good = write_stream(shop / "good.ndjson", [GOOD])
    bad = write_stream(shop / "bad.ndjson", ["{"])
    cli("run", "shop:orders", good, "--rejected", "none.ndjson")
    done = cli("run", "shop:orders", bad, "--rejected", "one.ndjson")
    assert (shop / "none.ndjson").read_text() == ""
    assert [entry["line"] for entry in rejects(shop, "one.ndjson")] == [1]
    assert done.lines[0]["rejected_file"] == "one.ndjson"
    assert not list(shop.glob("*.rejected-*"))


def test_a_run_that_goes_on_with_another_file_says_what_is_not_in_it(cli: Cli, shop: Path) -> None:
    """None rejected, in one file, is not none rejected at all."""
    name = write_stream(shop / "in.ndjson", ["{", GOOD])
    assert cli("run", "shop:orders", name, "--rejected", "one.ndjson").err == ""
    other = cli("run", "shop:orders", name, "--rejected", "other.ndjson")
    assert summary(other) == (2, 0, 0, 0)
    assert other.err == (
        "Note: 2 lines were done before; if some of them were rejected, they are not in "
        "other.ndjson, and not counted\n"
    )
    same = cli("run", "shop:orders", name, "--rejected", "one.ndjson")
    assert (summary(same), same.err) == ((2, 0, 0, 1), "")


def test_the_rejected_lines_may_go_nowhere(cli: Cli, shop: Path) -> None:
    """A device keeps nothing, and that was asked for."""
    name = write_stream(shop / "in.ndjson", ["{", GOOD])
    assert summary(cli("run", "shop:orders", name, "--rejected", os.devnull)) == (0, 1, 0, 1)


@pytest.mark.parametrize("content", ["precious", "precious\n", '{"input": "0"}\n', '{"in'])
def test_a_file_with_something_else_is_not_overwritten(cli: Cli, shop: Path, content: str) -> None:
    """Not by rejected lines: the run does not begin."""
    (shop / "notes").write_text(content)
    name = write_stream(shop / "in.ndjson", [GOOD, "{"])
    done = cli("run", "shop:orders", name, "--rejected", "notes")
    if content == '{"in':  # the beginning of an entry, whose writing was cut short
        assert (done.code, summary(done)) == (1, (0, 1, 0, 1))
        return
    assert (done.code, done.out) == (2, "")
    assert "notes holds something else than the rejected lines of this input" in done.err
    assert (shop / "notes").read_text() == content
    assert states(cli) == {}


def test_the_rejected_lines_of_two_inputs_do_not_mix(cli: Cli, shop: Path) -> None:
    """Each has a file of its own."""
    one = write_stream(shop / "1.ndjson", ["{"])
    two = write_stream(shop / "2.ndjson", ["[", GOOD])
    cli("run", "shop:orders", one, "--rejected", "rejects")
    before = (shop / "rejects").read_bytes()
    done = cli("run", "shop:orders", two, "--rejected", "rejects")
    assert (done.code, done.out) == (2, "")
    assert (shop / "rejects").read_bytes() == before
    assert states(cli) == {}


def test_the_input_does_not_become_its_own_file_of_rejected_lines(cli: Cli, shop: Path) -> None:
    """A slip of the hand costs nothing."""
    name = write_stream(shop / "in.ndjson", ["{", GOOD])
    before = (shop / name).read_bytes()
    assert cli("run", "shop:orders", name, "--rejected", name).code == 2
    assert (shop / name).read_bytes() == before


def test_rejected_lines_are_on_the_disk_before_their_batch(
    cli: Cli, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of their file is, and then each batch's, before the commit that passes them."""
    steps: list[str] = []
    fsync, commit = os.fsync, SqliteStore.commit

    def sync(number: int) -> None:
        fsync(number)
        status = os.fstat(number)
        steps.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")

    def commit_and_tell(*args: Any, **options: Any) -> Any:
        steps.append("commit")
        return commit(*args, **options)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(SqliteStore, "commit", commit_and_tell)
    name = write_stream(shop / "in.ndjson", ["{", GOOD, "["])
    cli("run", "shop:orders", name, "--batch", "1", "--rejected", "rejects")
    size = (shop / "rejects").stat().st_size
    first = (shop / "rejects").read_bytes().index(b"\n") + 1
    assert steps == ["folder", f"{first} bytes", "commit", "commit", f"{size} bytes", "commit"]


def test_two_runs_of_one_input_do_not_mix(cli: Cli, shop: Path) -> None:
    """The second is told that there is a first."""
    name = write_stream(shop / "in.ndjson", [GOOD])
    with (shop / "rejects").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = cli("run", "shop:orders", name, "--rejected", "rejects")
    assert done.code == 2
    assert "another run of this input is under way, it holds rejects" in done.err
    assert not (shop / "shop.db").exists()


def test_a_folder_that_takes_no_file_is_told_before_anything_is_applied(
    cli: Cli, shop: Path
) -> None:
    """The way out is named."""
    name = write_stream(shop / "in.ndjson", [GOOD])
    done = cli("run", "shop:orders", name, "--rejected", "missing/rejects")
    assert done.code == 2
    assert "cannot write the rejected lines to missing/rejects: No such file" in done.err
    assert "name another file with --rejected" in done.err
