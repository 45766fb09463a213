"""The states and commands of an order, and the values they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from holdfast import Command, Meta, State

Name = Annotated[str, Meta(min_length=1, max_length=100)]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]
Problem = Literal["warehouse_failed", "payment_failed"]


@dataclass(frozen=True, slots=True)
class Line:
    sku: Annotated[str, Meta(pattern=r"^[A-Z0-9-]{1,40}\Z")]
    quantity: Annotated[int, Meta(ge=1, le=100)]
    price_cents: Annotated[int, Meta(gt=0, le=10_000_000)]


@dataclass(frozen=True, slots=True)
class Order:
    customer: Name
    lines: Annotated[tuple[Line, ...], Meta(min_length=1, max_length=50)]

    @property
    def total_cents(self) -> int:
        return sum(line.quantity * line.price_cents for line in self.lines)


class Pending(State):
    order: Order


class Processing(State):
    order: Order
    worker: Name
    token: str
    """The token of every call that completing this order makes, whoever tries and how often."""


class Completed(State):
    order: Order
    processed_by: Name
    completed_by: Name
    removal: str
    """The warehouse's receipt."""
    charge: str
    """The payment provider's receipt."""


class Cancelled(State):
    order: Order
    reason: Reason


class OrderError(State):
    """A call failed; this is all that a recovery needs to go on from there."""

    command: MarkComplete
    """The command that failed."""
    previous: Processing
    """The state it failed in; its token is sent again."""
    problem: Problem
    detail: str
    """What the other side said, for people to read."""
    retries: int
    """How many recoveries have failed since."""
    removal: str | None
    """The warehouse's receipt, once it has removed the stock; it is not asked again then."""


class Create(Command):
    order: Order


class MarkAsProcessing(Command):
    worker: Name


class Cancel(Command):
    reason: Reason


class MarkComplete(Command):
    worker: Name


class TryRecover(Command):
    pass


OrderState = Pending | Processing | Completed | Cancelled | OrderError
OrderCommand = Create | MarkAsProcessing | Cancel | MarkComplete | TryRecover
