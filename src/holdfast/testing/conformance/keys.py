"""Idempotency keys: what a store looks up with the load, and what a service answers by them."""

from __future__ import annotations

import pytest

from holdfast.errors import CommandRejectedError, KeyReusedError, StoreError
from holdfast.record import Request
from holdfast.stores.contract import Key, Store
from holdfast.testing.clock import ManualClock
from holdfast.testing.conformance.base import (
    Connect,
    SampleService,
    Suite,
    find_row,
    first_time,
    history,
    stored,
    versions,
)
from holdfast.testing.sample import Add, Close, Create, Open, Remove
from holdfast.testing.writes import AT, write


class StoreKeys(Suite):
    """An idempotency key is looked up with the load, and belongs to one entity."""

    def test_a_key_is_found_with_the_load(self, store: Store) -> None:
        """With the log row it made, though the entity has moved on."""
        row = stored(store, write("e", "Open", "Closed", "Closed", keys=[None, "k"]))
        [loaded] = store.load([Key("sample", "e", ("k", "unknown"))])
        assert loaded.entity == row
        assert loaded.applied.keys() == {"k"}
        assert loaded.applied["k"].row == history(store, "e")[1]

    def test_a_key_is_not_looked_up_unasked(self, store: Store) -> None:
        """A load without keys answers without."""
        stored(store, write("e", "Open", keys=["k"]))
        [loaded] = store.load([Key("sample", "e")])
        assert loaded.applied == {}

    def test_the_same_key_on_two_entities_is_two(self, store: Store) -> None:
        """Neither the other entity's key is found nor that of another machine."""
        stored(store, write("a", "Open", keys=["k"]))
        stored(store, write("a", "Open", keys=["k"], machine="other"))
        [nothing] = store.load([Key("sample", "b", ("k",))])
        assert nothing.applied == {}
        stored(store, write("b", "Open", "Open", keys=[None, "k"]))
        answers = store.load([Key("sample", "b", ("k",)), Key("sample", "a", ("k",))])
        found = [answer.applied["k"].row for answer in answers]
        assert [(row.id, row.version) for row in found] == [("b", 2), ("a", 1)]

    def test_a_key_knows_the_life_it_belongs_to(self, store: Store) -> None:
        """With the row comes when its entity was created, and the state before it."""
        row = stored(store, write("e", "Open", at="2026-01-01T00:00:00.000000Z"))
        row = stored(
            store, write("e", None, on=row, keys=["end"], at="2026-01-02T00:00:00.000000Z")
        )
        life = write("e", "Open", "Closed", on=row, keys=[None, "k"], at=AT)
        stored(store, life)
        [loaded] = store.load([Key("sample", "e", ("end", "k"))])
        end, k = loaded.applied["end"], loaded.applied["k"]
        assert (end.row.version, end.created_at) == (2, "2026-01-01T00:00:00.000000Z")
        assert end.previous_state == '{"$type":"Open","version":1}'
        assert (k.row.version, k.created_at) == (4, AT)
        assert k.previous_state == '{"$type":"Open","version":3}'

    def test_a_key_is_used_once(self, store: Store) -> None:
        """A write whose key is in the entity's log already is refused, with all that goes with it.

        No service sends one: it found the key with the load, and the version guards the rest.
        """
        row = stored(store, write("e", "Open", keys=["k"]))
        for batch in (
            [write("other", "Open"), write("e", "Open", on=row, keys=["k"])],
            [write("e", "Open", "Open", on=row, keys=["new", "new"])],
        ):
            with pytest.raises(StoreError):
                store.commit(batch)
        assert find_row(store, "other") is None
        assert versions(store, "e") == [1]


class Keys(Suite):
    """The same request handled twice is applied once, and answered with the first result."""

    def test_the_second_answer_is_the_first(
        self, service: SampleService, clock: ManualClock
    ) -> None:
        """Though the entity has moved on, and whatever version the caller expects now."""
        first = service.handle("e", Add(1), key="k")
        clock.advance(1)
        service.handle("e", Add(1))
        assert service.handle("e", Add(1), key="k") == first
        assert service.handle("e", Add(1), key="k", expected_version=77) == first
        assert service.get("e").version == 2

    def test_another_command_is_refused(self, service: SampleService) -> None:
        """Another type, or the same with other values."""
        service.handle("e", Add(1), key="k")
        for command in (Add(2), Close(), Remove()):
            with pytest.raises(KeyReusedError) as caught:
                service.handle("e", command, key="k")
            assert (caught.value.key, caught.value.version) == ("k", 1)
        assert service.get("e").version == 1

    def test_a_key_belongs_to_an_entity(self, service: SampleService) -> None:
        """The same key on two entities is two keys."""
        service.handle("a", Add(1), key="k")
        assert service.handle("b", Add(2), key="k").state == Open(2)

    def test_a_key_outlives_its_entity(self, service: SampleService) -> None:
        """The deletion itself, and what was before it, are answered as they were then."""
        made = service.handle("e", Add(1), key="made")
        gone = service.handle("e", Remove(), key="gone")
        service.handle("e", Create())
        assert service.handle("e", Add(1), key="made") == made
        assert service.handle("e", Remove(), key="gone") == gone
        assert service.get("e").version == 3

    def test_a_purged_key_is_refused(self, service: SampleService) -> None:
        """What it did is erased, so that it can neither be answered nor done again."""
        service.handle("e", Add(1), key="k")
        service.purge("e")
        with pytest.raises(KeyReusedError):
            service.handle("e", Add(1), key="k")

    def test_a_refusal_is_not_remembered(self, service: SampleService) -> None:
        """The key of a refused command is free, for that command or for another."""
        with pytest.raises(CommandRejectedError):
            service.handle("e", Add(-1), key="k")
        assert service.handle("e", Add(1), key="k").version == 1

    def test_two_in_a_batch_are_two_calls(self, store: Store, service: SampleService) -> None:
        """The second is answered with what the first made."""
        first, second, third = service.handle_many(
            [Request("e", Add(1), "k"), Request("e", Add(1), "k"), Request("e", Add(2), "k")]
        )
        assert first == second
        assert isinstance(third, KeyReusedError)
        assert versions(store, "e") == [1]

    def test_a_key_used_in_between_is_found(
        self, store: Store, service: SampleService, connect: Connect
    ) -> None:
        """Two requests at once with one key are applied once."""
        service.handle("e", Add(1))
        late = connect(store, first_time(lambda: service.handle("e", Add(10), key="k")))
        assert late.handle("e", Add(10), key="k").version == 2
        assert service.get("e").state == Open(11)

    def test_the_longest_key_is_a_key(self, service: SampleService) -> None:
        """512 bytes, of whatever characters."""
        key = "\U0001f511" * 128
        first = service.handle("e", Add(1), key=key)
        assert service.handle("e", Add(1), key=key) == first
