"""Reads the SQL files: queries by name, migrations by number, one folder a dialect.

The files can be pasted into the database's own shell as they are: parameters are written `:name`.
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

_FOLDER = Path(__file__).parent
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")
_MIGRATION = re.compile(r"(\d{4})_(\w+)\.sql")
_OLDEST_CODE = re.compile(r"-- oldest-code: (\d+)\n")


class Query(Struct, frozen=True):
    """A named statement. `text` takes its parameters by name, `positional` in the order `names`.

    A parameter that stands twice is twice among the names.
    """

    name: str
    text: str
    positional: str
    names: tuple[str, ...]


class Migration(Struct, frozen=True):
    """A numbered change of the schema; `oldest_code` is the oldest code that runs on its result."""

    number: int
    name: str
    oldest_code: int
    script: str


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


def _query(name: str, statement: str) -> Query:
    text = statement[: statement.rindex(";")]
    return Query(name, text, _PARAMETER.sub("?", text), tuple(_PARAMETER.findall(text)))


def _migration(path: Path) -> Migration:
    name = _MIGRATION.fullmatch(path.name)
    script = path.read_text("utf-8")
    oldest_code = _OLDEST_CODE.match(script)
    assert name is not None, f"{path} is not named NNNN_what.sql"
    assert oldest_code is not None, f"{path} does not begin with its oldest code"
    return Migration(int(name[1]), name[2], int(oldest_code[1]), script)
