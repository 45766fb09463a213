"""How services end that are joined on a caller's connection, and what they leave behind there."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
import pytest
from tests.stores.joined.databases import NOTE, Shared, SharedDatabase

from holdfast import Conflict, Retry, Service
from holdfast.errors import StoreError, VersionConflictError
from holdfast.record import Context
from holdfast.stores.contract import Store
from holdfast.testing.sample import Add, sample, undisturbed


def test_no_savepoint_is_left(shared: Shared, service: Any, connection: Any) -> None:
    """Given one of the caller's by the same name, it is the caller's again after each command."""
    joined = service.on(connection)
    joined.handle("e", Add())
    connection.execute("SAVEPOINT holdfast")
    connection.execute(NOTE)
    joined.handle("e", Add())
    late = joined.begin()
    late.prepare("e", Add())
    late.prepare("f", Add())
    joined.handle("e", Add())
    with pytest.raises(VersionConflictError):
        late.commit()
    connection.execute("ROLLBACK TO SAVEPOINT holdfast")
    connection.commit()
    assert (service.get("e").version, shared.notes()) == (1, 0)


def test_it_is_closed_by_itself(service: Any, connection: Any) -> None:
    """Neither the connection nor the store that was joined is closed with it."""
    joined = service.on(connection)
    joined.handle("e", Add())
    joined.store.close()
    with pytest.raises(StoreError, match="is closed; join it again"):
        joined.get("e")
    assert service.on(connection).get("e").version == 1
    connection.commit()
    assert service.get("e").version == 1


def test_from_one_transaction_it_joins_another(
    shared: Shared, service: Any, connection: Any
) -> None:
    """What is done on the second connection is no business of the first."""
    joined = service.on(connection)
    connection.rollback()
    with closing(shared.begin()) as other:
        assert joined.on(other).handle("e", Add()).version == 1
        other.commit()
    assert service.get("e").version == 1


def test_conflicts_are_told(store: Store, connection: Any) -> None:
    """To `on_conflict=` of the service that was joined."""
    told: list[Conflict] = []

    def interrupt(context: Context) -> None:
        if not told and context.version == 1:
            Service(sample, store, deps=undisturbed).on(connection).handle("e", Add())

    service = Service(sample, store, deps=interrupt, retry=Retry(on_conflict=told.append))
    joined = service.on(connection)
    joined.handle("e", Add())
    with pytest.raises(VersionConflictError):
        joined.handle("e", Add())
    assert [conflict.id for conflict in told] == ["e"]


def test_a_connection_that_is_lost_says_so(postgres_url: str) -> None:
    """Given a server that ends it in the midst of a command, what it said is told."""
    shared = SharedDatabase(postgres_url)
    with shared.open() as store, closing(shared.begin()) as connection:
        process = connection.info.backend_pid

        def interrupt(_: Context) -> None:
            with psycopg.connect(postgres_url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 10000)", [process])

        joined = Service(sample, store, deps=interrupt).on(connection)
        connection.execute(NOTE)
        with pytest.raises(StoreError, match="terminating connection"):
            joined.handle("e", Add())
        with pytest.raises(StoreError, match="is rolled back"):
            joined.handle("e", Add())
        assert (store.read_log(limit=1), shared.notes()) == ([], 0)
