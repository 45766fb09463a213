"""Guards and callbacks of typed machines: when they run, what they see, what undoes what."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

import pytest
from tests.service.bills import (
    BillCommand,
    Bills,
    BillState,
    Diary,
    Note,
    Paid,
    Pay,
    Place,
    Remove,
    bill,
    memo,
    raise_for,
    raising,
    raising_now,
    stands,
)
from tests.service.orders import CountingStore

from holdfast import (
    BatchError,
    Change,
    CheckpointConflictError,
    CircuitBreaker,
    CircuitOpenError,
    CommandRejectedError,
    DefinitionError,
    GuardFailedError,
    InvalidTransitionError,
    Request,
    RetriesExhaustedError,
    Retry,
    Service,
    StoreError,
    Transaction,
    VersionConflictError,
    open_store,
    transact,
)
from holdfast.stores.contract import Checkpoint, CommitUncertainError, KeptBack, Store

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


def test_hooks_run_in_their_order(bills: Bills, diary: Diary) -> None:
    """Guards, what comes before, the write, what comes after, what follows the commit."""
    bills.handle("b-1", Pay())
    assert diary.hooks == ["guard", "guard 2", "before", "after", *COMMITTED]
    assert {entry[1:4] for entry in diary.entries} == {("Pending", "Paid", 2)}
    assert diary.entries[3][4:] == (2, "Paid")


def test_a_hook_is_called_for_its_transitions_alone(bills: Bills, diary: Diary) -> None:
    """A filter takes states before and after, and commands."""
    bills.handle("b-1", Note("x"))
    assert diary.hooks == COMMITTED
    bills.handle("b-1", Remove())
    assert diary.entries[-1][:4] == ("after_commit 2", "Pending", None, 3)


def test_what_hooks_see_of_the_store(bills: Bills, diary: Diary, store: Store) -> None:
    """A service in a hook sees its transaction; what another thread sees comes with the commit."""
    seen: list[tuple[str, int]] = []

    def look(hook: str) -> Callable[[Change], object]:
        return lambda change: seen.append((hook, bills.get("b-1").version))

    for hook in ("guard", "before", "after", "after_commit"):
        diary.acts[hook] = look(hook)
    bills.handle("b-1", Pay())
    assert seen == [("guard", 1), ("before", 1), ("after", 2), ("after_commit", 2)]


def test_a_guard_refuses_with_its_reason(bills: Bills, diary: Diary) -> None:
    """The first that refuses ends it; nothing is written, and nothing else is called."""
    with pytest.raises(GuardFailedError) as refused:
        bills.handle("b-1", Pay("blocked"))
    assert (refused.value.guard, refused.value.reason) == ("card_is_good", "the card is blocked")
    assert (refused.value.machine, refused.value.id) == ("bill", "b-1")
    assert diary.hooks == ["guard", "on_guard_failure", "on_failure"]
    assert diary.entries[1][1:] == ("Pending", "Paid", 2, "card_is_good", "the card is blocked")
    assert stands(bills) == (1, "Pending")


def test_a_guard_may_give_its_reason_by_raising(bills: Bills) -> None:
    """CommandRejectedError in a guard is its refusal."""
    bills.handle("b-2", Place(101))
    with pytest.raises(GuardFailedError, match="too high") as refused:
        bills.handle("b-2", Pay())
    assert refused.value.guard == "total_is_allowed"


def test_what_else_a_guard_raises_is_no_refusal(bills: Bills, diary: Diary) -> None:
    """It arrives as it is, and the failure hook is told."""
    diary.acts["guard"] = raising(ZeroDivisionError("bug"))
    with pytest.raises(ZeroDivisionError):
        bills.handle("b-1", Pay())
    assert diary.hooks == ["guard", "on_failure"]


def test_a_preview_asks_the_guards(bills: Bills, diary: Diary) -> None:
    """It calls no other hook."""
    with pytest.raises(GuardFailedError):
        bills.preview("b-1", Pay("blocked"))
    assert bills.preview("b-1", Pay()).to_state == "Paid"
    assert diary.hooks == ["guard", "guard", "guard 2"]


@pytest.mark.parametrize("hook", ["before", "after"])
def test_what_a_callback_raises_undoes_everything(bills: Bills, diary: Diary, hook: str) -> None:
    """Its error arrives as it is; a second try finds the bill as it was."""
    error = LookupError("no")
    diary.acts[hook] = raising(error)
    with pytest.raises(LookupError) as raised:
        bills.handle("b-1", Pay())
    assert raised.value is error
    assert diary.hooks[-1] == "on_failure"
    assert stands(bills) == (1, "Pending")
    diary.acts.clear()
    assert bills.handle("b-1", Pay()).version == 2


@pytest.mark.parametrize("hook", ["guard", "before", "after", "after_commit"])
def test_a_stop_iteration_is_an_error_like_any_other(
    bills: Bills, diary: Diary, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What lets plans end does not end them here."""
    diary.acts[hook] = raising(StopIteration("x"))
    if hook == "after_commit":
        assert bills.handle("b-1", Pay()).version == 2
    else:
        with pytest.raises(StopIteration):
            bills.handle("b-1", Pay())
        assert stands(bills) == (1, "Pending")


def test_a_callback_that_fails_after_the_commit_stops_no_other(
    bills: Bills, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    """The transition stands, its caller is answered, and the error is logged."""
    diary.acts["after_commit"] = raising(ZeroDivisionError("bug"))
    with caplog.at_level(logging.ERROR, "holdfast"):
        assert bills.handle("b-1", Pay()).version == 2
    assert diary.hooks[-2:] == COMMITTED
    [logged] = caplog.records
    assert "first_after_commit" in logged.getMessage()
    assert "bill 'b-1' at version 2" in logged.getMessage()
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], ZeroDivisionError)


def test_a_commit_stands_whatever_can_be_read_after_it(
    store: Store, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    """What takes the transition is not called, which is logged; the others are."""
    away = TransactingStore(store)
    bills = Service(bill, away, deps=diary)
    away.is_away = True
    assert bills.handle("b-1", Place(5)).version == 1
    assert diary.hooks == ["after_commit 2"]
    assert ["first_after_commit" in each.getMessage() for each in caplog.records] == [True]


def test_a_failure_hook_that_fails_hides_no_error(
    bills: Bills, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller is told why its command failed."""
    diary.acts["on_failure"] = raising(ZeroDivisionError("bug"))
    with pytest.raises(GuardFailedError):
        bills.handle("b-1", Pay("blocked"))
    assert len(caplog.records) == 1


def test_every_failure_is_told(store: Store, bills: Bills, diary: Diary) -> None:
    """No handler, a handler's refusal, a conflict, an unreadable answer, a store that fails."""
    bills.handle("b-1", Pay())
    diary.entries.clear()
    for error, command, options in [
        (InvalidTransitionError, Pay(), {}),
        (CommandRejectedError, Place(-1), {}),
        (VersionConflictError, Note("x"), {"expected_version": 1}),
    ]:
        id = "b-9" if isinstance(command, Place) else "b-1"
        with pytest.raises(error):
            bills.handle(id, command, **options)  # type: ignore[arg-type]  # (of several types)
        assert diary.entries.pop()[-1] == error.__name__
    store.close()
    with pytest.raises(StoreError):
        bills.handle("b-1", Pay())
    assert diary.entries == [("on_failure", None, "Paid", 0, "StoreError")]


def test_a_failure_knows_what_was_tried(bills: Bills, diary: Diary) -> None:
    """Where nothing was decided, the state after is the one that the command aims at."""
    bills.handle("b-1", Pay())
    diary.entries.clear()
    with pytest.raises(InvalidTransitionError):
        bills.handle("b-1", Pay())
    assert diary.entries == [("on_failure", "Paid", "Paid", 3, "InvalidTransitionError")]


def test_a_failure_to_write_knows_what_was_decided(store: Store, diary: Diary) -> None:
    """From which version and state, and to which."""
    counting = CountingStore(store)
    bills = Service(bill, counting, deps=diary)
    bills.handle("b-1", Place(5))
    diary.entries.clear()
    counting.before_commit = [raising_now(StoreError("the disk is full"))]
    with pytest.raises(StoreError):
        bills.handle("b-1", Note("x"))
    assert diary.entries[-1] == ("on_failure", "Pending", "Pending", 2, "StoreError")


def test_a_failure_knows_no_state_after_where_there_may_be_several_or_none(
    bills: Bills, diary: Diary
) -> None:
    """A command that leads to several states, and one that deletes, aim at none."""
    commands: list[BillCommand] = [Note("x"), Remove()]
    for command in commands:
        with pytest.raises(VersionConflictError):
            bills.handle("b-1", command, expected_version=7)
        assert diary.entries == [("on_failure", "Pending", None, 2, "VersionConflictError")]
        diary.entries.clear()


def test_what_a_hook_sends_joins_its_transaction(store: Store, bills: Bills, diary: Diary) -> None:
    """It is kept with the transition, and goes with it."""
    notes = Service(memo, store)
    diary.acts["before"] = lambda change: notes.handle("n-1", Place(1))
    diary.acts["after"] = raising(LookupError("no"))
    with pytest.raises(LookupError):
        bills.handle("b-1", Pay())
    assert notes.history("n-1") == []
    del diary.acts["after"]
    bills.handle("b-1", Pay())
    assert notes.get("n-1").version == 1
    rows = [(row.id, row.version) for row in store.read_log(limit=10)]
    assert rows == [("b-1", 1), ("n-1", 1), ("b-1", 2)]


def test_what_a_hook_catches_costs_nothing_else(store: Store, bills: Bills, diary: Diary) -> None:
    """A command that is refused within the transaction leaves it open."""
    notes = Service(memo, store)

    def send(change: Change) -> None:
        notes.handle("n-1", Place(1))
        with pytest.raises(InvalidTransitionError):
            notes.handle("n-1", Place(2))
        with pytest.raises(VersionConflictError):
            notes.handle("n-1", Note("x"), expected_version=7)

    diary.acts["after"] = send
    assert bills.handle("b-1", Pay()).version == 2
    assert notes.get("n-1").version == 1


def test_every_verb_of_a_hook_joins(store: Store, bills: Bills, diary: Diary) -> None:
    """Batches, transactions, purges and reads."""
    notes = Service(memo, store)
    notes.handle("old", Place(1))

    def act(change: Change) -> None:
        assert bills.get("b-1").version == 2
        assert bills.find(state=Paid).records[0].id == "b-1"
        notes.handle_many([("n-1", Place(1)), ("n-2", Place(1))], atomic=True)
        with notes.begin() as together:
            together.prepare("n-3", Place(1))
        notes.purge("old")
        raise LookupError("no")

    diary.acts["after"] = act
    with pytest.raises(LookupError):
        bills.handle("b-1", Pay())
    assert [record.id for record in notes.find()] == ["old"]
    assert notes.history("old")[0].command == Place(1)


def test_hooks_of_what_a_hook_sends_follow_the_outermost_commit(
    store: Store, bills: Bills, diary: Diary
) -> None:
    """They are not called where all is undone, nor before it is committed."""
    bills.handle("b-2", Place(5))
    diary.entries.clear()

    def act(change: Change) -> None:
        if change.id == "b-1":
            bills.handle("b-2", Pay())
            diary.entries.append(("sent",))

    diary.acts["before"] = act
    diary.acts["after"] = lambda change: raise_for(change, "b-1")
    with pytest.raises(LookupError):
        bills.handle("b-1", Pay())
    assert not set(COMMITTED) & set(diary.hooks)
    del diary.acts["after"]
    diary.entries.clear()
    bills.handle("b-1", Pay())
    sent = diary.hooks.index("sent")
    assert set(COMMITTED).isdisjoint(diary.hooks[: sent + 2])
    assert diary.hooks[-4:] == [*COMMITTED, *COMMITTED]


def test_a_callback_before_the_write_may_not_write_the_same_entity(
    bills: Bills, diary: Diary
) -> None:
    """It is told so at once; nothing is written."""
    diary.acts["before"] = lambda change: bills.handle("b-1", Note("x"))
    with pytest.raises(DefinitionError, match="about to be written"):
        bills.handle("b-1", Pay())
    assert stands(bills) == (1, "Pending")


@pytest.mark.parametrize("kind", ["before", "after"])
def test_nor_may_a_callback_of_what_it_has_sent(bills: Bills, diary: Diary, kind: str) -> None:
    """Two that send commands to each other would begin for ever."""
    bills.handle("b-2", Place(5))
    bills.handle("b-3", Place(5))

    def send(change: Change) -> None:
        if change.id == "b-1":
            bills.handle("b-2", Pay())
        elif kind == "before":
            send_back(change)

    def send_back(change: Change) -> None:
        if change.id == "b-2":
            bills.handle("b-3", Pay())
            bills.handle("b-1", Note("x"))

    diary.acts["before"] = send
    if kind == "after":
        diary.acts["after"] = send_back
    with pytest.raises(DefinitionError, match="'b-1', which is about to be written"):
        bills.handle("b-1", Pay())
    assert [stands(bills, id) for id in ("b-1", "b-2", "b-3")] == [(1, "Pending")] * 3


def test_a_callback_after_the_write_may_go_on(bills: Bills, diary: Diary) -> None:
    """The entity is at its new version then, within the transaction."""
    diary.acts["after"] = lambda change: bills.handle("b-1", Note("x"))
    assert bills.handle("b-1", Pay()).version == 2
    assert stands(bills) == (3, "Paid")


def test_another_store_on_the_same_file_is_refused(
    store: Store, bills: Bills, diary: Diary
) -> None:
    """It would wait for the transaction that waits for it."""
    if store.place is None:
        pytest.skip("no other store object has what is in memory")
    with open_store(store.url) as other:
        notes = Service(memo, other)
        diary.acts["before"] = lambda change: notes.handle("n-1", Place(1))
        with pytest.raises(DefinitionError, match="another store object"):
            bills.handle("b-1", Pay())
    assert stands(bills) == (1, "Pending")


def test_another_database_is_none_of_it(bills: Bills, diary: Diary) -> None:
    """What is sent there is committed there, whatever becomes of the transition."""
    with open_store("memory://") as other:
        notes = Service(memo, other)
        diary.acts["before"] = lambda change: notes.handle("n-1", Place(1))
        diary.acts["after"] = raising(LookupError("no"))
        with pytest.raises(LookupError):
            bills.handle("b-1", Pay())
        assert notes.get("n-1").version == 1


def test_a_hook_does_not_run_for_what_has_lost(store: Store, diary: Diary) -> None:
    """A transition that comes too late is decided anew before anything is done for it."""
    bills = Service(bill, store, deps=diary)
    rival = Service(bill, store, deps=Diary())
    bills.handle("b-1", Place(5))
    diary.entries.clear()
    pending = [lambda: rival.handle("b-1", Note("x"))]
    diary.acts["guard"] = lambda change: pending and pending.pop()()
    assert bills.handle("b-1", Pay()).version == 3
    assert diary.hooks == ["guard", "guard 2"] * 2 + ["before", "after", *COMMITTED]


def test_a_lost_transition_is_told_to_the_failure_hook(store: Store, diary: Diary) -> None:
    """Once its attempts are over."""
    bills = Service(bill, store, deps=diary, retry=Retry(attempts=1))
    rival = Service(bill, store, deps=Diary())
    bills.handle("b-1", Place(5))
    diary.entries.clear()
    diary.acts["guard"] = lambda change: rival.handle("b-1", Note("x"))
    with pytest.raises(VersionConflictError):
        bills.handle("b-1", Pay())
    assert diary.hooks == ["guard", "guard 2", "on_failure"]


def test_an_unknown_outcome_is_settled(store: Store, diary: Diary) -> None:
    """What is found to be committed is not done again, nor are its callbacks."""
    faults = TransactingStore(store)
    bills = Service(bill, faults, deps=diary, retry=Retry(initial_seconds=0.0001))
    bills.handle("b-1", Place(5))
    diary.entries.clear()
    faults.after_transaction.append(raising_now(CommitUncertainError("lost")))
    assert bills.handle("b-1", Pay()).version == 2
    assert diary.hooks == ["guard", "guard 2", "before", "after", *COMMITTED]
    assert stands(bills) == (2, "Paid")


def test_what_was_not_committed_is_done_again(store: Store, diary: Diary) -> None:
    """The hooks of what was sent along are called once all the same."""
    faults = TransactingStore(store)
    retry = Retry(initial_seconds=0.0001)
    bills = Service(bill, faults, deps=diary, retry=retry)
    bills.handle("b-1", Place(5))
    bills.handle("b-2", Place(5))
    diary.entries.clear()
    diary.acts["before"] = lambda change: change.id == "b-2" or bills.handle("b-2", Pay())
    faults.lost = 1
    bills.handle("b-1", Pay())
    assert diary.hooks.count("after_commit") == 2
    assert (stands(bills), stands(bills, "b-2")) == ((2, "Paid"), (2, "Paid"))


def test_what_was_committed_after_all_is_done_once(store: Store, diary: Diary) -> None:
    """The hooks of what was sent along are called, and nothing is sent again."""
    faults = TransactingStore(store)
    bills = Service(bill, faults, deps=diary, retry=Retry(initial_seconds=0.0001))
    bills.handle_many([("b-1", Place(5)), ("b-2", Place(5))])
    diary.entries.clear()
    diary.acts["before"] = lambda change: change.id == "b-2" or bills.handle("b-2", Pay())
    faults.after_transaction += [raising_now(CommitUncertainError("lost"))]
    bills.handle("b-1", Pay())
    assert [diary.hooks.count(hook) for hook in ("before", *COMMITTED)] == [2, 2, 2]
    assert (stands(bills), stands(bills, "b-2")) == ((2, "Paid"), (2, "Paid"))


@pytest.mark.parametrize("hook", ["before", "after"])
@pytest.mark.parametrize("error", [CommandRejectedError("no"), LookupError("no")], ids=repr)
def test_a_batch_with_a_checkpoint_is_undone_by_any_callback(
    bills: Bills, diary: Diary, hook: str, error: Exception
) -> None:
    """What a callback raises is neither a refusal of the command's nor its handler's error."""
    store = bills.store
    diary.acts[hook] = raising(error)
    commands: list[tuple[str, BillCommand]] = [("b-1", Pay()), ("b-2", Place(1))]
    with pytest.raises(BatchError) as failed:
        bills.handle_many(commands, checkpoint=Checkpoint("in", 2), answer_errors=True)
    assert failed.value.failures == {0: error}
    assert stands(bills) == (1, "Pending")
    assert (bills.history("b-2"), store.checkpoint("in")) == ([], None)


def test_a_batch_with_a_checkpoint_calls_hooks_for_what_it_writes(
    store: Store, bills: Bills, diary: Diary
) -> None:
    """A command that a guard refuses has no others."""
    bills.handle("b-2", Place(5))
    diary.entries.clear()
    commands: list[tuple[str, BillCommand]] = [("b-1", Pay("blocked")), ("b-2", Pay())]
    refused, paid = bills.handle_many(commands, checkpoint=Checkpoint("in", 2))
    assert isinstance(refused, GuardFailedError)
    assert not isinstance(paid, Exception)
    assert [diary.hooks.count(hook) for hook in ("before", *COMMITTED)] == [1, 1, 1]
    assert store.checkpoint("in") == 2


def test_a_failure_in_a_batch_is_told_as_what_it_was(bills: Bills, diary: Diary) -> None:
    """The command before it, for the same entity, is another."""
    commands: list[tuple[str, BillCommand]] = [("b-1", Pay()), ("b-1", Pay())]
    bills.handle_many(commands, checkpoint=Checkpoint("in", 2))
    told = [entry for entry in diary.entries if entry[0] == "on_failure"]
    assert told == [("on_failure", "Paid", "Paid", 3, "InvalidTransitionError")]


def test_a_transition_that_is_purged_before_its_hooks_run_is_shown_to_none(
    bills: Bills, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that do not take it are called."""
    diary.acts["after"] = lambda change: bills.purge("b-1")
    bills.handle("b-1", Pay())
    assert diary.hooks[-2:] == ["after", "after_commit 2"]
    assert caplog.records == []


def test_a_batch_answers_each_with_its_own(bills: Bills, diary: Diary) -> None:
    """What a callback raises is its command's answer; the others are written."""
    diary.acts["before"] = lambda change: raise_for(change, "b-2")
    commands: list[tuple[str, BillCommand]] = [
        ("b-2", Place(5)),
        ("b-1", Pay()),
        ("b-2", Pay()),
        ("b-2", Note("x")),
    ]
    answers = bills.handle_many(commands)
    assert [type(answer).__name__ for answer in answers] == [
        "Record",
        "Record",
        "LookupError",
        "Record",
    ]
    assert (stands(bills), stands(bills, "b-2")) == ((2, "Paid"), (2, "Pending"))


def test_an_atomic_batch_is_undone_by_any_callback(bills: Bills, diary: Diary) -> None:
    """Nothing of it is written; the error is told by its place."""
    bills.handle("b-2", Place(5))
    diary.entries.clear()
    diary.acts["after"] = lambda change: raise_for(change, "b-2")
    with pytest.raises(BatchError) as failed:
        bills.handle_many([("b-1", Pay()), ("b-2", Pay())], atomic=True)
    assert [(place, type(error)) for place, error in failed.value.failures.items()] == [
        (1, LookupError)
    ]
    assert (stands(bills), stands(bills, "b-2")) == ((1, "Pending"), (1, "Pending"))
    diary.acts.clear()
    diary.entries.clear()
    bills.handle_many([("b-1", Pay()), ("b-2", Pay())], atomic=True)
    assert diary.hooks[-8:] == ["before", "before", "after", "after", *COMMITTED, *COMMITTED]


def failures(diary: Diary) -> list[tuple[Any, ...]]:
    """Return what the failure hooks were told: of which state, and of which error."""
    return [(*entry[:3], entry[4]) for entry in diary.entries if "failure" in entry[0]]


def test_every_command_of_an_atomic_batch_is_told_that_it_failed(
    bills: Bills, diary: Diary
) -> None:
    """The one that is refused of its refusal, the others of the batch; each once."""
    bills.handle("b-2", Place(5))
    diary.entries.clear()
    with pytest.raises(BatchError):
        bills.handle_many(
            [("b-1", Pay()), ("b-2", Pay(card="blocked")), ("b-1", Note("x"))], atomic=True
        )
    assert failures(diary) == [
        ("on_guard_failure", "Pending", "Paid", "card_is_good"),
        ("on_failure", "Pending", "Paid", "GuardFailedError"),
        ("on_failure", "Pending", "Paid", "BatchError"),
        ("on_failure", "Paid", "Paid", "BatchError"),
    ]


@pytest.mark.parametrize("hook", ["before", "after"])
@pytest.mark.parametrize("terms", [{"atomic": True}, {"checkpoint": Checkpoint("in", 2)}])
def test_every_command_is_told_that_a_callback_undid_it(
    bills: Bills, diary: Diary, terms: Any, hook: str
) -> None:
    """The one whose callback it is of that error, the others of the batch."""
    bills.handle("b-2", Place(5))
    diary.entries.clear()
    diary.acts[hook] = lambda change: raise_for(change, "b-2")
    with pytest.raises(BatchError) as failed:
        bills.handle_many([("b-1", Pay()), ("b-2", Pay())], **terms)
    assert list(failed.value.failures) == [1]
    assert failures(diary) == [
        ("on_failure", "Pending", "Paid", "LookupError"),
        ("on_failure", "Pending", "Paid", "BatchError"),
    ]


def test_commands_beside_an_invalid_one_are_told_that_they_failed(
    bills: Bills, diary: Diary
) -> None:
    """Nothing was loaded for them, so that it is not known what state they would have left."""
    with pytest.raises(BatchError):
        bills.handle_many([("b-1", Pay()), ("", Pay())], atomic=True)
    assert failures(diary) == [("on_failure", None, "Paid", "BatchError")]


def test_what_a_batch_made_before_has_not_failed_with_it(bills: Bills, diary: Diary) -> None:
    """The answer to a key that was used stands."""
    bills.handle("b-1", Note("x"), key="k-1")
    diary.entries.clear()
    with pytest.raises(BatchError):
        bills.handle_many(
            [Request("b-1", Note("x"), "k-1"), Request("b-2", Place(-1))], atomic=True
        )
    assert failures(diary) == [("on_failure", None, "Pending", "CommandRejectedError")]


def test_a_transaction_has_the_hooks_of_what_it_stages(bills: Bills, diary: Diary) -> None:
    """Guards as each is prepared, the rest around the one commit."""
    with bills.begin() as together:
        together.prepare("b-1", Pay())
        together.prepare("b-1", Note("x"))
        assert diary.hooks == ["guard", "guard 2", "guard"]
        diary.entries.clear()
    assert diary.hooks == ["before", "after", *COMMITTED, *COMMITTED]
    assert stands(bills) == (3, "Paid")


def test_a_transaction_is_undone_by_a_callback(bills: Bills, diary: Diary) -> None:
    """Its error leaves `commit` as it is."""
    diary.acts["after"] = raising(LookupError("no"))
    together = bills.begin()
    together.prepare("b-1", Pay())
    with pytest.raises(LookupError):
        together.commit()
    assert stands(bills) == (1, "Pending")
    assert diary.hooks[-1] == "on_failure"


def test_a_transaction_whose_store_fails_tells_of_it(
    store: Store, bills: Bills, diary: Diary
) -> None:
    """Where nothing could be prepared, and where it could not be committed."""
    together = bills.begin()
    together.prepare("b-1", Pay())
    diary.entries.clear()
    store.close()
    with pytest.raises(StoreError):
        together.prepare("b-2", Pay())
    assert diary.entries.pop() == ("on_failure", None, "Paid", 0, "StoreError")
    with pytest.raises(StoreError):
        together.commit()
    assert diary.entries == [("on_failure", "Pending", "Paid", 2, "StoreError")]


def test_what_transact_does_again_has_not_failed(bills: Bills, diary: Diary) -> None:
    """Nobody is told of a conflict that is answered with another run."""
    runs: list[int] = []

    def work(together: Transaction[BillState, BillCommand]) -> None:
        together.prepare("b-1", Pay())
        runs.append(len(runs))
        if len(runs) < 3:
            bills.handle("b-1", Note("in between"))
            diary.entries.clear()

    transact(bills, work)
    assert len(runs) == 3
    assert diary.hooks == ["guard", "guard 2", "before", "after", *COMMITTED]


def test_what_transact_gives_up_has_failed_once(store: Store, bills: Bills, diary: Diary) -> None:
    """All that the last run staged is told of why there is no next one."""
    impatient = Service(bill, store, deps=diary, retry=Retry(attempts=2, initial_seconds=0.001))
    bills.handle("b-2", Place(1))

    def work(together: Transaction[BillState, BillCommand]) -> None:
        together.prepare("b-1", Pay())
        together.prepare("b-2", Note("y"))
        bills.handle("b-1", Note("in between"))
        diary.entries.clear()

    with pytest.raises(RetriesExhaustedError):
        transact(impatient, work)
    assert failures(diary) == [
        ("on_failure", "Pending", "Paid", "RetriesExhaustedError"),
        ("on_failure", "Pending", "Pending", "RetriesExhaustedError"),
    ]


def test_what_a_breaker_keeps_transact_from_doing_again_has_failed(
    store: Store, bills: Bills, diary: Diary
) -> None:
    """It is told of the breaker."""
    breaker = CircuitBreaker(threshold=1, cooldown_seconds=60)
    broken = Service(bill, store, deps=diary, retry=Retry(initial_seconds=0.001, breaker=breaker))

    def work(together: Transaction[BillState, BillCommand]) -> None:
        together.prepare("b-1", Pay())
        bills.handle("b-1", Note("in between"))
        diary.entries.clear()

    with pytest.raises(CircuitOpenError):
        transact(broken, work)
    assert failures(diary) == [("on_failure", "Pending", "Paid", "CircuitOpenError")]


def test_a_conflict_that_the_work_passes_over_has_failed(bills: Bills, diary: Diary) -> None:
    """There is no other run then."""

    def work(together: Transaction[BillState, BillCommand]) -> str:
        together.prepare("b-1", Pay())
        bills.handle("b-1", Note("in between"))
        diary.entries.clear()
        with suppress(VersionConflictError):
            together.commit()
        return "well"

    assert transact(bills, work) == "well"
    assert failures(diary) == [("on_failure", "Pending", "Paid", "VersionConflictError")]


def test_a_stop_iteration_is_told_as_what_it_is(bills: Bills, diary: Diary) -> None:
    """It could not pass through a generator as it is."""
    diary.entries.clear()
    with pytest.raises(StopIteration):
        bills.handle_many([("b-1", Pay())], atomic=True, before_commit=lambda _: next(iter(())))
    assert failures(diary) == [("on_failure", "Pending", "Paid", "StopIteration")]


def test_a_key_that_was_used_calls_no_hook(bills: Bills, diary: Diary) -> None:
    """The first transition had its hooks."""
    bills.handle("b-1", Pay(), key="k")
    diary.entries.clear()
    assert bills.handle("b-1", Pay(), key="k").version == 2
    assert diary.entries == []


def test_a_purge_calls_no_hook(bills: Bills, diary: Diary) -> None:
    """It is no command."""
    bills.purge("b-1")
    assert diary.entries == []


def test_eight_threads_keep_their_callbacks_apart(store: Store) -> None:
    """Each command is applied once, with its own callbacks, on one entity and on several."""
    diaries = [Diary() for _ in range(8)]
    services = [Service(bill, store, deps=diary, retry=Retry(attempts=100)) for diary in diaries]
    services[0].handle("shared", Place(1))
    diaries[0].entries.clear()

    def work(place: int) -> None:
        for turn in range(5):
            services[place].handle(f"own-{place}-{turn}", Place(1))
            services[place].handle(f"own-{place}-{turn}", Pay())
            services[place].handle("shared", Note(str(turn)))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stands(services[0], "shared") == (41, "Pending")
    for diary in diaries:
        counts = {hook: diary.hooks.count(hook) for hook in ("before", "after", "after_commit")}
        assert counts == {"before": 5, "after": 5, "after_commit": 15}


def test_a_transaction_within_a_hook_takes_in_other_services(
    store: Store, bills: Bills, diary: Diary
) -> None:
    """Begun there, it is a part of the hook's transaction."""
    memos = Service(memo, store)

    def act(change: Change) -> None:
        with memos.begin() as together:
            together.prepare("n-1", Place(1))
            together.join(bills).prepare("b-2", Place(1))

    diary.acts["after"] = act
    bills.handle("b-1", Pay())
    assert (memos.get("n-1").version, bills.get("b-2").version) == (1, 1)


def test_transact_joins_in_a_hook(store: Store, bills: Bills, diary: Diary) -> None:
    """Its commit is a part of the hook's transaction."""
    memos = Service(memo, store)
    diary.acts["before"] = lambda change: transact(
        memos, lambda together: together.prepare("n-1", Place(1))
    )
    diary.acts["after"] = raising(LookupError("no"))
    with pytest.raises(LookupError):
        bills.handle("b-1", Pay())
    assert memos.history("n-1") == []


def test_a_transaction_begun_before_a_hook_is_not_used_in_it(
    store: Store, bills: Bills, diary: Diary
) -> None:
    """It would see what was, and wait for what is."""
    outside = bills.begin()
    diary.acts["after"] = lambda change: outside.read("b-1")
    with pytest.raises(DefinitionError, match="begun before it"):
        bills.handle("b-1", Pay())
    assert outside.read("b-1").version == 1
    outside.abandon()


def test_a_refusal_in_a_transaction_is_told_too(bills: Bills, diary: Diary) -> None:
    """As a refused command of its own is."""
    with bills.begin() as together:
        with pytest.raises(GuardFailedError):
            together.prepare("b-1", Pay("blocked"))
        with pytest.raises(InvalidTransitionError):
            together.prepare("b-9", Pay())
    assert diary.hooks == ["guard", "on_guard_failure", "on_failure", "on_failure"]


@pytest.mark.parametrize("hook", ["before", "after"])
def test_a_transaction_raises_what_a_hook_raises(bills: Bills, diary: Diary, hook: str) -> None:
    """Even what ends generators."""
    diary.acts[hook] = raising(StopIteration("x"))
    together = bills.begin()
    together.prepare("b-1", Pay())
    with pytest.raises(StopIteration):
        together.commit()
    assert diary.hooks[-1] == "on_failure"


def test_transactions_on_several_stores_are_all_known(
    store: Store, bills: Bills, diary: Diary
) -> None:
    """From a hook on another store, a service joins the transaction that is open on its own."""
    memos = Service(memo, store)
    with open_store("memory://") as other:
        between = Diary()
        there = Service(bill, other, deps=between)
        there.handle("b-1", Place(5))
        diary.acts["before"] = lambda change: there.handle("b-1", Pay())
        between.acts["before"] = lambda change: memos.handle("n-1", Place(1))
        diary.acts["after"] = raising(LookupError("no"))
        with pytest.raises(LookupError):
            bills.handle("b-1", Pay())
        assert there.get("b-1").version == 2
    assert memos.history("n-1") == []


def test_what_outlives_a_transaction_is_not_in_it(store: Store, bills: Bills, diary: Diary) -> None:
    """What a hook has put off runs in its context, and writes for itself."""
    memos = Service(memo, store)
    kept: list[Context] = []
    diary.acts["before"] = lambda change: kept.append(copy_context())
    bills.handle("b-1", Pay())
    kept[0].run(memos.handle, "n-1", Place(1))
    assert memos.get("n-1").version == 1
    with open_store("memory://") as other:
        later = Diary()
        there = Service(bill, other, deps=later)
        there.handle("b-1", Place(5))
        later.acts["before"] = lambda change: memos.handle("n-1", Note("x"))
        kept[0].run(there.handle, "b-1", Pay())
    assert memos.get("n-1").version == 2


def test_another_thread_does_not_join(store: Store, bills: Bills, diary: Diary) -> None:
    """It is told so at once, where it brings the context of the hook along."""
    memos = Service(memo, store)
    errors: list[Exception] = []

    def work() -> None:
        try:
            memos.handle("n-1", Place(1))
        except DefinitionError as error:
            errors.append(error)

    def act(change: Change) -> None:
        thread = threading.Thread(target=copy_context().run, args=(work,))
        thread.start()
        thread.join()

    diary.acts["before"] = act
    assert bills.handle("b-1", Pay()).version == 2
    assert "another thread" in str(errors[0])


def test_what_is_sent_after_the_write_is_followed_after_it(bills: Bills, diary: Diary) -> None:
    """Versions are told in their order."""
    diary.acts["after"] = lambda change: bills.handle("b-1", Note("x"))
    bills.handle("b-1", Pay())
    followed = [entry[3] for entry in diary.entries if entry[0] == "after_commit"]
    assert followed == [2, 3]


def test_a_batch_that_its_stream_has_passed_calls_no_callback(
    store: Store, bills: Bills, diary: Diary
) -> None:
    """It has come too late before anything is done for it."""
    bills.handle_many([("b-2", Place(1))], checkpoint=Checkpoint("in", 5))
    diary.entries.clear()
    with pytest.raises(CheckpointConflictError):
        bills.handle_many([("b-1", Pay())], checkpoint=Checkpoint("in", 3))
    assert "before" not in diary.hooks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_in_a_hook_leaves_the_transaction_to_the_parent(
    store: Store, bills: Bills, diary: Diary
) -> None:
    """The child is told that nothing was written, and the parent writes once."""
    told, tells = os.pipe()

    def fork(change: Change) -> None:
        diary.acts.clear()
        child.append(os.fork())

    child: list[int] = []
    diary.acts["before"] = fork
    try:
        version = bills.handle("b-1", Pay()).version
    except StoreError as error:
        os.write(tells, str(error).encode())
        os._exit(0)
    if child == [0]:
        os.write(tells, b"acknowledged")
        os._exit(1)
    os.close(tells)
    os.waitpid(child[0], 0)
    with open(told, "rb") as stream:
        assert b"fork" in stream.read()
    assert version == 2
    assert stands(bills) == (2, "Paid")


class TransactingStore(CountingStore):
    """A store that may be told to fail once a transaction was committed."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.after_transaction: list[Callable[[], object]] = []
        self.lost = 0
        """How many transactions are rolled back in the end, and their outcome not known."""
        self.is_away = False

    def history(self, machine: str, id: str, **options: Any) -> Any:
        if self.is_away:
            raise StoreError("away")
        return super().history(machine, id, **options)

    def transact(self, act: Callable[[Store], Any], **options: Any) -> Any:
        if self.lost:
            self.lost -= 1
            self.store.transact(lambda joined: keep_back(act(joined)), **options)
            raise CommitUncertainError("lost")
        result = self.store.transact(act, **options)
        if self.after_transaction:
            self.after_transaction.pop(0)()
        return result


def keep_back(result: object) -> None:
    """Have a transaction rolled back."""
    raise KeptBack(result)
