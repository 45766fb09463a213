"""The hook that watches conflicts: what it raises is the answer of the calls that met them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.service.orders import CountingStore, Desk, Note, Orders, Place, order

from holdfast import BatchError, Conflict, DefinitionError, Record, Request, Retry, Service
from holdfast.stores.contract import Store


class TooHotError(Exception):
    """What the hook raises."""


def hooked(store: Store, desk: Desk, hook: Callable[[Conflict], object], **limits: Any) -> Orders:
    """Return a service whose conflicts are told to a hook."""
    retry = Retry(initial_seconds=0.001, on_conflict=hook, **limits)
    return Service(order, store, deps=desk, retry=retry)


def give_up(conflict: Conflict) -> None:
    """Raise, as a hook that does not only watch."""
    raise TooHotError(conflict.id)


def kinds(answers: list[Any]) -> list[type]:
    """Return the type of each answer."""
    return [type(answer) for answer in answers]


def test_a_stale_expectation_is_told_before_anything_is_written(store: Store, desk: Desk) -> None:
    """What the hook raises then takes nothing from the other calls."""
    counting = CountingStore(store)
    written_before: list[int] = []

    def hook(conflict: Conflict) -> None:
        written_before.append(len(counting.commits))
        give_up(conflict)

    orders = hooked(counting, desk, hook)
    answers = orders.handle_many(
        [
            ("a", Place(total=1)),
            Request("b", Place(total=1), expected_version=9),
            ("b", Place(total=2)),
            ("c", Place(total=1)),
        ]
    )
    assert kinds(answers) == [Record, TooHotError, Record, Record]
    assert written_before == [0]
    assert orders.count_by_state() == {"Pending": 3}
    assert [(spot.id, spot.conflicts) for spot in orders.contention()] == [("b", 1)]


def test_a_conflict_of_one_entity_is_no_other_entitys(store: Store, desk: Desk) -> None:
    """The commit wrote the others; the hook is asked about the one."""
    orders = hooked(store, desk, give_up)
    rival = Service(order, store, deps=Desk())
    orders.handle_many([("a", Place(total=1)), ("b", Place(total=1))])
    desk.interrupts.append(lambda: rival.handle("a", Note(text="first")))

    answers = orders.handle_many(
        [("a", Note(text="x")), ("a", Note(text="y")), ("b", Note(text="z"))]
    )

    assert kinds(answers) == [TooHotError, TooHotError, Record]
    assert [orders.get(id).version for id in "ab"] == [2, 2]


def test_all_or_none_is_none_where_the_hook_raises(store: Store, desk: Desk) -> None:
    """The error is told by index, like any other."""
    orders = hooked(store, desk, give_up)
    with pytest.raises(BatchError) as caught:
        orders.handle_many(
            [("a", Place(total=1)), Request("b", Place(total=1), expected_version=9)], atomic=True
        )
    assert {place: type(error) for place, error in caught.value.failures.items()} == {
        1: TooHotError
    }
    assert orders.count_by_state() == {}


def test_what_ends_a_program_ends_the_batch_before_it_is_written(store: Store, desk: Desk) -> None:
    """It is nobody's answer."""

    def interrupt(conflict: Conflict) -> None:
        raise KeyboardInterrupt

    orders = hooked(store, desk, interrupt)
    with pytest.raises(KeyboardInterrupt):
        orders.handle_many(
            [("a", Place(total=1)), Request("b", Place(total=1), expected_version=9)]
        )
    assert orders.count_by_state() == {}


@pytest.mark.parametrize("met", ["stale", "late"])
def test_any_error_of_the_hook_arrives_as_it_was_raised(store: Store, desk: Desk, met: str) -> None:
    """Also the one that ends iterations."""
    orders = hooked(store, desk, lambda conflict: next(iter(())))
    rival = Service(order, store, deps=Desk())
    orders.handle("a", Place(total=1))
    if met == "late":
        desk.interrupts.append(lambda: rival.handle("a", Note(text="first")))
    with pytest.raises(StopIteration):
        orders.handle("a", Note(text="x"), expected_version=9 if met == "stale" else None)


def test_a_hook_that_nobody_would_await_is_refused() -> None:
    """When the `Retry` is made, and not at the first conflict."""

    async def hook(conflict: Conflict) -> None:
        pass

    with pytest.raises(DefinitionError, match="plain function"):
        Retry(on_conflict=hook)
