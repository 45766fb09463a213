"""The statements that a connection has prepared: for how long, and what is made of their values."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName

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
