"""The log of a SQLite file is appended to only, by whatever means one tries to change it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast import open_store
from holdfast.stores.contract import LogRow, Store
from holdfast.testing.conformance.base import history, row_of, stored
from holdfast.testing.consistency import all_log_rows, faults
from holdfast.testing.writes import write

COLUMNS = ", ".join(LogRow.__struct_fields__)

# What a purge does to a row; with the permit it would pass.
STUB = """
    UPDATE transition
    SET kind = 'purged', from_type = NULL, to_type = NULL, command_type = NULL, command = NULL,
        events = NULL, state = NULL, metadata = NULL
"""
PERMIT = "INSERT INTO purging VALUES ('sample', 'e')"

CHANGES = {
    "every column": [f"UPDATE transition SET {name} = NULL" for name in LogRow.__struct_fields__],
    "to what it is": [
        f"UPDATE transition SET {name} = {name}" for name in LogRow.__struct_fields__
    ],
    "update or ignore": ["UPDATE OR IGNORE transition SET state = '{}'"],
    "update or replace": ["UPDATE OR REPLACE transition SET version = 1 WHERE version = 2"],
    "update or fail": ["UPDATE OR FAIL transition SET at = '2000'"],
    "update the place": ["UPDATE transition SET rowid = 99 WHERE seq = 1"],
    "imitate a purge": [STUB],
    "purge with another's permit": ["INSERT INTO purging VALUES ('sample', 'f')", STUB],
}
DELETIONS = {
    "delete": ["DELETE FROM transition"],
    "delete one": ["DELETE FROM transition WHERE seq = 3"],
    "delete with a permit": [PERMIT, "DELETE FROM transition"],
}
REPLACEMENTS = {
    "by version": (
        "INSERT OR REPLACE INTO transition (machine, id, version, kind, at, recorded_at, digest)"
        " VALUES ('sample', 'e', 1, 'command', '', '', '')"
    ),
    "by position": (
        "INSERT OR REPLACE INTO transition (seq, machine, id, version, kind, at, recorded_at,"
        " digest) VALUES (1, 'sample', 'new', 1, 'command', '', '', '')"
    ),
    "by key": (
        "INSERT OR REPLACE INTO transition (machine, id, version, kind, key, at, recorded_at,"
        " digest) VALUES ('sample', 'e', 99, 'command', 'k', '', '', '')"
    ),
    "by a copy": f"REPLACE INTO transition SELECT {COLUMNS} FROM transition",
    "by a copy that moves": (
        "REPLACE INTO transition (machine, id, version, kind, at, recorded_at, digest)"
        " SELECT machine, id, version, 'deletion', at, recorded_at, digest FROM transition"
    ),
    "by an upsert": (
        "INSERT INTO transition (machine, id, version, kind, at, recorded_at, digest)"
        " VALUES ('sample', 'e', 1, 'command', '', '', '')"
        " ON CONFLICT (machine, id, version) DO UPDATE SET state = 'forged'"
    ),
    "by an upsert on the position": (
        "INSERT INTO transition (seq, machine, id, version, kind, at, recorded_at, digest)"
        " VALUES (1, 'sample', 'new', 1, 'command', '', '', '')"
        " ON CONFLICT (seq) DO UPDATE SET state = 'forged'"
    ),
}


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Give a store with three transitions; whatever a test tries, they are there afterwards."""
    with open_store(f"sqlite:///{path}") as store:
        stored(store, write("e", "Open", "Closed", keys=["k"], tokens=["t"]))
        stored(store, write("f", "Open"))
        yield store


@pytest.fixture
def raw(path: Path, store: Store) -> Iterator[sqlite3.Connection]:
    """Give a connection of somebody else, who may write to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def refused(raw: sqlite3.Connection, statements: list[str]) -> None:
    """The last of the statements, at least, is refused; then the transaction is committed."""
    raw.execute("BEGIN IMMEDIATE")
    for statement in statements[:-1]:
        raw.execute(statement)
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(statements[-1])
    raw.execute("DELETE FROM purging")
    raw.execute("COMMIT")


@pytest.mark.parametrize("recursive_triggers", ["ON", "OFF"])
@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(statements, id=f"{group}: {name}")
        for group, tries in (("change", CHANGES), ("deletion", DELETIONS))
        for name, statements in tries.items()
        if "every" not in name and "to what" not in name
    ],
)
def test_the_log_is_not_changed(
    store: Store, raw: sqlite3.Connection, statements: list[str], recursive_triggers: str
) -> None:
    """Not by UPDATE nor by DELETE, with any way of solving conflicts."""
    before = all_log_rows(store)
    raw.execute(f"PRAGMA recursive_triggers = {recursive_triggers}")
    refused(raw, statements)
    assert all_log_rows(store) == before
    assert faults(store) == []


@pytest.mark.parametrize("statement", [*CHANGES["every column"], *CHANGES["to what it is"]])
def test_no_column_is_changed(store: Store, raw: sqlite3.Connection, statement: str) -> None:
    """Not even to what it is, or to nothing."""
    before = all_log_rows(store)
    refused(raw, [statement])
    assert all_log_rows(store) == before


@pytest.mark.parametrize("recursive_triggers", ["ON", "OFF"])
@pytest.mark.parametrize("statement", REPLACEMENTS.values(), ids=REPLACEMENTS.keys())
def test_a_transition_is_not_replaced(
    store: Store, raw: sqlite3.Connection, statement: str, recursive_triggers: str
) -> None:
    """REPLACE deletes without a deletion that a trigger would see, unless it is asked to."""
    before = all_log_rows(store)
    raw.execute(f"PRAGMA recursive_triggers = {recursive_triggers}")
    refused(raw, [statement])
    assert all_log_rows(store) == before


@pytest.mark.parametrize(
    "more",
    [
        "state = 'forged'",
        "key = NULL",
        "key = 'other'",
        "at = '2000-01-01T00:00:00.000000Z'",
        "recorded_at = '2000-01-01T00:00:00.000000Z'",
        "digest = 'forged'",
        "version = version + 10",
        "id = 'f'",
        "machine = 'other'",
        "seq = seq + 10",
        "kind = 'deletion'",
        "kind = 'command'",
        "metadata = '{}'",
        "token = 'forged'",
        "token = NULL",
        "command_schema_version = 7",
        "state_schema_version = NULL",
        "events = '[]'",
        "from_type = 'Open'",
        "to_type = 'Open'",
        "command_type = 'Become'",
        "command = '{}'",
    ],
)
def test_a_permit_lets_nothing_pass_but_a_purge(
    store: Store, raw: sqlite3.Connection, more: str
) -> None:
    """Whoever has it can erase payloads, and change nothing else."""
    before = all_log_rows(store)
    name = more.partition(" = ")[0]
    kept = [part for part in STUB.split("SET", 1)[1].split(", ") if part.split()[0] != name]
    statement = f"UPDATE transition SET {', '.join([*kept, more])} WHERE id = 'e'"
    refused(raw, [PERMIT, statement])
    assert all_log_rows(store) == before


def test_a_permit_lets_a_purge_pass(store: Store, raw: sqlite3.Connection) -> None:
    """So the refusals above are for what they try, not for how they are written."""
    raw.execute(PERMIT)
    raw.execute(f"{STUB} WHERE id = 'e'")
    assert [row.kind for row in history(store, "e")] == ["purged", "purged"]


def test_a_purge_keeps_no_permit(store: Store, raw: sqlite3.Connection) -> None:
    """What the store's own purge may do ends with it."""
    stored(store, write("e", None, on=row_of(store, "e"), purge=True))
    assert raw.execute("SELECT * FROM purging").fetchall() == []
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(STUB)
    assert [row.kind for row in history(store, "f")] == ["command"]


def test_a_purge_leaves_nothing_in_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was erased is in no page either, though SQLite was built to leave it in free ones."""
    connect = sqlite3.connect

    def connect_carelessly(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.execute("PRAGMA secure_delete = OFF")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_carelessly)
    secret = "the-secret-that-was-erased" * 400  # more than a page
    made = write("s", "Open", tokens=["t"])
    log = tuple(replace(row, command=secret, metadata=secret, state=secret) for row in made.log)
    with open_store(f"sqlite:///{path}") as store:
        stored(store, replace(made, entity=replace(made.entity, state=secret), log=log))
    assert b"the-secret" in path.read_bytes()
    with open_store(f"sqlite:///{path}") as store:
        stored(store, write("s", None, on=row_of(store, "s"), purge=True))
    assert b"the-secret" not in path.read_bytes()
