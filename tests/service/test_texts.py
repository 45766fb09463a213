"""Ids, keys and names that are texts of another type: taken as the text that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import pytest
from tests.service.orders import Note, Orders, Pending, Place

from holdfast import Checkpoint, NotFoundError, Request
from holdfast.stores.contract import EntityRow, Store
from holdfast.testing.consistency import faults


class Name(str, Enum):  # noqa: UP042 (it is what formats as its member's name)
    ID = "o-1"
    OTHER = "o-2"
    KEY = "request-9"
    STATE = "Pending"
    READER = "reader"


def test_an_id_and_a_key_are_stored_as_plain_text(orders: Orders, store: Store) -> None:
    """The log agrees with itself, and who asks by the text finds what was stored by the member."""
    record = orders.handle(Name.ID, Place(total=5), key=Name.KEY)
    orders.handle_many([Request(Name.ID, Note(text="x"), key=Name.OTHER), (Name.OTHER, Place(1))])
    with orders.begin() as transaction:
        transaction.prepare(Name.ID, Note(text="y"))
        transaction.prepare_only(Name.OTHER, Pending(total=2))
        assert type(transaction.read(Name.OTHER).id) is str

    assert type(record.id) is str
    assert [(type(t.id), t.key) for t in orders.history("o-1")] == [
        (str, "request-9"),
        (str, "o-2"),
        (str, None),
    ]
    assert faults(store) == []


def test_every_question_takes_a_member(orders: Orders, store: Store) -> None:
    """And answers in plain text."""
    orders.handle("o-1", Place(total=5))
    orders.handle("o-2", Place(total=5))
    assert type(orders.get(Name.ID).id) is str
    assert [type(id) for id in orders.get_many([Name.ID, "o-1"])] == [str]
    assert [type(t.id) for t in orders.history(Name.ID)] == [str]
    assert type(orders.at(Name.ID, version=1).id) is str
    assert [record.id for record in orders.find(state=Name.STATE, after=Name.ID)] == ["o-2"]
    assert [record.id for record in orders.find(state=[Name.STATE], limit=1)] == ["o-1"]
    assert orders.preview(Name.ID, Note(text="x")).version == 2
    assert Note in orders.allowed(Name.ID)
    orders.purge(Name.ID)
    with pytest.raises(NotFoundError) as caught:
        orders.get(Name.ID)
    assert type(caught.value.id) is str
    assert faults(store) == []


def test_a_store_is_asked_for_states_in_plain_text(
    orders: Orders, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver may know the subclass, and store what it is called."""
    asked: list[type] = []
    find = store.find

    def watched(machine: str, *, state_types: Sequence[str], **options: Any) -> list[EntityRow]:
        asked.extend(map(type, state_types))
        return find(machine, state_types=state_types, **options)

    monkeypatch.setattr(store, "find", watched)
    orders.find(state=[Name.STATE, "Paid"])
    assert asked == [str, str]


def test_a_checkpoint_may_be_named_by_a_member(orders: Orders, store: Store) -> None:
    """It is found by the text."""
    orders.handle_many([("o-1", Place(total=5))], checkpoint=Checkpoint(Name.READER, 1))
    assert store.checkpoint("reader") == 1
