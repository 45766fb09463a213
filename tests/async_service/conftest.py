"""Fixtures of the tests of AsyncService: event loops of both kinds, and a store that is sound."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.async_service.support import AsyncSample, Run, WatchedStore, service_on

from holdfast import open_store
from holdfast.testing.consistency import faults

T = TypeVar("T")
PATIENCE_SECONDS = 30 + int(os.environ.get("HOLDFAST_STRESS_CALLS", "0")) / 100


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs a coroutine: each test runs in both kinds of event loop."""
    factory = None
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop", reason="uvloop is not made for this").new_event_loop

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(coroutine, PATIENCE_SECONDS))

    return run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WatchedStore]:
    """Give a store; what it holds in the end must agree with itself."""
    with WatchedStore(tmp_path / "store.db") as store:
        yield store
    with open_store(store.url) as again:
        assert faults(again) == []


@pytest.fixture
def service(store: WatchedStore) -> AsyncSample:
    """Return a service of the sample machine on the store."""
    return service_on(store)
