"""`handle_many`: many commands with few commits, each answered by itself; or all, or none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.service.orders import (
    CountingStore,
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
    checkpoint,
    order,
)

from holdfast import (
    BatchError,
    Checkpoint,
    CheckpointConflictError,
    CommandRejectedError,
    DecodeError,
    DefinitionError,
    InvalidTransitionError,
    KeyReusedError,
    NotFoundError,
    Record,
    Request,
    RetriesExhaustedError,
    Retry,
    Service,
    StoreError,
    ValidationError,
    VersionConflictError,
)
from holdfast.stores.contract import Store, WriteRefusedError
from holdfast.testing.clock import START, ManualClock


def versions(answers: list[Any]) -> list[int | type[Exception]]:
    """Return the version of each record, and the type of each error."""
    return [a.version if isinstance(a, Record) else type(a) for a in answers]


def test_answers_come_in_the_order_given(orders: Orders) -> None:
    """Whatever the entities are called, and however they are mixed."""
    answers = orders.handle_many(
        [
            ("b", Place(total=1)),
            ("a", Place(total=2)),
            ("b", Note(text="x")),
            ("c", Place(total=3)),
            ("a", Pay(card="4")),
            ("b", Pay(card="5")),
        ]
    )
    assert [(a.id, a.version) for a in answers if isinstance(a, Record)] == [
        ("b", 1),
        ("a", 1),
        ("b", 2),
        ("c", 1),
        ("a", 2),
        ("b", 3),
    ]
    assert answers[5] == orders.get("b")


def test_nothing_is_nothing(orders: Orders) -> None:
    """An empty batch has no answers."""
    assert orders.handle_many([]) == []
    assert orders.handle_many([], atomic=True) == []


def test_several_commands_for_one_entity_are_applied_in_order(orders: Orders, desk: Desk) -> None:
    """Each is decided on the result of the one before, and each is a transition."""
    orders.handle_many([("o-1", Place(total=5)), ("o-1", Note(text="a")), ("o-1", Note(text="b"))])

    assert desk.states == [None, Pending(total=5), Pending(total=5, notes=["a"])]
    assert [context.version for context in desk.contexts] == [0, 1, 2]
    assert [t.version for t in orders.history("o-1")] == [1, 2, 3]
    assert orders.get("o-1").state == Pending(total=5, notes=["a", "b"])


def test_an_entity_may_be_deleted_and_made_again_in_one_batch(orders: Orders) -> None:
    """Versions rise through it all."""
    answers = orders.handle_many(
        [("o-1", Place(total=5)), ("o-1", Remove()), ("o-1", Place(total=6)), ("o-1", Remove())]
    )
    assert versions(answers) == [1, 2, 3, 4]
    with pytest.raises(NotFoundError):
        orders.get("o-1")


def test_what_fails_is_answered_with_its_error_and_hinders_nothing_else(orders: Orders) -> None:
    """Refusals, mistakes in the request and errors of a handler, each in its place."""
    orders.handle("paid", Place(total=5))
    orders.handle("paid", Pay(card="4"))
    answers = orders.handle_many(
        [
            ("a", Place(total=1)),
            ("a", Place(total=2)),
            ("a", Note(text="x")),
            ("a", Refuse(reason="no")),
            ("a", Fail(reason="tray")),
            ("a", Note(text="y")),
            ("b", Pay(card="4")),
            ("", Place(total=1)),
            ("c", Place(total=0)),
            ("d", Mislead()),
            ("paid", Spoil()),
            Request("paid", Note(text=""), expected_version=7),
            Request("e", Place(total=1), metadata={"a": float("nan")}),
            ("f", Place(total=1)),
        ]
    )
    assert versions(answers) == [
        1,
        InvalidTransitionError,
        2,
        CommandRejectedError,
        OutOfPaperError,
        3,
        InvalidTransitionError,
        ValidationError,
        ValidationError,
        DefinitionError,
        ValidationError,
        VersionConflictError,
        ValidationError,
        1,
    ]
    assert [record.id for record in orders.find()] == ["a", "f", "paid"]
    assert [t.command_type for t in orders.history("a")] == ["Place", "Note", "Note"]


def test_a_request_carries_what_handle_takes(orders: Orders, clock: ManualClock) -> None:
    """Key, metadata, time and expected version belong to each request."""
    at = datetime(2020, 1, 1, tzinfo=START.tzinfo)
    requests: list[Request[OrderCommand]] = [
        Request("o-1", Place(total=5), key="k1", metadata={"n": 1}, at=at, expected_version=0),
        Request("o-1", Note(text="a"), key="k2", at=at + timedelta(1), expected_version=1),
        Request("o-1", Note(text="b"), at=at, expected_version=2),
        Request("o-1", Note(text="c"), expected_version=1),
    ]
    answers = orders.handle_many(requests)

    assert versions(answers) == [1, 2, ValidationError, VersionConflictError]
    first, second = orders.history("o-1")
    assert (first.key, first.metadata, first.at) == ("k1", {"n": 1}, at)
    assert (second.key, second.metadata, second.at) == ("k2", {}, at + timedelta(1))


def test_what_has_no_time_of_its_own_happens_now(orders: Orders) -> None:
    """Also after an import, in one batch with it."""
    earlier = START - timedelta(days=1)
    first, second = orders.handle_many(
        [Request("o-1", Place(total=5), at=earlier), Request("o-1", Note(text="a"))]
    )
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.updated_at, second.updated_at) == (earlier, START)


def test_tokens_differ_within_a_batch(orders: Orders, desk: Desk) -> None:
    """Each command has its own."""
    orders.handle_many([("a", Place(total=1)), ("b", Place(total=1)), ("a", Note(text=""))])
    assert len({context.token for context in desk.contexts}) == 3


def test_a_big_input_is_cut_into_batches(store: Store) -> None:
    """5,000 requests need five loads and five commits, and every one is applied."""
    counting = CountingStore(store)
    orders = Service(order, counting, deps=Desk())

    answers = orders.handle_many((f"o-{n:04}", Place(total=n + 1)) for n in range(5_000))

    assert [a.state for a in answers if isinstance(a, Record)] == [
        Pending(total=n + 1) for n in range(5_000)
    ]
    assert counting.loads == [1_000] * 5
    assert counting.commits == [1_000] * 5
    assert orders.count_by_state() == {"Pending": 5_000}


@pytest.mark.parametrize(
    ("error", "commits", "written"),
    [(StoreError("gone"), [3], 0), (WriteRefusedError("one of them"), [3, 1, 1, 1], 3)],
    ids=["the store fails", "a write is refused"],
)
def test_commands_are_written_one_by_one_where_one_of_them_was_refused(
    store: Store, error: StoreError, commits: list[int], written: int
) -> None:
    """And not where the store fails: it would fail for each."""

    def fail() -> None:
        raise error

    counting = CountingStore(store)
    counting.before_commit.append(fail)
    orders = Service(order, counting, deps=Desk())
    answers = orders.handle_many([(id, Place(total=1)) for id in "abc"])

    assert counting.commits == commits
    assert sum(isinstance(answer, Record) for answer in answers) == written
    assert sum(answer is error for answer in answers) == 3 - written


def test_the_input_is_read_as_it_is_needed(orders: Orders) -> None:
    """An endless stream would not fill the memory: a batch is written before the next is read."""
    written: list[int] = []

    def stream() -> Iterator[tuple[str, Place]]:
        for number in range(2_500):
            if number % 1_000 == 0:
                written.append(sum(orders.count_by_state().values()))
            yield f"o-{number:04}", Place(total=1)

    orders.handle_many(stream())
    assert written == [0, 1_000, 2_000]


def test_commands_of_one_entity_in_different_batches_keep_their_order(orders: Orders) -> None:
    """A batch begins when the one before is written."""
    requests: list[tuple[str, Any]] = [("o-1", Place(total=1))]
    requests += [("o-1", Note(text=str(number))) for number in range(1_500)]
    answers = orders.handle_many(requests)
    assert versions(answers) == list(range(1, 1_502))


def test_an_input_that_fails_leaves_what_was_written_before(orders: Orders) -> None:
    """What was drawn for the batch under way is not applied."""

    def stream() -> Iterator[tuple[str, Place]]:
        yield from ((f"o-{number:04}", Place(total=1)) for number in range(1_500))
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        orders.handle_many(stream())
    assert orders.count_by_state() == {"Pending": 1_000}


def test_one_entitys_conflict_leaves_the_others_written(store: Store, desk: Desk) -> None:
    """It alone is decided again."""
    counting = CountingStore(store)
    orders = Service(order, counting, deps=desk, retry=Retry(initial_seconds=0.001))
    other = Service(order, store, deps=Desk())
    orders.handle_many([("a", Place(total=1)), ("b", Place(total=1))])
    desk.seen.clear()
    desk.interrupts.append(lambda: other.handle("a", Note(text="first")))

    answers = orders.handle_many([("a", Note(text="second")), ("b", Note(text="only"))])

    assert versions(answers) == [3, 2]
    assert orders.get("a").state == Pending(total=1, notes=["first", "second"])
    assert [context.id for context in desk.contexts] == ["a", "b", "a"]
    assert counting.commits[-2:] == [2, 1]


def test_a_conflict_that_lasts_is_answered_alone(store: Store, desk: Desk) -> None:
    """The others are written, and keep their answers."""
    retry = Retry(attempts=2, initial_seconds=0.001)
    orders = Service(order, store, deps=desk, retry=retry)
    other = Service(order, store, deps=Desk())
    orders.handle_many([("a", Place(total=1)), ("b", Place(total=1))])

    def disturb() -> None:
        if desk.contexts[-1].id == "a":
            other.handle("a", Note(text="x"))

    desk.interrupts += [disturb] * 3

    answers = orders.handle_many([("a", Note(text="")), ("b", Note(text=""))])

    assert versions(answers) == [RetriesExhaustedError, 2]
    assert orders.get("a").version == 3


def test_an_entity_that_cannot_be_read_fails_alone(orders: Orders, store: Store) -> None:
    """Its every command is answered with the error; the others are applied."""
    from holdfast import Command, Machine, State

    class Unknown(State):
        pass

    class Make(Command):
        pass

    stranger = Machine("order", state=Unknown, command=Make)

    @stranger.on
    def make(state: None, command: Make) -> Unknown:
        return Unknown()

    Service(stranger, store).handle("x", Make())

    answers = orders.handle_many(
        [("x", Note(text="")), ("a", Place(total=1)), ("x", Remove()), ("b", Place(total=1))]
    )

    assert versions(answers) == [DecodeError, 1, DecodeError, 1]
    assert "order 'x' at version 1" in str(answers[0])


@pytest.mark.parametrize("atomic", [False, True])
def test_a_command_that_meddles_with_the_state_spoils_no_other(
    orders: Orders, desk: Desk, atomic: bool
) -> None:
    """What a handler does to the state that it was given reaches neither answers nor successors."""

    def meddle() -> None:
        state = desk.states[-1]
        assert isinstance(state, Pending)
        state.notes.append("meddled")

    desk.interrupts += [lambda: None, lambda: None, meddle]

    answers = orders.handle_many(
        [
            ("o-1", Place(total=5)),
            ("o-1", Note(text="a")),
            ("o-1", Pay(card="4")),
            ("o-1", Note(text="")),
        ],
        atomic=atomic,
    )

    assert isinstance(answers[1], Record)
    assert answers[1].state == Pending(total=5, notes=["a"])
    assert orders.history("o-1")[1].state == answers[1].state


def test_a_command_that_meddles_and_fails_leaves_the_state_as_it_was(
    orders: Orders, desk: Desk
) -> None:
    """The next command is decided on what is stored, not on what a failed handler left."""

    def meddle() -> None:
        state = desk.states[-1]
        assert isinstance(state, Pending)
        state.notes.append("meddled")

    desk.interrupts += [lambda: None, meddle]

    answers = orders.handle_many(
        [("o-1", Place(total=5)), ("o-1", Refuse(reason="no")), ("o-1", Note(text="a"))]
    )

    assert versions(answers) == [1, CommandRejectedError, 2]
    assert orders.get("o-1").state == Pending(total=5, notes=["a"])


# atomic


def test_all_are_written_or_none(orders: Orders) -> None:
    """One refusal keeps everything from being written."""
    orders.handle("old", Place(total=1))

    with pytest.raises(BatchError, match="1 of 5 commands failed; nothing was written") as caught:
        orders.handle_many(
            [
                ("a", Place(total=1)),
                ("old", Place(total=2)),
                ("a", Note(text="x")),
                ("b", Place(total=0)),
                ("old", Note(text="x")),
            ],
            atomic=True,
        )

    failures = caught.value.failures
    assert list(failures) == [3]
    assert isinstance(failures[3], ValidationError)
    assert orders.get("old").version == 1
    assert [record.id for record in orders.find()] == ["old"]


def test_failures_are_told_by_index(orders: Orders) -> None:
    """What is not among them was sound."""
    with pytest.raises(BatchError) as caught:
        orders.handle_many(
            [
                ("a", Place(total=1)),
                ("b", Fail(reason="tray")),
                ("a", Place(total=1)),
                ("c", Place(total=1)),
                ("a", Refuse(reason="no")),
            ],
            atomic=True,
        )
    assert {place: type(error) for place, error in caught.value.failures.items()} == {
        1: OutOfPaperError,
        2: InvalidTransitionError,
        4: CommandRejectedError,
    }
    assert orders.count_by_state() == {}


def test_failures_are_an_exception_group(orders: Orders) -> None:
    """`except*` sorts them by type."""
    refused: list[str] = []
    failed: list[str] = []
    try:
        orders.handle_many(
            [("a", Refuse(reason="no")), ("b", Fail(reason="tray")), ("c", Refuse(reason="never"))],
            atomic=True,
        )
    except* CommandRejectedError as group:
        refused += map(str, group.exceptions)
    except* OutOfPaperError as group:
        failed += map(str, group.exceptions)
    assert (refused, failed) == (["no", "never"], ["tray"])


def test_an_atomic_batch_is_one_commit(store: Store) -> None:
    """All entities are written together, several commands for one among them."""
    counting = CountingStore(store)
    orders = Service(order, counting, deps=Desk())

    answers = orders.handle_many(
        [("a", Place(total=1)), ("b", Place(total=2)), ("a", Pay(card="4"))], atomic=True
    )

    assert versions(answers) == [1, 1, 2]
    assert counting.commits == [2]
    assert orders.get("a").state == Paid(total=1, card="4")


def test_a_conflict_of_one_decides_all_again(store: Store, desk: Desk) -> None:
    """Nothing is written until all are at the versions they were decided on."""
    orders = Service(order, store, deps=desk, retry=Retry(initial_seconds=0.001))
    other = Service(order, store, deps=Desk())
    orders.handle_many([("a", Place(total=1)), ("b", Place(total=1))])
    desk.seen.clear()

    def disturb() -> None:
        other.handle("b", Note(text="first"))

    desk.interrupts.append(disturb)

    answers = orders.handle_many([("a", Note(text="x")), ("b", Note(text="y"))], atomic=True)

    assert versions(answers) == [2, 3]
    assert [context.id for context in desk.contexts] == ["a", "b", "a", "b"]
    assert orders.get("b").state == Pending(total=1, notes=["first", "y"])


def test_a_conflict_that_lasts_fails_the_batch(store: Store, desk: Desk) -> None:
    """The error is the last conflict's, and nothing is written."""
    retry = Retry(attempts=2, initial_seconds=0.001)
    orders = Service(order, store, deps=desk, retry=retry)
    other = Service(order, store, deps=Desk())
    orders.handle_many([("a", Place(total=1)), ("b", Place(total=1))])
    desk.seen.clear()

    def disturb() -> None:
        if desk.contexts[-1].id == "b":
            other.handle("b", Note(text="x"))

    desk.interrupts += [disturb] * 4

    with pytest.raises(BatchError) as caught:
        orders.handle_many([("a", Note(text="")), ("b", Note(text=""))], atomic=True)

    assert all(isinstance(e, RetriesExhaustedError) for e in caught.value.failures.values())
    assert {
        e.id for e in caught.value.failures.values() if isinstance(e, RetriesExhaustedError)
    } == {"b"}
    assert (orders.get("a").version, orders.get("b").version) == (1, 3)


def test_an_expected_version_fails_the_batch(orders: Orders) -> None:
    """A conflict that was expected not to be is told by index."""
    orders.handle("a", Place(total=1))
    with pytest.raises(BatchError) as caught:
        orders.handle_many(
            [("b", Place(total=1)), Request("a", Note(text=""), expected_version=2)], atomic=True
        )
    assert {place: type(e) for place, e in caught.value.failures.items()} == {
        1: VersionConflictError
    }
    assert orders.count_by_state() == {"Pending": 1}


def test_an_atomic_batch_has_a_limit(orders: Orders) -> None:
    """What cannot be one commit is refused before anything is decided."""
    requests = [(f"o-{number}", Place(total=1)) for number in range(1_001)]
    with pytest.raises(ValidationError, match=r"1,000 commands cannot be one commit"):
        orders.handle_many(requests, atomic=True)
    assert orders.count_by_state() == {}
    assert len(orders.handle_many(requests[:-1], atomic=True)) == 1_000


def test_a_key_used_before_does_not_hinder_an_atomic_batch(orders: Orders) -> None:
    """Its first result is its answer; a reused key is a failure."""
    first = orders.handle("a", Place(total=1), key="k")
    answers = orders.handle_many(
        [Request("a", Place(total=1), key="k"), ("b", Place(total=1))], atomic=True
    )
    assert answers[0] == first
    assert versions(answers) == [1, 1]
    with pytest.raises(BatchError) as caught:
        orders.handle_many(
            [Request("a", Note(text=""), key="k"), ("c", Place(total=1))], atomic=True
        )
    assert isinstance(caught.value.failures[0], KeyReusedError)
    assert len(orders.find()) == 2


# checkpoints


def test_a_checkpoint_is_committed_with_what_was_read(orders: Orders, store: Store) -> None:
    """What is refused is answered so, and does not hold the reader up."""
    answers = orders.handle_many(
        [
            ("a", Place(total=1)),
            ("a", Refuse(reason="no")),
            ("", Place(total=1)),
            ("b", Place(total=1)),
        ],
        checkpoint=checkpoint(4),
    )
    assert versions(answers) == [1, CommandRejectedError, ValidationError, 1]
    assert store.checkpoint("reader") == 4


def test_a_reader_gets_ahead_though_nothing_is_written(orders: Orders, store: Store) -> None:
    """A batch that was refused whole, or was empty, was read all the same."""
    orders.handle_many([("a", Note(text="x"))], checkpoint=checkpoint(1))
    assert store.checkpoint("reader") == 1
    orders.handle_many([], checkpoint=checkpoint(9, 1))
    assert store.checkpoint("reader") == 9


def test_an_error_that_is_no_refusal_holds_the_reader_up(orders: Orders, store: Store) -> None:
    """Nothing is written, the checkpoint neither, and the error is told by index."""
    orders.handle_many([("a", Place(total=1))], checkpoint=checkpoint(1))

    with pytest.raises(BatchError) as caught:
        orders.handle_many(
            [("b", Place(total=1)), ("b", Refuse(reason="no")), ("a", Fail(reason="tray"))],
            checkpoint=checkpoint(4, 1),
        )

    assert {place: type(e) for place, e in caught.value.failures.items()} == {2: OutOfPaperError}
    assert store.checkpoint("reader") == 1
    assert orders.count_by_state() == {"Pending": 1}


def test_errors_of_handlers_are_answered_on_request(
    orders: Orders, desk: Desk, store: Store
) -> None:
    """Like refusals: the rest is decided once, and written with the checkpoint."""
    answers = orders.handle_many(
        [
            ("a", Place(total=1)),
            ("a", Fail(reason="tray")),
            ("a", Note(text="x")),
            ("b", Mislead()),
        ],
        checkpoint=checkpoint(4),
        answer_errors=True,
    )
    assert versions(answers) == [1, OutOfPaperError, 2, DefinitionError]
    assert store.checkpoint("reader") == 4
    assert len(desk.seen) == 3


def test_other_errors_are_never_answered_beside_a_checkpoint(orders: Orders, store: Store) -> None:
    """A conflict may pass, so it keeps all of it back."""
    with pytest.raises(BatchError) as caught:
        orders.handle_many(
            [("a", Place(total=1)), Request("b", Place(total=1), expected_version=3)],
            checkpoint=checkpoint(2),
            answer_errors=True,
        )
    assert [*caught.value.failures] == [1]
    assert store.checkpoint("reader") is None


def test_answered_errors_go_with_a_checkpoint(orders: Orders) -> None:
    """All or none knows no tolerance, and where each is for itself there is nothing to tolerate."""
    everything: list[dict[str, Any]] = [{}, {"atomic": True, "checkpoint": checkpoint(1)}]
    for options in everything:
        with pytest.raises(ValidationError, match="answer_errors="):
            orders.handle_many([("a", Place(total=1))], answer_errors=True, **options)


@pytest.mark.parametrize("ids", [["a"], ["a", "b"]])
def test_a_conflict_does_not_move_the_checkpoint_without_its_writes(
    store: Store, desk: Desk, ids: list[str]
) -> None:
    """Reader and writes get ahead together, on the first attempt or on the last."""
    orders = Service(order, store, deps=desk, retry=Retry(attempts=1))
    other = Service(order, store, deps=Desk())
    orders.handle_many([(id, Place(total=1)) for id in ids])
    desk.interrupts.append(lambda: other.handle("a", Note(text="first")))
    requests = [(id, Note(text="second")) for id in ids]

    with pytest.raises(BatchError):
        orders.handle_many(requests, checkpoint=checkpoint(2))
    assert store.checkpoint("reader") is None

    orders.handle_many(requests, checkpoint=checkpoint(2))
    assert store.checkpoint("reader") == 2
    assert orders.get("a").state == Pending(total=1, notes=["first", "second"])


def test_checkpoints_of_different_readers_do_not_touch_each_other(
    orders: Orders, store: Store
) -> None:
    """Each has its own position under its own name."""
    orders.handle_many([], checkpoint=Checkpoint("a", 5))
    orders.handle_many([], checkpoint=Checkpoint("b", 3))
    assert (store.checkpoint("a"), store.checkpoint("b"), store.checkpoint("c")) == (5, 3, None)


@pytest.mark.parametrize("late", [5, 4, 1])
def test_of_two_readers_one_is_refused(store: Store, desk: Desk, orders: Orders, late: int) -> None:
    """Both started from the beginning; the one that comes second writes nothing, and is told."""
    other = Service(order, store, deps=Desk())
    orders.handle_many([("a", Place(total=1))], checkpoint=checkpoint(3))
    desk.interrupts.append(
        lambda: other.handle_many([("a", Note(text="first"))], checkpoint=checkpoint(5, 3))
    )
    with pytest.raises(CheckpointConflictError, match="'reader' is at 5, not at 3") as caught:
        orders.handle_many([("a", Note(text="second"))], checkpoint=checkpoint(5, 3))
    assert (caught.value.id, caught.value.expected, caught.value.actual) == ("reader", 3, 5)
    with pytest.raises(CheckpointConflictError):
        orders.handle_many([("b", Place(total=1))], checkpoint=checkpoint(late))
    assert store.checkpoint("reader") == 5
    assert orders.get("a").state == Pending(total=1, notes=["first"])
    assert orders.count_by_state() == {"Pending": 1}


@pytest.mark.parametrize(
    "bad",
    [
        Checkpoint("", 1),
        Checkpoint("a" * 513, 1),
        Checkpoint("a", -1),
        Checkpoint("a\0", 1),
        Checkpoint("a", 4, 5),
        Checkpoint("a", 4, -1),
        Checkpoint("a", 4, True),
        3,
        "reader",
        ("a", 1),
    ],
)
def test_what_is_no_checkpoint_is_refused(orders: Orders, bad: Any) -> None:
    """Before anything is decided."""
    with pytest.raises(ValidationError):
        orders.handle_many([("a", Place(total=1))], checkpoint=bad)
    assert orders.count_by_state() == {}


def test_a_batch_with_a_checkpoint_has_a_limit(orders: Orders, store: Store) -> None:
    """It is one commit."""
    requests = [(f"o-{number}", Place(total=1)) for number in range(1_001)]
    with pytest.raises(ValidationError, match="cannot be one commit"):
        orders.handle_many(requests, checkpoint=checkpoint(1_001))
    assert store.checkpoint("reader") is None
