"""The URLs of stores: what they name, what they set, and what names nothing."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from holdfast import StoreError, open_store
from holdfast.testing.conformance.base import stored
from holdfast.testing.writes import write

ODD_NAMES = {
    "a b.db": "a b.db",
    "a%20b.db": "a b.db",
    "a%2Fb.db": "a/b.db",
    "a+b.db": "a+b.db",
    "a%2Bb.db": "a+b.db",
    "a%3Fb.db": "a?b.db",
    "a#b.db": "a#b.db",
    "a%23b.db": "a#b.db",
    "100%25.db": "100%.db",
    "a;b&c=d.db": "a;b&c=d.db",
    "größe-\U0001f600.db": "größe-\U0001f600.db",
    "gr%C3%B6%C3%9Fe.db": "größe.db",
    "a\tb.db": "a\tb.db",
    "[a].db": "[a].db",
    "a:b@c.db": "a:b@c.db",
    "'\"`$x;.db": "'\"`$x;.db",
    ".db": ".db",
    "shop%FF.db": "shop\udcff.db",
    "we ird%3Fx#%2541.db": "we ird?x#%41.db",
}


@pytest.mark.parametrize(("encoded", "name"), ODD_NAMES.items())
def test_a_path_is_what_it_says(tmp_path: Path, encoded: str, name: str) -> None:
    """Whatever characters it has; percent signs encode, as in any URL, also in the store's own."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    with open_store(f"sqlite:///{tmp_path}/{encoded}?synchronous=NORMAL") as store:
        stored(store, write("e", "Open"))
    assert (tmp_path / name).is_file()
    with open_store(store.url) as same:
        assert same.count("sample") == {"Open": 1}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_a_path_is_relative_to_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three slashes lead there, four to the root."""
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///shop.db") as store:
        stored(store, write("e", "Open"))
    with open_store(f"sqlite:///{tmp_path}/shop.db") as store:
        assert store.count("sample") == {"Open": 1}
    assert os.listdir(tmp_path) == ["shop.db"]


def test_a_path_is_no_uri_of_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLite may read more into is a name like any other."""
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///file:shop.db%3Fmode=memory") as store:
        stored(store, write("e", "Open"))
    assert os.listdir(tmp_path) == ["file:shop.db?mode=memory"]


def test_a_store_keeps_its_file_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is relative to where the store was made, as a daemon expects."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///shop.db") as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        stored(store, write("e", "Open"))
    assert os.listdir(tmp_path / "elsewhere") == []
    with open_store(f"sqlite:///{tmp_path}/shop.db") as store:
        assert store.count("sample") == {"Open": 1}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.db",
        "/shop.db",
        "sqlite",
        "sqlite:shop.db",
        "sqlite:/shop.db",
        "sqlite://shop.db",
        "sqlite://",
        "sqlite:///",
        "sqlite://host/shop.db",
        "sqlite://[host/shop.db",
        "sqlite:///shop%00.db",
        "memory:",
        "memory:///x",
        "memory://host",
        "memory://?clock=1",
        "http://shop.db",
        "sqlite:///shop.db?synchronous=OFF",
        "sqlite:///shop.db?synchronous=",
        "sqlite:///shop.db?synchronous=2",
        "sqlite:///shop.db?Synchronous=FULL",
        "sqlite:///shop.db?busy_timeout_seconds=",
        "sqlite:///shop.db?busy_timeout_seconds=-1",
        "sqlite:///shop.db?busy_timeout_seconds=nan",
        "sqlite:///shop.db?busy_timeout_seconds=inf",
        "sqlite:///shop.db?busy_timeout_seconds=1e3",
        "sqlite:///shop.db?busy_timeout_seconds=5000",
        "sqlite:///shop.db?journal_mode=DELETE",
        "sqlite:///:memory:?synchronous=OFF",
        "sqlite:///shop.db?synchronous=FULL&mode=memory",
        "sqlite:///shop.db?mode=",
        "sqlite:///shop.db?mode=RO",
        "sqlite:///:memory:?mode=ro",
        "sqlite:///:memory:?mode=rw",
    ],
)
def test_what_names_no_store_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """At once, with the forms that do; an option that is not known is not ignored."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="names no store; write memory://, sqlite:///"):
        open_store(url)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "query",
    ["synchronous=FULL&synchronous=NORMAL", "mode=ro&mode=ro", "mode=rw&synchronous=&mode="],
)
def test_an_option_is_given_once(path: Path, query: str) -> None:
    """Of two, none is taken: the one that is not meant would lose what is stored."""
    with pytest.raises(StoreError, match="gives an option twice"):
        open_store(f"sqlite:///{path}?{query}")


@pytest.mark.parametrize(("given", "expected"), [("0", 0), ("0.25", 250), ("30", 30_000)])
def test_the_wait_for_others_is_what_was_asked(
    path: Path, connections: list[sqlite3.Connection], given: str, expected: int
) -> None:
    """In the terms of SQLite, milliseconds."""
    with open_store(f"sqlite:///{path}?busy_timeout_seconds={given}") as store:
        stored(store, write("e", "Open"))
        store.commit([write("f", "Open")], timeout_seconds=0.1)
        assert connections[0].execute("PRAGMA busy_timeout").fetchone()[0] == expected


def test_nothing_is_opened_before_it_is_used(path: Path) -> None:
    """A program that only says which store it would use makes no file."""
    with open_store(f"sqlite:///{path}"):
        assert not path.exists()
    open_store(f"sqlite:///{path}").close()
    assert not path.exists()
