"""Fixtures of the tests with SQLAlchemy: the shop's database, of either kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ext.sqlalchemy.shop import Base, Script, Shop, engine_for

from holdfast import open_store
from holdfast.ext.sqlalchemy import nest_savepoints


def opened(url: str) -> Iterator[Shop]:
    """Make the tables, and clear up afterwards."""
    engine = nest_savepoints(engine_for(url))
    with open_store(url) as store:
        store.migrate()
        Base.metadata.create_all(engine)
        yield Shop(url, engine, store, Script())
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return a shop: each test runs on both kinds of database."""
    if request.param == "sqlite":
        yield from opened(f"sqlite:///{tmp_path}/shop.db")
    else:
        yield from opened(request.getfixturevalue("postgres_url"))


@pytest.fixture
def sqlite_shop(tmp_path: Path) -> Iterator[Shop]:
    """Return a shop in a file."""
    yield from opened(f"sqlite:///{tmp_path}/shop.db")


@pytest.fixture
def postgres_shop(postgres_url: str) -> Iterator[Shop]:
    """Return a shop in PostgreSQL."""
    yield from opened(postgres_url)
