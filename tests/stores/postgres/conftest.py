"""Fixtures of the tests of the PostgreSQL store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from tests.servers.databases import Database
from tests.stores.postgres.proxy import Proxy, proxy_to

from holdfast import open_store
from holdfast.stores.contract import Store
from holdfast.stores.postgres.statements import Steps
from holdfast.testing.writes import AT

Open = Callable[..., Store]


@pytest.fixture
def open(application_url: str) -> Iterator[Open]:
    """Return a function that opens the store, with other parameters in its URL if given.

    The stores are closed at the end.
    """
    with ExitStack() as stack:

        def open(parameters: str = "", *, url: str = application_url) -> Store:
            separator = "&" if "?" in url else "?"
            return stack.enter_context(open_store(f"{url}{separator}{parameters}"))

        yield open


@pytest.fixture
def store(open: Open) -> Store:
    """Return a store with tables, for an account with the rights of applications."""
    return open()


@pytest.fixture
def raw(postgres_database: Database, application_url: str) -> Iterator[psycopg.Connection]:
    """Give a connection of the superuser to the store's database, which commits by itself."""
    with postgres_database.connect() as connection:
        yield connection


@pytest.fixture
def other(postgres_database: Database, application_url: str) -> Iterator[psycopg.Connection]:
    """Give a second one, which begins transactions."""
    with psycopg.connect(postgres_database.url()) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def proxy(application_url: str) -> Iterator[Proxy]:
    """Give a proxy before the store's server."""
    with proxy_to(application_url) as proxy:
        yield proxy


def at_once() -> Steps[str]:
    """Tell the time of writing, without asking for it."""
    yield from ()
    return AT


def waiting(raw: psycopg.Connection, count: int = 1) -> None:
    """Return once so many backends wait for a lock in the database."""
    deadline = time.monotonic() + 10
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while raw.execute(query).fetchone() != (count,):
        assert time.monotonic() < deadline, f"there are not {count} who wait"
        time.sleep(0.005)
