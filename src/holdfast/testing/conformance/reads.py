"""Reads: loading, history, the past, finding, counting, the log; at the level of the contract."""

from __future__ import annotations

import pytest

from holdfast.stores.contract import EntityRow, Key, Store
from holdfast.testing.clock import START, ManualClock
from holdfast.testing.conformance.base import Suite, history, row_of, stored
from holdfast.testing.writes import write

IN_ORDER = sorted(
    [
        "A",
        "B",
        "a",
        "a-1",
        "a1",
        "b",
        "z",
        "é",
        "\ue000",
        "ﬁ",
        "\uffff",
        "\U00010000",
        "\U0001f600",
    ],
    key=str.encode,
)
"""Ids as their bytes in UTF-8 sort; UTF-16 and most collations would have it otherwise."""
STATES = ["Open", "Closed"]


def day(number: int) -> str:
    """Return a time as stored."""
    return f"2026-01-{number:02}T00:00:00.000000Z"


class Loads(Suite):
    """A load answers for every entity asked, with the store's time."""

    def test_answers_come_in_the_order_asked(self, store: Store) -> None:
        """What is not there is answered, too; what is asked twice is answered twice."""
        store.commit([write("a", "Open"), write("b", "Closed"), write("a", "Open", machine="m")])
        asked = [Key("sample", id) for id in ("b", "absent", "a", "b")] + [Key("m", "a")]
        rows = [loaded.entity for loaded in store.load(asked)]
        names = [row and (row.machine, row.id) for row in rows]
        assert names == [("sample", "b"), None, ("sample", "a"), ("sample", "b"), ("m", "a")]

    def test_nothing_asked_is_nothing_loaded(self, store: Store) -> None:
        """An empty load answers with nothing."""
        assert store.load([]) == []

    def test_the_time_is_the_clock_s(self, store: Store, clock: ManualClock) -> None:
        """Whether the entity is there or not."""
        stored(store, write("e", "Open"))
        now = clock.advance(5)
        for keys in (["e"], ["absent"], ["e", "absent"]):
            assert {loaded.now for loaded in store.load([Key("sample", k) for k in keys])} == {now}

    @pytest.mark.parametrize("ids", [["e"], ["e", "other"]])
    def test_the_time_is_never_before_the_entity_s(
        self, store: Store, clock: ManualClock, ids: list[str]
    ) -> None:
        """Though the clock goes backwards, or another machine's clock is ahead."""
        stored(store, write("e", "Open"))
        clock.advance(-3600)
        loaded = store.load([Key("sample", id) for id in ids])
        assert loaded[0].now == START
        assert [answer.now for answer in loaded[1:]] == [clock.now] * (len(ids) - 1)

    @pytest.mark.parametrize("id", IN_ORDER)
    def test_every_id_is_found_by_itself(self, store: Store, id: str) -> None:
        """Alone and among many; no other that looks like it is."""
        store.commit([write(other, "Open") for other in IN_ORDER])
        one, many = (
            store.load([Key("sample", id)]),
            store.load([Key("sample", o) for o in IN_ORDER]),
        )
        assert one[0].entity == many[IN_ORDER.index(id)].entity == row_of(store, id)
        assert row_of(store, id).id == id


class Histories(Suite):
    """The log of one entity is read in order, from any version on, or at a point of the past."""

    def test_a_history_is_read_in_pages(self, store: Store) -> None:
        """Versions above `after`, at most `limit` of them."""
        stored(store, write("e", *["Open"] * 5))
        stored(store, write("f", "Open"))
        pages = [(0, 2, [1, 2]), (2, 2, [3, 4]), (4, 2, [5]), (5, 2, []), (0, 9, [1, 2, 3, 4, 5])]
        for after, limit, expected in pages:
            page = store.history("sample", "e", after=after, limit=limit)
            assert [row.version for row in page] == expected

    def test_the_history_of_the_unknown_is_empty(self, store: Store) -> None:
        """It is no error to ask."""
        stored(store, write("e", "Open"))
        assert store.history("sample", "unknown", limit=10) == []
        assert store.history("other", "e", limit=10) == []

    def test_a_version_is_read_as_it_was(self, store: Store) -> None:
        """With when its life began, and the state before it."""
        stored(store, write("e", "Open", "Closed"))
        found = store.transition_at("sample", "e", version=2)
        assert found is not None
        assert found.row == history(store, "e")[1]
        assert found.previous_state == '{"$type":"Open","version":1}'
        assert found.created_at == found.row.at

    @pytest.mark.parametrize("version", [0, 3, 2**62])
    def test_a_version_that_never_was_is_not_found(self, store: Store, version: int) -> None:
        """Before the first and after the last."""
        stored(store, write("e", "Open", "Closed"))
        assert store.transition_at("sample", "e", version=version) is None
        assert store.transition_at("sample", "unknown", version=1) is None

    @pytest.mark.parametrize(
        ("time", "version"),
        [
            (day(1), 0),
            (day(2), 1),
            ("2026-01-02T00:00:00.000001Z", 1),
            ("2026-01-03T23:59:59.999999Z", 1),
            (day(4), 3),
            (day(5), 3),
            (day(6), 4),
            ("9999-12-31T23:59:59.999999Z", 4),
        ],
    )
    def test_a_time_is_read_as_it_was(self, store: Store, time: str, version: int) -> None:
        """The last transition at or before it; of several at one time the last."""
        row = stored(store, write("e", "Open", at=day(2)))
        row = stored(store, write("e", "Open", "Closed", on=row, at=day(4)))
        stored(store, write("e", None, on=row, at=day(6)))
        found = store.transition_at("sample", "e", time=time)
        assert (found.row.version if found else 0) == version

    def test_a_past_life_is_told_from_this_one(self, store: Store) -> None:
        """What was created again began when it was created again."""
        row = stored(store, write("e", "Open", None, at=day(1)))
        stored(store, write("e", "Open", "Open", on=row, at=day(3)))
        began = [store.transition_at("sample", "e", version=v) for v in (1, 2, 3, 4)]
        assert [found and found.created_at for found in began] == [day(1), day(1), day(3), day(3)]


class Finds(Suite):
    """Live entities are found by id, bytewise, in pages that nothing disturbs."""

    def ids(self, rows: list[EntityRow]) -> list[str]:
        """Return the ids of rows in their order."""
        return [row.id for row in rows]

    def test_ids_are_ordered_by_their_bytes(self, store: Store) -> None:
        """Upper case before lower case, and what UTF-16 needs two units for comes last."""
        store.commit([write(id, "Open") for id in reversed(IN_ORDER)])
        assert self.ids(store.find("sample", limit=100)) == IN_ORDER
        assert self.ids(store.find("sample", state_types=["Open"], limit=100)) == IN_ORDER
        assert [row.id for row in store.entities(limit=100)] == IN_ORDER

    @pytest.mark.parametrize("states", [None, ["Open"], ["Closed", "Open"]])
    @pytest.mark.parametrize("limit", [1, 2, 5, 13])
    def test_pages_follow_each_other(
        self, store: Store, states: list[str] | None, limit: int
    ) -> None:
        """Each begins after the last id of the one before; together they are everything."""
        in_states = {id: STATES[place % 2] for place, id in enumerate(IN_ORDER)}
        store.commit([write(id, state) for id, state in in_states.items()])
        found: list[str] = []
        while page := store.find(
            "sample", state_types=states, after=found[-1] if found else "", limit=limit
        ):
            assert len(page) <= limit
            assert page[-1].id not in found
            found += self.ids(page)
        assert found == [id for id, state in in_states.items() if state in (states or STATES)]

    @pytest.mark.parametrize("states", [None, ["Open"]])
    def test_pages_are_stable_while_rows_come_and_go(
        self, store: Store, states: list[str] | None
    ) -> None:
        """The row that a page ended with may go, and others come before and after it."""
        rows = {id: stored(store, write(id, "Open")) for id in "bdfhj"}
        first = store.find("sample", state_types=states, limit=2)
        assert self.ids(first) == ["b", "d"]
        stored(store, write("d", None, on=rows["d"]))
        stored(store, write("h", None, on=rows["h"], purge=True))
        store.commit([write("a", "Open"), write("c", "Open"), write("e", "Open")])
        rest = store.find("sample", state_types=states, after="d", limit=9)
        assert self.ids(rest) == ["e", "f", "j"]

    def test_only_the_living_are_found(self, store: Store) -> None:
        """And only those of the machine."""
        store.commit([write("a", "Open"), write("b", "Open", None), write("c", "Closed")])
        store.commit([write("a", "Open", machine="sampl"), write("z", "Open", machine="sample2")])
        assert self.ids(store.find("sample", limit=9)) == ["a", "c"]
        assert self.ids(store.find("unknown", limit=9)) == []

    @pytest.mark.parametrize(
        ("states", "expected"),
        [
            (["Open"], ["a", "d"]),
            (["Closed"], ["b"]),
            (["Open", "Closed"], ["a", "b", "d"]),
            (["Closed", "Open"], ["a", "b", "d"]),
            (["Open", "Closed", "Open"], ["a", "b", "d"]),
            (["open"], []),
            ([], []),
        ],
    )
    def test_states_narrow_what_is_found(
        self, store: Store, states: list[str], expected: list[str]
    ) -> None:
        """One or several, in whatever order and however often they are named."""
        names = {"a": "Open", "b": "Closed", "c": "Other", "d": "Open"}
        store.commit([write(id, state) for id, state in names.items()])
        assert self.ids(store.find("sample", state_types=states, limit=9)) == expected

    def test_the_living_are_counted(self, store: Store) -> None:
        """By state, for one machine; a state that is left is not counted any more."""
        row = stored(store, write("a", "Open"))
        store.commit([write("b", "Open"), write("c", "Open", None), write("d", "Other")])
        stored(store, write("a", "Closed", on=row))
        stored(store, write("x", "Open", machine="other"))
        assert store.count("sample") == {"Closed": 1, "Open": 1, "Other": 1}
        assert store.count("unknown") == {}

    def test_all_entities_are_read_in_pages(self, store: Store) -> None:
        """Of every machine, by machine and id, the deleted included."""
        names = [
            ("a", "z"),
            ("b", "a"),
            ("b", "b"),
            ("ba", "a"),
            ("c", "\uffff"),
            ("c", "\U00010000"),
        ]
        store.commit(
            [write(id, "Open", None, machine=machine) for machine, id in reversed(names[::2])]
        )
        store.commit([write(id, "Open", machine=machine) for machine, id in names[1::2]])
        read: list[tuple[str, str]] = []
        while page := store.entities(after=read[-1] if read else ("", ""), limit=2):
            read += [(row.machine, row.id) for row in page]
            assert len(read) <= len(names)
        assert read == names


class Logs(Suite):
    """The log of the whole store is one sequence without gaps, in the order of the commits."""

    def test_the_log_is_read_in_pages(self, store: Store) -> None:
        """Positions above `after`, counted from 1, at most `limit` rows."""
        row = stored(store, write("a", "Open"))
        stored(store, write("b", "Open", "Closed", machine="other"))
        stored(store, write("a", None, on=row))
        order = [(r.seq, r.machine, r.id, r.version) for r in store.read_log(limit=9)]
        assert order == [
            (1, "sample", "a", 1),
            (2, "other", "b", 1),
            (3, "other", "b", 2),
            (4, "sample", "a", 2),
        ]
        assert [row.seq for row in store.read_log(after=1, limit=2)] == [2, 3]
        assert store.read_log(after=4, limit=2) == []

    def test_the_log_is_what_the_histories_are(self, store: Store) -> None:
        """Row by row."""
        store.commit([write("a", "Open", "Closed", keys=["k"]), write("b", "Open", tokens=["t"])])
        assert store.read_log(limit=9) == [*history(store, "a"), *history(store, "b")]

    def test_nothing_written_leaves_no_gap(self, store: Store) -> None:
        """What was held back, or refused, has drawn no position that is missing afterwards."""
        stored(store, write("late", "Open"))
        store.commit([write("a", "Open", "Open"), write("late", "Open")], atomic=True)
        store.commit([write("late", "Open"), write("b", "Open")])
        assert [(row.seq, row.id) for row in store.read_log(limit=9)] == [(1, "late"), (2, "b")]
