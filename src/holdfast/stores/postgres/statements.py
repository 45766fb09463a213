"""The statements of a store in PostgreSQL, and the steps that ask for them.

What the store does is written once, as generators that yield statements and are sent their rows.
Whoever drives them decides how to wait, and what to do when the connection is lost.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from msgspec import Struct

from holdfast.stores.sql import in_schema, load_queries, spelled_out

T = TypeVar("T")
Row = tuple[Any, ...]


class Ask(Struct, frozen=True):
    """A statement to execute; its rows are sent back into the steps.

    Parameters are text, which the server reads as what stands in their place: so a statement is
    the same to it whatever the values are, and is planned once a connection.
    """

    text: bytes
    parameters: Sequence[str | None] = ()
    is_commit: bool = False
    """Whether what it did stays done though its answer is lost."""
    is_control: bool = False
    """Whether it begins or ends a transaction."""


Steps = Generator[Ask, list[Row], T]


class Statements:
    """The statements of a store that lives in a schema."""

    begin = Ask(b"BEGIN ISOLATION LEVEL READ COMMITTED", is_control=True)
    commit = Ask(b"COMMIT", is_commit=True, is_control=True)
    rollback = Ask(b"ROLLBACK", is_control=True)

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._queries = load_queries("postgres")
        self._texts = {
            name: in_schema(query.numbered, schema).encode()
            for name, query in self._queries.items()
        }
        self._names = {
            name: tuple(dict.fromkeys(query.names)) for name, query in self._queries.items()
        }

    def ask(self, name: str, /, **values: object) -> Ask:
        """Return a statement with its parameters."""
        return Ask(self._texts[name], [to_text(values[each]) for each in self._names[name]])

    def ask_in_order(
        self, name: str, /, parameters: Sequence[str | None], *, is_commit: bool = False
    ) -> Ask:
        """Return a statement whose parameters are given in the order of their names, as text."""
        return Ask(self._texts[name], parameters, is_commit)

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of a statement's parameters in their order."""
        return self._names[name]

    def spelled_out(self, name: str, /, **values: int | str) -> str:
        """Return a statement to be read or pasted, with the values of its parameters."""
        return spelled_out(in_schema(self._queries[name].text, self.schema), **values) + ";\n"


class JoinedStatements(Statements):
    """The same for a transaction of somebody else's: savepoints take the place of transactions.

    No positions are given in it: they would hold up all readers until it ends.
    """

    begin = Ask(b"SAVEPOINT holdfast", is_control=True)
    commit = Ask(b"RELEASE SAVEPOINT holdfast", is_control=True)
    rollback = Ask(b"ROLLBACK TO holdfast; RELEASE SAVEPOINT holdfast", is_control=True)

    def __init__(self, schema: str) -> None:
        super().__init__(schema)
        self._texts["is_behind"] = b"SELECT false"


statements_in = lru_cache(maxsize=64)(Statements)
"""Return the statements of a schema."""
joined_statements_in = lru_cache(maxsize=64)(JoinedStatements)
"""Return the statements of a schema for transactions of others."""


def to_text(value: object) -> str | None:
    """Return a parameter as text; a list or a tuple as an array."""
    if value is None or isinstance(value, str):
        return value
    return to_array(value) if isinstance(value, list | tuple) else str(value)


def to_array(values: Iterable[object]) -> str:
    """Return the text of an array."""
    return f"{{{','.join([_element(value) for value in values])}}}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if not isinstance(value, str):
        return str(value)
    if '"' in value or "\\" in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'
