"""Bills: a machine with hooks of every kind, which write down what they see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from holdfast import (
    Change,
    Command,
    CommandRejectedError,
    GuardFailedError,
    Machine,
    Service,
    State,
    Transition,
)


class Pending(State):
    total: int


class Paid(State):
    total: int


class Place(Command):
    total: int


class Pay(Command):
    card: str = "4"


class Note(Command):
    text: str


class Remove(Command):
    pass


BillState = Pending | Paid
BillCommand = Place | Pay | Note | Remove


@dataclass
class Diary:
    """What the hooks take: they write down what they see, and do what a test wants of them."""

    entries: list[Any] = field(default_factory=list)
    acts: dict[str, Callable[[Change], object]] = field(default_factory=dict)

    def tell(self, hook: str, change: Change, *more: object) -> None:
        """Write down, and act."""
        self.entries.append((hook, change.from_state, change.to_state, change.version, *more))
        act = self.acts.get(hook)
        if act is not None:
            act(change)

    @property
    def hooks(self) -> list[str]:
        """The hooks that were called, in order."""
        return [entry[0] for entry in self.entries]


Bills = Service[BillState, BillCommand, Diary]
bill = Machine("bill", state=BillState, command=BillCommand, deps=Diary)


@bill.on
def place(state: None, command: Place) -> Pending:
    if command.total < 0:
        raise CommandRejectedError("a bill has a total")
    return Pending(command.total)


@bill.on
def pay(state: Pending, command: Pay) -> Paid:
    return Paid(state.total)


@bill.on
def note(state: BillState, command: Note) -> BillState:
    return state


@bill.on
def remove(state: BillState, command: Remove) -> None: ...


@bill.guard(to=Paid, reason="the card is blocked")
def card_is_good(change: Change[BillState, BillCommand], deps: Diary) -> bool:
    deps.tell("guard", change)
    return not isinstance(change.command, Pay) or change.command.card != "blocked"


@bill.guard(command=Pay)
def total_is_allowed(deps: Diary, change: Change[Pending, Pay]) -> bool | None:
    deps.tell("guard 2", change)
    if change.before is not None and change.before.total > 100:
        raise CommandRejectedError("the total is too high")
    return True


@bill.before(from_=Pending, to=Paid)
def before_pay(change: Change, deps: Diary) -> None:
    deps.tell("before", change)


@bill.after(from_=Pending, to=Paid)
def after_pay(change: Change, transition: Transition, deps: Diary) -> None:
    deps.tell("after", change, transition.version, transition.to_state)


@bill.after_commit
def first_after_commit(change: Change, deps: Diary, transition: Transition) -> None:
    deps.tell("after_commit", change, transition.version)


@bill.after_commit
def second_after_commit(change: Change, deps: Diary) -> None:
    deps.tell("after_commit 2", change)


@bill.on_failure
def on_failure(change: Change, error: Exception, deps: Diary) -> None:
    deps.tell("on_failure", change, type(error).__name__)


@bill.on_guard_failure(to=Paid)
def on_guard_failure(change: Change, error: GuardFailedError, deps: Diary) -> None:
    deps.tell("on_guard_failure", change, error.guard, error.reason)


memo = Machine("memo", state=Pending | Paid, command=Place | Note)


@memo.on
def place_note(state: None, command: Place) -> Pending:
    return Pending(command.total)


@memo.on
def again(state: Pending, command: Note) -> Pending:
    return state


def stands(bills: Bills, id: str = "b-1") -> tuple[int, str]:
    """Return the version and the state of a bill, which its history must agree with."""
    record = bills.get(id)
    assert [each.version for each in bills.history(id)] == list(range(1, record.version + 1))
    return record.version, type(record.state).__name__


def raising(error: Exception) -> Callable[[Change], object]:
    """Return what raises an error."""

    def act(change: Change) -> None:
        raise error

    return act


def raising_now(error: Exception) -> Callable[[], object]:
    """Return what raises an error, and takes nothing."""

    def act() -> None:
        raise error

    return act


def raise_for(change: Change, id: str) -> None:
    """Raise where a change is an entity's."""
    if change.id == id:
        raise LookupError("no")
