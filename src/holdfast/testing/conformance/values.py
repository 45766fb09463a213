"""What may be stored, how it is written, and what is refused before anything is written."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from holdfast.errors import QueryError, ValidationError
from holdfast.record import Request
from holdfast.stores.contract import Checkpoint, Store
from holdfast.testing.conformance.base import SampleService, Suite
from holdfast.testing.sample import Add, Create, Open

UNSTORABLE = [
    pytest.param("a\0b", id="NUL"),
    pytest.param("\0", id="only NUL"),
    pytest.param("a\ud800b", id="lone surrogate"),
    pytest.param("\udfff", id="only lone surrogate"),
]
TEXTS = [
    "",
    " ",
    "\x01\x1f",
    "\\u0000",
    "'\";--",
    "é",
    "e\u0301",
    "\uffff",
    "\U0001f600",
    "\r\n\u2028",
]


class Values(Suite):
    """The encoding is the same in every store, and what would not survive it is refused."""

    @pytest.mark.parametrize("text", UNSTORABLE)
    def test_unstorable_text_is_refused_everywhere(
        self, store: Store, service: SampleService, text: str
    ) -> None:
        """In ids, keys, metadata, commands, and the names of readers."""
        requests: list[Request[Any]] = [
            Request(text, Add()),
            Request("e", Add(), text),
            Request("e", Add(), metadata={"by": text}),
            Request("e", Add(), metadata={text: 1}),
            Request("e", Add(), metadata={"deep": [{"er": [text]}]}),
            Request("e", Create(note=text)),
            Request("e", Create(tags=frozenset({"a", text}))),
        ]
        answers = service.handle_many(requests)
        assert [type(answer) for answer in answers] == [ValidationError] * len(requests)
        with pytest.raises(ValidationError):
            service.handle_many([("e", Add())], checkpoint=Checkpoint(text, 1))
        assert store.read_log(limit=1) == []

    @pytest.mark.parametrize("text", UNSTORABLE)
    def test_unstorable_text_cannot_be_asked_for(self, service: SampleService, text: str) -> None:
        """A question that no store could answer is refused alike by all."""
        service.handle("e", Add())
        for ask in (service.get, service.history, service.purge, service.allowed):
            with pytest.raises(ValidationError):
                ask(text)
        with pytest.raises((ValidationError, QueryError)):
            service.find(after=text)
        with pytest.raises((ValidationError, QueryError)):
            service.find(state=text)

    @pytest.mark.parametrize("number", [2**63, 2**200, -(2**64)])
    def test_numbers_beyond_any_store_are_refused(
        self, store: Store, service: SampleService, number: int
    ) -> None:
        """Where one is a position, a version or a limit."""
        service.handle("e", Add())
        with pytest.raises(ValidationError):
            service.handle_many([("e", Add())], checkpoint=Checkpoint("reader", number))
        with pytest.raises(QueryError):
            service.history("e", after=number)
        with pytest.raises(QueryError):
            service.find(limit=number)
        with pytest.raises(QueryError):
            service.at("e", version=number)
        assert len(store.read_log(limit=9)) == 1

    @pytest.mark.parametrize("text", TEXTS)
    def test_any_other_text_is_kept_as_it_is(self, service: SampleService, text: str) -> None:
        """Unnormalised, unescaped, whatever it looks like."""
        metadata = {"by": text, text: None}
        record = service.handle(text or "e", Create(note=text), key=text or "k", metadata=metadata)
        assert service.get(record.id).state == Open(note=text)
        [transition] = service.history(record.id)
        assert (transition.id, transition.key) == (text or "e", text or "k")
        assert (transition.metadata, transition.command) == (metadata, Create(note=text))

    def test_datetimes_are_stored_in_utc_with_six_digits(
        self, store: Store, service: SampleService
    ) -> None:
        """So that they sort as text, in the command and in the state."""
        due = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone(timedelta(hours=2)))
        service.handle("e", Create(due=due))
        [row] = store.read_log(limit=1)
        for text in (row.command, row.state):
            assert json.loads(text or "")["due"] == "2026-03-04T03:06:07.000000Z"
        assert service.get("e").state == Open(due=due)

    def test_a_datetime_without_a_zone_is_refused(self, service: SampleService) -> None:
        """With the path to it."""
        naive = datetime(2026, 3, 4)  # noqa: DTZ001 (to be refused)
        with pytest.raises(ValidationError) as caught:
            service.handle("e", Create(due=naive))
        assert caught.value.path == "$.due"

    def test_sets_are_stored_sorted(self, store: Store, service: SampleService) -> None:
        """The same set has the same text, and so the same digest."""
        tags = [f"tag-{i:02}" for i in range(20)]
        service.handle("e", Create(tags=frozenset(tags)))
        [row] = store.read_log(limit=1)
        assert json.loads(row.state or "")["tags"] == tags

    @pytest.mark.parametrize("weight", [float("nan"), float("inf"), float("-inf")])
    def test_what_json_cannot_hold_is_refused(
        self, store: Store, service: SampleService, weight: float
    ) -> None:
        """With the path to it."""
        with pytest.raises(ValidationError) as caught:
            service.handle("e", Create(weights=(0.5, weight)))
        assert caught.value.path == "$.weights[1]"
        assert store.read_log(limit=1) == []

    @pytest.mark.parametrize("weight", [0.1, 1e308, 5e-324, -0.0, 1 / 3, 2.0**60])
    def test_floats_are_kept_to_the_last_bit(self, service: SampleService, weight: float) -> None:
        """No store rounds them."""
        service.handle("e", Create(weights=(weight,)))
        state = service.get("e").state
        assert isinstance(state, Open)
        assert [w.hex() for w in state.weights] == [weight.hex()]

    def test_sizes_are_bounded(self, store: Store, service: SampleService) -> None:
        """Of ids, keys, metadata, commands and states."""
        requests: list[Request[Any]] = [
            Request("", Add()),
            Request("x" * 513, Add()),
            Request("é" * 257, Add()),
            Request("x" * 10_000, Add()),
            Request("e", Add(), ""),
            Request("e", Add(), "k" * 513),
            Request("e", Add(), metadata={"by": "x" * 65_536}),
            Request("e", Create(note="x" * 1_048_576)),
        ]
        answers = service.handle_many(requests)
        assert [type(answer) for answer in answers] == [ValidationError] * len(requests)
        assert store.read_log(limit=1) == []

    def test_what_the_bounds_allow_is_stored(self, service: SampleService) -> None:
        """Up to the last byte of an id and a key, and much of a state and metadata."""
        id, key, metadata = "é" * 256, "k" * 512, {"by": "x" * 65_000}
        state = Create(note="\U0001f600" * 260_000)
        record = service.handle(id, state, key=key, metadata=metadata)
        assert service.get(id) == record
        [transition] = service.history(id)
        assert (transition.id, transition.key, transition.metadata) == (id, key, metadata)
