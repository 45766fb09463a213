"""What the accounts of a store may do, and that the log is appended to and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from tests.servers.databases import Database
from tests.stores.postgres.accounts import ROLES, account_url, migrated

from holdfast import open_store
from holdfast.errors import StoreError
from holdfast.stores.contract import LogRow, Store
from holdfast.testing.conformance.base import history, row_of, stored
from holdfast.testing.consistency import all_log_rows, faults
from holdfast.testing.writes import write

TABLES = ("entity", "transition", "feed", "log_head", "checkpoint", "purging", "migration")
COLUMNS = [name for name in LogRow.__struct_fields__ if name != "seq"]

STUB = """
    UPDATE holdfast.transition
    SET kind = 'purged', from_type = NULL, to_type = NULL, command_type = NULL, command = NULL,
        events = NULL, state = NULL, metadata = NULL
"""
PERMIT = "INSERT INTO holdfast.purging (machine, id) VALUES ('sample', 'e')"

CHANGES = [
    *(f"UPDATE holdfast.transition SET {column} = NULL" for column in COLUMNS),
    *(f"UPDATE holdfast.transition SET {column} = {column}" for column in COLUMNS),
    "DELETE FROM holdfast.transition",
    "DELETE FROM holdfast.transition WHERE version = 2",
    "TRUNCATE holdfast.transition",
    "TRUNCATE holdfast.transition, holdfast.feed CASCADE",
    STUB,
    f"INSERT INTO holdfast.purging (machine, id) VALUES ('sample', 'f'); {STUB}",
    "INSERT INTO holdfast.transition (machine, id, version, kind, at, recorded_at, digest)"
    " VALUES ('sample', 'e', 1, 'command', '', '', '')"
    " ON CONFLICT (machine, id, version) DO UPDATE SET digest = 'forged'",
    "MERGE INTO holdfast.transition AS t USING holdfast.entity AS e ON t.id = e.id"
    " WHEN MATCHED THEN DELETE",
    f"{PERMIT}; DELETE FROM holdfast.transition",
    "UPDATE holdfast.feed SET position = position + 10",
    "DELETE FROM holdfast.feed",
    "TRUNCATE holdfast.feed",
    "DELETE FROM holdfast.log_head",
    "TRUNCATE holdfast.log_head",
    "DELETE FROM holdfast.entity",
    "TRUNCATE holdfast.entity",
]  # fmt: skip
FORGERIES = [
    "state = '{}'", "key = NULL", "key = 'other'", "at = '2000'", "recorded_at = '2000'",
    "digest = 'forged'", "version = version + 10", "id = 'f'", "machine = 'other'",
    "kind = 'deletion'", "metadata = '{}'", "token = 't'", "events = '[]'", "from_type = 'Open'",
    "to_type = 'Open'", "command_type = 'Become'", "command = '{}'",
    "command_schema_version = 7", "state_schema_version = NULL",
]  # fmt: skip
BEYOND_APPLICATION = [
    *(f"DROP TABLE holdfast.{table} CASCADE" for table in TABLES),
    *(f"TRUNCATE holdfast.{table}" for table in TABLES),
    *(f"ALTER TABLE holdfast.{table} DISABLE TRIGGER ALL" for table in TABLES),
    "DROP SCHEMA holdfast CASCADE",
    "CREATE TABLE holdfast.more ()",
    "DROP TRIGGER transition_is_not_updated ON holdfast.transition",
    "CREATE OR REPLACE FUNCTION holdfast.allow_purge() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RETURN NEW; END $$",
    "SET session_replication_role = replica",
    "INSERT INTO holdfast.feed VALUES (99, 99)",
    "UPDATE holdfast.log_head SET position = 0",
    "UPDATE holdfast.transition SET seq = DEFAULT",
    "INSERT INTO holdfast.transition (seq, machine, id, version, kind, at, recorded_at, digest)"
    " OVERRIDING SYSTEM VALUE VALUES (0, 'sample', 'g', 1, 'command', '', '', '')",
    "INSERT INTO holdfast.purging VALUES ('sample', 'e', '9')",
    "UPDATE holdfast.migration SET oldest_code = 0",
    "DELETE FROM holdfast.checkpoint",
    "SELECT setval(pg_get_serial_sequence('holdfast.transition', 'seq'), 1)",
]
BEYOND_VIEWER = [
    "INSERT INTO holdfast.checkpoint VALUES ('reader', 1, '')",
    "UPDATE holdfast.entity SET version = 9",
    "DELETE FROM holdfast.entity WHERE version = 0",
    "INSERT INTO holdfast.transition (machine, id, version, kind, at, recorded_at, digest)"
    " VALUES ('sample', 'g', 1, 'command', '', '', '')",
    PERMIT,
    STUB,
]  # fmt: skip


@pytest.fixture
def store(application_url: str) -> Iterator[Store]:
    """Give a store with three transitions; whatever a test tries, they are there afterwards."""
    with open_store(application_url) as store:
        stored(store, write("e", "Open", "Closed", keys=["k"], tokens=["t"]))
        stored(store, write("f", "Open"))
        before = all_log_rows(store)
        yield store
        assert all_log_rows(store)[:3] == before
        assert faults(store) == []


def connected(database: Database, role: str) -> psycopg.Connection:
    """Return a connection of an account with a role, or of the superuser."""
    url = account_url(database, role) if role in ROLES else database.url()
    return psycopg.connect(url, autocommit=True)


@pytest.mark.parametrize("role", ["owner", "application"])
def test_nothing_is_changed(store: Store, postgres_database: Database, role: str) -> None:
    """Neither by whom it belongs to, nor by an application, in whatever way it is tried."""
    with connected(postgres_database, role) as connection:
        for change in CHANGES:
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(change.encode())
            expected = {"P0001", "42501"} if role == "application" else {"P0001", "428C9"}
            assert caught.value.sqlstate in expected, change


def test_a_permit_lets_nothing_pass_but_a_purge(store: Store, raw: psycopg.Connection) -> None:
    """Whoever has it can erase payloads, and change nothing else."""
    parts = [" ".join(part.split()) for part in STUB.split("SET", 1)[1].split(",")]
    for forgery in FORGERIES:
        name = forgery.split()[0]
        sets = ", ".join([*(part for part in parts if part.split()[0] != name), forgery])
        with raw.transaction(force_rollback=True):
            raw.execute(PERMIT)
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                raw.execute(f"UPDATE holdfast.transition SET {sets} WHERE id = 'e'".encode())


def test_a_permit_ends_with_its_transaction(store: Store, raw: psycopg.Connection) -> None:
    """So a purge passes in it, and one that was left behind serves nobody."""
    with raw.transaction(force_rollback=True):
        raw.execute(PERMIT)
        assert raw.execute(f"{STUB} WHERE id = 'e'".encode()).rowcount == 2
    raw.execute(PERMIT)
    with pytest.raises(psycopg.errors.RaiseException):
        raw.execute(f"{STUB} WHERE id = 'e'".encode())


def test_a_purge_keeps_no_permit(store: Store, raw: psycopg.Connection) -> None:
    """What the store's own purge may do ends with it."""
    row = stored(store, write("g", "Open"))
    stored(store, write("g", None, on=row, purge=True))
    assert raw.execute("SELECT count(*) FROM holdfast.purging").fetchone() == (0,)
    assert [entry.kind for entry in history(store, "g")] == ["purged", "deletion"]


def test_what_an_application_may_not(store: Store, postgres_database: Database) -> None:
    """Alter history or its order, drop or change tables, or its own bounds."""
    with connected(postgres_database, "application") as connection:
        for statement in BEYOND_APPLICATION:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_a_viewer_reads_everything(store: Store, postgres_database: Database) -> None:
    """And numbers the log for that, though it can write nothing."""
    with open_store(account_url(postgres_database, "viewer")) as viewed:
        assert faults(viewed) == []
        assert viewed.flaws() == []
        assert [row.seq for row in viewed.read_log(limit=9)] == [1, 2, 3]
        with pytest.raises(StoreError, match="permission denied"):
            viewed.commit([write("g", "Open")])
    with connected(postgres_database, "viewer") as connection:
        for statement in (*BEYOND_VIEWER, *BEYOND_APPLICATION):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_a_migrator_makes_and_owns_the_tables(postgres_database: Database) -> None:
    """It needs no more than the right to create a schema, and is no superuser."""
    with open_store(migrated(postgres_database, "migrator")) as store:
        stored(store, write("e", "Open"))
        assert row_of(store, "e").version == 1
    query = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'holdfast'"
    with postgres_database.connect() as connection:
        assert connection.execute(query).fetchall() == [("holdfast_migrator",)]
