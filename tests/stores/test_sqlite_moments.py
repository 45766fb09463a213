"""Reads of several statements show one moment of the SQLite file, whoever writes meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast import StoreError, open_store
from holdfast.stores.contract import Key, Store
from holdfast.testing.conformance.base import row_of, stored
from holdfast.testing.writes import write


@pytest.fixture
def store(path: Path, connections: list[sqlite3.Connection]) -> Iterator[Store]:
    """Give a store that holds an entity; its connection is the first of the list."""
    with open_store(f"sqlite:///{path}") as store:
        stored(store, write("e", "Open"))
        yield store


@pytest.fixture
def other(path: Path, store: Store) -> Iterator[Store]:
    """Give another store on the same file."""
    with open_store(f"sqlite:///{path}") as other:
        yield other


def before_statement(
    number: int, connection: sqlite3.Connection, act: Callable[[], object]
) -> list[str]:
    """Act before the connection's nth SELECT; returns the list of its SELECTs."""
    seen: list[str] = []

    def trace(statement: str) -> None:
        if "SELECT" in statement:
            seen.append(statement)
            if len(seen) == number:
                act()

    connection.set_trace_callback(trace)
    return seen


def test_an_entity_that_changes_its_state_is_not_missed(
    store: Store, other: Store, connections: list[sqlite3.Connection]
) -> None:
    """Given two states to look in, when it moves from the second to the first, it is found once."""
    row = row_of(other, "e")
    seen = before_statement(2, connections[0], lambda: stored(other, write("e", "Closed", on=row)))
    found = store.find("sample", state_types=["Closed", "Open"], limit=9)
    assert [(row.id, row.state_type) for row in found] == [("e", "Open")]
    assert len(seen) == 2
    assert row_of(store, "e").state_type == "Closed"


@pytest.mark.parametrize("more", [[], [Key("sample", "other")]])
def test_a_key_is_as_old_as_the_entity_it_is_loaded_with(
    store: Store, other: Store, connections: list[sqlite3.Connection], more: list[Key]
) -> None:
    """When it is used between the two reads, neither shows it."""
    row = row_of(other, "e")
    later = write("e", "Open", on=row, keys=["k"])
    seen = before_statement(2, connections[0], lambda: stored(other, later))
    loaded = store.load([Key("sample", "e", ("k",)), *more])[0]
    assert (loaded.entity, loaded.applied) == (row, {})
    assert len(seen) == 2
    assert "k" in store.load([Key("sample", "e", ("k",))])[0].applied


def test_a_version_comes_with_what_was_before_it(
    store: Store, other: Store, connections: list[sqlite3.Connection]
) -> None:
    """When the entity is purged between the two reads, neither shows it."""
    row = stored(store, write("e", "Closed", on=row_of(store, "e")))
    purge = write("e", None, on=row, purge=True)
    seen = before_statement(2, connections[0], lambda: stored(other, purge))
    found = store.transition_at("sample", "e", version=2)
    assert found is not None
    assert (found.row.kind, found.previous_state) == ("command", '{"$type":"Open","version":1}')
    assert len(seen) >= 2
    after = store.transition_at("sample", "e", version=2)
    assert after is not None
    assert after.row.kind == "purged"


def test_a_read_leaves_no_transaction_behind(
    store: Store, connections: list[sqlite3.Connection]
) -> None:
    """Whether it found something or failed."""
    store.load([Key("sample", "e", ("k",)), Key("sample", "f")])
    store.find("sample", state_types=["Open"], limit=1)
    with pytest.raises(StoreError):
        store.transition_at("sample", "\ud800", version=1)
    assert not connections[0].in_transaction
