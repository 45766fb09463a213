"""The verb `verify` and its anchor file."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import SHOP, Cli, request, spawn, write_stream

URL = "sqlite:///shop.db"


@pytest.fixture
def filled(shop: Path, cli: Cli) -> None:
    """Three orders placed."""
    lines = [request(f"o-{n}", "Place", total=n) for n in range(3)]
    assert cli("run", "shop:orders", write_stream(shop / "fill.ndjson", lines)).code == 0


def edit(*statements: str) -> None:
    connection = sqlite3.connect("shop.db", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("target", [URL, "shop:orders"])
def test_a_sound_store_is_told_to_be_so(cli: Cli, filled: None, target: str) -> None:
    """By its URL, or by a service on it."""
    done = cli("verify", target, "--table")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "sqlite:///shop.db  sound\n"
        "transitions        3\n"
        "entities           3\n"
        "findings           0\n"
    )


def test_the_report_is_one_json_line_in_a_pipe(cli: Cli, filled: None) -> None:
    """Programs get all of it."""
    [report] = cli("verify", URL).lines
    assert (report["sound"], report["transitions"], report["found"]) == (True, 3, 0)


def test_findings_are_listed_and_told_by_the_exit_code(cli: Cli, filled: None) -> None:
    """Which entity, which version, where in the log, what is wrong."""
    edit("""UPDATE entity SET state = '{"$type":"Pending","total":9}' WHERE id = 'o-1'""")
    done = cli("verify", URL, "--table", columns=120)
    assert done.code == 1
    assert "sqlite:///shop.db  NOT SOUND\n" in done.out
    assert done.out.splitlines()[-1].rstrip() == (
        "order o-1         1              the entity's state is not what the log leads to"
    )
    [report] = cli("verify", URL).lines
    assert report["findings"] == [
        {
            "problem": "the entity's state is not what the log leads to",
            "machine": "order",
            "id": "o-1",
            "version": 1,
            "position": None,
        }
    ]


def test_more_findings_than_are_listed_are_counted(cli: Cli, shop: Path) -> None:
    """The list ends, the count does not."""
    lines = [request(f"o-{n}", "Place", total=n) for n in range(130)]
    cli("run", "shop:orders", write_stream(shop / "fill.ndjson", lines))
    edit("UPDATE entity SET state = '{}'")
    done = cli("verify", URL, "--table")
    assert "findings           130\n" in done.out
    assert done.out.endswith("and 110 more\n")
    assert done.out.count("the entity's state is") == 20
    [report] = cli("verify", URL, "--json").lines
    assert (report["found"], len(report["findings"])) == (130, 100)


def test_an_anchor_is_made_then_moved_on(cli: Cli, shop: Path, filled: None) -> None:
    """The first time there is none, and that is said."""
    first = cli("verify", URL, "--anchor", "anchor.json", "--table")
    assert "anchor             anchor.json was not there; it now holds position 3\n" in first.out
    assert json.loads(Path("anchor.json").read_text())["count"] == 3
    lines = [request("more", "Place", total=1)]
    cli("run", "shop:orders", write_stream(shop / "more.ndjson", lines))
    second = cli("verify", URL, "--anchor", "anchor.json", "--table")
    assert "anchor             anchor.json moved from position 3 to 4\n" in second.out
    assert sorted(path.name for path in shop.glob("*anchor*")) == ["anchor.json"]


def test_an_anchor_is_on_the_disk_before_it_is_in_place(
    cli: Cli, filled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its place is, before the command ends: power may fail at any moment."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def sync(number: int) -> None:
        fsync(number)
        is_folder = stat.S_ISDIR(os.fstat(number).st_mode)
        steps.append("folder" if is_folder else f"{os.fstat(number).st_size} bytes")

    def move(path: Path, target: Path) -> Path:
        steps.append("moved")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        patch.setattr(Path, "replace", move)
        assert cli("verify", URL, "--anchor", "anchor.json").code == 0
    size = Path("anchor.json").stat().st_size
    assert steps == [f"{size} bytes", "moved", "folder"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_an_anchor_keeps_its_mode(cli: Cli, filled: None, mode: int) -> None:
    """Whoever could not read it still cannot."""
    cli("verify", URL, "--anchor", "anchor.json")
    assert Path("anchor.json").stat().st_mode & 0o777 == 0o666 & ~umask()
    Path("anchor.json").chmod(mode)
    before = Path("anchor.json").read_bytes()
    assert cli("verify", URL, "--anchor", "anchor.json").code == 0
    assert Path("anchor.json").read_bytes() != before
    assert Path("anchor.json").stat().st_mode & 0o777 == mode


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_anchor_finds_what_was_cut_off_and_stays_as_it_was(
    cli: Cli, shop: Path, filled: None
) -> None:
    """A store that was put back to an earlier day is sound in itself only."""
    before = Path("shop.db").read_bytes()
    cli("run", "shop:orders", write_stream(shop / "more.ndjson", [request("o-1", "Pay")]))
    cli("verify", URL, "--anchor", "anchor.json")
    kept = Path("anchor.json").read_bytes()
    Path("shop.db").write_bytes(before)
    assert cli("verify", URL).code == 0
    done = cli("verify", URL, "--anchor", "anchor.json", "--table", columns=200)
    assert done.code == 1
    assert "anchor             anchor.json stays as it was\n" in done.out
    assert "the log ends at position 3; the anchor saw it reach 4" in done.out
    assert Path("anchor.json").read_bytes() == kept


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"position": "x"}', "\udcff"])
def test_a_file_that_is_no_anchor_is_not_overwritten(cli: Cli, filled: None, content: str) -> None:
    """Whatever it was, it stays."""
    Path("notes.txt").write_bytes(content.encode(errors="surrogateescape"))
    done = cli("verify", URL, "--anchor", "notes.txt")
    assert (done.code, done.out) == (2, "")
    assert "notes.txt holds no anchor" in done.err
    assert Path("notes.txt").read_bytes() == content.encode(errors="surrogateescape")


def test_an_anchor_that_cannot_be_written_is_said(cli: Cli, filled: None) -> None:
    """The result is not claimed to be kept."""
    done = cli("verify", URL, "--anchor", "missing/anchor.json")
    assert done.code == 5
    assert "the store is sound, but the anchor cannot be written to missing/anchor.json" in done.err


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("sqlite:///typo.db", 4, "sqlite:///typo.db does not exist"),
        ("memory://", 2, "memory:// is empty"),
        (
            "shop.db",
            2,
            "'shop.db' is neither a TARGET, like shop:orders, nor a URL, like sqlite:///",
        ),
        ("data/our shop.db", 2, "nor a URL, like sqlite:///data/our%20shop.db"),
        ("", 2, "nor a URL, like sqlite:///shop.db"),
        ("sqlite:///.", 4, "sqlite:///. is a folder; name a file in it"),
        ("sqlite:///:memory:", 2, "sqlite:///:memory: is empty"),
        ("sqlight:///shop.db", 2, "'sqlight:///shop.db' names no store"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(
    cli: Cli, shop: Path, target: str, code: int, said: str
) -> None:
    """Nothing is verified, and nothing is made."""
    done = cli("verify", target)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert not (shop / "typo.db").exists()


def test_the_command_is_safe_to_run_from_a_script(shop: Path, cli: Cli, filled: None) -> None:
    """As installed, in a process of its own."""
    done = spawn(shop, "verify", URL, "--anchor", "anchor.json")
    assert (done.code, done.err) == (0, "")


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE orders (id)")
    connection.close()


@pytest.mark.parametrize("make", [Path.touch, foreign])
def test_a_file_that_is_no_store_is_left_as_it_is(
    cli: Cli, shop: Path, make: Callable[[Path], None]
) -> None:
    """An empty file, or the database of another program, is told to be no store."""
    make(shop / "o.db")
    before = (shop / "o.db").read_bytes()
    done = cli("verify", "sqlite:///o.db")
    assert (done.code, done.out) == (4, "")
    assert done.err == "Error: sqlite:///o.db is no Holdfast store: it has no tables of one\n"
    assert (shop / "o.db").read_bytes() == before
    assert [path.name for path in shop.glob("o.db*")] == ["o.db"]


@pytest.mark.parametrize("url", [URL, f"{URL}?busy_timeout_seconds=1", f"{URL}?mode=ro"])
def test_a_verification_by_url_writes_nothing(cli: Cli, filled: None, shop: Path, url: str) -> None:
    """Nor does it leave files beside the store."""
    before = {path: path.read_bytes() for path in shop.glob("shop.db*")}
    Path("shop.db").chmod(0o444)
    os.utime("shop.db", (0, 0))
    assert cli("verify", url).lines[0]["sound"]
    assert {path: path.read_bytes() for path in shop.glob("shop.db*")} == before
    assert Path("shop.db").stat().st_mtime == 0


def test_a_service_that_only_reads_is_looked_at(cli: Cli, filled: None, shop: Path) -> None:
    """With `mode=ro` in its URL; what would write is refused."""
    (shop / "shop.py").write_text(SHOP.replace("shop.db", "shop.db?mode=ro"))
    assert len(cli("list", "shop:orders").lines) == 3
    assert cli("show", "shop:orders", "o-1").lines[0]["version"] == 1
    assert cli("verify", "shop:orders").lines[0]["sound"]
    done = cli("run", "shop:orders", write_stream(shop / "n.ndjson", [request("o-1", "Pay")]))
    assert done.code == 4
    assert "is open for reading only (mode=ro)" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", URL, "--anchor", "-"],
        ["run", "shop:orders", "in.ndjson", "--rejected", "-"],
        ["demo", "--path", "-"],
    ],
)
def test_a_file_that_is_written_is_not_the_standard_output(
    cli: Cli, filled: None, shop: Path, arguments: list[str]
) -> None:
    """No file named `-` is made by mistake."""
    (shop / "in.ndjson").touch()
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "it is written to a file; ./- is one of that name" in done.err
    assert not (shop / "-").exists()
