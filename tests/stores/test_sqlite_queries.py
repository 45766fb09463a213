"""The queries of the SQLite store: each is used, parses, and finds its rows without a scan."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from tests.flow.orders import Order, order_flow

import holdfast.stores.sqlite
from holdfast import open_store
from holdfast.machine.canonical import format_time
from holdfast.stores.contract import EntityRow, Key, LogRow, Store
from holdfast.stores.sql import load_queries
from holdfast.testing import ManualClock
from holdfast.testing.clock import START
from holdfast.testing.conformance.base import row_of, service_on, stored
from holdfast.testing.sample import Add
from holdfast.testing.writes import write

QUERIES = load_queries("sqlite")
FOLDER = Path(holdfast.stores.sqlite.__file__).parent
TEXT = (FOLDER.parent / "sql" / "sqlite" / "queries.sql").read_text()
CODE = "".join(path.read_text("utf-8") for path in FOLDER.glob("*.py"))

BY_ENTITY = "SEARCH entity USING PRIMARY KEY (machine=? AND id=?)"
BY_VERSION = "SEARCH transition USING INDEX sqlite_autoindex_transition_1 (machine=? AND id=?"

# What finds the rows of each query; those that are not named here look at nothing or little.
PLANS = {
    "load": [BY_ENTITY],
    "load_version": [BY_ENTITY],
    "load_many": ["SCAN json_each VIRTUAL TABLE INDEX 1:", BY_ENTITY],
    "load_key": ["SEARCH transition USING INDEX transition_by_key (machine=? AND id=? AND key=?)"],
    "load_token": [f"{BY_VERSION} AND version=?)"],
    "load_origin": [
        "SEARCH transition USING INDEX transition_by_birth (machine=? AND id=? AND version<?)",
        f"{BY_VERSION} AND version=?)",
    ],
    "insert_entity": [],
    "update_entity": [BY_ENTITY],
    "insert_transition": [],
    "begin_purge": [],
    "purge": [f"{BY_VERSION} AND version<?)"],
    "end_purge": ["SEARCH purging USING PRIMARY KEY (machine=? AND id=?)"],
    "history": [f"{BY_VERSION} AND version>?)"],
    "transition_at_version": [f"{BY_VERSION} AND version=?)"],
    "load_at": [f"{BY_VERSION} AND version=?)"],
    "find": ["SEARCH entity USING PRIMARY KEY (machine=? AND id>?)"],
    "find_in_state": [
        "SEARCH entity USING INDEX entity_by_state (machine=? AND state_type=? AND id>?)"
    ],
    "count": ["SEARCH entity USING COVERING INDEX entity_by_state (machine=? AND state_type>?)"],
    "entities": ["SEARCH entity USING PRIMARY KEY ((machine,id)>(?,?))"],
    "read_log": ["SEARCH transition USING INTEGER PRIMARY KEY (rowid>?)"],
    "load_checkpoint": ["SEARCH checkpoint USING PRIMARY KEY (name=?)"],
    "save_checkpoint": [],
}
AT_OPENING = {
    "is_store", "has_schema", "create_migration_table", "schema_version", "record_migration"
}  # fmt: skip
AT_VERIFYING = {"definitions", "last_positions", "permits"}
ENTITY_COLUMNS = [name for name in EntityRow.__struct_fields__ if name not in ("machine", "id")]


@pytest.fixture
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection to a file with the schema."""
    with open_store(f"sqlite:///{path}") as store:
        store.migrate()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize("name", PLANS)
def test_a_query_finds_its_rows_by_an_index(raw: sqlite3.Connection, name: str) -> None:
    """None reads a table from end to end, and none sorts what it found."""
    query = QUERIES[name]
    plan = raw.execute(f"EXPLAIN QUERY PLAN {query.text}", dict.fromkeys(query.names)).fetchall()
    steps = [detail for _, _, _, detail in plan if not re.match(r"SCAN CONST|SCALAR SUB", detail)]
    assert steps == PLANS[name]


def test_every_query_has_its_plan_here() -> None:
    """A new one is not forgotten."""
    assert QUERIES.keys() == PLANS.keys() | AT_OPENING | AT_VERIFYING


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_is_used(name: str) -> None:
    """The store names it, or it should go."""
    assert f'"{name}"' in CODE


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_says_what_it_is_for(name: str) -> None:
    """A sentence stands above it."""
    assert re.search(rf"^(-- [A-Z].*\n(-- .*\n)*)?-- .*\.\n-- name: {name}$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(QUERIES.keys() - {"create_migration_table"}))
def test_both_forms_of_a_query_are_one(raw: sqlite3.Connection, name: str) -> None:
    """With parameters by name and by position it parses, to the same program."""
    query = QUERIES[name]
    by_name = raw.execute(f"EXPLAIN {query.text}", dict.fromkeys(query.names)).fetchall()
    by_place = raw.execute(f"EXPLAIN {query.positional}", [None] * len(query.names)).fetchall()
    assert [row[1] for row in by_name] == [row[1] for row in by_place]


def columns(name: str) -> list[str]:
    """Return the columns that a query selects."""
    selected = re.match(r"SELECT (.+?)\nFROM", QUERIES[name].text, re.DOTALL)
    assert selected is not None
    return re.split(r",\s+", selected[1])


@pytest.mark.parametrize("name", ["load", "load_many", "find", "find_in_state", "entities"])
def test_entities_are_selected_as_their_row_is(name: str) -> None:
    """In the order of the fields of EntityRow, which is made from them."""
    assert columns(name) == list(EntityRow.__struct_fields__)


@pytest.mark.parametrize("name", ["load_key", "history", "transition_at_version", "read_log"])
def test_transitions_are_selected_as_their_row_is(name: str) -> None:
    """In the order of the fields of LogRow, which is made from them."""
    assert columns(name) == list(LogRow.__struct_fields__)


def test_rows_are_written_as_they_are_ordered() -> None:
    """Parameters stand in the order in which the rows' fields are passed."""
    assert list(QUERIES["insert_entity"].names) == list(EntityRow.__struct_fields__)
    assert list(QUERIES["insert_transition"].names) == list(LogRow.__struct_fields__[1:])
    update = [*ENTITY_COLUMNS, "machine", "id", "expected"]
    assert list(QUERIES["update_entity"].names) == update
    for name in ("insert_entity", "insert_transition"):
        inserted = re.search(r"\((.+?)\)\nVALUES", QUERIES[name].text, re.DOTALL)
        assert inserted is not None
        assert re.split(r",\s+", inserted[1]) == list(QUERIES[name].names)


def test_an_update_sets_each_column_to_its_own_parameter(raw: sqlite3.Connection) -> None:
    """And clears what was pending; no column of the table is left as it was."""
    clauses = QUERIES["update_entity"].text.split("SET ", 1)[1].split("\nWHERE", 1)[0]
    pairs = [clause.split(" = ") for clause in re.split(r",\s+", clauses)]
    assert [name for name, value in pairs if value == f":{name}"] == ENTITY_COLUMNS
    set_columns = {name for name, _ in pairs}
    table = {name for _, name, *_ in raw.execute("PRAGMA table_info(entity)")}
    assert table - set_columns == {"machine", "id"}


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL", "EXTRA"])
def test_a_file_is_as_durable_as_asked(
    path: Path, connections: list[sqlite3.Connection], synchronous: str
) -> None:
    """On the connection that writes, and on those that read beside it."""
    entered, leave = threading.Event(), threading.Event()

    def stay(statement: str) -> None:
        entered.set()
        leave.wait(10)

    with open_store(f"sqlite:///{path}?synchronous={synchronous.lower()}") as store:
        stored(store, write("e", "Open"))
        connections[0].set_trace_callback(stay)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(store.count, "sample")
            entered.wait(10)
            assert store.count("sample") == {"Open": 1}
            leave.set()
        assert len(connections) == 2
        for connection in connections:
            level = connection.execute("PRAGMA synchronous").fetchone()[0]
            assert level == {"NORMAL": 1, "FULL": 2, "EXTRA": 3}[synchronous]
            assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            for barrier in ("fullfsync", "checkpoint_fullfsync"):
                assert connection.execute(f"PRAGMA {barrier}").fetchone()[0] == 1


def test_a_file_is_durable_unless_asked_otherwise(
    path: Path, connections: list[sqlite3.Connection]
) -> None:
    """FULL: what is acknowledged survives the loss of power."""
    with open_store(f"sqlite:///{path}") as store:
        store.migrate()
        assert connections[0].execute("PRAGMA synchronous").fetchone()[0] == 2


def instructions(connection: sqlite3.Connection, store: Store, id: str, *, key: str) -> list[int]:
    """Return how many instructions SQLite runs to load an entity, to write it, to read its key."""
    counts: list[int] = []
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    service = service_on(store)
    connection.set_progress_handler(step, 1)
    for use in (
        lambda: store.load([Key("sample", id)]),
        lambda: service.handle(id, Add(), key=key),
        lambda: store.history("sample", id, after=row_of(store, id).version - 1, limit=9),
        lambda: store.load([Key("sample", id, ("first",))]),
        lambda: store.transition_at("sample", id, version=row_of(store, id).version),
    ):
        steps = 0
        use()
        counts.append(steps)
    connection.set_progress_handler(None, 1)
    return counts


def test_the_cost_of_a_command_does_not_grow_with_the_history(
    path: Path, connections: list[sqlite3.Connection]
) -> None:
    """Nor with the number of entities; SQLite runs as many instructions as for the second."""
    with open_store(f"sqlite:///{path}?synchronous=NORMAL") as store:
        service = service_on(store)
        for id in ("few", "many"):
            service.handle(id, Add(), key="first")
        service.handle("few", Add())
        few = instructions(connections[0], store, "few", key="k")
        service.handle_many([("many", Add()) for _ in range(2_999)])
        service.handle_many([(f"other-{i}", Add()) for i in range(1_000)])
        many = instructions(connections[0], store, "many", key="k")
        assert row_of(store, "many").version == 3_001
    assert min(few) > 10
    assert [round(m / f, 1) for m, f in zip(many, few, strict=True)] == [1.0] * 5


def test_a_time_is_found_by_halving(path: Path, connections: list[sqlite3.Connection]) -> None:
    """The cost grows with the digits of the number of transitions."""
    clock = ManualClock()
    with open_store(f"sqlite:///{path}?synchronous=NORMAL", clock=clock) as store:
        row = stored(store, write("e", "Open"))
        for _ in range(2, 600):
            now = format_time(clock.advance(1))
            row = stored(store, write("e", "Open", on=row, at=now))
        statements: list[str] = []
        connections[0].set_trace_callback(statements.append)
        for version in (1, 2, 300, 598, 599):
            then = format_time(START + timedelta(seconds=version - 0.5))
            found = store.transition_at("sample", "e", time=then)
            assert found is not None
            assert found.row.version == version
        assert store.transition_at("sample", "e", time="2026-01-02T03:04:04.999999Z") is None
        assert store.transition_at("sample", "unknown", time=format_time(clock.now)) is None
        assert len(statements) < 7 * 16


def test_a_transition_of_a_flow_sends_what_it_needs(
    path: Path, connections: list[sqlite3.Connection]
) -> None:
    """No savepoint, for it ends its transaction itself, and nothing is read back."""
    flow = order_flow()
    flow.guard()(lambda order, change: True)
    flow.before()(lambda order, change: None)
    with open_store(f"sqlite:///{path}?synchronous=NORMAL") as store:
        flow(Order(), store=store, id="1").transition_to("checking_out")
        statements: list[str] = []
        connections[0].set_trace_callback(statements.append)
        flow(Order(), store=store, id="1").transition_to("purchased")
        connections[0].set_trace_callback(None)
    verbs = [
        statement.split()[0] for statement in dict.fromkeys(statements)
    ]  # triggers repeat them
    assert verbs == ["SELECT", "BEGIN", "SELECT", "UPDATE", "INSERT", "COMMIT"]
