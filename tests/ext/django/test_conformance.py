"""The store on Django's connections passes the suite that every store passes."""

from __future__ import annotations

import pytest

from holdfast.ext.django import DjangoStore
from holdfast.stores.contract import Clock
from holdfast.testing import StoreConformance
from holdfast.testing.conformance import Opener
from holdfast.testing.conformance.base import Connect, service_on

DJANGOS = "the connections of other threads are Django's to close, at the end of a request"


class Conformance(StoreConformance):
    is_one_threads = DJANGOS

    @pytest.fixture
    def open(self, project: str) -> Opener:
        def open(*, clock: Clock | None = None) -> DjangoStore:
            return DjangoStore(clock=clock)

        return open

    @pytest.fixture
    def connect(self) -> Connect:
        """Return what makes services that block: the others do not use Django's connections."""
        return service_on


class TestInAutocommit(Conformance):
    """Each verb is a transaction of its own."""
