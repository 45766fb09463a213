"""Reads the SQL files: queries by name, migrations by number, one folder a dialect.

The files can be pasted into the database's own shell as they are: parameters are written `:name`.
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

_FOLDER = Path(__file__).parent
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_END = re.compile(r";\s*(?:--[^\n]*\s*)*\Z")
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")
_SCHEMA = re.compile(r"\bholdfast(?=\.)|(?<=SCHEMA )holdfast\b")
_MIGRATION = re.compile(r"(\d{4})_(\w+)\.sql")
_OLDEST_CODE = re.compile(r"-- oldest-code: (\d+)\n")
_ALONE = re.compile(r"^-- outside of a transaction\n", re.MULTILINE)


class Query(Struct, frozen=True):
    """A named statement. `text` takes its parameters by name, `positional` in the order `names`.

    A parameter that stands twice is twice among the names. `numbered` takes each once, as $1, $2.
    """

    name: str
    text: str
    positional: str
    names: tuple[str, ...]
    numbered: str


class Migration(Struct, frozen=True):
    """A numbered change of the schema; `oldest_code` is the oldest code that runs on its result."""

    number: int
    name: str
    oldest_code: int
    script: str
    in_transaction: bool = True
    """Whether it is applied in one; else each of its statements is by itself, and repeatable."""


def load_queries(dialect: str) -> dict[str, Query]:
    """Return the queries of a dialect by name."""
    pieces = _NAME.split((_FOLDER / dialect / "queries.sql").read_text("utf-8"))
    return {
        name: _query(name, statement)
        for name, statement in zip(pieces[1::2], pieces[2::2], strict=True)
    }


def load_migrations(dialect: str) -> list[Migration]:
    """Return the migrations of a dialect in order."""
    return [_migration(path) for path in sorted((_FOLDER / dialect / "migrations").glob("*.sql"))]


def load_script(dialect: str, name: str) -> str:
    """Return a script of a dialect."""
    return (_FOLDER / dialect / f"{name}.sql").read_text("utf-8")


def in_schema(text: str, schema: str) -> str:
    """Return SQL that is written for the schema `holdfast` as it reads for another one."""
    quoted = schema.replace('"', '""')
    return text if schema == "holdfast" else _SCHEMA.sub(lambda _: f'"{quoted}"', text)


def spelled_out(text: str, /, **values: int | str) -> str:
    """Return a query with the values of its parameters in their places, to be read or pasted."""

    def literal(found: re.Match[str]) -> str:
        value = values[found[1]]
        return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"

    return _PARAMETER.sub(literal, text)


def _query(name: str, statement: str) -> Query:
    text = _END.sub("", statement)
    names = tuple(_PARAMETER.findall(text))
    places = {name: place for place, name in enumerate(dict.fromkeys(names), 1)}
    numbered = _PARAMETER.sub(lambda found: f"${places[found[1]]}", text)
    return Query(name, text, _PARAMETER.sub("?", text), names, numbered)


def _migration(path: Path) -> Migration:
    name = _MIGRATION.fullmatch(path.name)
    script = path.read_text("utf-8")
    oldest_code = _OLDEST_CODE.match(script)
    assert name is not None, f"{path} is not named NNNN_what.sql"
    assert oldest_code is not None, f"{path} does not begin with its oldest code"
    in_transaction = _ALONE.search(script) is None
    return Migration(int(name[1]), name[2], int(oldest_code[1]), script, in_transaction)
