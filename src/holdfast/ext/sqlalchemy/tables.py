"""The store's tables as queries see them, and ids as either side of a comparison needs them.

The store keeps ids as text that is compared by its bytes. A model keeps them as it likes. An index
serves where the other side is converted: to the model's type to find instances of entities, to
text to find entities of instances.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from typing import cast as as_type

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Dialect,
    FromClause,
    Integer,
    String,
    Text,
    TypeDecorator,
    and_,
    case,
    cast,
    collate,
    column,
    func,
    or_,
)
from sqlalchemy import types as sqltypes
from sqlalchemy.exc import CompileError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import TableClause
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from holdfast.ext.sqlalchemy.identity import Terms
from holdfast.machine.canonical import format_time, parse_time

_MOST = "9223372036854775807"


class StoredTime(TypeDecorator[datetime]):
    """A moment as the store keeps it, which sorts as text."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = String
    cache_ok: bool | None = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Write a moment; one without a time zone is refused."""
        return None if value is None else format_time(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """Read a moment, in UTC."""
        return None if value is None else parse_time(value)


class StoreTable(TableClause):
    """A table of the store: in its schema on PostgreSQL, in the file itself on SQLite."""

    inherit_cache: bool | None = True


@compiles(StoreTable)
def _no_table(element: StoreTable, compiler: Any, **options: Any) -> str:
    if compiler.dialect.name == "default":  # what a query is printed with
        return _postgres_table(element, compiler, **options)
    raise CompileError(f"a store is on SQLite or PostgreSQL, not on {compiler.dialect.name}")


@compiles(StoreTable, "sqlite")
def _sqlite_table(element: StoreTable, compiler: Any, **options: Any) -> str:
    plain = TableClause(element.name, schema="main")
    return as_type("str", compiler.visit_table(plain, **options))


@compiles(StoreTable, "postgresql")
def _postgres_table(element: StoreTable, compiler: Any, **options: Any) -> str:
    return as_type("str", compiler.visit_table(element, **options))


class Dialectal(FunctionElement[Any]):
    """One of two expressions: the first on SQLite, the second on PostgreSQL."""

    inherit_cache: bool | None = True

    def __init__(self, sqlite: ColumnElement[Any], postgres: ColumnElement[Any]) -> None:
        super().__init__(sqlite, postgres)
        self.type = postgres.type


@compiles(Dialectal)
def _chosen(element: Dialectal, compiler: Any, **options: Any) -> str:
    sqlite, postgres = element.clauses
    chosen = sqlite if compiler.dialect.name == "sqlite" else postgres
    return as_type("str", compiler.process(Grouping(chosen), **options))


def entities(schema: str) -> FromClause:
    """Return the table of entities."""
    table = StoreTable(
        "entity",
        column("machine", Text),
        column("id", Text),
        column("state_type", Text),
        column("version", BigInteger),
        schema=schema,
    )
    return table.alias("holdfast_entity")


def transitions(schema: str) -> FromClause:
    """Return the log."""
    texts = ("machine", "id", "kind", "from_type", "to_type", "key")
    table = StoreTable(
        "transition",
        *[column(name, Text) for name in texts],
        column("version", BigInteger),
        column("metadata", JSON),
        column("at", StoredTime),
        column("recorded_at", StoredTime),
        schema=schema,
    )
    return table.alias("holdfast_transition")


def id_as_text(ids: Any, terms: Terms) -> ColumnElement[str]:
    """Return the ids of a model as the store keeps them."""
    to_text: dict[str, Callable[[], ColumnElement[Any]]] = {
        "integer": lambda: cast(ids, Text),
        "text": lambda: cast(ids, Text),
        "uuid": lambda: _hyphenated(ids, terms),
    }
    text = to_text[terms.kind]()
    return Dialectal(text, collate(text, "C"))


def text_as_id(text: ColumnElement[str], terms: Terms) -> ColumnElement[Any]:
    """Return the store's ids as the model keeps them, where `is_id` holds."""
    if terms.kind == "integer":
        number = cast(text, BigInteger)
        return Dialectal(number, case((is_id(text, terms), number)))  # which is not read before
    if terms.kind == "uuid":
        plain = func.replace(text, "-", "")
        if not _is_native(terms):
            return plain
        return Dialectal(plain, case((is_id(text, terms), cast(text, terms.id_column.type))))
    collation = getattr(terms.id_column.type, "collation", None)
    return Dialectal(text, collate(text, collation or "default"))


def is_id(text: ColumnElement[str], terms: Terms) -> ColumnElement[bool]:
    """Tell whether an id of the store can be one of the model's; never NULL."""
    if terms.kind == "integer":
        return Dialectal(cast(cast(text, BigInteger), Text) == text, _is_integer(text))
    if terms.kind == "uuid":
        return _is_uuid(text)
    return text.is_not(None)


def _is_integer(text: ColumnElement[str]) -> ColumnElement[bool]:
    """Tell on PostgreSQL, which refuses to cast what is none."""
    return or_(
        text.regexp_match("^(0|-?[1-9][0-9]{0,17})$"),
        and_(text.regexp_match("^-?[1-9][0-9]{18}$"), func.ltrim(text, "-") <= _MOST),
    )


def _is_uuid(text: ColumnElement[str]) -> ColumnElement[bool]:
    digits = func.replace(text, "-", "")
    return and_(
        func.ltrim(digits, "0123456789abcdef") == "",
        func.length(digits, type_=Integer) == 32,
        func.length(text, type_=Integer) == 36,
        *[func.substr(text, place, 1) == "-" for place in (9, 14, 19, 24)],
    )


def _hyphenated(ids: Any, terms: Terms) -> ColumnElement[str]:
    """Return UUIDs as text, which SQLite keeps as 32 digits."""
    ends = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    digits = sqltypes.String()
    first, *rest = [func.substr(ids, start, count, type_=digits) for start, count in ends]
    text: Any = first
    for part in rest:
        text = text + "-" + part
    return Dialectal(text, cast(ids, Text)) if _is_native(terms) else text


def _is_native(terms: Terms) -> bool:
    kind = terms.id_column.type
    return isinstance(kind, sqltypes.Uuid) and kind.native_uuid
