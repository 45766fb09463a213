"""The modes of a SQLite store: what `mode=ro` and `mode=rw` leave alone, and what they refuse."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast import StoreError, open_store
from holdfast.stores.contract import Key, Store
from holdfast.stores.sqlite.file import Stamp
from holdfast.testing.conformance.base import row_of, stored
from holdfast.testing.writes import write

Contents = dict[str, bytes]


def opened(path: Path, mode: str) -> Store:
    return open_store(f"sqlite:///{path}?mode={mode}&busy_timeout_seconds=0.3")


def contents(folder: Path) -> Contents:
    """Return every file in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def made(path: Path) -> Path:
    """A store with an entity, closed."""
    with open_store(f"sqlite:///{path}") as store:
        stored(store, write("e", "Open"))
    return path


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_a_file_that_is_not_there_is_not_made(path: Path, mode: str) -> None:
    """A path that was mistyped is told."""
    with opened(path, mode) as store, pytest.raises(StoreError, match="does not exist; check the"):
        store.count("sample")
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("mode", ["ro", "rw"])
@pytest.mark.parametrize(
    "statements",
    [
        [],
        ["CREATE TABLE orders (id)", "INSERT INTO orders VALUES (1)"],
        ["CREATE TABLE migration (name)", "CREATE TABLE entity (name)"],
        ["PRAGMA journal_mode = WAL", "CREATE TABLE orders (id)"],
    ],
)
def test_a_file_that_is_no_store_is_left_as_it_is(
    path: Path, mode: str, statements: list[str]
) -> None:
    """An empty one, and one of another program, to the byte."""
    path.touch()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    before = contents(path.parent)
    with opened(path, mode) as store, pytest.raises(StoreError, match="is no Holdfast store"):
        store.count("sample")
    assert contents(path.parent) == before


def test_reading_changes_nothing(made: Path) -> None:
    """Neither the file nor what is beside it."""
    before = contents(made.parent)
    with opened(made, "ro") as store:
        assert store.load([Key("sample", "e")])[0].entity == row_of(store, "e")
        assert store.count("sample") == {"Open": 1}
        assert len(store.read_log(limit=9)) == len(store.history("sample", "e", limit=9)) == 1
        store.migrate()
        assert contents(made.parent) == before
    assert contents(made.parent) == before


@pytest.mark.parametrize("options", [{}, {"atomic": True}, {"timeout_seconds": 0.1}])
@pytest.mark.parametrize("in_use", [False, True])
def test_writing_is_refused_where_only_reading_was_asked_for(
    made: Path, options: dict[str, Any], in_use: bool
) -> None:
    """In words, whether another has it open or not."""
    with opened(made, "rw") as other, opened(made, "ro") as store:
        if in_use:
            other.count("sample")
        with pytest.raises(StoreError, match="is open for reading only"):
            store.commit([write("f", "Open")], **options)
        assert store.count("sample") == {"Open": 1}


def test_an_existing_store_is_written(made: Path) -> None:
    """By `mode=rw` as without it."""
    with opened(made, "rw") as store:
        stored(store, write("f", "Open"))
        assert store.count("sample") == {"Open": 2}


def test_what_others_write_is_read(made: Path) -> None:
    """Whether they have it open at the first reading, come later, or have gone since."""
    with opened(made, "ro") as reader:
        assert reader.count("sample") == {"Open": 1}
        with opened(made, "rw") as writer:
            stored(writer, write("f", "Open"))
            assert reader.count("sample") == {"Open": 2}
            stored(writer, write("g", "Open"))
            assert reader.count("sample") == {"Open": 3}
        assert reader.count("sample") == {"Open": 3}
    for count in (3, 4, 5):
        with opened(made, "ro") as reader:
            assert reader.count("sample") == {"Open": count}
            with opened(made, "rw") as writer:
                stored(writer, write(f"later-{count}", "Open"))
            assert reader.count("sample") == {"Open": count + 1}


def test_a_reading_during_which_the_file_changed_counts_for_nothing(
    made: Path, connections: list[sqlite3.Connection]
) -> None:
    """It is done again, on what there is then."""
    with opened(made, "ro") as store:
        assert store.count("sample") == {"Open": 1}

        def write_once(statement: str) -> None:
            connections[0].set_trace_callback(None)
            with opened(made, "rw") as writer:
                stored(writer, write("f", "Open"))

        connections[0].set_trace_callback(write_once)
        assert store.count("sample") == {"Open": 2}


def test_a_file_that_is_never_still_is_given_up(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait is bounded."""
    times = itertools.count()

    def stamp(path: str) -> Stamp:
        return Stamp(0, 0, next(times))

    monkeypatch.setattr("holdfast.stores.sqlite.connections.stamp_of_still", stamp)
    with opened(made, "ro") as store, pytest.raises(StoreError, match="was written all the time"):
        store.count("sample")


def test_several_threads_read(made: Path) -> None:
    """One after the other."""
    counts: list[dict[str, int]] = []
    with opened(made, "ro") as store:
        threads = [
            threading.Thread(target=lambda: counts.append(store.count("sample"))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts == [{"Open": 1}] * 8


def test_an_older_schema_is_not_migrated(made: Path) -> None:
    """It is told what would."""
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("UPDATE migration SET number = 0")
    before = contents(made.parent)
    with opened(made, "ro") as store, pytest.raises(StoreError, match="open it once without mode"):
        store.count("sample")
    assert contents(made.parent) == before


# The superuser reads and writes where nobody may, unless that right is given up first.
READ_WITHOUT_RIGHTS = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-c", '''
import sys
from holdfast import open_store
from holdfast.stores.verify import verify
with open_store(sys.argv[1]) as store:
    print(verify(store).sound, store.count("sample"))
''', sys.argv[1]])
"""


@pytest.mark.parametrize("folder", [0o755, 0o555])
@pytest.mark.parametrize("in_use", [False, True])
def test_who_may_only_read_reads(made: Path, folder: int, in_use: bool) -> None:
    """The file, or its folder too; also while those write who may."""
    with opened(made, "rw") as writer:
        if in_use:
            stored(writer, write("f", "Open"))
        for file in made.parent.iterdir():
            file.chmod(0o444)
        made.parent.chmod(folder)
        before = contents(made.parent)
        try:
            done = subprocess.run(
                [sys.executable, "-c", READ_WITHOUT_RIGHTS, f"sqlite:///{made}?mode=ro"],
                check=False, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert contents(made.parent).keys() == before.keys()
        finally:
            made.parent.chmod(0o755)
            for file in made.parent.iterdir():
                file.chmod(0o644)
    assert done.stderr == ""
    assert done.stdout == f"True {{'Open': {2 if in_use else 1}}}\n"
