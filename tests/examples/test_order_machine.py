"""The order machine decides as a shop would: pure, with its dependencies faked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest.mock import call, create_autospec

import pytest

from holdfast import (
    CommandRejectedError,
    Context,
    InvalidTransitionError,
    ValidationError,
)
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
    Pending,
    Processing,
    TryRecover,
)

BASKET = Order("Iris", (Line("ROPE-20M", 2, 2475), Line("CLEAT", 4, 890)))
PROCESSING = Processing(BASKET, worker="ada", token="t-ada")
COMPLETED = Completed(BASKET, processed_by="ada", completed_by="ben", removal="W-1", charge="P-1")
FAILED = OrderError(
    command=MarkComplete("ben"),
    previous=PROCESSING,
    problem="payment_failed",
    detail="connection refused",
    retries=0,
    removal="W-1",
)
STATES: tuple[OrderState | None, ...] = (
    None,
    Pending(BASKET),
    PROCESSING,
    COMPLETED,
    Cancelled(BASKET, "ordered twice"),
    FAILED,
)
COMMANDS: tuple[OrderCommand, ...] = (
    Create(BASKET),
    MarkAsProcessing("ada"),
    Cancel("ordered twice"),
    MarkComplete("ben"),
    TryRecover(),
)
DIAGRAM = """\
stateDiagram-v2
    Pending
    Processing
    Completed
    Cancelled
    OrderError
    [*] --> Pending : Create
    Pending --> Cancelled : Cancel
    Pending --> Processing : MarkAsProcessing
    Processing --> Completed : MarkComplete
    Processing --> OrderError : MarkComplete
    OrderError --> Completed : TryRecover
    OrderError --> OrderError : TryRecover
    Completed --> [*]
    Cancelled --> [*]
"""


@pytest.fixture
def deps() -> Any:
    """A world in which every call succeeds."""
    deps = create_autospec(OrderDeps, instance=True)
    deps.remove_stock.return_value = "W-1"
    deps.charge.return_value = "P-1"
    return deps


def step(
    state: OrderState | None, command: OrderCommand, deps: OrderDeps, token: str = "t-other"
) -> OrderState | None:
    """Decide one command; its own token differs from the one that processing stored."""
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return order.step(state, command, deps, Context(now=now, token=token, id="o-1"))


# The path of an order


def test_an_order_is_created_pending(deps: Any) -> None:
    """Creating an order makes it wait for a worker."""
    assert step(None, Create(BASKET), deps) == Pending(BASKET)


def test_processing_stores_the_token_that_the_calls_will_carry(deps: Any) -> None:
    """The token of the command that begins the processing is part of the state."""
    state = step(Pending(BASKET), MarkAsProcessing("ada"), deps, token="t-ada")
    assert state == PROCESSING


def test_a_pending_order_can_be_cancelled(deps: Any) -> None:
    """A cancelled order keeps the reason."""
    state = step(Pending(BASKET), Cancel("ordered twice"), deps)
    assert state == Cancelled(BASKET, "ordered twice")


def test_completing_removes_the_stock_and_then_charges(deps: Any) -> None:
    """Both calls carry the stored token, in this order, and their receipts are kept."""
    state = step(PROCESSING, MarkComplete("ben"), deps)
    assert deps.mock_calls == [
        call.remove_stock("o-1", BASKET.lines, token="t-ada"),
        call.charge("o-1", "Iris", 8510, token="t-ada"),
    ]
    assert state == COMPLETED


def test_nobody_completes_what_they_processed(deps: Any) -> None:
    """A worker who completes an order of their own is refused before any call is made."""
    with pytest.raises(CommandRejectedError, match=r"ada processed order 'o-1' .* another worker"):
        step(PROCESSING, MarkComplete("ada"), deps)
    assert deps.mock_calls == []


# What may fail


def test_an_order_whose_warehouse_fails_is_not_charged(deps: Any) -> None:
    """The error state holds the command, the state before, the problem; nothing was done yet."""
    deps.remove_stock.side_effect = CallFailedError("no answer")
    state = step(PROCESSING, MarkComplete("ben"), deps)
    assert state == OrderError(
        command=MarkComplete("ben"),
        previous=PROCESSING,
        problem="warehouse_failed",
        detail="no answer",
        retries=0,
        removal=None,
    )
    assert not deps.charge.called


def test_an_order_whose_payment_fails_remembers_what_was_done(deps: Any) -> None:
    """The error state holds the warehouse's receipt."""
    deps.charge.side_effect = CallFailedError("connection refused")
    assert step(PROCESSING, MarkComplete("ben"), deps) == FAILED


def test_a_recovery_resumes_where_the_completion_stopped(deps: Any) -> None:
    """After three recoveries that fail and one that succeeds the warehouse was called once.

    Each recovery is a command with a token of its own; the charge is always sent under the first.
    """
    deps.charge.side_effect = CallFailedError("connection refused")
    state = step(PROCESSING, MarkComplete("ben"), deps)
    for number in range(1, 4):
        state = step(state, TryRecover(), deps, token=f"t-recovery-{number}")
        assert isinstance(state, OrderError)
        assert state.retries == number
    deps.charge.side_effect = None
    assert step(state, TryRecover(), deps, token="t-recovery-4") == COMPLETED
    assert deps.remove_stock.call_count == 1
    assert deps.charge.mock_calls == [call("o-1", "Iris", 8510, token="t-ada")] * 5


def test_a_recovery_after_a_warehouse_failure_removes_and_charges(deps: Any) -> None:
    """What was not done is done, under the stored token, for the worker who asked for it."""
    deps.remove_stock.side_effect = CallFailedError("no answer")
    failed = step(PROCESSING, MarkComplete("ben"), deps)
    deps.remove_stock.side_effect = None
    assert step(failed, TryRecover(), deps) == COMPLETED
    assert [made.kwargs["token"] for made in deps.mock_calls] == ["t-ada"] * 3


def test_retries_are_counted_whatever_the_error_says(deps: Any) -> None:
    """Another text, another problem, text that no store takes: the count rises by one each time."""
    deps.remove_stock.side_effect = [CallFailedError("a"), CallFailedError(""), "W-1"]
    deps.charge.side_effect = [
        CallFailedError(text) for text in ("b", "b", "\0", "\ud800", "x" * 10_000_000)
    ]
    states = [step(PROCESSING, MarkComplete("ben"), deps)]
    for _ in range(6):
        states.append(step(states[-1], TryRecover(), deps))
    assert [getattr(state, "retries", None) for state in states] == [0, 1, 2, 3, 4, 5, 6]
    for state in states:
        assert state is not None
        assert order.state_codec.encode(state)[1] == state


def test_an_error_that_no_dependency_declares_is_not_swallowed(deps: Any) -> None:
    """A defect in a dependency reaches the caller as it was raised."""
    defect = ZeroDivisionError("in the provider's library")
    deps.charge.side_effect = defect
    with pytest.raises(ZeroDivisionError) as caught:
        step(PROCESSING, MarkComplete("ben"), deps)
    assert caught.value is defect


# What is refused


@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_out_of_place_is_refused_and_calls_nobody(
    state: OrderState | None, command: OrderCommand, deps: Any
) -> None:
    """Of the thirty pairs of state and command five lead on; the others say what is allowed."""
    handled = {
        (type(None), Create),
        (Pending, MarkAsProcessing),
        (Pending, Cancel),
        (Processing, MarkComplete),
        (OrderError, TryRecover),
    }
    allowed = sorted(cmd.__name__ for source, cmd in handled if source is type(state))
    if type(command).__name__ in allowed:
        assert step(state, command, deps) is not None
    else:
        with pytest.raises(InvalidTransitionError) as caught:
            step(state, command, deps)
        assert sorted(caught.value.allowed) == allowed
        assert deps.mock_calls == []


LINE = {"sku": "CLEAT", "quantity": 1, "price_cents": 890}


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ({"$type": "Create", "order": {"customer": "", "lines": [LINE]}}, "$.order.customer"),
        ({"$type": "Create", "order": {"customer": "Bo", "lines": []}}, "$.order.lines"),
        ({"$type": "Create", "order": {"customer": "Bo", "lines": [LINE] * 51}}, "$.order.lines"),
        ({"$type": "Create", "order": {"lines": [LINE]}}, "$.order"),
        *(
            ({"$type": "Create", "order": {"customer": "Bo", "lines": [{**LINE, **wrong}]}}, path)
            for wrong, path in (
                ({"sku": "cleat"}, "$.order.lines[0].sku"),
                ({"sku": "CLEAT\n"}, "$.order.lines[0].sku"),
                ({"quantity": 0}, "$.order.lines[0].quantity"),
                ({"quantity": 101}, "$.order.lines[0].quantity"),
                ({"quantity": 1.5}, "$.order.lines[0].quantity"),
                ({"price_cents": 0}, "$.order.lines[0].price_cents"),
                ({"price_cents": "890"}, "$.order.lines[0].price_cents"),
            )
        ),
        ({"$type": "MarkAsProcessing", "worker": ""}, "$.worker"),
        ({"$type": "MarkComplete", "worker": "x" * 101}, "$.worker"),
        ({"$type": "MarkComplete"}, "$"),
        ({"$type": "Cancel", "reason": ""}, "$.reason"),
        ({"$type": "TryRecover", "force": True}, "$"),
        ({"$type": "Refund"}, "$.$type"),
    ],
)
def test_the_structure_of_a_command_is_declared(command: dict[str, Any], path: str) -> None:
    """What the annotations forbid is refused with the path to it, before any handler sees it."""
    with pytest.raises(ValidationError) as caught:
        order.parse_command(command)
    assert caught.value.path == path


# The chart


def test_the_diagram_is_the_one_in_the_head() -> None:
    """The graph that the annotations declare, as Mermaid text."""
    assert order.graph().mermaid() == DIAGRAM


def test_nothing_was_forgotten() -> None:
    """Every state can be reached, every command is taken somewhere, two states are final."""
    found = order.check()
    assert found.sound
    assert (found.unreachable, found.unused) == ((), ())
    assert len(found.unhandled) == 4 * len(COMMANDS) - 5
    assert order.final == (Completed, Cancelled)
