"""The statements that a connection has prepared: for how long, and what is made of their values."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.errors import (
    FeatureNotSupported,
    InvalidSqlStatementName,
    LockNotAvailable,
    QueryCanceled,
)

from holdfast.stores.postgres.drive import OPTIONS, Connection
from holdfast.stores.postgres.statements import Ask, Statements

ECHO = Ask(b"SELECT CAST($1 AS text), CAST($2 AS bigint), NULL", ["a", "1"])
PREPARED = b"SELECT name, statement FROM pg_prepared_statements ORDER BY 1"


@pytest.fixture
def connection(postgres_url: str) -> Iterator[Connection]:
    """Give a connection as a store makes them."""
    with Connection.connect(postgres_url, client_encoding="utf8", **OPTIONS) as connection:
        yield connection


def prepared(connection: Connection) -> list[tuple[str, str]]:
    """Return the names and texts of what the server has prepared for a connection."""
    return connection.execute(PREPARED).fetchall()


def test_values_come_back_in_their_types(connection: Connection) -> None:
    """Text, numbers and nothing; rows that are none; a statement without any."""
    assert connection.fetch(ECHO) == [("a", 1, None)]
    assert connection.fetch(Ask(ECHO.text, [None, "-5"])) == [(None, -5, None)]
    assert connection.fetch(Ask(b"SELECT 1 WHERE $1 = 'b'", ["a"])) == []
    assert connection.fetch(Ask(b"SET statement_timeout = 0")) == []


@pytest.mark.parametrize("text", ["ä€𐍈", "'; DROP TABLE t; --", "\\", "\x01", ""])
def test_text_is_what_it_was(connection: Connection, text: str) -> None:
    assert connection.fetch(Ask(ECHO.text, [text, "1"])) == [(text, 1, None)]


def test_a_statement_is_prepared_once(connection: Connection) -> None:
    """For as long as the connection lives, whatever is rolled back meanwhile."""
    connection.fetch(ECHO)
    first = prepared(connection)
    assert [text for _, text in first] == [ECHO.text.decode()]
    for _ in range(2):
        for _ in range(9):  # more often than psycopg needs to prepare it
            connection.execute(b"SELECT 1")
        connection.fetch(Statements.begin)
        connection.fetch(ECHO)
        connection.rollback()
    assert prepared(connection) == first


def test_a_name_never_stands_for_another_statement(
    connection: Connection, postgres_url: str
) -> None:
    """On no connection: behind a pooler one may meet what was prepared for another."""
    others = [Ask(b"SELECT 1"), Ask(b"SELECT 2")]
    with Connection.connect(postgres_url, client_encoding="utf8", **OPTIONS) as second:
        for ask in others:
            connection.fetch(ask)
        for ask in reversed(others):
            second.fetch(ask)
        found = [*prepared(connection), *prepared(second)]
    assert len(found) == 4
    assert all(text == dict(found)[name] for name, text in found)


def test_what_was_dropped_is_prepared_again(connection: Connection) -> None:
    """By the next attempt; the one that finds out has done nothing."""
    connection.fetch(ECHO)
    connection.execute(b"DISCARD ALL")
    with pytest.raises(InvalidSqlStatementName):
        connection.fetch(ECHO)
    assert connection.fetch(ECHO) == [("a", 1, None)]


def test_tables_may_change(connection: Connection) -> None:
    """The next attempt sees them as they are."""
    connection.execute(b"CREATE TABLE changing (a int)")
    connection.execute(b"INSERT INTO changing VALUES (1)")
    assert connection.fetch(Ask(b"SELECT * FROM changing")) == [(1,)]
    connection.execute(b"ALTER TABLE changing ADD b int DEFAULT 2")
    with pytest.raises(FeatureNotSupported):
        connection.fetch(Ask(b"SELECT * FROM changing"))
    assert connection.fetch(Ask(b"SELECT * FROM changing")) == [(1, 2)]


@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
def test_a_statement_that_could_not_be_prepared_is_prepared_later(
    connection: Connection, postgres_url: str, setting: str
) -> None:
    """What waits for a table that is locked is bounded like any other wait."""
    ask = Ask(b"SELECT * FROM locked")
    connection.execute(b"CREATE TABLE locked (a int)")
    connection.execute(f"SET {setting} = '100ms'".encode())
    with psycopg.connect(postgres_url) as other:
        other.execute(b"LOCK TABLE locked")
        with pytest.raises((LockNotAvailable, QueryCanceled)):
            connection.fetch(ask)
    assert prepared(connection) == []
    assert connection.fetch(ask) == connection.fetch(ask) == []
    assert len(prepared(connection)) == 1


def test_a_connection_that_is_lost_while_it_prepares_is_closed(
    connection: Connection, postgres_url: str
) -> None:
    """As it is where it is lost later."""
    connection.execute(b"CREATE TABLE locked (a int)")
    with psycopg.connect(postgres_url) as other, ThreadPoolExecutor(1) as pool:
        other.execute(b"LOCK TABLE locked")
        waiting = pool.submit(connection.fetch, Ask(b"SELECT * FROM locked"))
        find = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
        while other.execute(find, [connection.info.backend_pid]).fetchone() == (0,):
            time.sleep(0.01)
        other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            waiting.result(10)
    assert connection.closed


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (Ask(ECHO.text, ["a\0b", "1"]), psycopg.DataError),
        (Ask(ECHO.text, ["\ud800", "1"]), UnicodeEncodeError),
        (Ask(ECHO.text, ["a", "one"]), psycopg.DataError),
        (Ask(b"SELECT * FROM nowhere"), psycopg.errors.UndefinedTable),
        (Ask(b"ROLLBACK TO nothing", is_control=True), psycopg.errors.NoActiveSqlTransaction),
    ],
)
def test_what_cannot_be_done_leaves_the_connection_as_it_was(
    connection: Connection, ask: Ask, error: type[Exception]
) -> None:
    """No text is cut short; what is refused is refused again, and the rest goes on."""
    for _ in range(2):
        with pytest.raises(error):
            connection.fetch(ask)
    assert connection.fetch(ECHO) == [("a", 1, None)]
    connection.close()
    with pytest.raises(psycopg.OperationalError):
        connection.fetch(ECHO)
