"""The simulated day keeps every promise, and its audit finds each one that is broken."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast import Command, Machine, Service, open_store
from holdfast.examples.order.agenda import Agenda
from holdfast.examples.order.audit import audit
from holdfast.examples.order.day import Day
from holdfast.examples.order.model import (
    Cancelled,
    Completed,
    Create,
    Line,
    MarkComplete,
    Order,
    OrderError,
    OrderState,
    Processing,
    TryRecover,
)
from holdfast.examples.order.sample import sample
from holdfast.examples.order.stand_in import Entry
from holdfast.stores.contract import Store

LOST = 0
GAPS = 1
BOOKS = 2
SELF_APPROVED = 3
IN_ERROR = 4
VERIFY = 5


class Forge(Command):
    """A command that puts an order into any state, as a defective release might."""

    state: OrderState


forging = Machine("order", state=OrderState, command=Forge)


@forging.on
def forge(state: OrderState, command: Forge) -> OrderState:
    return command.state


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{file}") as store:
        yield store


@pytest.fixture
def lived(store: Store) -> Day:
    """A day of fifty orders that is over."""
    day = Day(store, count=50, seed=3)
    for _ in day.run():
        pass
    return day


def test_a_day_with_an_outage_keeps_every_promise(lived: Day) -> None:
    """Orders fail while the payment is down, and in the end all that was promised holds."""
    found = audit(lived)
    assert [
        (promise.text, promise.breaches) for promise in found.promises if promise.breaches
    ] == []
    assert found.broken == 0
    assert found.failures
    assert lived.world.answers_lost
    assert {type(lived.orders.get(id).state) for id in found.failures} == {Completed}


def test_progress_covers_every_phase(store: Store) -> None:
    """Each phase tells its end once, with all of it done."""
    day = Day(store, count=50, seed=3)
    ends = [progress for progress in day.run() if progress.over]
    assert [end.phase for end in ends] == ["placing", "working", "recovering"]
    assert [end.done for end in ends] == [end.total for end in ends]
    assert [*day.seconds] == ["placing", "working", "recovering"]


def test_the_seed_decides_the_sample() -> None:
    """Equal seeds give equal orders, of every fate; another seed gives others."""
    assert sample(300, 1) == sample(300, 1)
    assert sample(300, 1) != sample(300, 2)
    assert {placed.fate for placed in sample(300, 1)} == {"complete", "cancel", "wait", "process"}
    assert {placed.hot for placed in sample(300, 1)} == {True, False}


def test_a_day_that_is_broken_off_stops_its_workers(store: Store) -> None:
    """Closing the day early ends every thread with work left undone."""
    day = Day(store, count=500, seed=3)
    progress = day.run()
    before = threading.active_count()
    while next(progress).phase != "working":
        pass
    assert threading.active_count() > before
    progress.close()
    assert threading.active_count() == before
    assert day.orders.count_by_state()["Pending"] > 250


def test_a_worker_that_fails_ends_the_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker did not expect reaches the caller as it was raised, and nobody works on."""
    day = Day(store, count=500, seed=3)
    defect = ZeroDivisionError("in the provider's library")

    def charge(*_: object, **__: object) -> str:
        raise defect

    monkeypatch.setattr(day.world, "charge", charge)
    with pytest.raises(ZeroDivisionError) as caught:
        for _ in day.run():
            pass
    assert caught.value is defect
    assert day.orders.count_by_state()["Pending"] > 250


# The audit


def first(day: Day, state: type[OrderState]) -> str:
    return day.orders.find(state=state, limit=1).records[0].id


def lose_an_order(day: Day) -> None:
    day.placed["order-99999"] = day.placed["order-00001"]


def invent_an_order(day: Day) -> None:
    day.orders.handle("order-99999", Create(Order("Bo", (Line("CLEAT", 1, 890),))))


def charge_twice(day: Day) -> None:
    day.world.charges.append(replace(day.world.charges[0], token="another", receipt="P-another"))


def charge_too_much(day: Day) -> None:
    entry = day.world.charges.pop()
    day.world.charges.append(replace(entry, cents=entry.cents + 1))


def deliver_twice(day: Day) -> None:
    day.world.removals.append(replace(day.world.removals[0], token="another"))


def deliver_nothing(day: Day) -> None:
    day.world.removals.pop()


def charge_a_cancelled_order(day: Day) -> None:
    day.world.charges.append(Entry(first(day, Cancelled), "a-token", "P-a-token", 100))


def approve_oneself(day: Day) -> None:
    id = first(day, Completed)
    state = day.orders.get(id).state
    assert isinstance(state, Completed)
    forged = Completed(
        state.order, state.processed_by, state.processed_by, state.removal, state.charge
    )
    Service(forging, day.orders.store).handle(id, Forge(forged))


def leave_in_error(day: Day) -> None:
    id = first(day, Processing)
    state = day.orders.get(id).state
    assert isinstance(state, Processing)
    forged = OrderError(MarkComplete("ben"), state, "payment_failed", "no connection", 0, None)
    Service(forging, day.orders.store).handle(id, Forge(forged))


@pytest.mark.parametrize(
    ("plant", "broken"),
    [
        (lose_an_order, LOST),
        (invent_an_order, LOST),
        (charge_twice, BOOKS),
        (charge_too_much, BOOKS),
        (deliver_twice, BOOKS),
        (deliver_nothing, BOOKS),
        (charge_a_cancelled_order, BOOKS),
        (approve_oneself, SELF_APPROVED),
        (leave_in_error, IN_ERROR),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_audit_finds_a_planted_breach(
    lived: Day, plant: Callable[[Day], None], broken: int
) -> None:
    """One thing is wrong, and exactly the promise that it breaks is reported, once."""
    plant(lived)
    found = audit(lived)
    breaches = {
        place: len(promise.breaches)
        for place, promise in enumerate(found.promises)
        if promise.breaches
    }
    assert breaches == {broken: 1}
    assert found.broken == 1


def tamper(file: Path, sql: str, id: str) -> None:
    """Change the file behind the library's back."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TRIGGER transition_is_not_deleted")
        assert connection.execute(sql, {"id": id}).rowcount == 1


def test_the_audit_finds_a_missing_transition(lived: Day, file: Path) -> None:
    """A row deleted from the log leaves a gap in the order's versions."""
    tamper(file, "DELETE FROM transition WHERE id = :id AND version = 2", first(lived, Completed))
    found = audit(lived)
    assert [bool(promise.breaches) for promise in found.promises] == [
        place in (GAPS, VERIFY) for place in range(6)
    ]


def test_the_audit_finds_an_altered_order(lived: Day, file: Path) -> None:
    """An order's row that is not what the log leads to does not verify."""
    tamper(
        file,
        "UPDATE entity SET created_at = '2000-01-01T00:00:00.000000Z' WHERE id = :id",
        first(lived, Cancelled),
    )
    found = audit(lived)
    assert [bool(promise.breaches) for promise in found.promises] == [
        place == VERIFY for place in range(6)
    ]


# The agenda


def test_tasks_are_taken_by_turn() -> None:
    """A task that was added later and has an earlier turn comes first; equal turns as added."""
    agenda = Agenda()
    for turn, id in ((2, "c"), (1, "a"), (1, "b")):
        agenda.add(turn, id, TryRecover(), "ada")
    taken = [agenda.take() for _ in range(3)]
    assert [task.id for task in taken if task] == ["a", "b", "c"]


def test_a_worker_waits_while_a_task_is_under_way() -> None:
    """Nobody goes home while a task is done that may lead to another."""
    agenda = Agenda()
    agenda.add(1, "a", TryRecover(), "ada")
    assert agenda.take()
    ended: list[object] = []
    colleague = threading.Thread(target=lambda: ended.append(agenda.take()))
    colleague.start()
    colleague.join(timeout=0.05)
    assert ended == []
    agenda.add(2, "b", TryRecover(), "ada")
    colleague.join(timeout=10)
    assert [getattr(task, "id", None) for task in ended] == ["b"]
    agenda.finish()
    agenda.finish()
    assert agenda.take() is None
