"""Verification: what interference with the file it finds, and what only an anchor finds."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from holdfast import Command, Machine, Service, State, VersionConflictError, open_store
from holdfast.stores.chain import NO_UTF8
from holdfast.stores.contract import EntityRow, LogRow, Store
from holdfast.stores.digests import digest_of
from holdfast.stores.verify import MAX_LISTED, Report, verify


class Open(State):
    balance: int


class Closed(State):
    pass


class Deposit(Command):
    amount: int


class Close(Command):
    pass


class Remove(Command):
    pass


account = Machine("account", state=Open | Closed, command=Deposit | Close | Remove)


@account.on
def open_account(state: None, command: Deposit) -> Open:
    return Open(command.amount)


@account.on
def deposit(state: Open, command: Deposit) -> Open:
    return Open(state.balance + command.amount)


@account.on
def close(state: Open, command: Close) -> Closed:
    return Closed()


@account.on
def remove(state: Open | Closed, command: Remove) -> None:
    return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three accounts of three transitions each, and one deleted and come again."""
    path = tmp_path / "accounts.db"
    with open_store(f"sqlite:///{path}") as store:
        accounts = Service(account, store)
        for id in ("a", "b", "c"):
            accounts.handle(id, Deposit(1), metadata={"by": "alice"})
            accounts.handle(id, Deposit(2), key="second")
        for id in ("a", "b", "c"):
            accounts.handle(id, Close())
        accounts.handle("gone", Deposit(1))
        accounts.handle("gone", Remove())
        accounts.handle("back", Deposit(1))
        accounts.handle("back", Remove())
        accounts.handle("back", Deposit(1))
    return path


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{path}") as store:
        yield store


@pytest.fixture
def tamper(path: Path) -> Iterator[Callable[..., Any]]:
    """Run statements on the file behind the store's back, the triggers out of the way."""
    connection = sqlite3.connect(path, isolation_level=None)
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
    triggers = connection.execute(query).fetchall()

    def run(statement: str, *parameters: Any) -> list[Any]:
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        rows = connection.execute(statement, parameters).fetchall()
        for _, definition in triggers:
            connection.execute(definition)
        return rows

    yield run
    connection.close()


def problems(report: Report) -> list[tuple[str | None, int | None, str]]:
    return [(finding.id, finding.version, finding.problem) for finding in report.findings]


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:"])
def test_the_log_is_read_from_wherever_the_reader_starts(url: str) -> None:
    """A position before the first one is before the first one."""
    with open_store(url) as store:
        Service(account, store).handle("a", Deposit(1))
        assert len(store.read_log(after=-(2**63), limit=10)) == 1


def test_an_untouched_store_is_sound(store: Store) -> None:
    """Every transition and every entity was looked at, and nothing was found."""
    report = verify(store)
    assert (report.transitions, report.entities, report.purged) == (14, 5, 0)
    assert report.sound
    assert problems(report) == []


def test_an_empty_store_is_sound() -> None:
    """Nothing is in order."""
    with open_store("memory://") as store:
        report = verify(store)
    assert report.sound
    assert (report.anchor.position, report.anchor.count) == (0, 0)


MADE_FROM = "its content, or what is before it, is not what its digest was made from"


@pytest.mark.parametrize(
    "change",
    [
        """command = '{"$type":"Deposit","amount":9}'""",
        """state = '{"$type":"Open","balance":9}'""",
        """metadata = '{"by":"bob"}'""",
        "at = '2001-01-01T00:00:00.000000Z'",
        "recorded_at = '2001-01-01T00:00:00.000000Z'",
        "kind = 'staged'",
        "to_type = 'Closed'",
        "command_type = 'Close'",
        "key = 'another'",
        "token = 'another'",
        "events = '[]'",
        "state_schema_version = 2",
    ],
)
def test_an_edited_column_is_found(store: Store, tamper: Callable[..., Any], change: str) -> None:
    """Whatever column of a transition is edited, that transition is named."""
    tamper(f"UPDATE transition SET {change} WHERE id = 'b' AND version = 2")
    assert ("b", 2, MADE_FROM) in problems(verify(store))


def test_an_edited_digest_is_found_where_it_is_and_where_it_is_chained_to(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """A digest that matches neither its row nor the next one gives both away."""
    tamper("UPDATE transition SET digest = 'x' || substr(digest, 2) WHERE id = 'b' AND version = 1")
    assert problems(verify(store)) == [("b", 1, MADE_FROM), ("b", 2, MADE_FROM)]


def test_swapped_payloads_are_found(store: Store, tamper: Callable[..., Any]) -> None:
    """Two transitions that changed places in content no longer match their digests."""
    first, second = store.history("account", "b", limit=2)
    tamper("UPDATE transition SET command = ? WHERE seq = ?", second.command, first.seq)
    tamper("UPDATE transition SET command = ? WHERE seq = ?", first.command, second.seq)
    assert problems(verify(store)) == [("b", 1, MADE_FROM), ("b", 2, MADE_FROM)]


def swap_positions(tamper: Callable[..., Any], first: int, second: int) -> None:
    for before, after in ((first, -1), (second, first), (-1, second)):
        tamper("UPDATE transition SET seq = ? WHERE seq = ?", after, before)


def test_swapped_positions_within_an_entity_are_found(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """An entity's versions rise one by one along the log."""
    swap_positions(tamper, 3, 4)
    assert problems(verify(store))[:2] == [
        ("b", 2, "the log has version 2 after version 0"),
        ("b", 1, "the log has version 1 after version 2"),
    ]


def test_swapped_positions_between_entities_are_found_by_an_anchor_only(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """No chain holds entities together; the anchor's digest does."""
    anchor = verify(store).anchor
    swap_positions(tamper, 2, 3)
    assert verify(store).sound
    [(_, _, problem)] = problems(verify(store, anchor=anchor))
    assert "is not what the anchor saw" in problem


NO_POSITION = "there is nothing at position {}: it was deleted or moved"


@pytest.mark.parametrize(
    ("move", "expected"),
    [
        ("seq = 99 WHERE seq = 14", [NO_POSITION.format("14 to 98"), "only 14 were given out"]),
        ("seq = 15 WHERE seq = 12", [NO_POSITION.format("12"), "only 14 were given out"]),
        ("seq = 0 WHERE seq = 1", ["its position is below 1", NO_POSITION.format("1")]),
    ],
)
def test_a_moved_position_is_found(
    store: Store, tamper: Callable[..., Any], move: str, expected: list[str]
) -> None:
    """It leaves a gap, and there are none in a log that was left alone."""
    tamper(f"UPDATE transition SET {move}")
    found = " | ".join(problem for _, _, problem in problems(verify(store)))
    assert [part for part in expected if part not in found] == []


def test_an_entity_that_was_deleted_whole_is_found(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """Its positions are missing, at the start, in the middle and at the end of the log."""
    tamper("DELETE FROM transition WHERE id IN ('a', 'back')")
    tamper("DELETE FROM entity WHERE id IN ('a', 'back')")
    assert [problem for _, _, problem in problems(verify(store))] == [
        NO_POSITION.format("1 to 2"),
        NO_POSITION.format("7"),
        "the log ends at position 11, and position 14 was given out: what came after was deleted "
        "or moved",
    ]


def test_what_was_rolled_back_left_no_gap(store: Store, path: Path) -> None:
    """Refusals, conflicts and failures take no position."""
    accounts = Service(account, store)
    sent: list[tuple[str, Deposit | Close | Remove]]
    sent = [("d", Deposit(1)), ("b", Deposit(1)), ("d", Close())]
    assert [isinstance(answer, Exception) for answer in accounts.handle_many(sent)] == [
        False,
        True,
        False,
    ]
    with pytest.raises(VersionConflictError):
        accounts.handle("d", Remove(), expected_version=7)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        columns = ", ".join(LogRow.__struct_fields__[1:])
        copy = f"INTO transition ({columns}) SELECT {columns} FROM transition WHERE seq = 1"
        for how in ("INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE"):
            connection.execute("BEGIN")
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(f"{how} {copy}")
            connection.execute("COMMIT")
        connection.execute("BEGIN")
        changed = copy.replace("SELECT machine, id,", "SELECT machine, 'x',")
        assert connection.execute(f"INSERT {changed}").rowcount == 1
        connection.execute("ROLLBACK")
    accounts.handle("e", Deposit(1))
    report = verify(store)
    assert problems(report) == []
    assert report.anchor.position == report.transitions == 17


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("trigger", "transition_is_not_deleted"),
        ("trigger", "transition_is_not_updated"),
        ("trigger", "transition_is_not_replaced"),
        ("index", "transition_by_key"),
        ("table", "purging"),
    ],
)
@pytest.mark.parametrize("replaced", [False, True])
def test_a_guard_that_is_gone_is_found(
    store: Store, path: Path, kind: str, name: str, *, replaced: bool
) -> None:
    """Dropped, or replaced by one that guards nothing."""
    verify(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"DROP {kind} {name}")
        if replaced:
            connection.execute(HARMLESS[kind].format(name))
    assert problems(verify(store)) == [
        (None, None, f"the {kind} {name} is not there as it was made")
    ]


HARMLESS = {
    "trigger": "CREATE TRIGGER {} BEFORE DELETE ON checkpoint BEGIN SELECT 1; END",
    "index": "CREATE INDEX {} ON transition (key)",
    "table": "CREATE TABLE {} (machine, id)",
}


def test_guards_that_this_code_does_not_know_are_no_sound_guards(store: Store, path: Path) -> None:
    """A schema of later code, or a row that says so, is told, and what is gone does not hide."""
    verify(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO migration VALUES (7, 'later', 1, '')")
        connection.execute("DROP TRIGGER transition_is_not_deleted")
    [(_, _, problem)] = problems(verify(store))
    assert problem.startswith("the guards of the log were not looked at: the store has schema 7")


def test_a_permit_that_was_left_is_found(store: Store, tamper: Callable[..., Any]) -> None:
    """With it, anybody may erase the entity."""
    tamper("INSERT INTO purging VALUES ('account', 'b')")
    assert problems(verify(store)) == [
        (None, None, "1 entities may be erased by anybody: their permits were left")
    ]


def test_what_was_erased_by_hand_is_found(store: Store, path: Path) -> None:
    """Though no guard was touched: the permit was given, and taken back, and the entity emptied."""
    anchor = verify(store).anchor
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO purging VALUES ('account', 'b')")
        connection.execute(f"{STUB} <= 3")
        connection.execute("UPDATE entity SET state_type = NULL, state = NULL WHERE id = 'b'")
        connection.execute("DELETE FROM purging")
        connection.execute("COMMIT")
    for report in (verify(store), verify(store, anchor=anchor)):
        assert problems(report) == [("b", 3, "the entity was erased, and no purge is recorded")]


@pytest.mark.parametrize("column", ["state", "command", "id", "metadata"])
def test_text_that_is_none_is_found_with_all_the_rest(
    store: Store, tamper: Callable[..., Any], column: str
) -> None:
    """Bytes that are no UTF-8 stop nobody from seeing what else was done to the log."""
    tamper(f"UPDATE transition SET {column} = CAST(x'ff' AS TEXT) WHERE id = 'a' AND version = 3")
    tamper("UPDATE entity SET state = '{}' WHERE id = 'b'")
    found = problems(verify(store))
    assert ("b", 3, "the entity's state is not what the log leads to") in found
    assert ("\\xff" if column == "id" else "a", 3, NO_UTF8) in found


@pytest.mark.parametrize("page", [1, 2, 1_000])
def test_an_entity_whose_text_is_none_is_found_with_all_the_rest(
    store: Store, tamper: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Wherever a page of entities ends."""
    monkeypatch.setattr("holdfast.stores.verify.MAX_PAGE", page)
    tamper("UPDATE entity SET state = CAST(x'ff' AS TEXT) WHERE id = 'a'")
    tamper("UPDATE entity SET id = CAST(x'62ff' AS TEXT) WHERE id = 'b'")
    tamper("UPDATE entity SET state = '{}' WHERE id = 'c'")
    assert set(problems(verify(store))) == {
        ("a", 3, "the entity's state is not what the log leads to"),
        ("b\\xff", 3, NO_UTF8),
        ("b", 3, "the entity has no row, and the log has"),
        ("c", 3, "the entity's state is not what the log leads to"),
    }


def test_what_a_user_adds_is_no_finding(store: Store, path: Path) -> None:
    """Tables of one's own may be in the file, and indexes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE customer (id PRIMARY KEY)")
        connection.execute("CREATE INDEX entity_by_time ON entity (updated_at)")
    assert problems(verify(store)) == []


def test_a_row_before_the_first_position_is_found(store: Store, tamper: Callable[..., Any]) -> None:
    """A row that no reader of the log would see does not hide from the verification."""
    tamper("UPDATE transition SET seq = -seq WHERE id = 'a' AND version = 1")
    assert ("a", 1, "its position is below 1, where no reader of the log looks") in problems(
        verify(store)
    )


def test_a_row_deleted_from_the_middle_is_found(store: Store, tamper: Callable[..., Any]) -> None:
    """The versions have a gap."""
    tamper("DELETE FROM transition WHERE id = 'b' AND version = 2")
    assert problems(verify(store)) == [
        (None, None, NO_POSITION.format("4")),
        ("b", 3, "the log has version 3 after version 1"),
    ]


def test_a_deleted_last_row_is_found_by_the_entity(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """The entity is ahead of its log."""
    tamper("DELETE FROM transition WHERE id = 'b' AND version = 3")
    assert problems(verify(store)) == [
        (None, None, NO_POSITION.format("8")),
        ("b", 3, "the entity is at version 3, and its log ends at 2"),
    ]


def rewind(tamper: Callable[..., Any], id: str, version: int) -> None:
    """Cut an entity's log off after a version, and make its row fit."""
    tamper("DELETE FROM transition WHERE id = ? AND version > ?", id, version)
    tamper(
        "UPDATE entity SET version = t.version, state_type = t.to_type, state = t.state, "
        "updated_at = t.at, entered_version = 1, digest = t.digest FROM transition AS t "
        "WHERE t.id = entity.id AND t.version = ? AND entity.id = ?",
        version,
        id,
    )


def count_anew(tamper: Callable[..., Any]) -> None:
    """Make SQLite forget which positions it gave out."""
    tamper("UPDATE sqlite_sequence SET seq = (SELECT max(seq) FROM transition)")


def test_a_log_cut_off_with_the_entity_rewound_is_found_by_an_anchor_only(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """What is left is a store that once was, and only the anchor knows that there was more."""
    tamper("DELETE FROM transition WHERE id IN ('gone', 'back')")
    tamper("DELETE FROM entity WHERE id IN ('gone', 'back')")
    count_anew(tamper)
    anchor = verify(store).anchor
    rewind(tamper, "c", 2)
    count_anew(tamper)
    assert verify(store).sound
    [(_, _, problem)] = problems(verify(store, anchor=anchor))
    assert problem.startswith("the log ends at position 8; the anchor saw it reach 9 at ")


def test_a_chain_rewritten_as_a_whole_is_found_by_an_anchor_only(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """Who recomputes every digest leaves no trace in the store."""
    anchor = verify(store).anchor
    digest = ""
    for row in store.history("account", "b", limit=10):
        text = (row.command or "").replace('"amount":2', '"amount":9')
        state = (row.state or "").replace('"balance":3', '"balance":10')
        changed = replace(row, command=text, state=state)
        digest = digest_of(digest, changed, row.recorded_at)
        tamper(
            "UPDATE transition SET command = ?, state = ?, digest = ? WHERE seq = ?",
            text, state, digest, row.seq,
        )  # fmt: skip
    tamper("UPDATE entity SET digest = ? WHERE id = 'b'", digest)
    assert verify(store).sound
    [(_, _, problem)] = problems(verify(store, anchor=anchor))
    assert problem.startswith("the log up to position 14 is not what the anchor saw at ")


def test_a_log_that_was_moved_to_the_front_is_no_log_that_was_cut_off(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """It is as long as the anchor saw it, and not the same."""
    anchor = verify(store).anchor
    tamper("UPDATE transition SET seq = -1 WHERE seq = 14")
    told = [problem for _, _, problem in problems(verify(store, anchor=anchor))]
    assert any(p.startswith("the log up to position 14 is not what the anchor saw") for p in told)
    assert not any("cut off" in problem for problem in told)


@pytest.mark.parametrize(
    "column", ["events", "key", "metadata", "state", "state_schema_version", "to_type"]
)
def test_an_empty_value_where_there_was_none_is_found(
    store: Store, tamper: Callable[..., Any], column: str
) -> None:
    """The digest cannot tell the two apart, so the verification does."""
    empty = 0 if column == "state_schema_version" else ""
    tamper(f"UPDATE transition SET {column} = ? WHERE id = 'gone' AND version = 2", empty)
    problem = "has an empty value where there should be none"
    assert ("gone", 2, problem) in problems(verify(store))


def test_a_history_that_contradicts_itself_is_found_though_its_digests_fit(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """A transition starts from the state that the one before led to."""
    row = replace(store.history("account", "b", limit=10)[2], from_type="Other")
    before = store.history("account", "b", limit=10)[1].digest
    digest = digest_of(before, row, row.recorded_at)
    tamper("UPDATE transition SET from_type = 'Other', digest = ? WHERE seq = ?", digest, row.seq)
    tamper("UPDATE entity SET digest = ? WHERE id = 'b'", digest)
    assert problems(verify(store)) == [
        ("b", 3, "starts from Other, and the version before led to Open")
    ]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("""state = '{"$type":"Closed"}  '""", "state"),
        ("state_type = 'Open'", "state_type"),
        ("state_type = NULL", "state_type"),
        ("created_at = '2001-01-01T00:00:00.000000Z'", "created_at"),
        ("updated_at = '2001-01-01T00:00:00.000000Z'", "updated_at"),
        ("entered_version = 1", "entered_version"),
        ("schema_version = 9", "schema_version"),
        ("digest = 'x' || substr(digest, 2)", "digest"),
    ],
)
def test_an_edited_entity_is_found(
    store: Store, tamper: Callable[..., Any], change: str, column: str
) -> None:
    """The column that the log does not lead to is named."""
    tamper(f"UPDATE entity SET {change} WHERE id = 'b'")
    problem = f"the entity's {column} is not what the log leads to"
    assert problems(verify(store)) == [("b", 3, problem)]


def test_an_entity_that_fell_behind_its_log_is_found(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """An entity's row is never older than its log."""
    tamper("UPDATE entity SET version = 2 WHERE id = 'b'")
    assert problems(verify(store)) == [("b", 2, "the entity is at version 2, and its log at 3")]


@pytest.mark.parametrize("id", ["b", "gone"])
def test_a_deleted_entity_row_is_found(store: Store, tamper: Callable[..., Any], id: str) -> None:
    """A log leads to a row, that of a deleted entity included."""
    tamper("DELETE FROM entity WHERE id = ?", id)
    assert [(id, "the entity has no row, and the log has")] == [
        (finding.id, finding.problem) for finding in verify(store).findings
    ]


def test_an_entity_without_a_log_is_found(store: Store, tamper: Callable[..., Any]) -> None:
    """Nobody made it."""
    copied = ", ".join(column for column in EntityRow.__struct_fields__ if column != "id")
    tamper(
        f"INSERT INTO entity (id, {copied}) SELECT 'forged', {copied} FROM entity WHERE id = 'b'"
    )
    assert problems(verify(store)) == [
        ("forged", 3, "the entity is at version 3, and its log ends at 0")
    ]


def test_a_log_without_an_entity_is_found(store: Store, tamper: Callable[..., Any]) -> None:
    """A forged transition of an unknown entity leads to no row."""
    copied = ", ".join(c for c in LogRow.__struct_fields__ if c not in ("id", "seq", "digest"))
    [row] = store.history("account", "a", limit=1)
    digest = digest_of("", replace(row, id="forged"), row.recorded_at)
    tamper(
        f"INSERT INTO transition (id, digest, {copied}) SELECT 'forged', ?, {copied} "
        "FROM transition WHERE id = 'a' AND version = 1",
        digest,
    )
    assert problems(verify(store)) == [("forged", 1, "the entity has no row, and the log has")]


def test_purged_transitions_are_counted_and_their_chain_holds(path: Path, store: Store) -> None:
    """A purge changes nothing that the rest of the chain, or an anchor, stands on."""
    anchor = verify(store).anchor
    accounts = Service(account, store)
    accounts.purge("b")
    accounts.purge("gone")
    accounts.handle("b", Deposit(1))
    report = verify(store, anchor=anchor)
    assert problems(report) == []
    assert (report.purged, report.transitions) == (5, 17)
    assert report.anchored == 14


def test_a_digest_edited_in_what_was_purged_is_found(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """A stub's digest cannot be recomputed, and still the next row is chained to it."""
    Service(account, store).purge("b")
    tamper("UPDATE transition SET digest = 'x' || substr(digest, 2) WHERE id = 'b' AND version = 3")
    assert problems(verify(store)) == [("b", 4, MADE_FROM)]


STUB = (
    "UPDATE transition SET kind = 'purged', from_type = NULL, to_type = NULL, command_type = NULL,"
    " command = NULL, state = NULL, metadata = NULL WHERE id = 'b' AND version"
)


@pytest.mark.parametrize(
    ("statement", "version", "problem"),
    [
        (f"{STUB} = 2", 2, "is purged, and what is before it is not"),
        (f"{STUB} = 1", 2, "follows what was purged, and records no purge"),
        (f"{STUB} <= 3", 3, "the entity was erased, and no purge is recorded"),
        (
            "UPDATE transition SET kind = 'purged' WHERE id = 'b' AND version = 1",
            1,
            "is purged, and has values that a purge erases",
        ),
        (f"{STUB} <= 3", 3, "the entity's state_type, state is not what the log leads to"),
    ],
)
def test_a_purge_that_was_none_is_found(
    store: Store, tamper: Callable[..., Any], statement: str, version: int, problem: str
) -> None:
    """A purge erases every version there is, and deletes the entity."""
    tamper(statement)
    assert ("b", version, problem) in problems(verify(store))


def test_an_anchor_is_held_against_the_log_as_it_was(store: Store) -> None:
    """A log that went on is what the anchor saw, up to where it saw it."""
    anchor = verify(store).anchor
    Service(account, store).handle("new", Deposit(1))
    report = verify(store, anchor=anchor)
    assert report.sound
    assert report.anchored == anchor.position == 14
    assert (report.anchor.position, report.anchor.count) == (15, 15)
    assert report.anchor.digest != anchor.digest


def test_an_anchor_of_another_store_is_found(store: Store) -> None:
    """Another log does not pass for the one that was anchored."""
    with open_store("memory://") as other:
        Service(account, other).handle("a", Deposit(1))
        anchor = verify(other).anchor
    assert not verify(store, anchor=anchor).sound


def test_findings_are_all_counted_and_some_listed(store: Store, tamper: Callable[..., Any]) -> None:
    """A report stays small, whatever happened to the store."""
    accounts = Service(account, store)
    for _ in accounts.handle_many([(f"n-{n}", Deposit(1)) for n in range(150)]):
        pass
    tamper("UPDATE entity SET state = '{}' WHERE id LIKE 'n-%'")
    report = verify(store)
    assert report.found == 150
    assert len(report.findings) == MAX_LISTED


class Disturbed:
    """A store in which something else happens between two reads of a verification."""

    def __init__(self, store: Store, happen: Callable[[], object], before: str, call: int) -> None:
        self.store = store
        self.happen = happen
        self.before = before
        self.calls_left = call

    def as_stored(self) -> Disturbed:
        return self

    def __getattr__(self, name: str) -> Any:
        if name == self.before:
            self.calls_left -= 1
            if self.calls_left == 0:
                self.happen()
        return getattr(self.store, name)


@pytest.mark.parametrize(("before", "call"), [("read_log", 2), ("entities", 1), ("read_log", 3)])
def test_what_is_written_meanwhile_is_no_finding(store: Store, before: str, call: int) -> None:
    """Whenever others write, create, delete or purge, a sound store stays one."""
    accounts = Service(account, store)

    def write() -> None:
        accounts.handle("new", Deposit(1))
        accounts.handle("a", Remove())
        accounts.handle("a", Deposit(1))
        accounts.purge("b")
        accounts.purge("gone")
        accounts.handle("back", Deposit(5))

    disturbed: Any = Disturbed(store, write, before, call)
    assert problems(verify(disturbed)) == []
    assert verify(store).sound


@pytest.mark.parametrize(("page", "id", "stubs"), [(8, "c", 1), (12, "back", 2)])
def test_a_purge_between_two_pages_is_no_finding(
    store: Store, monkeypatch: pytest.MonkeyPatch, page: int, id: str, stubs: int
) -> None:
    """The rest of an entity's log may be stubs by the time it is read."""
    monkeypatch.setattr("holdfast.stores.verify.MAX_PAGE", page)
    accounts = Service(account, store)
    disturbed: Any = Disturbed(store, lambda: accounts.purge(id), "read_log", 2)
    report = verify(disturbed)
    assert report.purged == stubs
    assert problems(report) == []


def test_an_entity_written_meanwhile_is_compared_all_the_same(
    store: Store, tamper: Callable[..., Any]
) -> None:
    """With the log that was read after it."""

    def write_and_tamper() -> None:
        Service(account, store).handle("back", Deposit(5))
        tamper("UPDATE entity SET state = '{}' WHERE id = 'back'")

    disturbed: Any = Disturbed(store, write_and_tamper, "entities", 1)
    problem = "the entity's state is not what the log leads to"
    assert problems(verify(disturbed)) == [("back", 4, problem)]


def test_progress_is_told(store: Store) -> None:
    """The caller hears how many transitions were read."""
    counts: list[int] = []
    verify(store, progress=counts.append)
    assert counts == [14]
