"""Transactions: several entities, staged one by one, written all or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import (
    CircuitBreaker,
    CircuitOpenError,
    Command,
    CommandRejectedError,
    DefinitionError,
    Machine,
    NotFoundError,
    RetriesExhaustedError,
    Retry,
    Service,
    State,
    Transaction,
    TransactionClosedError,
    ValidationError,
    VersionConflictError,
    begin,
    open_store,
    transact,
)
from holdfast.stores.contract import CommitUncertainError, Store


class Open(State):
    balance: int


class Deposit(Command):
    amount: int


class Withdraw(Command):
    amount: int


class Close(Command):
    pass


account = Machine("account", state=Open, command=Deposit | Withdraw | Close)
ledger = Machine("ledger", state=Open, command=Deposit)


@account.on
def open_account(state: None, command: Deposit) -> Open:
    return Open(balance=command.amount)


@account.on
def deposit(state: Open, command: Deposit) -> Open:
    return Open(balance=state.balance + command.amount)


@account.on
def withdraw(state: Open, command: Withdraw) -> Open:
    if command.amount > state.balance:
        raise CommandRejectedError(f"only {state.balance} left")
    return Open(balance=state.balance - command.amount)


@account.on
def close(state: Open, command: Close) -> None:
    return None


@ledger.on
def book(state: None, command: Deposit) -> Open:
    return Open(balance=command.amount)


Accounts = Service[Open, Deposit | Withdraw | Close, None]
Work = Transaction[Open, Deposit | Withdraw | Close]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/bank.db"
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def accounts(store: Store) -> Accounts:
    service = Service(account, store)
    service.handle("ada", Deposit(amount=10))
    service.handle("bob", Deposit(amount=10))
    return service


def balances(accounts: Accounts) -> tuple[int, int]:
    return accounts.get("ada").state.balance, accounts.get("bob").state.balance


def test_a_transfer_writes_both_accounts(accounts: Accounts) -> None:
    transaction = accounts.begin()

    transaction.prepare("ada", Withdraw(amount=3))
    transaction.prepare("bob", Deposit(amount=3))
    assert balances(accounts) == (10, 10)

    assert [record.version for record in transaction.commit()] == [2, 2]
    assert balances(accounts) == (7, 13)


def test_each_command_sees_what_was_staged_before_it(accounts: Accounts) -> None:
    with accounts.begin() as transaction:
        transaction.prepare("ada", Withdraw(amount=6))
        with pytest.raises(CommandRejectedError, match="only 4 left"):
            transaction.prepare("ada", Withdraw(amount=5))
        assert transaction.prepare("ada", Withdraw(amount=4)).version == 3
        assert transaction.read("ada").state == Open(balance=0)

    assert [t.version for t in accounts.history("ada")] == [1, 2, 3]
    assert balances(accounts) == (0, 10)


def test_a_change_behind_its_back_writes_nothing(accounts: Accounts) -> None:
    transaction = accounts.begin()
    transaction.prepare("ada", Withdraw(amount=3))
    transaction.prepare("bob", Deposit(amount=3))
    accounts.handle("bob", Deposit(amount=1))

    with pytest.raises(VersionConflictError) as caught:
        transaction.commit()

    assert (caught.value.id, caught.value.expected, caught.value.actual) == ("bob", 1, 2)
    assert balances(accounts) == (10, 11)


def test_what_was_read_must_still_hold(accounts: Accounts) -> None:
    transaction = accounts.begin()
    transaction.read("ada")
    transaction.prepare("bob", Deposit(amount=3))
    accounts.handle("ada", Deposit(amount=1))

    with pytest.raises(VersionConflictError, match="'ada'"):
        transaction.commit()

    assert balances(accounts) == (11, 10)


def test_what_was_found_missing_must_still_be_missing(accounts: Accounts) -> None:
    transaction = accounts.begin()
    with pytest.raises(NotFoundError):
        transaction.read("cleo")
    transaction.prepare("bob", Deposit(amount=3))
    accounts.handle("cleo", Deposit(amount=1))

    with pytest.raises(VersionConflictError, match="'cleo'"):
        transaction.commit()


def test_what_was_found_deleted_must_still_be_deleted(accounts: Accounts) -> None:
    """The conflict tells it as what callers know: no live entity, and then one."""
    accounts.handle("ada", Close())
    transaction = accounts.begin()
    with pytest.raises(NotFoundError):
        transaction.read("ada")
    transaction.prepare("bob", Deposit(amount=3))
    accounts.handle("ada", Deposit(amount=1))

    with pytest.raises(VersionConflictError) as caught:
        transaction.commit()
    conflict = caught.value
    assert (conflict.id, conflict.expected, conflict.actual, conflict.gap) == ("ada", 0, 3, 1)


def test_an_unchanged_read_lets_the_commit_through(accounts: Accounts) -> None:
    with accounts.begin() as transaction:
        transaction.read("ada")
        transaction.prepare("bob", Deposit(amount=3))

    assert [t.version for t in accounts.history("ada")] == [1]
    assert balances(accounts) == (10, 13)


def test_a_transaction_is_committed_once(accounts: Accounts) -> None:
    transaction = accounts.begin()
    transaction.prepare("ada", Deposit(amount=1))
    transaction.commit()

    with pytest.raises(TransactionClosedError):
        transaction.commit()
    with pytest.raises(TransactionClosedError):
        transaction.prepare("ada", Deposit(amount=1))
    assert balances(accounts) == (11, 10)


@pytest.mark.parametrize(
    "verb",
    [
        lambda transaction: transaction.prepare("ada", Deposit(amount=1)),
        lambda transaction: transaction.prepare_only("ada", Open(balance=1)),
        lambda transaction: transaction.read("ada"),
        lambda transaction: transaction.commit(),
    ],
    ids=["prepare", "prepare_only", "read", "commit"],
)
def test_a_transaction_that_is_over_takes_nothing_more(
    accounts: Accounts, verb: Callable[[Work], object]
) -> None:
    transaction = accounts.begin()
    transaction.abandon()

    with pytest.raises(TransactionClosedError):
        verb(transaction)
    assert balances(accounts) == (10, 10)


def test_a_handler_cannot_use_the_transaction_that_asks_it(store: Store) -> None:
    """Its own command would be staged between the state that it saw and the one it returns."""
    machine = Machine("account", state=Open, command=Deposit, deps=list[Work])

    @machine.on
    def deposit_twice(state: Open | None, command: Deposit, deps: list[Work]) -> Open:
        deps[0].prepare("ada", command)
        return Open(balance=command.amount)

    deps: list[Any] = []
    accounts = Service(machine, store, deps=deps)
    with accounts.begin() as transaction:
        deps.append(transaction)
        with pytest.raises(DefinitionError, match="one thing at a time"):
            transaction.prepare("ada", Deposit(amount=1))
        transaction.prepare_only("ada", Open(balance=3))
    assert accounts.get("ada").version == 1


def test_a_transaction_has_a_limit(accounts: Accounts) -> None:
    """A thousand entities are one commit; one more is refused, and the rest stays staged."""
    transaction = accounts.begin()
    for number in range(1_000):
        transaction.prepare(f"n-{number}", Deposit(amount=1))
    with pytest.raises(ValidationError, match="at most 1,000 entities"):
        transaction.prepare("one-more", Deposit(amount=1))
    with pytest.raises(ValidationError, match="at most 1,000 entities"):
        transaction.read("one-more")
    transaction.prepare("n-0", Deposit(amount=1))

    assert len(transaction.commit()) == 1_001
    assert accounts.count_by_state() == {"Open": 1_002}


def test_a_conflict_counts_for_the_service_that_touched_the_entity(
    accounts: Accounts, store: Store
) -> None:
    books = Service(ledger, store)
    transaction = accounts.begin()
    transaction.prepare("ada", Withdraw(amount=4))
    transaction.join(books).prepare("entry-1", Deposit(amount=4))
    books.handle("entry-1", Deposit(amount=1))

    with pytest.raises(VersionConflictError, match="'entry-1'"):
        transaction.commit()

    assert [spot.id for spot in books.contention()] == ["entry-1"]
    assert accounts.contention() == []


def test_a_commit_that_failed_closes_the_transaction(accounts: Accounts) -> None:
    transaction = accounts.begin()
    transaction.prepare("ada", Deposit(amount=1))
    accounts.handle("ada", Deposit(amount=1))
    with pytest.raises(VersionConflictError):
        transaction.commit()

    with pytest.raises(TransactionClosedError):
        transaction.commit()


def test_a_block_that_raises_writes_nothing(accounts: Accounts) -> None:
    transaction = accounts.begin()
    transaction.prepare("bob", Deposit(amount=1))
    with pytest.raises(CommandRejectedError), transaction:
        transaction.prepare("ada", Withdraw(amount=11))

    assert balances(accounts) == (10, 10)
    with pytest.raises(TransactionClosedError):
        transaction.commit()


def test_a_staged_state_passes_over_the_rules_and_the_log_says_so(accounts: Accounts) -> None:
    with accounts.begin() as transaction:
        transaction.prepare_only("ada", Open(balance=-5), metadata={"by": "support"})
        transaction.prepare("ada", Deposit(amount=1))

    staged, after = accounts.history("ada", after=1)
    assert (staged.kind, staged.command, staged.state) == ("staged", None, Open(balance=-5))
    assert staged.metadata == {"by": "support"}
    assert (after.kind, after.state) == ("command", Open(balance=-4))


def test_a_staged_state_that_cannot_be_stored_is_refused(accounts: Accounts) -> None:
    """The message speaks of no command, for there is none."""
    much: Any = "much"
    transaction = accounts.begin()
    with pytest.raises(ValidationError, match="this would leave account 'ada' in a state"):
        transaction.prepare_only("ada", Open(balance=much))


def test_no_state_cannot_be_staged(accounts: Accounts) -> None:
    """A deletion has rules, which a command goes by."""
    nothing: Any = None
    transaction = accounts.begin()
    with pytest.raises(ValidationError, match="to delete, prepare a command"):
        transaction.prepare_only("ada", nothing)
    assert transaction.commit() == []


def test_a_deletion_takes_part(accounts: Accounts) -> None:
    with accounts.begin() as transaction:
        transaction.prepare("ada", Close())
        transaction.prepare("ada", Deposit(amount=2))
        assert transaction.prepare("bob", Close()).deleted

    assert accounts.get("ada").version == 3
    with pytest.raises(NotFoundError):
        accounts.get("bob")


def test_services_of_one_store_share_a_transaction(accounts: Accounts, store: Store) -> None:
    books = Service(ledger, store)
    with accounts.begin() as transaction:
        transaction.prepare("ada", Withdraw(amount=4))
        transaction.join(books).prepare("entry-1", Deposit(amount=4))

    assert books.get("entry-1").state.balance == 4
    assert balances(accounts) == (6, 10)


def test_a_service_on_another_store_cannot_take_part(accounts: Accounts) -> None:
    with open_store("memory://") as other, pytest.raises(ValidationError, match="one store"):
        accounts.begin().join(Service(ledger, other))


def test_a_key_is_answered_with_its_first_result(accounts: Accounts) -> None:
    first = accounts.handle("ada", Deposit(amount=1), key="k")
    with accounts.begin() as transaction:
        transaction.prepare("ada", Deposit(amount=2))
        assert transaction.prepare("ada", Deposit(amount=1), key="k") == first

    assert balances(accounts) == (13, 10)


def test_transact_runs_again_on_what_is_true_by_then(accounts: Accounts) -> None:
    runs = 0

    def transfer_all(transaction: Work) -> int:
        nonlocal runs
        runs += 1
        amount = transaction.read("ada").state.balance
        transaction.prepare("ada", Withdraw(amount=amount))
        transaction.prepare("bob", Deposit(amount=amount))
        if runs < 3:
            accounts.handle("ada", Deposit(amount=1))
        return amount

    assert transact(accounts, transfer_all) == 12
    assert runs == 3
    assert balances(accounts) == (0, 22)


def test_transact_gives_up_within_the_limits_of_the_retry(store: Store) -> None:
    accounts = Service(account, store, retry=Retry(attempts=3, initial_seconds=0.001))
    accounts.handle("ada", Deposit(amount=1))

    def always_late(transaction: Work) -> None:
        transaction.prepare("ada", Deposit(amount=1))
        accounts.handle("ada", Deposit(amount=1))

    with pytest.raises(RetriesExhaustedError) as caught:
        transact(accounts, always_late)
    assert (caught.value.attempts, caught.value.id) == (3, "ada")
    assert accounts.get("ada").version == 4


def test_transact_runs_again_for_its_own_conflicts_only(accounts: Accounts, store: Store) -> None:
    """What it has committed is not written again because of a conflict elsewhere."""
    runs = 0

    def commit_and_meet_another(transaction: Work) -> None:
        nonlocal runs
        runs += 1
        transaction.prepare("ada", Deposit(amount=1))
        transaction.commit()
        accounts.handle("bob", Deposit(amount=1), expected_version=99)

    with pytest.raises(VersionConflictError, match="'bob' is at version 1, not 99"):
        transact(accounts, commit_and_meet_another)
    assert runs == 1
    assert balances(accounts) == (11, 10)


def test_transact_raises_a_stale_expectation_at_once(accounts: Accounts) -> None:
    """The caller decided on what it saw: another run would see the same."""
    runs = 0

    def expect_another_version(transaction: Work) -> None:
        nonlocal runs
        runs += 1
        transaction.prepare("ada", Deposit(amount=1), expected_version=77)

    with pytest.raises(VersionConflictError) as caught:
        transact(accounts, expect_another_version)
    assert type(caught.value) is VersionConflictError
    assert runs == 1


def test_transact_names_itself_where_the_breaker_refuses_it(store: Store) -> None:
    """No entity is known yet that could be named."""
    breaker = CircuitBreaker(threshold=1, cooldown_seconds=60)
    accounts = Service(account, store, retry=Retry(attempts=1, breaker=breaker))
    breaker.failed(VersionConflictError("account", "bob", 1, 2), time.monotonic())

    with pytest.raises(CircuitOpenError, match="a transaction of account was not tried"):
        transact(accounts, lambda transaction: transaction.read("ada"))


def test_any_error_of_a_handler_arrives_as_it_was_raised(store: Store) -> None:
    """Also the one that ends iterations."""
    machine = Machine("account", state=Open, command=Deposit)

    @machine.on
    def take_next(state: Open | None, command: Deposit) -> Open:
        return next(iter(()))

    accounts = Service(machine, store)
    with pytest.raises(StopIteration):
        accounts.begin().prepare("ada", Deposit(amount=1))
    with pytest.raises(StopIteration):
        accounts.preview("ada", Deposit(amount=1))
    with pytest.raises(StopIteration):
        transact(accounts, lambda transaction: next(iter(())))


@pytest.mark.parametrize("stored", [True, False])
def test_a_lost_acknowledgement_is_settled(
    accounts: Accounts, store: Store, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    real = store.commit
    lost = iter([True, True])

    def commit(*arguments: object, **options: object) -> object:
        if next(lost, False):
            if stored:
                real(*arguments, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            raise CommitUncertainError("the acknowledgement was lost")
        return real(*arguments, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(store, "commit", commit)
    with accounts.begin() as transaction:
        transaction.read("bob")
        transaction.prepare("ada", Deposit(amount=1))

    assert [t.version for t in accounts.history("ada")] == [1, 2]
    assert balances(accounts) == (11, 10)


class Basket:
    """A plain object: nothing of it knows about transactions."""

    def __init__(self) -> None:
        self.items: list[str] = []

    def add(self, item: str) -> None:
        if item == "bomb":
            raise RuntimeError("boom")
        self.items.append(item)


def no_twins(basket: Basket, item: str) -> bool:
    return item not in basket.items


def test_a_plain_object_changes_at_the_commit_and_not_before() -> None:
    basket = Basket()
    transaction = begin(basket, verify=no_twins, apply=Basket.add)
    transaction.prepare("apple", "pear")
    with pytest.raises(CommandRejectedError):
        transaction.prepare("plum", "apple")
    transaction.prepare_only("apple")
    assert basket.items == []

    assert transaction.commit() is basket
    assert basket.items == ["apple", "pear", "apple"]
    with pytest.raises(TransactionClosedError):
        transaction.commit()
    with pytest.raises(TransactionClosedError):
        transaction.prepare("fig")


def test_a_plain_object_is_put_back_where_the_commit_fails() -> None:
    basket = Basket()
    basket.items.append("fig")
    fails = False

    def add(target: Basket, item: str) -> None:
        target.items.append(item)
        if fails and item == "pear":
            raise RuntimeError("boom")

    transaction = begin(basket, verify=no_twins, apply=add)
    transaction.prepare("apple", "pear")
    fails = True
    with pytest.raises(RuntimeError, match="boom"):
        transaction.commit()
    assert basket.items == ["fig"]
