"""The schema of a SQLite file: made once, as it was released, and left alone when it is newer."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast import StoreError, open_store
from holdfast.stores.contract import Outcome
from holdfast.stores.sql import load_migrations
from holdfast.testing.conformance.base import commit_one, row_of, stored
from holdfast.testing.writes import write

SNAPSHOT = Path(__file__).with_name("sqlite_schema.sql")


def schema_of(path: Path) -> str:
    """Return what `sqlite_master` holds, a statement after the other, by name."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name"
        )
        return "".join(f"{sql};\n" for (sql,) in rows)


def made(path: Path) -> Path:
    """Make a store's file, and return its path."""
    with open_store(f"sqlite:///{path}") as store:
        stored(store, write("e", "Open"))
    return path


def changed(path: Path, statement: str) -> None:
    """Change a file behind the store's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def test_a_new_file_has_the_schema_that_was_reviewed(path: Path) -> None:
    """The migrations from the first on lead to `sqlite_schema.sql`, to the letter."""
    assert schema_of(made(path)) == SNAPSHOT.read_text("utf-8")


def test_tables_hold_what_they_declare(path: Path) -> None:
    """Every table is STRICT, so that no text gets into a version or a position."""
    with closing(sqlite3.connect(made(path))) as connection:
        tables = connection.execute("PRAGMA table_list").fetchall()
    strict = {name: bool(strict) for schema, name, _, _, _, strict in tables if schema == "main"}
    own = {name for name in strict if not name.startswith("sqlite_")}
    assert own == {"checkpoint", "entity", "migration", "purging", "transition"}
    assert {name for name in own if strict[name]} == own


def test_every_migration_applied_is_recorded(path: Path) -> None:
    """With the oldest code that may still use what it made."""
    with closing(sqlite3.connect(made(path))) as connection:
        rows = connection.execute("SELECT number, name, oldest_code FROM migration").fetchall()
    assert rows == [(m.number, m.name, m.oldest_code) for m in load_migrations("sqlite")]


def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    """So that the newest number says how many were applied."""
    numbers = [migration.number for migration in load_migrations("sqlite")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_opening_again_changes_nothing(path: Path) -> None:
    """Nor does migrating by hand."""
    before = made(path).read_bytes()
    with open_store(f"sqlite:///{path}") as store:
        store.migrate()
        assert store.count("sample") == {"Open": 1}
    assert path.read_bytes() == before


def test_migrating_makes_the_schema(path: Path) -> None:
    """Before anything is stored."""
    with open_store(f"sqlite:///{path}") as store:
        store.migrate()
    assert schema_of(path) == SNAPSHOT.read_text("utf-8")


def test_a_migration_that_fails_leaves_nothing(path: Path) -> None:
    """Where a table of the same name is in the way, the file stays as it was."""
    changed(path, "CREATE TABLE transition (mine TEXT)")
    with open_store(f"sqlite:///{path}") as store, pytest.raises(StoreError, match="transition"):
        store.count("sample")
    assert schema_of(path) == "CREATE TABLE transition (mine TEXT);\n"


def test_other_tables_in_the_file_are_left_alone(path: Path) -> None:
    """An application may keep its own beside."""
    changed(path, "CREATE TABLE mine (value TEXT)")
    assert "CREATE TABLE mine (value TEXT);\n" in schema_of(made(path))


def test_a_newer_schema_that_this_code_may_use_is_used(path: Path) -> None:
    """A rolling deploy goes on with the old code after an additive migration."""
    changed(made(path), "INSERT INTO migration VALUES (7, 'added', 1, '2027-01-01')")
    changed(path, "ALTER TABLE entity ADD COLUMN added TEXT")
    with open_store(f"sqlite:///{path}") as store:
        assert commit_one(store, write("e", "Closed", on=row_of(store, "e"))) == Outcome(True, 2)
        store.migrate()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT max(number) FROM migration").fetchone() == (7,)


def test_a_newer_schema_that_this_code_may_not_use_is_refused(path: Path) -> None:
    """With what to do; nothing is read or written."""
    changed(made(path), "INSERT INTO migration VALUES (7, 'broken', 7, '2027-01-01')")
    before = path.read_bytes()
    with open_store(f"sqlite:///{path}") as store:
        for _ in range(2):
            with pytest.raises(StoreError, match=r"schema 7.*upgrade holdfast"):
                store.count("sample")
            with pytest.raises(StoreError, match="schema 7"):
                store.commit([write("f", "Open")])
    assert path.read_bytes() == before


def test_an_older_breaking_migration_is_remembered(path: Path) -> None:
    """A later additive one does not let old code in again."""
    changed(made(path), "INSERT INTO migration VALUES (7, 'broken', 7, '2027-01-01')")
    changed(path, "INSERT INTO migration VALUES (8, 'added', 1, '2027-01-02')")
    with open_store(f"sqlite:///{path}") as store, pytest.raises(StoreError, match="schema 8"):
        store.count("sample")


OPENER = """
    import sys, time
    from holdfast import open_store
    from holdfast.testing.writes import write
    path, id, start = sys.argv[1:]
    time.sleep(max(0.0, float(start) - time.time()))
    with open_store(f"sqlite:///{path}") as store:
        print(store.commit([write(id, "Open")])[0].applied)
"""


def test_several_processes_open_a_new_file_at_once(path: Path) -> None:
    """One makes the schema, the others wait and use it; none fails."""
    import time

    start = time.time() + 0.8
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(OPENER), str(path)]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    openers = [subprocess.Popen([*command, f"e-{i}", str(start)], **options) for i in range(6)]
    answers = [opener.communicate(timeout=60) for opener in openers]
    assert answers == [("True\n", "")] * 6
    assert schema_of(path) == SNAPSHOT.read_text("utf-8")
    with open_store(f"sqlite:///{path}") as store:
        assert store.count("sample") == {"Open": 6}
        assert [row.seq for row in store.read_log(limit=9)] == [1, 2, 3, 4, 5, 6]


def test_threads_open_a_new_file_at_once(path: Path) -> None:
    """Through one store."""
    from concurrent.futures import ThreadPoolExecutor

    with open_store(f"sqlite:///{path}") as store, ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: store.count("sample"), range(8)))
    assert counts == [{}] * 8
