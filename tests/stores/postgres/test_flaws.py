"""What a store in PostgreSQL tells of itself when it is verified."""

from __future__ import annotations

import psycopg
import pytest

from holdfast.stores.contract import Store
from holdfast.stores.verify import verify
from holdfast.testing.conformance.base import row_of, stored
from holdfast.testing.writes import write

OFF = "ALTER TABLE holdfast.{0} DISABLE TRIGGER USER"
AS_MADE = "is not there as it was made"

TAMPERINGS = {
    OFF.format("transition"): [
        f"the trigger transition_is_not_deleted {AS_MADE}",
        f"the trigger transition_is_not_truncated {AS_MADE}",
        f"the trigger transition_is_not_updated {AS_MADE}",
    ],
    "DROP TRIGGER feed_is_not_updated ON holdfast.feed": [
        f"the trigger feed_is_not_updated {AS_MADE}"
    ],
    "DROP TRIGGER entity_is_not_deleted ON holdfast.entity; CREATE TRIGGER entity_is_not_deleted"
    " BEFORE DELETE ON holdfast.entity FOR EACH ROW WHEN (OLD.version > 9)"
    " EXECUTE FUNCTION holdfast.refuse('entity table', 'deleted')": [
        f"the trigger entity_is_not_deleted {AS_MADE}"
    ],
    "CREATE OR REPLACE FUNCTION holdfast.allow_purge() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RETURN NEW; END $$": [f"the function allow_purge {AS_MADE}"],
    "DROP INDEX holdfast.transition_by_key": [f"the index transition_by_key {AS_MADE}"],
    "DROP INDEX holdfast.entity_by_state;"
    " CREATE INDEX entity_by_state ON holdfast.entity (machine)": [
        f"the index entity_by_state {AS_MADE}"
    ],
    "ALTER TABLE holdfast.transition DROP CONSTRAINT transition_by_version": [
        f"the constraint transition_by_version {AS_MADE}"
    ],
    "UPDATE holdfast.entity SET state = '{}' WHERE id = 'a'": [
        "sample 'a' has another state in the entity table than in the log"
    ],
    "UPDATE holdfast.log_head SET position = 9": [
        "the log ends at position 3, and position 9 was the last one given out: what came between "
        "was deleted or moved"
    ],
}


@pytest.fixture
def store(store: Store) -> Store:
    """Return a store with three transitions, which are numbered."""
    stored(store, write("a", "Open", "Closed", keys=["k"]))
    stored(store, write("b", "Open"))
    assert len(store.read_log(limit=9)) == 3
    return store


def test_a_store_that_nobody_touched_is_sound(store: Store) -> None:
    """Whatever was written by it."""
    stored(store, write("b", None, on=row_of(store, "b"), purge=True))
    assert store.flaws() == []
    report = verify(store)
    assert (report.findings, report.transitions, report.entities) == ((), 4, 2)


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_what_was_tampered_with_is_told(
    store: Store, raw: psycopg.Connection, tampering: str
) -> None:
    """Guards that are gone, switched off or replaced; positions and states that are others."""
    raw.execute(tampering.encode())
    assert store.flaws() == TAMPERINGS[tampering]


def test_an_end_that_was_cut_off_is_told(store: Store, raw: psycopg.Connection) -> None:
    """Though all that was left agrees with itself."""
    raw.execute(OFF.format("transition").encode())
    raw.execute("DELETE FROM holdfast.transition WHERE id = 'b'")
    raw.execute("ALTER TABLE holdfast.transition ENABLE TRIGGER USER")
    [flaw] = store.flaws()
    assert flaw.startswith("the log ends at position 2, and position 3 was the last one given out")


def test_an_edited_transition_is_found(store: Store, raw: psycopg.Connection) -> None:
    """By its digest, which covers every column to the byte."""
    raw.execute(OFF.format("transition").encode())
    raw.execute(
        "UPDATE holdfast.transition SET command = CAST(' ' || CAST(command AS text) AS json)"
        " WHERE id = 'a' AND version = 1"
    )
    raw.execute("ALTER TABLE holdfast.transition ENABLE TRIGGER USER")
    problems = [finding.problem for finding in verify(store).findings]
    assert problems == ["its content, or what is before it, is not what its digest was made from"]
