"""What the parts of the conformance suite share: the store under test, and services on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pytest
from msgspec.structs import replace

from holdfast.record import Context
from holdfast.service.retry import Retry
from holdfast.service.service import Service
from holdfast.stores.contract import Clock, EntityRow, Key, LogRow, Outcome, Store, Write
from holdfast.testing.clock import ManualClock
from holdfast.testing.conformance import drivers
from holdfast.testing.consistency import all_transitions, faults
from holdfast.testing.sample import Interrupt, sample, undisturbed
from holdfast.testing.writes import MACHINE

SampleService = drivers.SampleService
ONE_ATTEMPT = Retry(attempts=1)


class Opener(Protocol):
    """Opens the store under test: the same one at every call within a test."""

    def __call__(self, *, clock: Clock | None = None) -> Store:
        """Return a store that the caller closes; `clock` overrides its time."""
        ...


class Connect(Protocol):
    """Makes services of the sample machine; `interrupt` is called before each decision."""

    def __call__(
        self, store: Store, interrupt: Interrupt = undisturbed, *, attempts: int = 10
    ) -> SampleService:
        """Return a service on a store."""
        ...


class Suite:
    """The fixtures of the suite; a store's own tests give the fixture `open`."""

    forgets = ""
    """Why a store opened anew does not find what was written; empty where it does."""

    is_one_threads = ""
    """Why only one thread at a time may use a store; empty where all may."""

    @pytest.fixture
    def open(self) -> Opener:
        """Return what opens the store under test."""
        raise NotImplementedError(
            "define a fixture `open` that returns a function (clock=) → Store"
        )

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the clock of the store under test."""
        return ManualClock()

    @pytest.fixture
    def store(self, open: Opener, clock: ManualClock) -> Iterator[Store]:
        """Give the store under test; what it holds in the end must agree with itself."""
        with open(clock=clock) as store:
            yield store
            assert faults(store) == []

    @pytest.fixture(params=drivers.DRIVERS, ids=lambda driver: driver.__name__)
    def connect(self, request: pytest.FixtureRequest) -> Connect:
        """Return what makes services: each test of a service runs for every way to call one."""

        def connect(
            store: Store, interrupt: Interrupt = undisturbed, *, attempts: int = 10
        ) -> SampleService:
            driver: type[SampleService] = request.param
            return driver(sample, store, deps=interrupt, retry=Retry(attempts=attempts))

        return connect

    @pytest.fixture
    def service(self, store: Store, connect: Connect) -> SampleService:
        """Return a service of the sample machine on the store."""
        return connect(store)


def service_on(
    store: Store, interrupt: Interrupt = undisturbed, *, attempts: int = 10
) -> SampleService:
    """Return a service of the sample machine; `interrupt` is called before each decision."""
    return Service(sample, store, deps=interrupt, retry=Retry(attempts=attempts))


def first_time(act: Callable[[], object]) -> Interrupt:
    """Return an interruption that acts before the first decision only."""
    pending = [act]

    def interrupt(context: Context) -> None:
        if pending:
            pending.pop()()

    return interrupt


def commit_one(store: Store, write: Write) -> Outcome:
    """Commit a single write; return its outcome as `unsealed` does."""
    [outcome] = store.commit([write])
    return unsealed(store, write, outcome)


def commit_many(store: Store, writes: Sequence[Write]) -> list[Outcome]:
    """Commit writes; return the outcomes as `unsealed` does."""
    return [
        unsealed(store, write, outcome)
        for write, outcome in zip(writes, store.commit(writes), strict=True)
    ]


def unsealed(store: Store, write: Write, outcome: Outcome) -> Outcome:
    """Return the outcome of a write without its seal, which must be what the log has."""
    if outcome.seal is not None:
        seq, recorded_at, digest = outcome.seal
        entity = write.entity
        row = store.written(entity.machine, entity.id, entity.version)
        assert row is not None
        assert seq in {0, row.seq}
        assert (recorded_at, digest) == (row.recorded_at, row.digest)
    return replace(outcome, seal=None)


def stored(store: Store, write: Write) -> EntityRow:
    """Commit a single write, which must be applied, and return the entity's row."""
    assert commit_one(store, write) == Outcome(True, write.entity.version)
    return row_of(store, write.entity.id, write.entity.machine)


def row_of(store: Store, id: str, machine: str = MACHINE) -> EntityRow:
    """Return an entity's row, which must be there."""
    row = find_row(store, id, machine)
    assert row is not None, f"{machine} {id!r} has no row"
    return row


def find_row(store: Store, id: str, machine: str = MACHINE) -> EntityRow | None:
    """Return an entity's row as loaded."""
    [loaded] = store.load([Key(machine, id)])
    return loaded.entity


def versions(store: Store, id: str, machine: str = MACHINE) -> list[int]:
    """Return the versions of an entity that the log holds."""
    return [row.version for row in history(store, id, machine)]


def history(store: Store, id: str, machine: str = MACHINE) -> list[LogRow]:
    """Return an entity's whole history."""
    return all_transitions(store, machine, id)
