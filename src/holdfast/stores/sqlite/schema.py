"""The schema of an SQLite file: brought up to date at opening, and looked over by `verify`."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from holdfast.errors import StoreError
from holdfast.machine.canonical import format_time
from holdfast.stores.contract import Clock
from holdfast.stores.sql import Migration, load_migrations, spelled_out
from holdfast.stores.sqlite.statements import QUERIES, begin_moment


def expect_store(connection: sqlite3.Connection, url: str, *, read_only: bool) -> None:
    """Refuse a file that is no store, and to read one that must be migrated first."""
    if not connection.execute(QUERIES["is_store"].text).fetchone()[0]:
        raise StoreError(f"{url} is no Holdfast store: it has no tables of one")
    number, newest = schema_version(connection, url), load_migrations("sqlite")[-1].number
    if read_only and number < newest:
        raise StoreError(
            f"{url} has schema {number}, and this code reads schema {newest}: open it "
            "once without mode=ro, which migrates it"
        )


def migrate(connection: sqlite3.Connection, url: str, clock: Clock) -> None:
    """Apply the migrations that are missing, in one transaction, under the write lock."""
    migrations = load_migrations("sqlite")
    newest = migrations[-1].number
    if schema_version(connection, url) >= newest:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        applied = schema_version(connection, url)
        for migration in migrations[applied:]:
            for statement in statements_of(migration, clock):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def statements_of(migration: Migration, clock: Clock) -> list[str]:
    """Return what applies a migration, and records it; for the first also what it is recorded in.

    They are executed in one transaction.
    """
    record = spelled_out(
        QUERIES["record_migration"].text,
        number=migration.number,
        name=migration.name,
        oldest_code=migration.oldest_code,
        applied_at=format_time(clock()),
    )
    first = [QUERIES["create_migration_table"].text] if migration.number == 1 else []
    return [*first, *_statements(migration.script), record]


def schema_version(connection: sqlite3.Connection, url: str) -> int:
    """Return the newest migration applied, 0 for none; raises StoreError if it needs newer code."""
    if not connection.execute(QUERIES["has_schema"].text).fetchone()[0]:
        return 0
    number, oldest_code = connection.execute(QUERIES["schema_version"].text).fetchone()
    known = load_migrations("sqlite")[-1].number
    if oldest_code > known:
        raise StoreError(
            f"{url} has schema {number}, which needs code that knows schema "
            f"{oldest_code}; this one knows {known}: upgrade holdfast"
        )
    return int(number)


def flaws(connection: sqlite3.Connection, url: str) -> list[str]:
    """Return, in words, what of the schema is gone, what permits are left, and what positions."""
    begin_moment(connection)
    number = schema_version(connection, url)
    stored = set(connection.execute(QUERIES["definitions"].text).fetchall())
    given, last = connection.execute(QUERIES["last_positions"].text).fetchone()
    found = _changed(number, stored) + _misplaced(given, last)
    if any(name == "purging" for _, name, _ in stored):
        [permits] = connection.execute(QUERIES["permits"].text).fetchone()
        if permits:
            found.append(f"{permits} entities may be erased by anybody: their permits were left")
    return found


def _changed(number: int, stored: set[tuple[str, str, str]]) -> list[str]:
    known = load_migrations("sqlite")[-1].number
    if number != known:
        return [
            f"the guards of the log were not looked at: the store has schema {number}, and this "
            f"code knows schema {known}; verify it with the code that made it"
        ]
    gone = _definitions() - stored
    return sorted(f"the {kind} {name} is not there as it was made" for kind, name, _ in gone)


def _definitions() -> set[tuple[str, str, str]]:
    """Return the kind, the name and the text of all that the migrations make."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(QUERIES["create_migration_table"].text)
        for migration in load_migrations("sqlite"):
            connection.executescript(migration.script)
        return set(connection.execute(QUERIES["definitions"].text).fetchall())


def _misplaced(given: int, last: int) -> list[str]:
    if given > last:
        return [
            f"the log ends at position {last}, and position {given} was given out: what came "
            "after was deleted or moved"
        ]
    if given < last:
        return [f"the log ends at position {last}, and only {given} were given out"]
    return []


def _statements(script: str) -> list[str]:
    """Split a script at the semicolons that end statements, not at those inside triggers."""
    statements: list[str] = []
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements
