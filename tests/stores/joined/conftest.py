"""A database that a store shares with its users, and a service on a connection of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.stores.joined.databases import Shared, SharedDatabase, SharedFile

from holdfast import Service
from holdfast.stores.contract import Store
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Interrupt, sample, undisturbed


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    """Return a database that a store shares with its users."""
    if request.param == "sqlite":
        return SharedFile(tmp_path / "shared.db")
    return SharedDatabase(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(shared: Shared) -> Iterator[Store]:
    """Return the store; what it holds in the end agrees with itself."""
    with shared.open() as store:
        yield store
        assert faults(store) == []


@pytest.fixture
def service(store: Store) -> Service[Any, Any, Interrupt]:
    """Return a service of the sample machine."""
    return Service(sample, store, deps=undisturbed)


@pytest.fixture
def connection(shared: Shared) -> Iterator[Any]:
    """Return a connection with an open transaction."""
    with closing(shared.begin()) as connection:
        yield connection
