"""Fixtures of the service's tests: every store, a clock that stands still, an order service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.orders import Desk, Orders, order

from holdfast import Service, open_store
from holdfast.stores.contract import Store
from holdfast.testing.clock import ManualClock


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a store: each test runs on every kind."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/orders.db"


@pytest.fixture
def clock() -> ManualClock:
    """Return the store's clock."""
    return ManualClock()


@pytest.fixture
def store(url: str, clock: ManualClock) -> Iterator[Store]:
    """Return an empty store."""
    with open_store(url, clock=clock) as store:
        yield store


@pytest.fixture
def desk() -> Desk:
    """Return what the handlers take."""
    return Desk()


@pytest.fixture
def orders(store: Store, desk: Desk) -> Orders:
    """Return the order service on the store."""
    return Service(order, store, deps=desk)
