"""Questions to a service: previews, records, histories, pages, and what was erased."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from tests.service.orders import (
    Broken,
    Desk,
    Fail,
    Mislead,
    Note,
    Orders,
    OutOfPaperError,
    Paid,
    Pay,
    Pending,
    Place,
    Refuse,
    Remove,
    Spoil,
)

from holdfast import (
    Change,
    CommandRejectedError,
    DefinitionError,
    InvalidTransitionError,
    NotFoundError,
    QueryError,
    Transition,
    ValidationError,
    VersionConflictError,
)
from holdfast.testing.clock import START, ManualClock

# preview


def test_a_preview_writes_nothing(orders: Orders, clock: ManualClock) -> None:
    """It tells the version, both states, the command, the metadata and the time."""
    orders.handle("o-1", Place(total=5))
    later = clock.advance(60)

    assert orders.preview("o-1", Pay(card="4"), metadata={"by": "ann"}) == Change(
        "order",
        "o-1",
        2,
        Pending(total=5),
        Pay(card="4"),
        Paid(total=5, card="4"),
        {"by": "ann"},
        later,
        "Pending",
        "Paid",
    )
    assert orders.get("o-1").version == 1
    assert len(orders.history("o-1")) == 1


@pytest.mark.parametrize(
    ("before", "command"),
    [
        ([], Place(total=5)),
        ([Place(total=5)], Note(text="a")),
        ([Place(total=5)], Note(text="")),
        ([Place(total=5)], Remove()),
        ([Place(total=5), Remove()], Place(total=6)),
    ],
)
def test_a_preview_is_what_handle_then_does(
    orders: Orders, desk: Desk, before: list[Any], command: Any
) -> None:
    """Version, state after and time come true, and the handler saw the same."""
    for earlier in before:
        orders.handle("o-1", earlier)
    shown = orders.preview("o-1", command)
    record = orders.handle("o-1", command)

    assert (shown.machine, shown.id, shown.version) == (record.machine, record.id, record.version)
    assert shown.after == (None if record.deleted else record.state)
    assert shown.at == record.updated_at
    transition = orders.history("o-1")[-1]
    assert (shown.after, shown.command) == (transition.state, transition.command)
    previewed, handled = desk.seen[-2:]
    assert previewed[:2] == handled[:2]
    assert previewed[2].version == handled[2].version


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (Place(total=6), InvalidTransitionError),
        (Place(total=0), ValidationError),
        (Refuse(reason="no"), CommandRejectedError),
        (Fail(reason="tray"), OutOfPaperError),
        (Mislead(), DefinitionError),
        (Spoil(), ValidationError),
    ],
)
def test_a_preview_raises_what_handle_would_raise(
    orders: Orders, command: Any, error: type[Exception]
) -> None:
    """Refusals, errors of the handler, and broken declarations."""
    orders.handle("o-1", Place(total=5))
    with pytest.raises(error) as previewed:
        orders.preview("o-1", command)
    with pytest.raises(error) as handled:
        orders.handle("o-1", command)
    assert str(previewed.value) == str(handled.value)


def test_a_preview_may_expect_a_version_and_a_time(orders: Orders, clock: ManualClock) -> None:
    """It is held to them as `handle` is."""
    orders.handle("o-1", Place(total=5))
    clock.advance(100_000)
    with pytest.raises(VersionConflictError):
        orders.preview("o-1", Note(text="a"), expected_version=2)
    with pytest.raises(ValidationError, match="before the last transition"):
        orders.preview("o-1", Note(text="a"), at=START - timedelta(1))
    at = START + timedelta(1)
    assert orders.preview("o-1", Note(text="a"), expected_version=1, at=at).at == at


# get, get_many


def test_what_does_not_exist_is_not_found(orders: Orders) -> None:
    """Absence is an error, never a record; the error names the entity."""
    with pytest.raises(NotFoundError, match="order 'o-1' does not exist") as caught:
        orders.get("o-1")
    assert (caught.value.machine, caught.value.id) == ("order", "o-1")


def test_many_are_read_at_once(orders: Orders) -> None:
    """Ids that do not exist, or were deleted, are left out; the order is that of the ids."""
    for number in range(4):
        orders.handle(f"o-{number}", Place(total=number + 1))
    orders.handle("o-2", Remove())

    found = orders.get_many(["o-3", "o-9", "o-0", "o-2", "o-3"])

    assert list(found) == ["o-3", "o-0"]
    assert found["o-3"] == orders.get("o-3")
    assert orders.get_many([]) == {}


def test_too_many_at_once_are_refused(orders: Orders) -> None:
    """A thousand is the limit."""
    assert orders.get_many(f"o-{number}" for number in range(1_000)) == {}
    with pytest.raises(QueryError, match=r"at most 1,000 ids, not 1,001"):
        orders.get_many([f"o-{number}" for number in range(1_001)])


@pytest.mark.parametrize("id", ["", "a\0", 5])
def test_what_is_no_id_is_refused_by_every_question(orders: Orders, id: Any) -> None:
    """It is told apart from what does not exist."""
    for question in (
        lambda: orders.get(id),
        lambda: orders.get_many([id]),
        lambda: orders.history(id),
        lambda: orders.at(id, version=1),
        lambda: orders.allowed(id),
        lambda: orders.preview(id, Place(total=1)),
        lambda: orders.purge(id),
    ):
        with pytest.raises(ValidationError, match="the id"):
            question()


# history


def test_the_history_tells_each_transition(orders: Orders, clock: ManualClock) -> None:
    """States by name, command and state after, metadata, key, token, times and digest."""
    orders.handle("o-1", Place(total=5), key="k", metadata={"by": "ann"})
    later = clock.advance(60)
    orders.handle("o-1", Remove())

    placed, removed = orders.history("o-1")

    assert placed == Transition(
        placed.position,
        "order",
        "o-1",
        1,
        "command",
        None,
        "Pending",
        "Place",
        Place(total=5),
        Pending(total=5),
        {"by": "ann"},
        "k",
        placed.token,
        START,
        START,
        placed.digest,
    )
    assert (removed.version, removed.kind) == (2, "deletion")
    assert (removed.from_state, removed.to_state) == ("Pending", None)
    assert (removed.command_type, removed.command, removed.state) == ("Remove", Remove(), None)
    assert (removed.metadata, removed.key, removed.at) == ({}, None, later)
    assert removed.position > placed.position
    assert len({placed.digest, removed.digest}) == 2
    assert all(len(digest) == 64 for digest in (placed.digest, removed.digest))


def test_the_history_of_an_unknown_id_is_empty(orders: Orders) -> None:
    """There is nothing to tell, and that is no error."""
    assert orders.history("o-1") == []


def test_the_history_is_read_in_pages(orders: Orders) -> None:
    """`after` is a version, `limit` a number of transitions."""
    orders.handle("o-1", Place(total=5))
    orders.handle_many([("o-1", Note(text=str(number))) for number in range(9)])

    def versions(**page: int) -> list[int]:
        return [transition.version for transition in orders.history("o-1", **page)]

    assert versions() == list(range(1, 11))
    assert versions(after=7) == [8, 9, 10]
    assert versions(limit=3) == [1, 2, 3]
    assert versions(after=3, limit=3) == [4, 5, 6]
    assert versions(after=10) == []
    assert versions(limit=0) == []


def test_a_long_history_is_read_whole(orders: Orders) -> None:
    """Without a limit the pages of the store do not show."""
    orders.handle("o-1", Place(total=5))
    orders.handle_many([("o-1", Note(text="")) for _ in range(2_100)])

    assert [t.version for t in orders.history("o-1")] == list(range(1, 2_102))
    assert len(orders.history("o-1", limit=1_500)) == 1_500
    assert [t.version for t in orders.history("o-1", after=1_000, limit=1_001)] == list(
        range(1_001, 2_002)
    )


@pytest.mark.parametrize(
    "page", [{"after": -1}, {"limit": -1}, {"after": 1.5}, {"limit": "5"}, {"after": True}]
)
def test_what_is_no_page_of_a_history_is_refused(orders: Orders, page: dict[str, Any]) -> None:
    """Both are whole numbers from 0."""
    with pytest.raises(QueryError, match="history takes after= and limit= from 0"):
        orders.history("o-1", **page)


# at


@pytest.fixture
def told(orders: Orders, clock: ManualClock) -> list[datetime]:
    """Place, note, remove and place again, a minute apart; return the times."""
    times = []
    for command in (Place(total=5), Note(text="a"), Remove(), Place(total=6)):
        orders.handle("o-1", command)
        times.append(clock.now)
        clock.advance(60)
    return times


def test_an_entity_is_read_as_it_was_at_a_version(orders: Orders, told: list[datetime]) -> None:
    """With the times that it had then."""
    record = orders.at("o-1", version=2)
    assert (record.version, record.state) == (2, Pending(total=5, notes=["a"]))
    assert (record.created_at, record.updated_at) == (told[0], told[1])
    assert orders.at("o-1", version=1).updated_at == told[0]
    assert orders.at("o-1", version=4) == orders.get("o-1")
    assert orders.at("o-1", version=4).created_at == told[3]


def test_an_entity_is_read_as_it_was_at_a_time(orders: Orders, told: list[datetime]) -> None:
    """A transition counts from its own moment on, to the microsecond."""
    moment = timedelta(microseconds=1)
    assert orders.at("o-1", time=told[0]).version == 1
    assert orders.at("o-1", time=told[1] - moment).version == 1
    assert orders.at("o-1", time=told[1]).version == 2
    assert orders.at("o-1", time=told[3] + timedelta(days=9)).version == 4


def test_of_transitions_at_one_time_the_last_counts(orders: Orders) -> None:
    """That is how the entity was from then on."""
    orders.handle_many([("o-1", Place(total=5)), ("o-1", Note(text="a")), ("o-1", Note(text="b"))])
    assert orders.at("o-1", time=START).version == 3


def test_before_its_creation_an_entity_did_not_exist(orders: Orders, told: list[datetime]) -> None:
    """The error says when."""
    before = told[0] - timedelta(microseconds=1)
    with pytest.raises(
        NotFoundError, match=f"did not exist at {before.isoformat()}".replace("+", r"\+")
    ):
        orders.at("o-1", time=before)
    with pytest.raises(NotFoundError, match="did not exist at version 5"):
        orders.at("o-1", version=5)
    with pytest.raises(NotFoundError, match="did not exist at version 0"):
        orders.at("o-1", version=0)
    with pytest.raises(NotFoundError, match="did not exist at version 1"):
        orders.at("o-2", version=1)


def test_while_it_was_deleted_an_entity_did_not_exist(orders: Orders, told: list[datetime]) -> None:
    """The error says that it was deleted."""
    with pytest.raises(NotFoundError, match="was deleted at version 3"):
        orders.at("o-1", version=3)
    with pytest.raises(NotFoundError, match="was deleted at"):
        orders.at("o-1", time=told[2] + timedelta(seconds=59))


def test_what_was_purged_cannot_be_read_as_it_was(orders: Orders, told: list[datetime]) -> None:
    """The error says that it is purged."""
    orders.purge("o-1")
    with pytest.raises(NotFoundError, match="is purged at version 1"):
        orders.at("o-1", version=1)
    with pytest.raises(NotFoundError, match="was deleted at version 5"):
        orders.at("o-1", version=5)


@pytest.mark.parametrize(
    "question", [{}, {"version": 1, "time": START}, {"version": -1}, {"version": "1"}]
)
def test_either_a_version_or_a_time_is_asked_for(orders: Orders, question: dict[str, Any]) -> None:
    """Anything else is no question."""
    with pytest.raises(QueryError):
        orders.at("o-1", **question)


def test_a_time_without_a_zone_is_no_question(orders: Orders) -> None:
    """Nobody knows which moment is meant."""
    with pytest.raises(ValidationError, match="no time zone"):
        orders.at("o-1", time=START.replace(tzinfo=None))


# find, count_by_state


@pytest.fixture
def ids(orders: Orders) -> list[str]:
    """Make 20 entities: those with even numbers paid, every fifth deleted; return the live ids."""
    live = []
    for number in range(20):
        id = f"o-{number:02}"
        orders.handle(id, Place(total=number + 1))
        if number % 2 == 0:
            orders.handle(id, Pay(card="4"))
        if number % 5 == 4:
            orders.handle(id, Remove())
        else:
            live.append(id)
    return live


def test_all_that_live_are_found_ordered_by_id(orders: Orders, ids: list[str]) -> None:
    """The page has their records, and no next page."""
    page = orders.find()
    assert [record.id for record in page] == ids
    assert page.next is None
    assert len(page) == 16
    assert page.records[0] == orders.get(ids[0])


@pytest.mark.parametrize(
    "state", [Paid, "Paid", [Paid], ("Paid", Paid), [Paid, "Broken"]], ids=repr
)
def test_states_are_found_by_class_by_name_and_several_at_once(
    orders: Orders, ids: list[str], state: Any
) -> None:
    """Classes and names may be mixed; naming one twice changes nothing."""
    assert [record.id for record in orders.find(state=state)] == [
        id for id in ids if int(id[2:]) % 2 == 0
    ]


def test_several_states_are_found_in_one_order(orders: Orders, ids: list[str]) -> None:
    """Pages of several states are ordered by id, not by state."""
    assert [record.id for record in orders.find(state=[Paid, Pending])] == ids
    assert list(orders.find(state=Broken)) == []
    assert list(orders.find(state=[])) == []


@pytest.mark.parametrize("state", [None, Pending, [Pending, Paid]])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 15, 16, 17, 1_000])
def test_pages_follow_each_other_without_a_gap_or_a_repetition(
    orders: Orders, ids: list[str], state: Any, limit: int
) -> None:
    """`next` leads on, and is None exactly where nothing follows."""
    wanted = [record.id for record in orders.find(state=state)]
    pages = [orders.find(state=state, limit=limit)]
    while pages[-1].next is not None:
        pages.append(orders.find(state=state, limit=limit, after=pages[-1].next))

    assert [record.id for page in pages for record in page] == wanted
    assert all(len(page) == limit for page, _ in pairwise(pages))
    assert 0 < len(pages[-1]) <= limit


def test_a_page_keeps_its_place_though_its_last_record_goes(orders: Orders, ids: list[str]) -> None:
    """What was deleted meanwhile does not shift the next page."""
    page = orders.find(limit=5)
    assert page.next == ids[4]
    orders.handle(ids[4], Remove())
    orders.handle(ids[5], Remove())

    assert [record.id for record in orders.find(limit=2, after=page.next)] == ids[6:8]


def test_ids_are_ordered_by_their_bytes(orders: Orders) -> None:
    """Upper case before lower, ASCII before the rest: the same in every store and locale."""
    ids = ["é", "z", "a", "B", "10", "9", "a b", "a-b", "ab", "\U0001f600", "\uffee"]
    orders.handle_many([(id, Place(total=1)) for id in ids])
    ordered = sorted(ids, key=lambda id: id.encode())

    assert [record.id for record in orders.find()] == ordered
    assert [record.id for record in orders.find(state=Pending)] == ordered
    found: list[str] = []
    page = orders.find(limit=1)
    while True:
        found += [record.id for record in page]
        if page.next is None:
            break
        page = orders.find(limit=1, after=page.next)
    assert found == ordered


@pytest.mark.parametrize("limit", [0, -1, 1_001, 1.5, "5", True])
def test_what_is_no_limit_of_a_page_is_refused(orders: Orders, limit: Any) -> None:
    """Pages have from 1 to 1,000 records."""
    with pytest.raises(QueryError, match=r"limit is from 1 to 1,000"):
        orders.find(limit=limit)


@pytest.mark.parametrize("state", ["Payed", Place, ["Paid", "x"], int])
def test_what_is_no_state_is_refused_with_those_that_are(orders: Orders, state: Any) -> None:
    """A misspelt name does not look like an empty result."""
    with pytest.raises(QueryError, match="is no state of order; use Broken, Paid, Pending"):
        orders.find(state=state)


def test_states_are_counted(orders: Orders, ids: list[str]) -> None:
    """By name; what was deleted does not count, and what has none is left out."""
    assert orders.count_by_state() == {"Paid": 8, "Pending": 8}


def test_nothing_counts_nothing(orders: Orders) -> None:
    """An empty store has no states."""
    assert orders.count_by_state() == {}
    assert list(orders.find()) == []


# allowed


def test_allowed_are_the_commands_with_a_handler(orders: Orders) -> None:
    """Those of the entity's state; for what does not exist, those that create."""
    assert orders.allowed("o-1") == (Place, Refuse, Fail, Mislead)
    orders.handle("o-1", Place(total=5))
    assert orders.allowed("o-1") == (Note, Pay, Refuse, Fail, Mislead, Spoil, Remove)
    orders.handle("o-1", Pay(card="4"))
    assert orders.allowed("o-1") == (Note, Fail, Mislead, Spoil, Remove)
    orders.handle("o-1", Remove())
    assert orders.allowed("o-1") == (Place, Refuse, Fail, Mislead)


# purge


def test_a_purge_erases_what_was_and_keeps_that_it_was(orders: Orders, clock: ManualClock) -> None:
    """Stubs of version, key, token and digest stay; the deletion is recorded with its metadata."""
    orders.handle("o-1", Place(total=5), key="k", metadata={"by": "ann"})
    orders.handle("o-1", Note(text="secret"))
    kept = [(transition.digest, transition.token) for transition in orders.history("o-1")]
    later = clock.advance(60)

    orders.purge("o-1", metadata={"by": "bob"})

    with pytest.raises(NotFoundError):
        orders.get("o-1")
    first, second, deletion = orders.history("o-1")
    assert [(t.digest, t.token) for t in (first, second)] == kept
    assert [t.kind for t in (first, second, deletion)] == ["purged", "purged", "deletion"]
    assert (first.version, first.key) == (1, "k")
    for stub in (first, second):
        assert (stub.command, stub.state, stub.metadata) == (None, None, {})
        assert (stub.command_type, stub.from_state, stub.to_state) == (None, None, None)
    assert (deletion.version, deletion.from_state, deletion.to_state) == (3, "Pending", None)
    assert (deletion.command, deletion.state) == (None, None)
    assert (deletion.metadata, deletion.at) == ({"by": "bob"}, later)
    assert "secret" not in repr(orders.history("o-1"))


def test_what_was_purged_may_come_back(orders: Orders, clock: ManualClock) -> None:
    """Its versions go on rising, and its creation is new."""
    orders.handle("o-1", Place(total=5))
    orders.purge("o-1")
    later = clock.advance(60)

    record = orders.handle("o-1", Place(total=6), expected_version=0)

    assert (record.version, record.created_at) == (3, later)
    assert orders.at("o-1", version=3) == record


def test_what_was_deleted_may_be_purged(orders: Orders) -> None:
    """Its history is erased; each purge is recorded, and erases what the one before recorded."""
    orders.handle("o-1", Place(total=5))
    orders.handle("o-1", Remove(), metadata={"by": "ann"})

    orders.purge("o-1", metadata={"by": "bob"})
    assert [t.kind for t in orders.history("o-1")] == ["purged", "purged", "deletion"]
    assert orders.history("o-1")[-1].metadata == {"by": "bob"}

    orders.purge("o-1", metadata={"by": "eve"})
    assert [t.kind for t in orders.history("o-1")] == [*["purged"] * 3, "deletion"]
    assert orders.history("o-1")[-1].metadata == {"by": "eve"}
    assert orders.handle("o-1", Place(total=6)).version == 5


def test_what_never_existed_cannot_be_purged(orders: Orders) -> None:
    """It is not found."""
    with pytest.raises(NotFoundError):
        orders.purge("o-1")


def test_a_purge_leaves_others_alone(orders: Orders) -> None:
    """Neighbours in name keep their history."""
    for id in ("o-1", "o-10", "o-"):
        orders.handle(id, Place(total=5))
    orders.purge("o-1")
    assert [t.kind for id in ("o-10", "o-") for t in orders.history(id)] == ["command", "command"]
    assert [record.id for record in orders.find()] == ["o-", "o-10"]
