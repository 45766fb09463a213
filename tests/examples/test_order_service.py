"""Orders on SQLite: what a failure, a conflict or a crash interrupts is done once all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, create_autospec

import pytest

from holdfast import (
    Command,
    InvalidTransitionError,
    Machine,
    RejectedError,
    Service,
    ValidationError,
    open_store,
)
from holdfast.examples.order import service
from holdfast.examples.order.dependencies import CallFailedError, OrderDeps
from holdfast.examples.order.machine import order
from holdfast.examples.order.model import (
    Cancel,
    Cancelled,
    Completed,
    Create,
    Line,
    MarkAsProcessing,
    MarkComplete,
    Order,
    OrderCommand,
    OrderError,
    OrderState,
    Processing,
    TryRecover,
)
from holdfast.stores.contract import Store

BASKET = Order("Iris", (Line("ROPE-20M", 2, 2475), Line("CLEAT", 4, 890)))
Orders = Service[OrderState, OrderCommand, OrderDeps]


class Note(Command):
    """A command that only another release of the order machine knows; it changes no state."""


noting = Machine("order", state=OrderState, command=Note)


@noting.on
def note(state: Processing | OrderError, command: Note) -> Processing | OrderError:
    return state


@pytest.fixture
def deps() -> Any:
    """A world in which every call succeeds."""
    deps = create_autospec(OrderDeps, instance=True)
    deps.remove_stock.return_value = "W-1"
    deps.charge.return_value = "P-1"
    return deps


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as store:
        yield store


@pytest.fixture
def orders(store: Store, deps: Any) -> Orders:
    """A service with one order, which ada processes."""
    orders = Service(order, store, deps=deps)
    orders.handle("o-1", Create(BASKET))
    orders.handle("o-1", MarkAsProcessing("ada"))
    return orders


def tokens(fake: Any) -> list[str]:
    """The tokens a fake was called with, each once, in the order of its first call."""
    return list(dict.fromkeys(made.kwargs["token"] for made in fake.mock_calls))


def first(times: int, act: Callable[[], object]) -> Callable[..., Any]:
    """A side effect that acts during the first calls and leaves the answer as it is."""
    left = [times]

    def effect(*_: object, **__: object) -> Any:
        if left[0]:
            left[0] -= 1
            act()
        return DEFAULT

    return effect


def test_an_order_is_recovered_by_other_processes_than_the_one_that_failed(
    url: str, deps: Any, tmp_path: Path
) -> None:
    """Each step on a store opened anew: three recoveries fail, the fourth finds the stock removed.

    The warehouse is called once overall, and every charge carries one token.
    """
    commands: list[OrderCommand] = [Create(BASKET), MarkAsProcessing("ada"), MarkComplete("ben")]
    commands += [TryRecover()] * 3
    deps.charge.side_effect = CallFailedError("connection refused")
    for command in commands:
        with open_store(url) as store:
            Service(order, store, deps=deps).handle("o-1", command)
    deps.charge.side_effect = None
    with open_store(url) as store:
        orders = Service(order, store, deps=deps)
        record = orders.handle("o-1", TryRecover())
        history = orders.history("o-1")
    assert record.state == Completed(BASKET, "ada", "ben", "W-1", "P-1")
    assert deps.remove_stock.call_count == 1
    assert tokens(deps.charge) == tokens(deps.remove_stock) == [history[1].token]
    failures = [entry.state for entry in history if isinstance(entry.state, OrderError)]
    assert [failure.retries for failure in failures] == [0, 1, 2, 3]
    assert {failure.removal for failure in failures} == {"W-1"}


@pytest.mark.parametrize("shared", [True, False], ids=["one store object", "another store object"])
@pytest.mark.parametrize("conflicts", [1, 3])
def test_a_completion_that_meets_conflicts_sends_one_token(
    orders: Orders, deps: Any, url: str, conflicts: int, shared: bool
) -> None:
    """While the payment runs another service writes to the order, and the completion starts over.

    Nothing is locked while the handler runs: the other write goes through at once.
    """
    with open_store(url) as another:
        notes = Service(noting, orders.store if shared else another)
        deps.charge.side_effect = first(conflicts, lambda: notes.handle("o-1", Note(), timeout=1))
        record = orders.handle("o-1", MarkComplete("ben"))
    assert record.version == 3 + conflicts
    assert isinstance(record.state, Completed)
    assert deps.remove_stock.call_count == deps.charge.call_count == 1 + conflicts
    assert len(tokens(deps.remove_stock)) == len(tokens(deps.charge)) == 1


def test_a_recovery_that_meets_conflicts_sends_the_first_token(orders: Orders, deps: Any) -> None:
    """Another recovery fails while this one is under way: this one decides again, and succeeds."""
    deps.charge.side_effect = CallFailedError("connection refused")
    orders.handle("o-1", MarkComplete("ben"))
    another = Service(order, orders.store, deps=deps)

    def fail_meanwhile(*_: object, **__: object) -> str:
        deps.charge.side_effect = CallFailedError("connection refused")
        another.handle("o-1", TryRecover())
        deps.charge.side_effect = None
        return "P-1"

    deps.charge.side_effect = fail_meanwhile
    record = orders.handle("o-1", TryRecover())
    assert [entry.to_state for entry in orders.history("o-1")[2:]] == [
        "OrderError",
        "OrderError",
        "Completed",
    ]
    assert isinstance(record.state, Completed)
    assert deps.remove_stock.call_count == 1
    assert len(tokens(deps.charge)) == 1


def test_two_who_complete_at_once_charge_once(orders: Orders, deps: Any) -> None:
    """Two commands, each with a token of its own, send the token of the order; one is refused."""
    both_are_charging = threading.Barrier(2, timeout=10)
    deps.charge.side_effect = first(2, both_are_charging.wait)
    refused: list[RejectedError] = []

    def complete(worker: str) -> None:
        try:
            orders.handle("o-1", MarkComplete(worker))
        except RejectedError as error:
            refused.append(error)

    threads = [threading.Thread(target=complete, args=(worker,)) for worker in ("ben", "cleo")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert isinstance(orders.get("o-1").state, Completed)
    assert [type(error) for error in refused] == [InvalidTransitionError]
    assert deps.charge.call_count == 2
    assert len(tokens(deps.charge)) == len(tokens(deps.remove_stock)) == 1


class Killed(BaseException):
    """The process ends here."""


def test_a_crash_between_the_charge_and_the_save_charges_once(orders: Orders, deps: Any) -> None:
    """The command is sent again as a new one, without a key, and still carries the first token."""
    deps.charge.side_effect = Killed
    with pytest.raises(Killed):
        orders.handle("o-1", MarkComplete("ben"))
    assert isinstance(orders.get("o-1").state, Processing)
    deps.charge.side_effect = None
    assert isinstance(orders.handle("o-1", MarkComplete("cleo")).state, Completed)
    assert len(tokens(deps.charge)) == len(tokens(deps.remove_stock)) == 1


def test_a_cancellation_cannot_overtake_a_completion_that_has_begun(
    orders: Orders, deps: Any
) -> None:
    """While the payment runs the order cannot be cancelled: nothing is charged and cancelled."""
    refused: list[InvalidTransitionError] = []
    another = Service(order, orders.store, deps=deps)

    def cancel() -> None:
        with pytest.raises(InvalidTransitionError) as caught:
            another.handle("o-1", Cancel("too slow"))
        refused.append(caught.value)

    deps.charge.side_effect = first(1, cancel)
    assert isinstance(orders.handle("o-1", MarkComplete("ben")).state, Completed)
    assert [error.allowed for error in refused] == [("MarkComplete",)]


def test_an_invalid_command_writes_nothing(orders: Orders) -> None:
    """A command that breaks its declaration is refused, and the history is as it was."""
    with pytest.raises(ValidationError):
        orders.handle("o-2", Create(Order("Bo", ())))
    assert orders.history("o-2") == []


def test_the_target_of_the_command_line_keeps_orders_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`holdfast.examples.order:service` is a function that returns a service which works."""
    monkeypatch.chdir(tmp_path)
    for command in (Create(BASKET), MarkAsProcessing("ada"), MarkComplete("ben")):
        orders = service()
        with orders.store:
            orders.handle("o-1", command)
    with open_store(f"sqlite:///{tmp_path}/orders.db") as store:
        record = Service(order, store, deps=create_autospec(OrderDeps, instance=True)).get("o-1")
    assert isinstance(record.state, Completed)
    assert record.version == 3


def test_a_cancelled_order_keeps_its_story(store: Store, deps: Any) -> None:
    """The log tells who cancelled an order, and why."""
    orders = Service(order, store, deps=deps)
    orders.handle("o-1", Create(BASKET), metadata={"by": "web"})
    orders.handle("o-1", Cancel("ordered twice"), metadata={"by": "Iris"})
    told = [(entry.metadata["by"], entry.command, entry.state) for entry in orders.history("o-1")]
    assert told[1] == ("Iris", Cancel("ordered twice"), Cancelled(BASKET, "ordered twice"))
    assert deps.mock_calls == []
