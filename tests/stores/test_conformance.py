"""Every store passes the one conformance suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdfast import open_store
from holdfast.stores.contract import Clock, Store
from holdfast.testing import StoreConformance
from holdfast.testing.conformance import Opener
from holdfast.testing.conformance.base import Connect, service_on

if TYPE_CHECKING:
    from tests.stores.postgres.lending import Stores


def opener(url: str) -> Opener:
    """Return what opens the store that a URL names."""

    def open(*, clock: Clock | None = None) -> Store:
        return open_store(url, clock=clock)

    return open


class TestMemory(StoreConformance):
    forgets = "memory:// lives as long as its object"

    @pytest.fixture
    def open(self) -> Opener:
        return opener("memory://")


class TestSqliteInMemory(StoreConformance):
    forgets = "sqlite:///:memory: lives as long as its object"

    @pytest.fixture
    def open(self) -> Opener:
        return opener("sqlite:///:memory:")


class TestSqliteFile(StoreConformance):
    @pytest.fixture
    def open(self, tmp_path: Path) -> Opener:
        return opener(f"sqlite:///{tmp_path / 'store.db'}")


class TestSqliteFileNormal(StoreConformance):
    @pytest.fixture
    def open(self, tmp_path: Path) -> Opener:
        return opener(f"sqlite:///{tmp_path / 'store.db'}?synchronous=NORMAL")


class TestPostgres(StoreConformance):
    @pytest.fixture
    def open(
        self, postgres_stores: Stores, record_property: Callable[[str, object], None]
    ) -> Iterator[Opener]:
        record_property("postgres", postgres_stores.version)
        with postgres_stores.lent() as url:
            yield opener(url)


class TestOldestPostgres(StoreConformance):
    @pytest.fixture
    def open(
        self, oldest_postgres_stores: Stores, record_property: Callable[[str, object], None]
    ) -> Iterator[Opener]:
        record_property("postgres", oldest_postgres_stores.version)
        with oldest_postgres_stores.lent() as url:
            yield opener(url)

    @pytest.fixture
    def connect(self) -> Connect:
        """Return what makes services that block: the other ways use the store alike."""
        return service_on


def test_what_needs_no_pytest_is_there_without_it() -> None:
    """A clock for tests of any kind; the suite says what it needs."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYTEST], check=False, capture_output=True, text=True
    )
    assert done.stdout == "2026-01-02 03:04:15+00:00\n"
    assert done.stderr.endswith("run by pytest: install holdfast[testing]\n")


WITHOUT_PYTEST = """
import sys
sys.modules["pytest"] = None
from holdfast.testing import ManualClock
print(ManualClock().advance(10))
from holdfast.testing import StoreConformance
"""


def test_no_part_of_the_suite_hides_another() -> None:
    """Each name of a test stands once, so that all of them run."""
    names = [
        name for part in StoreConformance.__mro__ for name in vars(part) if name.startswith("test_")
    ]
    assert len(names) == len(set(names)) > 100
