"""Migrates the schema of a store in PostgreSQL, one process at a time.

It is done by hand or at a deployment, since it needs rights that an application has not.
"""

from __future__ import annotations

import re
import time
from hashlib import sha256
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from holdfast.errors import StoreError
from holdfast.stores.postgres import schema
from holdfast.stores.postgres.drive import Connection, advance, drive, fetch
from holdfast.stores.postgres.errors import statement_error
from holdfast.stores.postgres.statements import Ask, Row, Statements, statements_in
from holdfast.stores.postgres.url import SCHEMA, url_of
from holdfast.stores.sql import Migration, in_schema, load_migrations, load_script

PATIENCE_SECONDS = 600.0
"""How long other migrations, and those who hold locks on a table, are waited for."""
POLL_SECONDS = 0.2
LOCK_NOT_AVAILABLE = "55P03"

_STATEMENT = re.compile(r"[^;]+;\n")


def migrate(connection: Connection, sql: Statements, url: str) -> None:
    """Apply the migrations that are not applied yet, on a connection to be closed afterwards."""
    if not _due(connection, sql, url):
        return
    patience = time.monotonic() + PATIENCE_SECONDS
    _wait_for_others(connection, sql, url, patience)
    for migration in _due(connection, sql, url):
        _apply(connection, sql, url, migration, patience)


def plan(connection: Connection, sql: Statements, url: str) -> str:
    """Return the SQL that `migrate` would run; reads only."""
    parts = [
        part
        for migration in _due(connection, sql, url)
        for part in _script(connection, sql, url, migration)
    ]
    return "\n".join(parts)


def parts_on(connection: psycopg.Connection[Any], migration: Migration) -> list[str]:
    """Return what applies a migration in a transaction of the caller's; nothing where it was."""
    url, sql = url_of(connection), statements_in(SCHEMA)

    def answer(ask: Ask) -> list[Row]:
        cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
        return cursor.execute(ask.text, ask.parameters or None).fetchall()

    if connection.info.server_version < schema.OLDEST_SERVER * 10_000:
        raise StoreError(f"{url} is too old: a store needs PostgreSQL {schema.OLDEST_SERVER}")
    if advance(schema.applied(sql, url), answer) >= migration.number:
        return []
    [[exists]] = answer(sql.ask("has_namespace", schema=SCHEMA))
    return parts_of(sql, migration, has_namespace=bool(exists))


def _due(connection: Connection, sql: Statements, url: str) -> list[Migration]:
    number = drive(schema.applied(sql, url), connection, url, "migrate")
    return load_migrations("postgres")[number:]


def _script(connection: Connection, sql: Statements, url: str, migration: Migration) -> list[str]:
    """Return what applies a migration, in the parts that are sent one after the other."""
    [[exists]] = fetch(connection, sql.ask("has_namespace", schema=sql.schema), url, "migrate")
    parts = parts_of(sql, migration, has_namespace=bool(exists))
    if not migration.in_transaction:
        return [sql.spelled_out("begin_alone"), *parts]
    return [sql.spelled_out("begin_migration"), *parts, "COMMIT;\n"]


def parts_of(sql: Statements, migration: Migration, *, has_namespace: bool) -> list[str]:
    """Return what applies a migration, without what begins and commits its transaction."""
    text = in_schema(migration.script, sql.schema)
    number, name, oldest_code = migration.number, migration.name, migration.oldest_code
    record = sql.spelled_out("record_migration", number=number, name=name, oldest_code=oldest_code)
    if not migration.in_transaction:
        return [*_STATEMENT.findall(text), record]
    parts = [text, record, in_schema(load_script("postgres", "grants"), sql.schema)]
    if number == 1:
        parts.insert(0, sql.spelled_out("create_migration_table"))
        if not has_namespace:
            parts.insert(0, sql.spelled_out("create_schema"))
    return parts


def _wait_for_others(connection: Connection, sql: Statements, url: str, patience: float) -> None:
    """Keep other migrations of the same schema away, until the connection is closed.

    The lock is asked for again and again, since a statement that waited for it would hold a
    snapshot, and an index that the other one builds concurrently waits for all of these to end.
    """
    key = int.from_bytes(sha256(f"holdfast {sql.schema}".encode()).digest()[:8], signed=True)
    ask = sql.ask("try_to_migrate", key=key)
    while not fetch(connection, ask, url, "migrate")[0][0]:
        if time.monotonic() > patience:
            raise StoreError(
                f"{url} is being migrated by another process, for more than "
                f"{PATIENCE_SECONDS:g} s; nothing was done here, look at that one"
            )
        time.sleep(POLL_SECONDS)


def _apply(
    connection: Connection, sql: Statements, url: str, migration: Migration, patience: float
) -> None:
    """Apply a migration, again where it has waited in the queue of a lock for too long."""
    script = _script(connection, sql, url, migration)
    while True:
        try:
            for part in script:
                connection.execute(part.encode(), prepare=False)
        except psycopg.Error as error:
            lost = connection.closed
            if not lost:
                connection.rollback()
            if error.sqlstate != LOCK_NOT_AVAILABLE or time.monotonic() > patience:
                raise statement_error(
                    url, error, doing="migrate", lost=lost, is_commit=False
                ) from error
            time.sleep(POLL_SECONDS)
        else:
            return
