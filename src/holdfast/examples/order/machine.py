"""The order machine: who may do what to an order, and what a failed call leads to."""

from __future__ import annotations

from holdfast import CommandRejectedError, Context, Machine
from holdfast.examples.order.dependencies import CallFailedError, OrderDeps
from holdfast.examples.order.model import (
    Cancel,
    Cancelled,
    Completed,
    Create,
    MarkAsProcessing,
    MarkComplete,
    OrderCommand,
    OrderError,
    OrderState,
    Pending,
    Problem,
    Processing,
    TryRecover,
)

order = Machine("order", state=OrderState, command=OrderCommand, deps=OrderDeps)


@order.on
def create(state: None, command: Create) -> Pending:
    return Pending(order=command.order)


# Only here: once processing began, a call may be under way that a cancellation cannot take back.
@order.on
def cancel(state: Pending, command: Cancel) -> Cancelled:
    return Cancelled(order=state.order, reason=command.reason)


# The token is stored before any call carries it. Two who complete at once, a completion sent again
# after a crash, and every recovery are commands of their own; under one token they charge once.
@order.on
def mark_as_processing(state: Pending, command: MarkAsProcessing, context: Context) -> Processing:
    return Processing(order=state.order, worker=command.worker, token=context.token)


@order.on
def mark_complete(
    state: Processing, command: MarkComplete, deps: OrderDeps, context: Context
) -> Completed | OrderError:
    if command.worker == state.worker:
        raise CommandRejectedError(
            f"{command.worker} processed order {context.id!r} and may not complete it; "
            "let another worker do that"
        )
    return _complete(context.id, state, command, deps)


@order.on
def try_recover(
    state: OrderError, command: TryRecover, deps: OrderDeps, context: Context
) -> Completed | OrderError:
    return _complete(context.id, state.previous, state.command, deps, after=state)


def _complete(
    id: str,
    state: Processing,
    command: MarkComplete,
    deps: OrderDeps,
    *,
    after: OrderError | None = None,
) -> Completed | OrderError:
    """Remove the stock, then charge; after an error, without what was done before it."""
    removal = after.removal if after else None
    problem: Problem = "warehouse_failed"
    try:
        if removal is None:
            removal = deps.remove_stock(id, state.order.lines, token=state.token)
        problem = "payment_failed"
        charge = deps.charge(id, state.order.customer, state.order.total_cents, token=state.token)
    except CallFailedError as error:
        return OrderError(
            command=command,
            previous=state,
            problem=problem,
            detail=_readable(str(error)),
            retries=after.retries + 1 if after else 0,
            removal=removal,
        )
    return Completed(
        order=state.order,
        processed_by=state.worker,
        completed_by=command.worker,
        removal=removal,
        charge=charge,
    )


def _readable(text: str) -> str:
    """Return a bounded text without what a store refuses: a strange message fails no recovery."""
    return "".join(char if char.isprintable() else "?" for char in text[:500])
