"""Batches, checks and checkpoints, at the level of the store contract."""

from __future__ import annotations

import pytest

from holdfast.errors import StoreError
from holdfast.stores.contract import MAX_BATCH, Check, Checkpoint, Key, Outcome, Store
from holdfast.testing.conformance.base import Suite, commit_many, find_row, row_of, stored, versions
from holdfast.testing.writes import write


class Batches(Suite):
    """Many entities are written in one commit; what becomes of one is no other's business."""

    def test_answers_come_in_the_order_of_the_writes(self, store: Store) -> None:
        """Each write has its own outcome, at its own place."""
        stored(store, write("b", "Open"))
        batch = [write("c", "Open", "Open"), write("b", "Open"), write("a", "Open")]
        outcomes = commit_many(store, batch)
        assert outcomes == [Outcome(True, 2), Outcome(False, 1), Outcome(True, 1)]

    def test_one_lost_write_leaves_the_others(self, store: Store) -> None:
        """A conflict of one entity keeps no other from being written."""
        row = stored(store, write("b", "Open"))
        stored(store, write("b", "Open", on=row))
        store.commit([write("a", "Open"), write("b", "Closed", on=row), write("c", "Open", None)])
        assert [versions(store, id) for id in "abc"] == [[1], [1, 2], [1, 2]]
        assert store.count("sample") == {"Open": 2}

    def test_the_log_follows_the_order_of_the_writes(self, store: Store) -> None:
        """An entity's transitions stand together, in order."""
        store.commit([write("b", "Open", "Closed"), write("a", "Open", "Open")])
        order = [(row.id, row.version) for row in store.read_log(limit=10)]
        assert order == [("b", 1), ("b", 2), ("a", 1), ("a", 2)]

    def test_all_or_nothing_writes_all(self, store: Store) -> None:
        """Where none comes too late, all are written."""
        outcomes = store.commit([write("a", "Open"), write("b", "Open")], atomic=True)
        assert outcomes == [Outcome(True, 1), Outcome(True, 1)]
        assert versions(store, "a") == versions(store, "b") == [1]

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_all_or_nothing_writes_nothing(self, store: Store, place: int) -> None:
        """One that comes too late, wherever it stands, keeps all from being written.

        Of the others the version is the one that is still stored.
        """
        kept = stored(store, write("kept", "Open"))
        stored(store, write("late", "Open"))
        batch = [write("new", "Open"), write("kept", "Closed", on=kept)]
        expected = [Outcome(False, 0), Outcome(False, 1)]
        batch.insert(place, write("late", "Open"))
        expected.insert(place, Outcome(False, 1))
        assert store.commit(batch, atomic=True) == expected
        assert find_row(store, "new") is None
        assert row_of(store, "kept") == kept
        assert len(store.read_log(limit=10)) == 2

    def test_the_largest_batch_is_written_and_loaded(self, store: Store) -> None:
        """MAX_BATCH entities are written at once, and loaded in the order asked."""
        ids = [f"e-{i}" for i in range(MAX_BATCH)]
        assert set(store.commit([write(id, "Open") for id in ids])) == {Outcome(True, 1)}
        loaded = store.load([Key("sample", id) for id in reversed(ids)])
        assert [answer.entity and answer.entity.id for answer in loaded] == ids[::-1]

    def test_a_larger_batch_is_refused(self, store: Store) -> None:
        """To be loaded, or to be written, checks included; nothing of it is done."""
        ids = [f"e-{i}" for i in range(MAX_BATCH + 1)]
        with pytest.raises(StoreError):
            store.load([Key("sample", id) for id in ids])
        with pytest.raises(StoreError):
            store.commit([write(id, "Open") for id in ids])
        checks = [Check("sample", ids[-1], 0)]
        with pytest.raises(StoreError):
            store.commit([write(id, "Open") for id in ids[:-1]], checks=checks)
        assert store.count("sample") == {}


class Checks(Suite):
    """A commit can demand that entities it does not write are still as they were read."""

    def test_a_check_that_holds_lets_the_commit_happen(self, store: Store) -> None:
        """It is answered after the writes, with the version that is stored."""
        stored(store, write("read", "Open", "Open"))
        checks = [Check("sample", "read", 2), Check("sample", "absent", 0)]
        outcomes = store.commit([write("e", "Open")], checks=checks)
        assert [(o.applied, o.version) for o in outcomes] == [(True, 1), (True, 2), (True, 0)]
        assert versions(store, "e") == [1]

    @pytest.mark.parametrize(
        ("id", "version", "actual"),
        [("read", 1, 2), ("read", 0, 2), ("read", 3, 2), ("gone", 0, 2), ("absent", 1, 0)],
    )
    def test_a_check_that_fails_keeps_all_from_being_written(
        self, store: Store, id: str, version: int, actual: int
    ) -> None:
        """The outcomes tell which: its version is not the one demanded, and if it was deleted."""
        stored(store, write("read", "Open", "Open"))
        stored(store, write("gone", "Open", None))
        kept = stored(store, write("kept", "Open"))
        writes = [write("e", "Open"), write("kept", "Closed", on=kept)]
        outcomes = store.commit(writes, checks=[Check("sample", id, version)])
        late = Outcome(False, actual, deleted=id == "gone")
        assert outcomes == [Outcome(False, 0), Outcome(False, 1), late]
        assert find_row(store, "e") is None
        assert row_of(store, "kept") == kept

    def test_a_check_of_another_machine_is_another_entity(self, store: Store) -> None:
        """Ids belong to machines."""
        stored(store, write("e", "Open", machine="other"))
        outcomes = store.commit([write("f", "Open")], checks=[Check("sample", "e", 1)])
        assert not outcomes[0].applied


class Checkpoints(Suite):
    """How far a reader came is written with what it read led to, or not at all."""

    def test_there_is_none_before_the_first(self, store: Store) -> None:
        """An unknown name has no position."""
        assert store.checkpoint("reader") is None

    def test_it_is_written_with_the_batch(self, store: Store) -> None:
        """The last one counts, for each name."""
        store.commit([write("a", "Open")], checkpoint=Checkpoint("reader", 1))
        store.commit([write("b", "Open")], checkpoint=Checkpoint("reader", 2**53, 1))
        store.commit([write("c", "Open")], checkpoint=Checkpoint("Leser für „b“ \U0001f4d6", 0))
        assert store.checkpoint("reader") == 2**53
        assert store.checkpoint("Leser für „b“ \U0001f4d6") == 0

    def test_it_is_written_without_writes(self, store: Store) -> None:
        """A reader for whom nothing was to be done moves on."""
        [outcome] = store.commit([], checkpoint=Checkpoint("reader", 7))
        assert outcome.applied
        assert store.checkpoint("reader") == 7

    def test_it_is_held_back_with_the_batch(self, store: Store) -> None:
        """An all-or-nothing batch that came too late leaves the reader where it was."""
        stored(store, write("late", "Open"))
        store.commit([], checkpoint=Checkpoint("reader", 1))
        batch = [write("e", "Open"), write("late", "Open")]
        store.commit(batch, atomic=True, checkpoint=Checkpoint("reader", 2, 1))
        store.commit([batch[1]], atomic=True, checkpoint=Checkpoint("reader", 2, 1))
        assert store.checkpoint("reader") == 1

    @pytest.mark.parametrize("atomic", [True, False])
    def test_of_two_readers_one_is_too_late(self, store: Store, *, atomic: bool) -> None:
        """The position must be the one that the reader started from, or nothing is written."""
        first = Checkpoint("reader", 5)
        [_, moved] = store.commit([write("a", "Open")], atomic=atomic, checkpoint=first)
        assert moved.applied
        for checkpoint in (first, Checkpoint("reader", 9, 4), Checkpoint("reader", 9, 6)):
            batch = [write("b", "Open")]
            outcomes = store.commit(batch, atomic=atomic, checkpoint=checkpoint)
            assert outcomes == [Outcome(False, 0), Outcome(False, 5)]
        assert store.checkpoint("reader") == 5
        assert versions(store, "b") == []

    @pytest.mark.parametrize("writes", [0, 1])
    def test_it_never_falls(self, store: Store, writes: int) -> None:
        """A position below the one that is stored is refused, whatever the reader says."""
        store.commit([], checkpoint=Checkpoint("reader", 5))
        batch = [write("a", "Open")] * writes
        outcomes = store.commit(batch, checkpoint=Checkpoint("reader", 4, 5))
        assert not any(outcome.applied for outcome in outcomes)
        assert store.checkpoint("reader") == 5

    def test_it_may_be_sent_again(self, store: Store) -> None:
        """As after a lost acknowledgement: with the writes that it went with, or without any."""
        sent = write("a", "Open", tokens=["t"])
        for _ in range(2):
            outcomes = store.commit([sent], atomic=True, checkpoint=Checkpoint("reader", 5))
            assert all(outcome.applied for outcome in outcomes)
        for _ in range(2):
            [outcome] = store.commit([], atomic=True, checkpoint=Checkpoint("reader", 7, 5))
            assert outcome.applied
        assert store.checkpoint("reader") == 7
        assert versions(store, "a") == [1]

    def test_it_is_held_back_by_a_check(self, store: Store) -> None:
        """So does a check that fails."""
        checks = [Check("sample", "absent", 1)]
        store.commit([write("e", "Open")], checks=checks, checkpoint=Checkpoint("reader", 2))
        assert store.checkpoint("reader") is None

    def test_it_is_not_written_where_the_commit_fails(self, store: Store) -> None:
        """What raises StoreError has written nothing, the checkpoint included."""
        row = stored(store, write("e", "Open", keys=["k"]))
        reused = write("e", "Open", on=row, keys=["k"])
        with pytest.raises(StoreError):
            store.commit([reused], checkpoint=Checkpoint("reader", 2))
        assert store.checkpoint("reader") is None
        assert versions(store, "e") == [1]
