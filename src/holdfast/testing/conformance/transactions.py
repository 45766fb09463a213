"""Transactions of the store's own: what is done in one is kept whole, or leaves nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.stores.contract import Check, KeptBack, Outcome, Store
from holdfast.testing.conformance.base import Suite, find_row, history, row_of, stored, versions
from holdfast.testing.writes import write

LATER = "2026-01-02T03:04:06.000000Z"


class Transactions(Suite):
    """What `act` does on the store it is given, `transact` commits or rolls back."""

    def test_what_a_transaction_writes_stays(self, store: Store) -> None:
        """It answers with what was returned, and the log is as after commits of their own."""

        def act(joined: Store) -> str:
            first = stored(joined, write("a", "Open"))
            stored(joined, write("b", "Open"))
            stored(joined, write("a", "Closed", on=first))
            return "done"

        assert store.transact(act) == "done"
        assert (versions(store, "a"), versions(store, "b")) == ([1, 2], [1])
        rows = store.read_log(limit=10)
        assert [(row.id, row.version) for row in rows] == [("a", 1), ("b", 1), ("a", 2)]

    def test_a_transaction_reads_what_it_wrote(self, store: Store) -> None:
        """Rows and history alike."""

        def act(joined: Store) -> tuple[str | None, list[int]]:
            stored(joined, write("a", "Open"))
            return row_of(joined, "a").state_type, [row.version for row in history(joined, "a")]

        assert store.transact(act) == ("Open", [1])

    def test_what_raises_leaves_nothing(self, store: Store) -> None:
        """The error arrives as it is, and all that was written is gone, keys included."""
        before = stored(store, write("a", "Open", keys=["k"]))
        error = LookupError("no")

        def act(joined: Store) -> None:
            stored(joined, write("a", "Open", "Closed", on=before, keys=["l"]))
            stored(joined, write("b", "Open", keys=["m"]))
            raise error

        with pytest.raises(LookupError) as raised:
            store.transact(act)
        assert raised.value is error
        assert row_of(store, "a") == before
        assert find_row(store, "b") is None
        assert (versions(store, "a"), versions(store, "b")) == ([1], [])
        stored(store, write("b", "Open", keys=["m"]))
        stored(store, write("a", "Open", on=before, keys=["l"]))
        assert [row.version for row in store.read_log(limit=10)] == [1, 1, 2]

    def test_a_purge_that_is_rolled_back_erases_nothing(self, store: Store) -> None:
        """The payloads are there again."""
        first = stored(store, write("a", "Open"))
        before = stored(store, write("a", "Closed", on=first, at=LATER))
        kept = history(store, "a")
        origin = store.transition_at("sample", "a", version=2)

        def act(joined: Store) -> None:
            gone = stored(joined, write("a", None, on=before, purge=True))
            stored(joined, write("a", "Open", on=gone, at=LATER))
            raise KeptBack(None)

        store.transact(act)
        assert history(store, "a") == kept
        assert row_of(store, "a") == before
        assert store.transition_at("sample", "a", version=2) == origin

    def test_what_is_kept_back_tells_its_result(self, store: Store) -> None:
        """It is rolled back, and no error."""

        def act(joined: Store) -> str:
            stored(joined, write("a", "Open"))
            raise KeptBack("nothing done")

        assert store.transact(act) == "nothing done"
        assert find_row(store, "a") is None

    def test_a_conflict_leaves_the_rest_to_the_transaction(self, store: Store) -> None:
        """What came too late wrote nothing; what else was written stays."""
        stored(store, write("a", "Open"))

        def act(joined: Store) -> list[Outcome]:
            stored(joined, write("b", "Open"))
            return joined.commit([write("a", "Closed")])

        assert store.transact(act) == [Outcome(False, 1)]
        assert (versions(store, "a"), versions(store, "b")) == ([1], [1])

    def test_checks_alone_tell_what_holds(self, store: Store) -> None:
        """A live entity, a deleted one, and one that never was."""
        stored(store, write("a", "Open"))
        stored(store, write("gone", "Open", None))

        def act(joined: Store) -> list[bool]:
            holding = [Check("sample", "a", 1), Check("sample", "gone", 2, True)]
            late = [Check("sample", "a", 2)]
            absent = [Check("sample", "never", 0)]
            told = [joined.commit((), checks=checks) for checks in (holding, late, absent)]
            return [outcome.applied for outcomes in told for outcome in outcomes]

        assert store.transact(act) == [True, True, False, True]

    def test_a_transaction_within_another_is_undone_alone(self, store: Store) -> None:
        """What raises in it leaves what the outer one wrote before and after."""

        def fail(joined: Store) -> None:
            stored(joined, write("b", "Open"))
            raise LookupError("no")

        def act(joined: Store) -> None:
            stored(joined, write("a", "Open"))
            with pytest.raises(LookupError):
                joined.transact(fail)
            joined.transact(lambda inner: stored(inner, write("c", "Open")))

        store.transact(act)
        assert [row.id for row in store.read_log(limit=10)] == ["a", "c"]

    def test_a_transaction_within_another_goes_with_it(self, store: Store) -> None:
        """What it kept is undone with the outer one."""

        def act(joined: Store) -> None:
            joined.transact(lambda inner: stored(inner, write("b", "Open")))
            raise KeptBack(None)

        store.transact(act)
        assert find_row(store, "b") is None

    def test_threads_transact_one_after_the_other(self, store: Store) -> None:
        """What each reads and then writes rests on what the one before wrote."""
        if self.is_one_threads:
            pytest.skip(self.is_one_threads)
        stored(store, write("a", "Open"))

        def act(joined: Store) -> bool:
            [outcome] = joined.commit([write("a", "Open", on=row_of(joined, "a"))])
            return outcome.applied

        def insist() -> None:
            while not store.transact(act):
                pass

        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(insist) for _ in range(20)]:
                future.result()
        assert versions(store, "a") == list(range(1, 22))
