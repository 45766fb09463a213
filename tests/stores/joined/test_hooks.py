"""Hooks in a transaction of the caller's: in it, and after its commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.service.bills import (
    Bills,
    Diary,
    Note,
    Pay,
    Place,
    bill,
    memo,
    raising,
    stands,
)
from tests.stores.joined.databases import NOTE, Shared

from holdfast import DefinitionError, GuardFailedError, Service, VersionConflictError
from holdfast.stores.contract import Store

COMMITTED = ["after_commit", "after_commit 2"]


@pytest.fixture
def diary() -> Diary:
    """Return what the hooks write down."""
    return Diary()


@pytest.fixture
def bills(store: Store, diary: Diary) -> Bills:
    """Return the service, with one bill placed."""
    bills = Service(bill, store, deps=diary)
    bills.handle("b-1", Place(5))
    diary.entries.clear()
    return bills


def test_what_follows_the_commit_is_the_callers(
    bills: Bills, diary: Diary, connection: Any
) -> None:
    """It is handed over, and called by whoever commits."""
    due: list[Callable[[], None]] = []
    bills.on(connection, on_commit=due.append).handle("b-1", Pay())
    assert diary.hooks == ["guard", "guard 2", "before", "after"]
    connection.commit()
    for function in due:
        function()
    assert diary.hooks[4:] == COMMITTED
    assert diary.entries[-2] == ("after_commit", "Pending", "Paid", 2, 2)
    assert stands(bills) == (2, "Paid")


def test_somebody_must_tell_of_the_commit(bills: Bills, diary: Diary, connection: Any) -> None:
    """A command with callbacks after the commit is refused without; what reads is not."""
    joined = bills.on(connection)
    assert joined.get("b-1").version == 1
    with pytest.raises(DefinitionError, match="on_commit="):
        joined.handle("b-1", Pay())
    assert diary.hooks == ["guard", "guard 2", "on_failure"]
    with pytest.raises(DefinitionError, match="on_commit="), joined.begin() as together:
        together.prepare("b-1", Pay())
    assert diary.hooks[3:] == ["guard", "guard 2", "on_failure"]
    assert joined.get("b-1").version == 1


def test_a_rollback_undoes_what_hooks_did(
    store: Store, bills: Bills, diary: Diary, connection: Any
) -> None:
    """What they sent is gone with the transition."""
    memos = Service(memo, store)
    diary.acts["before"] = lambda change: memos.handle("n-1", Place(1))
    joined = bills.on(connection, on_commit=lambda function: None)
    joined.handle("b-1", Pay())
    connection.rollback()
    assert (stands(bills), memos.history("n-1")) == ((1, "Pending"), [])


@pytest.mark.parametrize("hook", ["before", "after"])
def test_a_callback_that_raises_leaves_the_transaction_open(
    shared: Shared, bills: Bills, diary: Diary, connection: Any, hook: str
) -> None:
    """What the caller did before stays, and it goes on."""
    memos = Service(memo, bills.store)
    connection.execute(NOTE)
    due: list[Callable[[], None]] = []
    joined = bills.on(connection, on_commit=due.append)
    diary.acts["before"] = lambda change: memos.handle("n-1", Place(1))
    diary.acts[hook] = raising(LookupError("no"))
    with pytest.raises(LookupError):
        joined.handle("b-1", Pay())
    assert due == []
    diary.acts.clear()
    joined.handle("b-1", Note("x"))
    connection.commit()
    assert (stands(bills), shared.notes(), memos.history("n-1")) == ((2, "Pending"), 1, [])


def test_a_refusal_or_a_conflict_leaves_the_transaction_open(bills: Bills, connection: Any) -> None:
    """Neither is an error of the database."""
    joined = bills.on(connection, on_commit=lambda function: None)
    with pytest.raises(GuardFailedError):
        joined.handle("b-1", Pay("blocked"))
    with pytest.raises(VersionConflictError):
        joined.handle("b-1", Pay(), expected_version=9)
    joined.handle("b-1", Pay())
    connection.commit()
    assert stands(bills) == (2, "Paid")


def test_what_a_hook_sends_is_handed_over_too(bills: Bills, diary: Diary, connection: Any) -> None:
    """The callbacks of all that was written follow the one commit."""
    due: list[Callable[[], None]] = []
    joined = bills.on(connection, on_commit=due.append)
    joined.handle("b-2", Place(5))
    due.clear()
    diary.acts["before"] = lambda change: change.id == "b-2" or bills.handle("b-2", Pay())
    joined.handle("b-1", Pay())
    assert not set(COMMITTED) & set(diary.hooks)
    connection.commit()
    for function in due:
        function()
    assert diary.hooks[-4:] == COMMITTED * 2
    assert (stands(bills), stands(bills, "b-2")) == ((2, "Paid"), (2, "Paid"))


def test_hooks_find_the_connection_as_its_owner_has_it(
    bills: Bills, diary: Diary, connection: Any
) -> None:
    """What it makes of rows and texts is its own."""
    seen: list[Any] = []
    diary.acts["before"] = lambda change: seen.append(connection.execute("SELECT 'x'").fetchone())
    seen.append(connection.execute("SELECT 'x'").fetchone())
    bills.on(connection, on_commit=lambda function: None).handle("b-1", Pay())
    assert seen[0] == seen[1]
