"""The schema is made and changed by numbered migrations, by one process at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from msgspec.structs import replace
from tests.servers.databases import Database
from tests.stores.postgres.accounts import account_url, migrated
from tests.stores.postgres.conftest import waiting

from holdfast import open_store
from holdfast.errors import StoreError
from holdfast.stores.postgres import migrations, schema
from holdfast.stores.postgres.store import PostgresStore
from holdfast.stores.sql import Migration, load_migrations
from holdfast.testing.conformance.base import stored, versions
from holdfast.testing.writes import write

CORE = load_migrations("postgres")
INDEX = Migration(
    2,
    "index",
    1,
    "-- oldest-code: 1\nDROP INDEX CONCURRENTLY IF EXISTS holdfast.more;\n"
    "CREATE INDEX CONCURRENTLY more ON holdfast.transition (at);\n",
    in_transaction=False,
)
COLUMN = Migration(2, "column", 1, "ALTER TABLE holdfast.entity ADD COLUMN more text;\n")
BROKEN = Migration(2, "broken", 1, "CREATE TABLE holdfast.half ();\nSELECT no_such_thing;\n")
APPLIED = "SELECT number, name, oldest_code FROM holdfast.migration ORDER BY number"


def opened(url: str, *, migrate: bool = False) -> PostgresStore:
    """Return a store by its class, which has more than a store must."""
    store = open_store(url, migrate=migrate)
    assert isinstance(store, PostgresStore)
    return store


def know(monkeypatch: pytest.MonkeyPatch, *more: Migration) -> None:
    """Have the code know further migrations."""

    def load(dialect: str) -> list[Migration]:
        assert dialect == "postgres"
        return [*CORE, *more]

    for module in (migrations, schema):
        monkeypatch.setattr(module, "load_migrations", load)


def applied(raw: psycopg.Connection) -> Sequence[object]:
    return raw.execute(APPLIED).fetchall()


def test_a_store_is_made_on_demand_only(postgres_url: str) -> None:
    """An opening refuses a database without tables, unless it is to make them."""
    with opened(postgres_url) as store, pytest.raises(StoreError, match="run `holdfast migrate"):
        store.count("sample")
    with opened(postgres_url, migrate=True) as store:
        stored(store, write("e", "Open"))
    with opened(postgres_url) as store:
        assert versions(store, "e") == [1]


def test_migrating_again_does_nothing(application_url: str, raw: psycopg.Connection) -> None:
    """Not even for an account that could do nothing."""
    before = applied(raw)
    with opened(application_url) as store:
        store.migrate()
        assert store.plan() == ""
    assert applied(raw) == before == [(1, "core", 1)]


@pytest.mark.parametrize("more", [[], [INDEX], [COLUMN]], ids=["core", "index", "column"])
def test_several_at_once(
    postgres_url: str, raw_of_url: psycopg.Connection, monkeypatch: pytest.MonkeyPatch,
    more: list[Migration],
) -> None:  # fmt: skip
    """One does it and the others wait, also while an index is built beside those who write."""
    know(monkeypatch, *more)
    start = threading.Barrier(4)

    def migrate(_: int) -> None:
        with opened(postgres_url) as store:
            start.wait()
            store.migrate()
            assert store.count("sample") == {}

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, range(4)))
    assert applied(raw_of_url) == [(m.number, m.name, m.oldest_code) for m in [*CORE, *more]]


def test_an_older_schema_is_refused(application_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which one there is, which one is needed, and what to run."""
    know(monkeypatch, COLUMN)
    with opened(application_url) as store, pytest.raises(StoreError) as caught:
        store.count("sample")
    assert "has schema 1, and this code needs schema 2: run `holdfast migrate" in str(caught.value)


def test_a_newer_schema_is_used_where_it_allows(
    application_url: str, raw: psycopg.Connection
) -> None:
    """What was added to it is no concern; what older code cannot run on is refused."""
    raw.execute("INSERT INTO holdfast.migration VALUES (2, 'more', 1, '')")
    with opened(application_url) as store:
        assert store.count("sample") == {}
        [flaw] = store.flaws()
        assert "were not looked at: the store has schema 2, and this code knows schema 1" in flaw
    raw.execute("INSERT INTO holdfast.migration VALUES (3, 'other', 3, '')")
    with opened(application_url) as store:
        for use in (lambda: store.count("sample"), store.migrate, store.plan):
            with pytest.raises(StoreError, match=r"needs code that knows schema 3; .*upgrade"):
                use()


def test_the_plan_is_what_is_run(postgres_url: str, raw_of_url: psycopg.Connection) -> None:
    """It can be read, and run by somebody else, in any client."""
    with opened(postgres_url) as store:
        plan = store.plan()
        assert plan.startswith("BEGIN;\n")
        assert "VALUES (1, 'core', 1, holdfast.utc_now());" in plan
        raw_of_url.execute(plan.encode())
        assert store.plan() == ""
        stored(store, write("e", "Open"))
        assert store.flaws() == []


def test_the_plan_takes_no_rights(postgres_database: Database) -> None:
    """An account that could never run it may read it."""
    url = account_url(postgres_database, "viewer")
    with opened(url) as store:
        assert "CREATE SCHEMA holdfast;" in store.plan()
        with pytest.raises(StoreError, match=r"permission denied .*nothing was written"):
            store.migrate()


def test_a_schema_that_is_there_is_filled(
    postgres_url: str, raw_of_url: psycopg.Connection
) -> None:
    """Made by somebody who may, for somebody who may not."""
    raw_of_url.execute("CREATE SCHEMA holdfast")
    with opened(postgres_url, migrate=True) as store:
        stored(store, write("e", "Open"))


def test_a_migration_that_fails_leaves_nothing(
    application_url: str, migrator: PostgresStore, raw: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It can be tried again, and the store goes on as it was."""
    know(monkeypatch, BROKEN)
    with pytest.raises(StoreError, match=r"cannot migrate .*nothing was written"):
        migrator.migrate()
    assert applied(raw) == [(1, "core", 1)]
    assert raw.execute("SELECT to_regclass('holdfast.half')").fetchone() == (None,)
    know(monkeypatch, COLUMN)
    migrator.migrate()
    assert applied(raw) == [(1, "core", 1), (2, "column", 1)]


def test_a_migration_waits_for_another_so_long(
    migrator: PostgresStore, raw: psycopg.Connection, other: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Then it says so, and has done nothing."""
    know(monkeypatch, COLUMN)
    other.execute("LOCK TABLE holdfast.entity")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(migrator.migrate)
        waiting(raw)
        monkeypatch.setattr(migrations, "PATIENCE_SECONDS", 0.1)
        with pytest.raises(StoreError, match="is being migrated by another process"):
            migrator.migrate()
        other.rollback()
        first.result()
    assert applied(raw) == [(1, "core", 1), (2, "column", 1)]


def test_a_migration_does_not_hold_others_up_for_long(
    migrator: PostgresStore, raw: psycopg.Connection, other: psycopg.Connection,
    application_url: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Those who read queue up behind it while it waits for a lock, so it gives way and retries."""
    know(monkeypatch, replace(COLUMN, script="SET LOCAL lock_timeout = 100;" + COLUMN.script))
    other.execute("SELECT FROM holdfast.entity")
    with ThreadPoolExecutor(1) as pool, opened(application_url) as store:
        first = pool.submit(migrator.migrate)
        waiting(raw)
        assert raw.execute("SELECT count(*) FROM holdfast.entity").fetchone() == (0,)
        other.rollback()
        first.result()
        assert store.count("sample") == {}


@pytest.fixture
def raw_of_url(postgres_database: Database) -> Iterator[psycopg.Connection]:
    """Give a connection of the superuser to a database without tables."""
    with postgres_database.connect() as connection:
        yield connection


@pytest.fixture
def migrator(postgres_database: Database) -> Iterator[PostgresStore]:
    """Give a store for an account with the rights of the migrator; its tables are made."""
    with opened(migrated(postgres_database, "migrator")) as store:
        yield store
