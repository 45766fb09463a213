"""The hook of a batch: it sees the answers before they are committed, and can keep them out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import (
    Checkpoint,
    Command,
    InvalidTransitionError,
    Machine,
    NotFoundError,
    Record,
    Service,
    State,
    ValidationError,
    open_store,
)
from holdfast.stores.contract import Store


class Open(State):
    balance: int


class Deposit(Command):
    amount: int


class Withdraw(Command):
    amount: int


account = Machine("account", state=Open, command=Deposit | Withdraw)


@account.on
def deposit(state: Open | None, command: Deposit) -> Open:
    return Open(balance=command.amount + (state.balance if state else 0))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/accounts.db") as store:
        yield store


BATCH: list[tuple[str, Deposit | Withdraw]] = [
    ("b", Deposit(5)),
    ("a", Withdraw(1)),
    ("b", Deposit(6)),
    ("", Deposit(1)),
]


def test_the_hook_sees_every_answer_before_any_is_written(store: Store) -> None:
    """The answers come in the order of the requests, refusals of both kinds among them."""
    accounts = Service(account, store)
    seen: list[list[Any]] = []

    def look(answers: list[Any]) -> None:
        assert accounts.count_by_state() == {}
        assert store.checkpoint("reader") is None
        seen.append(answers)

    given = accounts.handle_many(BATCH, checkpoint=Checkpoint("reader", 4), before_commit=look)

    assert seen == [given]
    assert [type(answer) for answer in given] == [
        Record,
        InvalidTransitionError,
        Record,
        ValidationError,
    ]
    assert accounts.get("b").state == Open(11)
    assert store.checkpoint("reader") == 4


@pytest.mark.parametrize("options", [{"atomic": True}, {"checkpoint": Checkpoint("reader", 1)}])
@pytest.mark.parametrize("error", [OSError("the disk is full"), StopIteration("no more")], ids=repr)
def test_what_the_hook_raises_keeps_everything_from_being_written(
    store: Store, options: dict[str, Any], error: Exception
) -> None:
    """The error arrives as it was raised, and neither the commands nor the checkpoint are kept."""
    accounts = Service(account, store)

    def refuse(answers: object) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        accounts.handle_many([("a", Deposit(5))], before_commit=refuse, **options)

    assert raised.value is error
    with pytest.raises(NotFoundError):
        accounts.get("a")
    assert store.checkpoint("reader") is None


def test_the_hook_is_called_again_for_what_is_decided_again(store: Store) -> None:
    """A conflict voids the answers that it saw; the last call saw what was written."""
    accounts, others = Service(account, store), Service(account, store)
    seen: list[Record[Open] | Exception] = []

    def come_in_between(answers: list[Record[Open] | Exception]) -> None:
        if not seen:
            others.handle("a", Deposit(100))
        seen.extend(answers)

    checkpoint = Checkpoint("reader", 1)
    [record] = accounts.handle_many(
        [("a", Deposit(5))], checkpoint=checkpoint, before_commit=come_in_between
    )

    assert [answer.state for answer in seen if isinstance(answer, Record)] == [Open(5), Open(105)]
    assert record == seen[-1]


def test_a_batch_of_several_commits_has_no_hook(store: Store) -> None:
    """A hook that could see only some of the answers is refused."""
    accounts = Service(account, store)
    with pytest.raises(ValidationError, match="before_commit= goes with"):
        accounts.handle_many(BATCH, before_commit=print)
