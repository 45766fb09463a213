"""Commits: one write, conflicts, chains, tokens, digests; at the level of the store contract."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from holdfast.errors import StoreError
from holdfast.stores.contract import Key, Outcome, Store, WriteRefusedError
from holdfast.testing.clock import ManualClock
from holdfast.testing.conformance.base import (
    Suite,
    commit_one,
    find_row,
    history,
    row_of,
    stored,
    versions,
)
from holdfast.testing.consistency import digest_by_recipe
from holdfast.testing.writes import AT, write


class Commits(Suite):
    """A write is applied whole where its entity is at the expected version, and else not at all."""

    def test_what_is_written_is_loaded(self, store: Store) -> None:
        """The entity's row is the one given, and the log row the one given, numbered and dated."""
        made = write("e", "Open", keys=["k"], tokens=["t"])
        assert commit_one(store, made) == Outcome(True, 1)
        [row] = store.history("sample", "e", limit=10)
        assert row == replace(made.log[0], seq=1, recorded_at=AT, digest=row.digest)
        assert row_of(store, "e") == replace(made.entity, digest=row.digest)

    def test_a_chain_is_written_in_one(self, store: Store) -> None:
        """Several transitions of one entity are as many log rows, and one row of the entity."""
        row = stored(store, write("e", "Open", "Open", "Closed"))
        assert (row.version, row.state_type, row.entered_version) == (3, "Closed", 3)
        assert [(r.version, r.from_type, r.to_type) for r in history(store, "e")] == [
            (1, None, "Open"),
            (2, "Open", "Open"),
            (3, "Open", "Closed"),
        ]

    def test_a_chain_is_written_whole_or_not_at_all(self, store: Store) -> None:
        """A chain that comes too late leaves none of its transitions."""
        stored(store, write("e", "Open"))
        assert commit_one(store, write("e", "Open", "Open", "Closed")) == Outcome(False, 1)
        assert versions(store, "e") == [1]

    def test_a_conflict_is_an_answer(self, store: Store) -> None:
        """A write that expects another version reports the one there is, and changes nothing."""
        first = stored(store, write("e", "Open"))
        second = stored(store, write("e", "Open", on=first))
        assert commit_one(store, write("e", "Closed", on=first)) == Outcome(False, 2)
        assert row_of(store, "e") == second
        assert versions(store, "e") == [1, 2]

    def test_a_write_from_the_future_is_a_conflict(self, store: Store) -> None:
        """A write that expects a version that was never reached is not applied."""
        row = stored(store, write("e", "Open"))
        late = write("e", "Closed", on=replace(row, version=2))
        assert commit_one(store, late) == Outcome(False, 1)

    def test_a_write_over_nothing_is_a_conflict(self, store: Store) -> None:
        """A write that expects a version of an entity that has no row reports version 0."""
        other = stored(store, write("other", "Open"))
        late = write("e", "Closed", on=replace(other, id="e"))
        assert commit_one(store, late) == Outcome(False, 0)
        assert find_row(store, "e") is None

    def test_a_conflict_leaves_no_gap_in_the_log(self, store: Store) -> None:
        """Positions are drawn for what is written, not for what is tried."""
        first = stored(store, write("a", "Open"))
        for _ in range(3):
            commit_one(store, write("a", "Open"))
        stored(store, write("a", "Open", on=first))
        assert [row.seq for row in store.read_log(limit=10)] == [1, 2]

    def test_expecting_nothing_demands_that_there_is_no_row(self, store: Store) -> None:
        """A deletion leaves a row, so a write that expects version 0 comes too late after it."""
        row = stored(store, write("e", "Open"))
        stored(store, write("e", None, on=row))
        assert commit_one(store, write("e", "Open")) == Outcome(False, 2, deleted=True)

    def test_a_deleted_entity_stays_as_a_tombstone(self, store: Store) -> None:
        """Its row keeps the version and the digest, and has no state."""
        row = stored(store, write("e", "Open"))
        tombstone = stored(store, write("e", None, on=row))
        assert (tombstone.version, tombstone.state_type, tombstone.state) == (2, None, None)
        [_, last] = history(store, "e")
        assert (last.kind, last.from_type, last.to_type) == ("deletion", "Open", None)
        assert last.digest == tombstone.digest

    def test_versions_rise_over_a_deletion(self, store: Store) -> None:
        """What is created under the id of a deleted entity goes on from its version."""
        row = stored(store, write("e", "Open", None))
        again = stored(store, write("e", "Open", on=row))
        assert again.version == 3
        assert versions(store, "e") == [1, 2, 3]

    def test_ids_are_told_apart_however_they_are_cut(self, store: Store) -> None:
        """A machine's name and an id are two things, not one text."""
        for machine, id in (("a", "b:c"), ("a:b", "c"), ("ab", "c"), ("a", "bc")):
            stored(store, write(id, "Open", machine=machine))
        assert store.count("a") == {"Open": 2}
        assert find_row(store, "c", "a") is None

    @pytest.mark.parametrize("text", ["a\0b", "a\ud800b"], ids=["NUL", "lone surrogate"])
    @pytest.mark.parametrize("column", ["id", "key", "state", "metadata"])
    def test_text_that_no_store_takes_is_refused(
        self, store: Store, text: str, column: str
    ) -> None:
        """The digest could not tell where a column ends, or what it is made from."""
        made = write(
            text if column == "id" else "e", "Open", keys=[text if column == "key" else "k"]
        )
        if column in ("state", "metadata"):
            made = replace(made, log=(replace(made.log[0], **{column: text}),))
        for atomic in (True, False):
            with pytest.raises(WriteRefusedError):
                store.commit([made], atomic=atomic)
        assert store.read_log(limit=1) == []
        assert store.count("sample") == {}

    def test_text_that_no_store_takes_cannot_be_asked_for(self, store: Store) -> None:
        """It is not found, or refused; nothing breaks."""
        for ids in (["a\ud800b"], ["a\ud800b", "e"]):
            try:
                loaded = store.load([Key("sample", id) for id in ids])
            except StoreError:
                continue
            assert [answer.entity for answer in loaded] == [None] * len(ids)

    def test_nothing_to_write_is_nothing_written(self, store: Store) -> None:
        """An empty commit answers with nothing."""
        assert store.commit([]) == []
        assert store.commit([], atomic=True) == []
        assert store.read_log(limit=10) == []

    def test_digests_follow_the_recipe(self, store: Store, clock: ManualClock) -> None:
        """Each is SHA-256 over the one before and every column of its row but the position."""
        row = stored(store, write("e", "Open", "Closed", keys=["k"], tokens=["t", None]))
        clock.advance(1)
        stored(store, write("e", None, on=row))
        digest = ""
        for entry in history(store, "e"):
            digest = digest_by_recipe(digest, entry)
            assert entry.digest == digest
        assert row_of(store, "e").digest == digest

    def test_what_was_written_is_dated_by_the_clock(self, store: Store, clock: ManualClock) -> None:
        """`recorded_at` is the store's time of writing, whatever `at` says."""
        clock.advance(60)
        stored(store, write("e", "Open", at="2001-01-01T00:00:00.000000Z"))
        [row] = history(store, "e")
        assert row.at == "2001-01-01T00:00:00.000000Z"
        assert row.recorded_at == "2026-01-02T03:05:05.000000Z"


class Tokens(Suite):
    """A write that is sent again because its acknowledgement was lost is applied once."""

    def test_a_write_sent_again_counts_as_applied(self, store: Store) -> None:
        """It is found in the log by its token, and not written a second time."""
        made = write("e", "Open", tokens=["mine"])
        stored(store, made)
        again = commit_one(store, made)
        assert (again.applied, again.version) == (True, 1)
        assert versions(store, "e") == [1]

    def test_a_chain_sent_again_counts_as_applied(self, store: Store) -> None:
        """The first transition's token stands for all."""
        row = stored(store, write("e", "Open"))
        chain = write("e", "Open", "Closed", on=row, tokens=["one", "two"])
        stored(store, chain)
        assert commit_one(store, chain).applied
        assert versions(store, "e") == [1, 2, 3]

    def test_it_is_found_under_what_came_after(self, store: Store) -> None:
        """Transitions of others since then do not hide it."""
        made = write("e", "Open", tokens=["mine"])
        row = stored(store, made)
        for _ in range(3):
            row = stored(store, write("e", "Open", on=row, tokens=["theirs"]))
        again = commit_one(store, made)
        assert (again.applied, again.version) == (True, 4)
        assert versions(store, "e") == [1, 2, 3, 4]

    @pytest.mark.parametrize("token", ["mine", None])
    def test_another_token_is_a_conflict(self, store: Store, token: str | None) -> None:
        """A version that somebody else made is not one's own, whether there is a token or not."""
        stored(store, write("e", "Open", tokens=["theirs"]))
        assert commit_one(store, write("e", "Open", tokens=[token])) == Outcome(False, 1)

    def test_no_token_matches_no_token(self, store: Store) -> None:
        """Two writes without a token are two writes."""
        stored(store, write("e", "Open"))
        assert commit_one(store, write("e", "Open")) == Outcome(False, 1)

    def test_a_token_counts_at_its_version_only(self, store: Store) -> None:
        """The same token at another version is another attempt of the call, which was lost."""
        first = stored(store, write("e", "Open", tokens=["theirs"]))
        second = stored(store, write("e", "Open", on=first, tokens=["mine"]))
        stored(store, write("e", "Open", on=second, tokens=["theirs"]))
        assert commit_one(store, write("e", "Open", tokens=["mine"])) == Outcome(False, 3)
        late = write("e", "Open", on=second, tokens=["mine"])
        assert commit_one(store, late) == Outcome(False, 3)

    def test_a_token_counts_for_its_entity_only(self, store: Store) -> None:
        """The same token on another entity says nothing."""
        stored(store, write("a", "Open", tokens=["mine"]))
        stored(store, write("b", "Open", tokens=["theirs"]))
        assert commit_one(store, write("b", "Open", tokens=["mine"])) == Outcome(False, 1)

    def test_a_batch_sent_again_is_applied_once(self, store: Store) -> None:
        """Of an all-or-nothing batch, too, each write counts as applied, though one moved on."""
        batch = [write("a", "Open", tokens=["a"]), write("b", "Open", "Open", tokens=["b", "c"])]
        assert [outcome.applied for outcome in store.commit(batch, atomic=True)] == [True, True]
        stored(store, write("a", "Closed", on=row_of(store, "a")))
        assert [outcome.applied for outcome in store.commit(batch, atomic=True)] == [True, True]
        assert [outcome.applied for outcome in store.commit(batch)] == [True, True]
        assert versions(store, "a") == [1, 2]
        assert versions(store, "b") == [1, 2]


class Purges(Suite):
    """A purge erases the payloads of an entity for good, and leaves what the chain needs."""

    def test_a_purge_leaves_stubs(self, store: Store) -> None:
        """Of each row stay its place, its times, its key, its token and its digest."""
        row = stored(store, write("e", "Open", "Closed", keys=["k"], tokens=["t", "u"]))
        before = history(store, "e")
        stored(store, write("e", None, on=row, purge=True))
        *stubs, last = history(store, "e")
        kept = [
            *("seq", "machine", "id", "version", "key", "token", "at", "recorded_at", "digest"),
            *("command_schema_version", "state_schema_version"),
        ]
        for stub, whole in zip(stubs, before, strict=True):
            assert stub.kind == "purged"
            assert [getattr(stub, name) for name in kept] == [getattr(whole, n) for n in kept]
            payloads = (stub.from_type, stub.to_type, stub.command_type, stub.command, stub.events)
            assert {*payloads, stub.state, stub.metadata} == {None}
        assert (last.version, last.kind) == (3, "deletion")
        assert row_of(store, "e").state is None

    def test_a_deleted_entity_can_be_purged(self, store: Store) -> None:
        """It stays deleted; that it was erased is recorded all the same."""
        row = stored(store, write("e", "Open", None))
        after = stored(store, write("e", None, on=row, purge=True))
        kinds = [(entry.kind, entry.from_type) for entry in history(store, "e")]
        assert kinds == [("purged", None), ("purged", None), ("deletion", None)]
        assert after == replace(row, version=3, digest=after.digest)
        assert store.count("sample") == {}

    def test_a_write_is_found_under_its_purge(self, store: Store) -> None:
        """Whose acknowledgement was lost is told that it was written, and does not write again."""
        made = write("e", "Open", tokens=["mine"])
        row = stored(store, made)
        stored(store, write("e", None, on=row, tokens=["theirs"], purge=True))
        assert commit_one(store, made) == Outcome(True, 2, found=True)
        other = write("e", "Open", tokens=["another"])
        assert commit_one(store, other) == Outcome(False, 2, deleted=True)

    def test_many_are_purged_in_one_commit(self, store: Store) -> None:
        """Each of them, beside others that are not, whether it lives or was deleted before."""
        rows = {id: stored(store, write(id, "Open", "Closed")) for id in "abc"}
        rows["d"] = stored(store, write("d", "Open", None))
        kept = stored(store, write("kept", "Open"))
        purges = [write(id, None, on=row, purge=True) for id, row in rows.items()]
        outcomes = store.commit([*purges, write("kept", "Closed", on=kept)])
        assert all(outcome.applied for outcome in outcomes)
        for id in rows:
            kinds = [entry.kind for entry in history(store, id)]
            assert kinds == ["purged", "purged", "deletion"]
        assert [entry.kind for entry in history(store, "kept")] == ["command", "command"]
        assert store.count("sample") == {"Closed": 1}

    def test_a_purge_touches_one_entity(self, store: Store) -> None:
        """Neither another entity nor the same id of another machine."""
        others = [write("f", "Open"), write("e", "Open", machine="other")]
        row = stored(store, write("e", "Open"))
        assert all(outcome.applied for outcome in store.commit(others))
        stored(store, write("e", None, on=row, purge=True))
        assert [entry.kind for entry in history(store, "f")] == ["command"]
        assert [entry.kind for entry in history(store, "e", "other")] == ["command"]

    def test_a_purge_that_comes_too_late_erases_nothing(self, store: Store) -> None:
        """It is a write like any other."""
        row = stored(store, write("e", "Open"))
        stored(store, write("e", "Open", on=row))
        assert commit_one(store, write("e", None, on=row, purge=True)) == Outcome(False, 2)
        assert [entry.kind for entry in history(store, "e")] == ["command", "command"]

    def test_a_purged_key_stays_taken(self, store: Store) -> None:
        """It is found, as a stub, and cannot be used again."""
        row = stored(store, write("e", "Open", keys=["k"]))
        row = stored(store, write("e", None, on=row, purge=True))
        [loaded] = store.load([Key("sample", "e", ("k",))])
        assert loaded.applied["k"].row.kind == "purged"
        with pytest.raises(StoreError):
            store.commit([write("e", "Open", on=row, keys=["k"])])

    def test_a_life_after_a_purge_is_logged_whole(self, store: Store) -> None:
        """What comes after is an entity like any other; the next purge erases it, too."""
        row = stored(store, write("e", "Open"))
        row = stored(store, write("e", None, on=row, purge=True))
        row = stored(store, write("e", "Open", "Closed", on=row, keys=[None, "k"]))
        [loaded] = store.load([Key("sample", "e", ("k",))])
        assert loaded.applied["k"].created_at == AT
        kinds = [entry.kind for entry in history(store, "e")]
        assert kinds == ["purged", "deletion", "command", "command"]
        stored(store, write("e", None, on=row, purge=True))
        assert [entry.kind for entry in history(store, "e")] == [*4 * ["purged"], "deletion"]
