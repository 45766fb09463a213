"""Fixtures of the stores' tests."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.servers.databases import Database, Databases
    from tests.stores.postgres.lending import Stores


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a store's file is made."""
    return tmp_path / "store.db"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Return a list of the connections that stores open from now on, which works as ever."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connect_and_tell(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        opened.append(connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_tell)
    return opened


@pytest.fixture(scope="session")
def postgres_stores(postgres_databases: Databases) -> Iterator[Stores]:
    """Lend empty stores on PostgreSQL, with their tables."""
    yield from _stores(postgres_databases)


@pytest.fixture(scope="session")
def oldest_postgres_stores(oldest_postgres_databases: Databases) -> Iterator[Stores]:
    """Lend the same on the oldest version that is supported, where the system has it."""
    yield from _stores(oldest_postgres_databases)


@pytest.fixture
def application_url(postgres_database: Database) -> str:
    """Return the URL of a store on PostgreSQL, for an account with the rights of applications.

    Its database is the test's own: the superuser may change the tables.
    """
    from tests.stores.postgres.accounts import migrated

    return migrated(postgres_database, "application")


def _stores(databases: Databases) -> Iterator[Stores]:
    from tests.stores.postgres.lending import Stores

    stores = Stores(databases)
    yield stores
    stores.close()
