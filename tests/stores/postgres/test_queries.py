"""The queries of the PostgreSQL store: each is used, and finds its rows by an index."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import holdfast.stores.postgres
from holdfast import open_store
from holdfast.stores.contract import Key, Store
from holdfast.stores.postgres.statements import Statements, to_array
from holdfast.stores.sql import load_queries
from holdfast.testing.writes import write

QUERIES = load_queries("postgres")
FOLDER = Path(holdfast.stores.postgres.__file__).parent
TEXT = (FOLDER.parent / "sql" / "postgres" / "queries.sql").read_text("utf-8")

BY_ENTITY = "entity_pkey (machine id)"
BY_VERSION = "transition_by_version (machine id version)"
BY_KEY = "transition_by_key (machine id key)"
BY_POSITION = "feed_pkey (position)"
BY_SEQ = "feed_by_seq (seq)"
IN_LOG = "transition_pkey (seq)"
ONE_ROW = "log_head"
BY_BIRTH = "transition_by_birth (machine id version)"
ORIGIN = [BY_SEQ, BY_BIRTH, BY_VERSION]

# What finds the rows of each query; those that are not named here look at nothing or little.
PLANS = {
    "load": [BY_ENTITY, BY_VERSION],
    "load_many": [BY_ENTITY, BY_VERSION],
    "load_keys": [BY_ENTITY, BY_VERSION, BY_KEY, *ORIGIN],
    "load_tokens": [BY_ENTITY, BY_VERSION],
    "write": [BY_ENTITY],
    "write_many": [BY_ENTITY],
    "hold": [BY_ENTITY],
    "hold_absent": [],
    "release_absent": [BY_ENTITY, "entity (ctid)"],
    "begin_purge": [],
    "purge": [BY_VERSION],
    "end_purge": ["purging_pkey (machine id)"],
    "history": [BY_VERSION, BY_SEQ],
    "transition_at_version": [BY_VERSION, *ORIGIN],
    "transition_at_time": [BY_ENTITY, BY_VERSION, BY_VERSION, *ORIGIN],
    "find": [BY_ENTITY, BY_VERSION],
    "find_in_state": ["entity_by_state (machine state_type id)", BY_VERSION],
    "entities": [BY_ENTITY, BY_VERSION],
    "read_log": [BY_POSITION, IN_LOG],
    "is_behind": [IN_LOG, IN_LOG, ONE_ROW],
    "load_checkpoint": ["checkpoint_pkey (name)"],
    "hold_checkpoint": [],
    "save_checkpoint": ["checkpoint_pkey (name)"],
}
COUNTING = {"count", "number_log"}
AT_OPENING = {"prepare_session", "time", "has_schema", "schema_version", "identity"}
WAITING = {"longest_wait", "bound_wait", "set_wait"}
AT_MIGRATING = {
    "has_namespace", "try_to_migrate", "begin_migration", "begin_alone", "create_schema",
    "create_migration_table", "record_migration",
}  # fmt: skip
AT_VERIFYING = {"definitions", "last_positions", "altered_states"}


@pytest.fixture
def session(application_url: str) -> Iterator[psycopg.Connection]:
    """Give a connection as the store's own are."""
    sql = Statements("holdfast")
    with psycopg.connect(
        application_url, autocommit=True, cursor_factory=psycopg.RawCursor
    ) as connection:
        connection.execute(sql.ask("prepare_session").text)
        yield connection


def nothing(store: Store) -> None:
    """Leave the tables empty."""


def a_little(store: Store) -> None:
    """Write one entity."""
    store.commit([write("e", "Open")])
    store.read_log(limit=9)


def a_lot(store: Store) -> None:
    """Write some thousand transitions."""
    for turn in range(3):
        ids = [f"e-{turn}-{place}" for place in range(1_000)]
        store.commit([write(id, "Open", "Open", "Closed") for id in ids])
    store.read_log(after=9_000, limit=9)


@pytest.mark.parametrize("fill", [nothing, a_little, a_lot])
def test_rows_are_found_by_an_index(
    application_url: str, session: psycopg.Connection, raw: psycopg.Connection,
    fill: Callable[[Store], None],
) -> None:  # fmt: skip
    """However much the tables held when the plan was made: it is kept while they grow."""
    with open_store(application_url) as store:
        fill(store)
    if fill is not nothing:
        raw.execute("ANALYZE")
    sql = Statements("holdfast")
    for name, expected in PLANS.items():
        nulls = ", ".join("NULL" for _ in sql.names(name))
        session.execute(
            b"PREPARE planned AS " + sql.ask(name, **dict.fromkeys(sql.names(name))).text
        )
        explain = f"EXPLAIN (FORMAT JSON) EXECUTE planned{f'({nulls})' if nulls else ''}"
        [[plan]] = session.execute(explain.encode()).fetchall()
        session.execute("DEALLOCATE planned")
        assert sorted(found_by(plan[0]["Plan"])) == sorted(expected), name


def found_by(node: dict[str, Any]) -> Iterator[str]:
    """Yield what finds the rows of each table that a plan looks at, and by which columns."""
    if "Scan" in node["Node Type"] and "Relation Name" in node:
        condition = node.get("Index Cond") or node.get("TID Cond") or ""
        compared = re.sub(r"ROW\((\w+), (\w+)\) > \S+", r"\1 > AND \2 > ", condition)
        columns = dict.fromkeys(re.findall(r'(?<![.\w])"?(\w+)"? [=<>]+', compared))
        name = node.get("Index Name", node["Relation Name"])
        yield f"{name} ({' '.join(columns)})" if columns else name
    for child in node.get("Plans", ()):
        yield from found_by(child)


def test_every_query_is_used_and_explained() -> None:
    """None is left over, and none is missing here."""
    code = "".join(path.read_text("utf-8") for path in FOLDER.glob("*.py"))
    assert {name for name in QUERIES if f'"{name}"' not in code} == set()
    groups = [set(PLANS), COUNTING, AT_OPENING, WAITING, AT_MIGRATING, AT_VERIFYING]
    assert set(QUERIES) == set.union(*groups)
    assert sum(map(len, groups)) == len(QUERIES)


def test_every_query_has_a_sentence() -> None:
    """It stands above the name, and casts are written CAST."""
    comments = re.findall(r"\n\n((?:-- .*\n)+?)-- name: ", TEXT)
    assert len(comments) == len(QUERIES)
    assert [text for text in comments if not text[3].isupper() or text[-2] != "."] == []
    assert "::" not in TEXT


def test_no_parameter_is_a_part_of_another_s_text() -> None:
    """The loader takes `:name` for a parameter wherever it stands."""
    for query in QUERIES.values():
        assert len(set(query.names)) == len(re.findall(r"\$\d+", query.numbered)) - (
            len(query.names) - len(set(query.names))
        )


@pytest.mark.parametrize(
    "values",
    [
        ["", " ", "a,b", "{", "}", '"', "\\", '\\"', "NULL", "null", "\n", "'", "é", "\U0001f600"],
        [None, "x", None],
        [1, -5, 2**62],
        [],
    ],
)
def test_arrays_come_as_they_were_sent(raw: psycopg.Connection, values: list[Any]) -> None:
    """Whatever their elements look like."""
    kind = "bigint[]" if values and isinstance(values[0], int) else "text[]"
    query = f"SELECT CAST(%s AS {kind})"
    assert raw.execute(query.encode(), [to_array(values)]).fetchall() == [(values,)]


def test_a_load_of_many_keys_keeps_them_apart(store: Store) -> None:
    """Each entity is answered once, with what its own keys made."""
    store.commit([write(id, "Open", "Open", keys=["k", f"l-{id}"]) for id in "abc"])
    asked = [Key("sample", id, ("k", f"l-{id}", "x")) for id in "cba"] + [Key("sample", "a")]
    answers = store.load(asked)
    assert [answer.entity and answer.entity.id for answer in answers] == ["c", "b", "a", "a"]
    assert [sorted(answer.applied) for answer in answers] == [
        ["k", "l-c"], ["k", "l-b"], ["k", "l-a"], [],
    ]  # fmt: skip
