"""`handle`: one command, applied once on the version it was decided on, or not written at all."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from tests.service.orders import (
    Desk,
    Fail,
    Mislead,
    Note,
    OrderCommand,
    Orders,
    OutOfPaperError,
    Paid,
    Pay,
    Pending,
    Place,
    Refuse,
    Remove,
    Spoil,
    order,
)

from holdfast import (
    CommandRejectedError,
    Context,
    DefinitionError,
    InvalidTransitionError,
    NotFoundError,
    Record,
    Service,
    ValidationError,
    VersionConflictError,
    open_store,
)
from holdfast.stores.contract import Key, Store
from holdfast.testing.clock import START, ManualClock


def names(orders: Orders, id: str) -> list[str | None]:
    """Return the names of the commands that the log holds for an entity."""
    return [transition.command_type for transition in orders.history(id)]


def test_a_command_makes_a_record(orders: Orders, clock: ManualClock) -> None:
    """The record tells machine, id, version, state and times."""
    assert orders.handle("o-1", Place(total=4200)) == Record(
        "order", "o-1", 1, Pending(total=4200), START, START
    )


def test_each_command_makes_the_next_version(orders: Orders, clock: ManualClock) -> None:
    """Versions rise by one; the time of creation stays, that of the update moves."""
    orders.handle("o-1", Place(total=5))
    later = clock.advance(60)

    record = orders.handle("o-1", Pay(card="4"))

    assert record == Record("order", "o-1", 2, Paid(total=5, card="4"), START, later)
    assert orders.get("o-1") == record


def test_an_equal_state_is_a_transition_all_the_same(orders: Orders, clock: ManualClock) -> None:
    """What happened is recorded, though it changed nothing."""
    orders.handle("o-1", Place(total=5))
    later = clock.advance(1)

    record = orders.handle("o-1", Note(text=""))

    assert (record.version, record.state, record.updated_at) == (2, Pending(total=5), later)
    assert names(orders, "o-1") == ["Place", "Note"]


def test_the_entry_into_a_state_is_kept_through_its_own_transitions(
    orders: Orders, store: Store
) -> None:
    """The version at which it was entered tells one stay in a state from the next."""

    def entered() -> int:
        [loaded] = store.load([Key("order", "o-1")])
        assert loaded.entity is not None
        return loaded.entity.entered_version

    seen: list[int] = []
    commands: list[OrderCommand] = [
        Place(total=5),
        Note(text="a"),
        Pay(card="4"),
        Note(text=""),
        Remove(),
    ]
    for command in commands:
        orders.handle("o-1", command)
        seen.append(entered())
    orders.handle("o-1", Place(total=5))
    assert [*seen, entered()] == [1, 1, 3, 3, 5, 6]


def test_a_deletion_answers_with_what_was_deleted(orders: Orders, clock: ManualClock) -> None:
    """`-> None` is a transition with a version, and the entity is gone."""
    orders.handle("o-1", Place(total=5))
    later = clock.advance(1)

    record = orders.handle("o-1", Remove())

    assert record == Record("order", "o-1", 2, Pending(total=5), START, later, deleted=True)
    with pytest.raises(NotFoundError):
        orders.get("o-1")


def test_versions_go_on_rising_over_a_deletion(orders: Orders, clock: ManualClock) -> None:
    """Nothing comes back with a version that it had before; its creation is new."""
    orders.handle("o-1", Place(total=5))
    orders.handle("o-1", Remove())
    later = clock.advance(60)

    record = orders.handle("o-1", Place(total=6))

    assert (record.version, record.created_at) == (3, later)


def test_entities_and_machines_do_not_touch_each_other(store: Store, desk: Desk) -> None:
    """The same id under another machine is another entity."""
    from tests.service.test_before_commit import Deposit, account

    orders, accounts = Service(order, store, deps=desk), Service(account, store)
    orders.handle("1", Place(total=5))

    record = accounts.handle("1", Deposit(amount=1))

    assert record.version == 1
    assert orders.get("1").version == 1
    assert [page.id for page in accounts.find()] == ["1"]


# Refusals


def test_a_pair_without_a_handler_is_refused(orders: Orders) -> None:
    """The error names the entity, its state and what it takes."""
    orders.handle("o-1", Place(total=5))

    with pytest.raises(InvalidTransitionError) as caught:
        orders.handle("o-1", Place(total=5))

    error = caught.value
    assert (error.machine, error.id, error.state, error.command) == (
        "order",
        "o-1",
        "Pending",
        "Place",
    )
    assert error.allowed == ("Note", "Pay", "Refuse", "Fail", "Mislead", "Spoil", "Remove")
    assert names(orders, "o-1") == ["Place"]


def test_a_command_for_nothing_is_refused_with_what_would_create_it(orders: Orders) -> None:
    """Nothing is written for an entity that does not exist."""
    with pytest.raises(InvalidTransitionError) as caught:
        orders.handle("o-1", Pay(card="4"))
    assert caught.value.state is None
    assert "order 'o-1', which does not exist" in str(caught.value)
    assert orders.history("o-1") == []


def test_a_handler_may_refuse(orders: Orders) -> None:
    """Its reason arrives, and nothing is written."""
    with pytest.raises(CommandRejectedError, match="closed on Sundays"):
        orders.handle("o-1", Refuse(reason="closed on Sundays"))
    assert orders.history("o-1") == []


def test_a_handlers_own_error_arrives_unwrapped_with_its_traceback(orders: Orders) -> None:
    """Nothing stands between the handler and its caller, and nothing is written."""
    orders.handle("o-1", Place(total=5))

    with pytest.raises(OutOfPaperError, match="tray 2") as caught:
        orders.handle("o-1", Fail(reason="tray 2"))

    assert caught.traceback[-1].name == "fail"
    assert caught.value.__cause__ is None
    assert names(orders, "o-1") == ["Place"]


@pytest.mark.parametrize(
    "error", [StopIteration("a"), KeyError("a"), GeneratorExit(), KeyboardInterrupt()]
)
def test_no_error_of_a_handler_is_mistaken_for_the_librarys_own(
    orders: Orders, desk: Desk, error: BaseException
) -> None:
    """Errors that Python itself uses to steer arrive like any other."""

    def interrupt() -> None:
        raise error

    desk.interrupts.append(interrupt)
    with pytest.raises(type(error)) as caught:
        orders.handle("o-1", Place(total=5))
    assert caught.value is error
    assert orders.history("o-1") == []


def test_a_target_that_is_not_declared_is_not_written(orders: Orders) -> None:
    """The handler is named with its line."""
    with pytest.raises(DefinitionError, match=r"mislead \(.*orders\.py:\d+\) returned Paid"):
        orders.handle("o-1", Mislead())
    assert orders.history("o-1") == []


def test_a_state_that_cannot_be_stored_is_not_written(orders: Orders) -> None:
    """The path leads to the part, the message to the entity and the command."""
    orders.handle("o-1", Place(total=5))

    with pytest.raises(ValidationError) as caught:
        orders.handle("o-1", Spoil())

    assert caught.value.path == "$.ratio"
    assert "Spoil would leave order 'o-1' in a state that cannot be stored" in str(caught.value)
    assert names(orders, "o-1") == ["Place"]


def test_a_handler_that_deletes_nothing_is_told(store: Store) -> None:
    """`None -> None` is not a way to refuse."""
    from holdfast import Command, Machine, State

    class Open(State):
        pass

    class Touch(Command):
        pass

    box = Machine("box", state=Open, command=Touch)

    @box.on
    def touch(state: Open | None, command: Touch) -> None:
        return None

    with pytest.raises(DefinitionError, match="to refuse, raise CommandRejectedError"):
        Service(box, store).handle("b", Touch())


def test_a_command_is_checked_before_any_handler_sees_it(orders: Orders, desk: Desk) -> None:
    """A constraint that the constructor lets pass is held."""
    with pytest.raises(ValidationError) as caught:
        orders.handle("o-1", Place(total=0))
    assert caught.value.path == "$.total"
    assert desk.seen == []


@pytest.mark.parametrize("command", [None, "place", Place, Pending(total=1), {"$type": "Place"}])
def test_what_is_no_command_is_refused(orders: Orders, command: Any) -> None:
    """A null command, a class, a state, a name or a mapping."""
    with pytest.raises(ValidationError, match="is not a command of order"):
        orders.handle("o-1", command)


@pytest.mark.parametrize(
    "id", ["", "a" * 513, "é" * 257, "a\0b", "\ud800", None, 5, b"a"], ids=lambda id: repr(id)[:9]
)
def test_what_is_no_id_is_refused(orders: Orders, id: Any, desk: Desk) -> None:
    """Ids are text from 1 to 512 bytes that every store can keep."""
    with pytest.raises(ValidationError, match="the id"):
        orders.handle(id, Place(total=1))
    assert desk.seen == []


@pytest.mark.parametrize("id", ["a" * 512, "é" * 256, " ", "a/b?c#d", "'; --", "\u2028", "NULL"])
def test_any_other_text_is_an_id(orders: Orders, id: str) -> None:
    """It comes back as it was given, and finds the entity again."""
    orders.handle(id, Place(total=1))
    assert orders.get(id).id == id
    assert [record.id for record in orders.find()] == [id]


# The context


def test_the_context_tells_id_version_time_and_metadata(
    orders: Orders, desk: Desk, clock: ManualClock
) -> None:
    """The version is the one decided on: 0 for none."""
    orders.handle("o-1", Place(total=5), metadata={"by": "ann"})
    later = clock.advance(60)
    orders.handle("o-1", Pay(card="4"))
    orders.handle("o-1", Remove())
    orders.handle("o-1", Place(total=5))

    assert [(context.id, context.version) for context in desk.contexts] == [
        ("o-1", 0),
        ("o-1", 1),
        ("o-1", 2),
        ("o-1", 0),
    ]
    assert [context.now for context in desk.contexts] == [START, later, later, later]
    assert [context.metadata for context in desk.contexts] == [{"by": "ann"}, {}, {}, {}]


def test_the_token_is_one_for_each_call(orders: Orders, desk: Desk) -> None:
    """It has 32 hexadecimal digits, is recorded, and never repeats."""
    for number in range(5):
        orders.handle(f"o-{number}", Place(total=5))

    tokens = [context.token for context in desk.contexts]
    assert len(set(tokens)) == 5
    assert all(len(token) == 32 and int(token, 16) >= 0 for token in tokens)
    assert [orders.history(f"o-{number}")[0].token for number in range(5)] == tokens


def test_a_replay_with_the_recorded_contexts_sees_what_the_handlers_saw(
    orders: Orders, desk: Desk, clock: ManualClock
) -> None:
    """The log holds all that a context is made of, so that a replay decides the same."""
    commands: list[OrderCommand] = [
        Place(total=5),
        Note(text="a"),
        Pay(card="4"),
        Remove(),
        Place(total=6),
    ]
    for number, command in enumerate(commands):
        orders.handle("o-1", command, metadata={"n": number} if number % 2 else None)
        clock.advance(60)
    seen, states = desk.contexts, []
    replayed = Desk()

    state = None
    for transition in orders.history("o-1"):
        assert transition.token is not None
        assert transition.command is not None
        version = transition.version - 1 if state else 0
        context = Context(transition.at, transition.token, "o-1", version, transition.metadata)
        state = order.step(state, transition.command, replayed, context)
        states.append(state)

    assert replayed.contexts == seen
    assert states == [transition.state for transition in orders.history("o-1")]


def test_the_time_of_an_entity_does_not_fall(orders: Orders, clock: ManualClock) -> None:
    """A clock that is set back does not make a transition older than the one before it."""
    orders.handle("o-1", Place(total=5))
    clock.advance(-3600)

    record = orders.handle("o-1", Pay(card="4"))

    assert record.updated_at == START
    assert orders.history("o-1")[1].at == START
    assert orders.history("o-1")[1].recorded_at == START - timedelta(hours=1)


# expected_version


def test_the_live_version_may_be_expected(orders: Orders) -> None:
    """The caller decided on what is still there."""
    orders.handle("o-1", Place(total=5), expected_version=0)
    assert orders.handle("o-1", Note(text="a"), expected_version=1).version == 2


@pytest.mark.parametrize("expected", [0, 2, 99])
def test_another_version_is_a_conflict_at_once(orders: Orders, desk: Desk, expected: int) -> None:
    """The error tells both versions; no handler is asked, and nothing is written."""
    orders.handle("o-1", Place(total=5))

    with pytest.raises(VersionConflictError) as caught:
        orders.handle("o-1", Note(text="a"), expected_version=expected)

    error = caught.value
    assert (error.machine, error.id, error.expected, error.actual) == ("order", "o-1", expected, 1)
    assert type(error) is VersionConflictError
    assert len(desk.seen) == 1
    assert names(orders, "o-1") == ["Place"]


def test_none_is_expected_of_what_never_existed_and_of_what_was_deleted(orders: Orders) -> None:
    """0 means that there is no live entity; the version of a tombstone is not expected."""
    orders.handle("o-1", Place(total=5))
    orders.handle("o-1", Remove())

    with pytest.raises(VersionConflictError) as caught:
        orders.handle("o-1", Place(total=6), expected_version=2)
    assert caught.value.actual == 0

    assert orders.handle("o-1", Place(total=6), expected_version=0).version == 3


def test_a_conflict_tells_the_versions_of_what_lives(
    orders: Orders, desk: Desk, store: Store
) -> None:
    """0 stands for what is gone, whatever version its tombstone has; the gap counts them all."""
    rival = Service(order, store, deps=Desk())
    orders.handle("o-1", Place(total=5))

    desk.interrupts.append(lambda: rival.handle("o-1", Remove()))
    with pytest.raises(VersionConflictError) as caught:
        orders.handle("o-1", Note(text="mine"), expected_version=1)
    deleted = caught.value
    desk.interrupts.append(lambda: rival.handle("o-1", Place(total=6)))
    with pytest.raises(VersionConflictError) as caught:
        orders.handle("o-1", Place(total=7), expected_version=0)
    created = caught.value

    assert (deleted.expected, deleted.actual, deleted.gap) == (1, 0, 1)
    assert (created.expected, created.actual, created.gap) == (0, 3, 1)


def test_what_came_and_went_meanwhile_is_absent_as_expected(
    orders: Orders, desk: Desk, store: Store
) -> None:
    """Expecting none is no conflict where there is none again; the call decides again."""
    rival = Service(order, store, deps=Desk())

    def come_and_go() -> None:
        rival.handle("o-1", Place(total=5))
        rival.handle("o-1", Remove())

    desk.interrupts.append(come_and_go)
    record = orders.handle("o-1", Place(total=7), expected_version=0)

    assert (record.version, record.state) == (3, Pending(total=7))
    assert [context.version for context in desk.contexts] == [0, 0]


@pytest.mark.parametrize("expected", [-1, 1.0, "1", True, 2**63])
def test_what_is_no_version_is_refused(orders: Orders, expected: Any) -> None:
    """Versions are whole numbers from 0."""
    with pytest.raises(ValidationError, match="expected_version is a number from 0"):
        orders.handle("o-1", Place(total=5), expected_version=expected)


# metadata


def test_metadata_are_recorded_with_the_transition(orders: Orders, desk: Desk) -> None:
    """They are JSON, and the handler sees what the log will hold."""
    metadata = {"by": "ann", "why": {"ticket": 5, "tags": ["a", None, 1.5]}}

    orders.handle("o-1", Place(total=5), metadata=metadata)

    assert orders.history("o-1")[0].metadata == metadata
    assert desk.contexts[0].metadata == metadata


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"a": float("nan")}, "$.a"),
        ({"a": [START]}, "$.a[0]"),
        ({"a": {"b": object()}}, "$.a.b"),
        ({"a": "\0"}, "$.a"),
        ({"a": "x" * 70_000}, "$"),
        (["a"], "$"),
        ([], "$"),
        ("", "$"),
        (0, "$"),
        (False, "$"),
    ],
)
def test_metadata_that_are_not_json_are_refused(
    orders: Orders, desk: Desk, metadata: Any, path: str
) -> None:
    """The path leads to the part; no handler is asked."""
    with pytest.raises(ValidationError) as caught:
        orders.handle("o-1", Place(total=5), metadata=metadata)
    assert caught.value.path == path
    assert desk.seen == []


# at


def test_an_import_may_say_when_it_happened(orders: Orders, desk: Desk, clock: ManualClock) -> None:
    """`at` is the time of the transition, the handler's and the record's; the recording is now."""
    at = datetime(2020, 5, 6, 14, tzinfo=timezone(timedelta(hours=2)))

    record = orders.handle("o-1", Place(total=5), at=at)

    assert record.created_at == record.updated_at == at
    assert record.created_at.tzinfo is UTC
    assert desk.contexts[0].now == at
    [transition] = orders.history("o-1")
    assert (transition.at, transition.recorded_at) == (at, START)


def test_an_import_may_not_go_back_in_time(orders: Orders) -> None:
    """A transition is not older than the one before it; the same moment is allowed."""
    at = datetime(2020, 5, 6, tzinfo=UTC)
    orders.handle("o-1", Place(total=5), at=at)

    with pytest.raises(ValidationError, match="is before the last transition of order 'o-1'"):
        orders.handle("o-1", Note(text="a"), at=at - timedelta(microseconds=1))

    assert orders.handle("o-1", Note(text="a"), at=at).updated_at == at
    assert names(orders, "o-1") == ["Place", "Note"]


def test_an_import_may_not_come_from_the_future(orders: Orders, clock: ManualClock) -> None:
    """It would hold the entity's time there for ever; this very moment is allowed."""
    soon = START + timedelta(microseconds=1)
    for command in (Place(total=5), Note(text="a")):
        with pytest.raises(ValidationError, match=r"later than the store's time, 2026-.*'o-1'"):
            orders.handle("o-1", command, at=soon)
        orders.handle("o-1", command, at=START)
    clock.advance(0.000001)
    assert orders.handle("o-1", Note(text="b"), at=soon).updated_at == soon


class Nowhere(tzinfo):
    """A zone that does not know how far it is from UTC."""

    def utcoffset(self, dt: datetime | None) -> None:
        return None

    def dst(self, dt: datetime | None) -> None:
        return None

    def tzname(self, dt: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    "at",
    [
        START.replace(tzinfo=None),
        "2020-05-06",
        1.5,
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        START.replace(tzinfo=Nowhere()),
    ],
)
def test_what_is_no_moment_is_refused(orders: Orders, at: Any) -> None:
    """Times have a zone and can be told in UTC."""
    with pytest.raises(ValidationError, match="at="):
        orders.handle("o-1", Place(total=5), at=at)


# timeout


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), 10**400], ids=["0", "-1", "nan", "huge"])
def test_what_is_no_timeout_is_refused(orders: Orders, timeout: float) -> None:
    """A timeout is a number of seconds above 0."""
    with pytest.raises(ValidationError, match="timeout is a number of seconds above 0"):
        orders.handle("o-1", Place(total=5), timeout=timeout)


@pytest.mark.parametrize("timeout", [30, 10**300, float("inf")], ids=["30", "huge", "infinite"])
def test_a_timeout_that_is_not_reached_changes_nothing(orders: Orders, timeout: float) -> None:
    """It bounds waits, and there was none."""
    assert orders.handle("o-1", Place(total=5), timeout=timeout).version == 1


# Values that handlers, callers and records share


def test_what_a_caller_changes_afterwards_is_not_stored(orders: Orders) -> None:
    """The command and the metadata are taken as they were at the call."""
    tags, metadata = ["a"], {"by": ["ann"]}
    orders.handle("o-1", Place(total=5))
    orders.handle("o-1", Pay(card="4", tags=tags), metadata=metadata)

    tags.append("b")
    metadata["by"].append("bob")

    transition = orders.history("o-1")[1]
    assert transition.command == Pay(card="4", tags=["a"])
    assert transition.metadata == {"by": ["ann"]}


def test_what_is_changed_in_a_record_is_not_stored(orders: Orders) -> None:
    """Every read gives values of its own."""
    orders.handle("o-1", Place(total=5))
    record = orders.handle("o-1", Note(text="a"))
    assert isinstance(record.state, Pending)

    record.state.notes.append("b")
    read = orders.get("o-1").state
    assert isinstance(read, Pending)
    read.notes.append("c")

    assert orders.get("o-1").state == Pending(total=5, notes=["a"])
    assert orders.history("o-1")[1].state == Pending(total=5, notes=["a"])


def test_a_handler_that_changes_what_it_was_given_changes_nothing_stored(
    orders: Orders, desk: Desk
) -> None:
    """The log holds the command and the metadata that were sent."""
    orders.handle("o-1", Place(total=5))

    def meddle() -> None:
        state, command, context = desk.seen[-1]
        assert isinstance(state, Pending)
        assert isinstance(command, Pay)
        state.notes.append("meddled")
        command.tags.append("meddled")
        meddled: Any = context.metadata
        meddled["by"] = "meddled"

    desk.interrupts.append(meddle)
    orders.handle("o-1", Pay(card="4", tags=["a"]), metadata={"by": "ann"})

    placed, paid = orders.history("o-1")
    assert placed.state == Pending(total=5)
    assert paid.command == Pay(card="4", tags=["a"])
    assert paid.metadata == {"by": "ann"}


# Threads


def test_threads_share_a_service(orders: Orders) -> None:
    """Every command is applied once, whichever thread sent it; a conflict is decided again."""
    orders.handle("o-1", Place(total=5))
    errors: list[BaseException] = []

    def add(name: str) -> None:
        try:
            for number in range(10):
                orders.handle("o-1", Note(text=f"{name}{number}"))
        except BaseException as error:  # noqa: BLE001 (shown by the test)
            errors.append(error)

    threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    record = orders.get("o-1")
    assert record.version == 41
    assert isinstance(record.state, Pending)
    assert sorted(record.state.notes) == sorted(f"{n}{i}" for n in "abcd" for i in range(10))
    assert [t.version for t in orders.history("o-1")] == list(range(1, 42))


def test_a_closed_store_refuses(orders: Orders, store: Store) -> None:
    """The error is the store's, and says what to do."""
    from holdfast import StoreError

    store.close()
    with pytest.raises(StoreError, match="is closed"):
        orders.handle("o-1", Place(total=5))


def test_services_may_share_a_store(store: Store) -> None:
    """What one writes the other reads."""
    first, second = (Service(order, store, deps=Desk()) for _ in range(2))
    first.handle("o-1", Place(total=5))
    assert second.handle("o-1", Note(text="a")).version == 2
    assert first.get("o-1").version == 2


def test_a_service_says_what_it_is(orders: Orders) -> None:
    """The repr names the machine and the store."""
    assert repr(orders).startswith("<Service order on ")


def test_a_wait_for_another_writer_ends_with_the_timeout(tmp_path: Any) -> None:
    """The store's own patience is longer; the caller's counts."""
    import sqlite3
    import time

    from holdfast import StoreError

    with open_store(f"sqlite:///{tmp_path}/o.db?busy_timeout_seconds=60") as store:
        orders = Service(order, store, deps=Desk())
        orders.handle("o-1", Place(total=5))
        other = sqlite3.connect(f"{tmp_path}/o.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()

        with pytest.raises(StoreError, match="nothing was written"):
            orders.handle("o-1", Note(text="a"), timeout=0.1)

        assert time.monotonic() - began < 30
        other.execute("ROLLBACK")
        other.close()
        assert orders.handle("o-1", Note(text="a"), timeout=10).version == 2
