"""Fixtures of the flows' tests: stores of every kind, a clock that stands still, an order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flow.orders import Orders, order_flow

from holdfast import open_store
from holdfast.stores.contract import Store
from holdfast.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """Return the store's clock."""
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    """Return an empty store: each test runs on both kinds."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/orders.db"
    with open_store(url, clock=clock) as store:
        yield store


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return an empty store with a clock of its own: for what each database does in its way."""
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/orders.db"}
    url = urls.get(request.param) or request.getfixturevalue("postgres_url")
    with open_store(url) as store:
        store.migrate()
        yield store


@pytest.fixture
def flow() -> type[Orders]:
    """Return an order flow of the test's own."""
    return order_flow()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a store in a database whose transactions may be the caller's."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/orders.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Store]:
    """Return the store of that URL."""
    with open_store(database_url) as store:
        store.migrate()
        yield store
