"""Conflicts and locks: what is in the way of one entity is no other's business."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from msgspec.structs import replace
from tests.stores.postgres.conftest import Open, at_once, waiting

from holdfast.errors import StoreError
from holdfast.record import Record, Request
from holdfast.stores.contract import Check, Checkpoint, Outcome, Store, Write
from holdfast.stores.postgres.statements import Statements
from holdfast.stores.postgres.store import PostgresStore
from holdfast.stores.postgres.writing import Batch, write_held
from holdfast.testing.conformance.base import (
    commit_many,
    commit_one,
    find_row,
    first_time,
    row_of,
    service_on,
    stored,
    versions,
)
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add
from holdfast.testing.sample import Open as OpenState
from holdfast.testing.writes import write

LOCK = "SELECT FROM holdfast.entity WHERE id = %s FOR UPDATE"
IDS = [f"e-{place}" for place in range(20)]


def test_a_locked_row_holds_up_itself_only(
    store: Store, raw: psycopg.Connection, other: psycopg.Connection
) -> None:
    """The others of the batch are written at once, and are seen, while it is waited for."""
    rows = {id: stored(store, write(id, "Open")) for id in IDS}
    other.execute(LOCK, ["e-7"])
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(commit_many, store, [write(id, "Closed", on=rows[id]) for id in IDS])
        waiting(raw)
        assert store.count("sample") == {"Open": 1, "Closed": len(IDS) - 1}
        other.rollback()
        assert set(batch.result()) == {Outcome(True, 2)}
    assert versions(store, "e-7") == [1, 2]


def test_a_locked_row_holds_up_no_other_thread(
    store: Store, raw: psycopg.Connection, other: psycopg.Connection
) -> None:
    """Those who write something else do not queue up behind the one who waits."""
    rows = {id: stored(store, write(id, "Open")) for id in IDS}
    other.execute(LOCK, ["e-7"])
    with ThreadPoolExecutor(2) as pool:
        held_up = pool.submit(commit_one, store, write("e-7", "Closed", on=rows["e-7"]))
        waiting(raw)
        done = pool.submit(commit_one, store, write("e-8", "Closed", on=rows["e-8"]))
        assert done.result(timeout=5) == Outcome(True, 2)
        assert not held_up.done()
        other.rollback()
        assert held_up.result() == Outcome(True, 2)


@pytest.mark.parametrize("default", ["", "options=-cdefault_transaction_isolation%3Dserializable"])
def test_a_row_that_was_locked_and_changed_is_a_conflict(
    open: Open, raw: psycopg.Connection, other: psycopg.Connection, default: str
) -> None:
    """The version that the other transaction made is reported, whatever the account's default."""
    store = open(default)
    row = stored(store, write("e", "Open"))
    other.execute("UPDATE holdfast.entity SET version = 7 WHERE id = 'e'")
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(commit_one, store, write("e", "Closed", on=row))
        waiting(raw)
        other.commit()
        assert late.result() == Outcome(False, 7)


def test_a_lock_is_waited_for_so_long(
    open: Open, other: psycopg.Connection, application_url: str
) -> None:
    """Then nothing is written, and the error says what was in the way and what to do."""
    store = open("options=-clock_timeout%3D100ms")
    row = stored(store, write("e", "Open"))
    other.execute(LOCK, ["e"])
    with pytest.raises(StoreError, match=r"nothing was written, another transaction has locked"):
        store.commit([write("e", "Closed", on=row)])
    with pytest.raises(StoreError, match="lock_timeout"):
        store.commit([write("e", "Closed", on=row), write("f", "Open")], atomic=True)
    other.rollback()
    assert find_row(store, "f") is None
    assert commit_one(store, write("e", "Closed", on=row)) == Outcome(True, 2)


@pytest.mark.parametrize("atomic", [True, False])
def test_a_lock_is_waited_for_again(
    open: Open, other: psycopg.Connection, raw: psycopg.Connection, atomic: bool
) -> None:
    """What only came too late for one wait is sent once more, a bounded number of times."""
    store = open("options=-clock_timeout%3D200ms")
    row = stored(store, write("e", "Open"))
    other.execute(LOCK, ["e"])
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(store.commit, [write("e", "Closed", on=row)], atomic=atomic)
        waiting(raw)
        time.sleep(0.3)
        other.rollback()
        [outcome] = late.result()
    assert (outcome.applied, outcome.version) == (True, 2)


def test_what_waited_in_vain_is_told_apart_in_a_batch(
    open: Open, other: psycopg.Connection
) -> None:
    """The others are written, so it is told as having come too late, at the version there is."""
    store = open("options=-clock_timeout%3D100ms")
    rows = [stored(store, write(id, "Open")) for id in ("a", "b")]
    other.execute(LOCK, ["a"])
    outcomes = store.commit([write(row.id, "Closed", on=row) for row in rows])
    assert outcomes == [Outcome(False, 1), Outcome(True, 2)]
    other.rollback()


def test_the_caller_bounds_the_wait(store: Store, other: psycopg.Connection) -> None:
    """To less than the connection would wait; then nothing is sent again."""
    row = stored(store, write("e", "Open"))
    other.execute(LOCK, ["e"])
    for seconds in (0.8, 0, -1):
        began = time.monotonic()
        with pytest.raises(StoreError, match="nothing was written"):
            store.commit([write("e", "Closed", on=row)], timeout_seconds=seconds)
        assert time.monotonic() - began < max(seconds, 0) + 1.5
    other.rollback()


def test_the_caller_bounds_the_wait_for_a_connection(
    open: Open, other: psycopg.Connection, raw: psycopg.Connection
) -> None:
    """However long others keep them all."""
    store = open("holdfast_pool_size=1")
    row = stored(store, write("e", "Open"))
    other.execute(LOCK, ["e"])
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(commit_one, store, write("e", "Closed", on=row))
        waiting(raw)
        began = time.monotonic()
        with pytest.raises(StoreError, match="in use, and none was given back in time"):
            store.commit([write("f", "Open")], timeout_seconds=0.1)
        assert time.monotonic() - began < 1
        other.rollback()
        assert late.result() == Outcome(True, 2)


def test_rows_are_locked_in_the_order_of_their_keys() -> None:
    """Those that are written and those that are checked together, before anything else."""
    writes = [write(id, "Open", machine=machine) for machine, id in (("b", "1"), ("a", "2"))]
    batch = Batch(writes, [Check("a", "10", 1), Check("b", "0", 0)])
    steps = write_held(Statements("holdfast"), batch, at_once)
    assert next(steps) is Statements.begin
    hold = steps.send([])
    assert hold.parameters == ['{"a","a","b","b"}', '{"10","2","0","1"}']
    hold_absent = steps.send([("a", "10", 1, False)])
    assert hold_absent.parameters == ['{"a","b","b"}', '{"2","0","1"}']


def test_overlapping_batches_do_not_deadlock(open: Open) -> None:
    """Two stores write the same entities in opposite orders, all or nothing, again and again."""
    stores = [open(), open()]
    ids = IDS[:6]
    for id in ids:
        stored(stores[0], write(id, "Open"))
    start = threading.Barrier(2)

    def work(store: Store, order: list[str]) -> int:
        start.wait()
        applied = 0
        for _ in range(40):
            rows = [row_of(store, id) for id in order]
            batch = [write(row.id, "Open", on=row) for row in rows]
            applied += store.commit(batch, atomic=True)[0].applied
        return applied

    with ThreadPoolExecutor(2) as pool:
        applied = sum(pool.map(work, stores, [ids, ids[::-1]]))
    assert [row_of(stores[0], id).version for id in ids] == [1 + applied] * len(ids)
    assert faults(stores[0]) == []


def test_a_deadlock_is_tried_again(
    store: Store, raw: psycopg.Connection, other: psycopg.Connection
) -> None:
    """Where somebody else locks rows in another order, what lost is sent once more."""
    rows = [stored(store, write(id, "Open")) for id in ("a", "b")]
    other.execute("SET deadlock_timeout = '1min'")  # so that it is the store which finds out
    other.execute(LOCK, ["b"])
    with ThreadPoolExecutor(2) as pool:
        batch = [write(row.id, "Closed", on=row) for row in rows]
        both = pool.submit(store.commit, batch, atomic=True)
        waiting(raw)
        crossing = pool.submit(other.execute, LOCK, ["a"])
        crossing.result(timeout=10)  # it comes through when the store's transaction gave way
        other.rollback()
        assert both.result() == [Outcome(True, 2), Outcome(True, 2)]


def both_at_once(stores: Sequence[Store], pairs: Sequence[tuple[Write, Check]]) -> list[bool]:
    """Commit a write with a check in each of two stores, and return which were applied."""
    start = threading.Barrier(len(pairs))

    def commit(store: Store, pair: tuple[Write, Check]) -> bool:
        start.wait()
        return store.commit([pair[0]], checks=[pair[1]])[0].applied

    with ThreadPoolExecutor(len(pairs)) as pool:
        return sorted(pool.map(commit, stores, pairs))


def test_a_check_holds_what_it_looked_at(open: Open) -> None:
    """Two commits that each write what the other checks do not both happen."""
    stores = [open(), open()]
    for id in ("a", "b"):
        stored(stores[0], write(id, "Open"))
    for _ in range(10):
        a, b = row_of(stores[0], "a"), row_of(stores[0], "b")
        pairs = [
            (write("a", "Open", on=a), Check("sample", "b", b.version)),
            (write("b", "Open", on=b), Check("sample", "a", a.version)),
        ]
        assert both_at_once(stores, pairs) == [False, True]


def test_a_check_holds_the_place_of_what_is_absent(open: Open) -> None:
    """So two that each create what the other takes to be absent do not both happen."""
    stores = [open(), open()]
    for turn in range(10):
        a, b = f"a-{turn}", f"b-{turn}"
        pairs = [
            (write(a, "Open"), Check("sample", b, 0)),
            (write(b, "Open"), Check("sample", a, 0)),
        ]
        assert both_at_once(stores, pairs) == [False, True]
    assert faults(stores[0]) == []


def test_what_held_a_place_is_gone(store: Store, raw: psycopg.Connection) -> None:
    """Whether the commit happened or not."""
    checks = [Check("sample", "absent", 0)]
    assert store.commit([write("a", "Open")], checks=checks)[0].applied
    assert not store.commit([write("a", "Open")], checks=checks)[0].applied
    store.commit([write("b", "Open", "Open")], checkpoint=Checkpoint("reader", 1))
    late = write("c", "Open", on=replace(row_of(store, "b"), id="c"))
    assert not store.commit([late], timeout_seconds=1)[0].applied
    assert raw.execute("SELECT id FROM holdfast.entity ORDER BY id").fetchall() == [("a",), ("b",)]


def test_a_creation_waits_for_another_one(
    store: Store, raw: psycopg.Connection, other: psycopg.Connection
) -> None:
    """Where that is rolled back, it happens; where that is committed, it came too late."""
    insert = (
        "INSERT INTO holdfast.entity (machine, id, version, state_type, schema_version, created_at,"
        " updated_at, entered_version, digest) VALUES ('sample', %s, 1, 'Open', 1, '', '', 1, '')"
    )
    with ThreadPoolExecutor(1) as pool:
        for id, end, outcome in (
            ("a", other.rollback, Outcome(True, 1)),
            ("b", other.commit, Outcome(False, 1)),
        ):
            other.execute(insert, [id])
            late = pool.submit(commit_one, store, write(id, "Open"))
            waiting(raw)
            end()
            assert late.result() == outcome


def test_threads_that_write_one_entity_share_a_statement(store: Store) -> None:
    """Of several writes over one version the first is applied, the others are told of it."""
    row = stored(store, write("e", "Open"))
    same = [write("e", "Closed", on=row, tokens=[token]) for token in "abc"]
    assert isinstance(store, PostgresStore)
    together = store._write_together  # pyright: ignore[reportPrivateUsage]
    assert together(same, None) == [Outcome(True, 2), Outcome(False, 2), Outcome(False, 2)]
    assert together(same, None) == [
        Outcome(True, 2, found=True),
        Outcome(False, 2),
        Outcome(False, 2),
    ]
    fresh = [*same, write("e", "Open", on=row_of(store, "e"), tokens=["d"])]
    assert commit_many(store, fresh[2:]) == [Outcome(False, 2), Outcome(True, 3)]
    assert versions(store, "e") == [1, 2, 3]


def test_each_call_of_a_batch_has_its_own_conflict(store: Store, open: Open) -> None:
    """The others are answered, those who came too late decide again."""
    rival = service_on(open())
    service = service_on(store, first_time(lambda: rival.handle("e-3", Add(10))))
    answers = service.handle_many([Request(id, Add()) for id in IDS])
    versions = {answer.id: answer.version for answer in answers if isinstance(answer, Record)}
    assert versions == {id: 2 if id == "e-3" else 1 for id in IDS}
    assert service.get("e-3").state == OpenState(11)
