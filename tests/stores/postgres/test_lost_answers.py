"""Answers that are lost: what was sent is sent again, the same, until it is known what it did."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.stores.postgres.conftest import Open, at_once, waiting
from tests.stores.postgres.proxy import Fate, Proxy

from holdfast.errors import OutcomeUnknownError, StoreError
from holdfast.record import Context
from holdfast.stores.contract import (
    Check,
    Checkpoint,
    CommitUncertainError,
    Outcome,
    Store,
)
from holdfast.stores.postgres.statements import Statements
from holdfast.stores.postgres.writing import write_free
from holdfast.testing.conformance.base import commit_one, row_of, service_on, stored, versions
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add
from holdfast.testing.sample import Open as OpenState
from holdfast.testing.writes import write

PAYLOAD = "$type"
"""What only the message of a write holds."""
HOLD = "SELECT FROM holdfast.entity WHERE id = 'e' FOR UPDATE"
CREATE = (
    "INSERT INTO holdfast.entity (machine, id, version, schema_version, created_at, updated_at,"
    " entered_version, digest) VALUES ('sample', 'e', 1, 1, '', '', 1, '')"
)


@pytest.fixture
def lossy(open: Open, proxy: Proxy) -> Store:
    """Return a store behind the proxy."""
    return open(url=proxy.url)


@pytest.mark.parametrize("fate", ["is lost", "loses its answer"])
def test_a_command_is_applied_once(lossy: Store, proxy: Proxy, store: Store, fate: Fate) -> None:
    """Whether the write came to the server or not; nothing is decided again."""
    decided: list[Context] = []
    service = service_on(lossy, decided.append)
    service.handle("e", Add(1))
    proxy.expect(PAYLOAD, fate)
    assert service.handle("e", Add(10)).state == OpenState(11)
    assert not proxy.expected()
    assert len(decided) == 2
    assert versions(store, "e") == [1, 2]
    assert faults(store) == []


@pytest.mark.parametrize("count", [1, 3])
def test_the_store_says_that_it_does_not_know(
    lossy: Store, proxy: Proxy, store: Store, count: int
) -> None:
    """And finds the same write in the log, when it is sent again."""
    batch = [write(id, "Open", tokens=[id]) for id in "abc"[:count]]
    stored(lossy, write("warm-up", "Open"))
    proxy.expect(PAYLOAD, "loses its answer")
    with pytest.raises(CommitUncertainError, match="not known") as caught:
        lossy.commit(batch)
    assert "postgresql://holdfast_test_application@127.0.0.1" in str(caught.value)
    assert lossy.commit(batch) == [Outcome(True, 1, found=True)] * count
    assert versions(store, "a") == [1]


def test_what_was_lost_before_it_came_is_written(lossy: Store, proxy: Proxy) -> None:
    """Then the second time is the first."""
    made = write("e", "Open", tokens=["t"])
    proxy.expect(PAYLOAD, "is lost")
    with pytest.raises(CommitUncertainError):
        lossy.commit([made])
    assert commit_one(lossy, made) == Outcome(True, 1)


def test_a_conflict_that_cannot_be_told_is_not_known(lossy: Store, proxy: Proxy) -> None:
    """The others of the batch are written, so the whole batch is sent again."""
    stored(lossy, write("late", "Open"))
    batch = [write("e", "Open", tokens=["t"]), write("late", "Open", tokens=["u"])]
    lossy.commit([write("late", "Open")])  # so that the statement is known to the server
    for _ in range(4):  # on each of the connections that are tried
        proxy.expect("late", "loses its answer")
    with pytest.raises(CommitUncertainError):
        lossy.commit(batch)


def test_a_batch_is_not_told_to_have_failed_where_some_of_it_is_written() -> None:
    """Given a statement that fails after the one which wrote: it only asks what came too late."""
    writes = [write("e", "Open"), write("late", "Open")]
    failed = StoreError("it took longer than statement_timeout")
    for written, told in (([("sample", "e")], CommitUncertainError), ([], StoreError)):
        steps = write_free(Statements("holdfast"), writes, at_once)
        assert next(steps).is_commit
        assert not steps.send(written).is_commit
        with pytest.raises(StoreError) as caught:
            steps.throw(failed)
        assert type(caught.value) is told


@pytest.mark.parametrize("message", ["COMMIT\0", PAYLOAD, "BEGIN"])
@pytest.mark.parametrize("fate", ["is lost", "loses its answer"])
def test_a_transaction_happens_once(
    lossy: Store, proxy: Proxy, store: Store, message: str, fate: Fate
) -> None:
    """Before COMMIT it is begun anew, unasked; from then on it is not known what happened."""
    rows = [stored(store, write(id, "Open")) for id in ("a", "b")]
    batch = [write(row.id, "Closed", on=row, tokens=[row.id]) for row in rows]
    checkpoint = Checkpoint("reader", 5)
    lossy.count("sample")
    proxy.expect(message, fate)
    if message == "COMMIT\0":
        with pytest.raises(CommitUncertainError):
            lossy.commit(batch, atomic=True, checkpoint=checkpoint)
    outcomes = lossy.commit(batch, atomic=True, checkpoint=checkpoint)
    assert not proxy.expected()
    assert [outcome.applied for outcome in outcomes] == [True, True, True]
    assert store.checkpoint("reader") == 5
    assert versions(store, "a") == versions(store, "b") == [1, 2]


def test_any_row_decides_for_all(lossy: Store, proxy: Proxy, store: Store) -> None:
    """Of a transaction that happened, though its entities have moved on since."""
    batch = [write(id, "Open", tokens=[id]) for id in "ab"]
    checks = [Check("sample", "c", 0)]
    proxy.expect("COMMIT\0", "loses its answer")
    with pytest.raises(CommitUncertainError):
        lossy.commit(batch, checks=checks)
    stored(store, write("a", "Closed", on=row_of(store, "a")))
    stored(store, write("c", "Open"))
    assert all(outcome.applied for outcome in lossy.commit(batch, checks=checks))
    assert versions(store, "a") == [1, 2]


def test_a_purge_happens_once(lossy: Store, proxy: Proxy) -> None:
    """It is found by the token of the deletion."""
    row = stored(lossy, write("e", "Open", tokens=["t"]))
    purge = write("e", None, on=row, tokens=["u"], purge=True)
    proxy.expect("COMMIT\0", "loses its answer")
    with pytest.raises(CommitUncertainError):
        lossy.commit([purge])
    assert commit_one(lossy, purge) == Outcome(True, 2, found=True)


def test_reads_are_done_again(lossy: Store, proxy: Proxy) -> None:
    """A connection that is lost while nothing is written is nobody's concern."""
    stored(lossy, write("e", "Open"))
    for _ in range(2):
        proxy.expect("sample", "loses its answer")
    assert lossy.count("sample") == {"Open": 1}
    assert not proxy.expected()


@pytest.mark.parametrize("end", ["rollback", "commit"])
def test_the_old_backend_still_waits_to_create(
    lossy: Store, proxy: Proxy, raw: psycopg.Connection, other: psycopg.Connection, end: str
) -> None:
    """Its client is gone and sends the same write again: then both wait, and one may succeed."""
    stored(lossy, write("warm-up", "Open"))
    other.execute(CREATE)
    made = write("e", "Open", tokens=["mine"])
    proxy.expect(PAYLOAD, "loses its sender")
    with pytest.raises(CommitUncertainError):
        lossy.commit([made])
    with ThreadPoolExecutor(1) as pool:
        waiting(raw, 1)
        again = pool.submit(commit_one, lossy, made)
        waiting(raw, 2)
        getattr(other, end)()
        outcome = again.result()
    assert (outcome.applied, outcome.version) == (end == "rollback", 1)
    assert versions(lossy, "e") == ([1] if outcome.applied else [])


def test_the_old_backend_still_waits_for_a_row(
    lossy: Store, proxy: Proxy, raw: psycopg.Connection, other: psycopg.Connection
) -> None:
    """It was not told yet to write; when the same is sent again, it is written once."""
    row = stored(lossy, write("e", "Open"))
    other.execute(HOLD)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(commit_one, lossy, write("e", "Closed", on=row, tokens=["mine"]))
        waiting(raw, 1)
        proxy.cut()
        waiting(raw, 2)
        other.rollback()
        assert sent.result() == Outcome(True, 2)
    assert versions(lossy, "e") == [1, 2]
    assert faults(lossy) == []


def test_a_backend_that_is_ended_while_it_waits(
    store: Store, raw: psycopg.Connection, other: psycopg.Connection
) -> None:
    """The service does not know whether it wrote, and sends the same again."""
    service = service_on(store)
    other.execute(CREATE)
    with ThreadPoolExecutor(1) as pool:
        handled = pool.submit(service.handle, "e", Add(3))
        waiting(raw)
        raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        other.rollback()
        assert handled.result().state == OpenState(3)
    assert versions(store, "e") == [1]


def test_a_server_that_stays_away_leaves_it_open(open: Open, proxy: Proxy, store: Store) -> None:
    """Neither success nor failure is claimed, and the error says what to do."""
    service = service_on(open("connect_timeout=1", url=proxy.url), attempts=1)
    service.handle("e", Add())
    proxy.expect(PAYLOAD, "loses its answer")
    proxy.refuse()
    with pytest.raises(OutcomeUnknownError, match="send the command again with the same key"):
        service.handle("e", Add())
    assert versions(store, "e") == [1, 2]
    with pytest.raises(StoreError, match="cannot connect to postgresql://"):
        service.get("e")
