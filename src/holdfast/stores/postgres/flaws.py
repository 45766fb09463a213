"""What a store in PostgreSQL finds wrong with how it guards its log, as steps."""

from __future__ import annotations

import re

from holdfast.stores.postgres import schema
from holdfast.stores.postgres.statements import Statements, Steps
from holdfast.stores.sql import in_schema, load_migrations

MOST = 20
"""How many entities are named whose state is not what the log says."""

_FUNCTION = re.compile(
    r"CREATE (?:OR REPLACE )?FUNCTION [^(]*?\.(\w+)\(.*?\$\$(.*?)\$\$", re.DOTALL
)
_TRIGGER = re.compile(r"CREATE TRIGGER (\w+) [^;]*")
_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX (\w+) [^;]*")
_CONSTRAINT = re.compile(r"CONSTRAINT (\w+)")
_SPELLING = re.compile(r"(?:[\s()]|using btree)+")


def look(sql: Statements, url: str) -> Steps[list[str]]:
    """Tell what of the schema is gone, positions that are, and states that were changed."""
    found = yield from _changed(sql, (yield from schema.applied(sql, url)))
    [[given, last]] = yield sql.ask("last_positions")
    if given != last:
        found.append(
            f"the log ends at position {last}, and position {given} was the last one given out: "
            "what came between was deleted or moved"
        )
    for machine, id in (yield sql.ask("altered_states", limit=MOST)):
        found.append(f"{machine} {id!r} has another state in the entity table than in the log")
    return found


def _changed(sql: Statements, number: int) -> Steps[list[str]]:
    """Tell what of the schema is not as its migrations make it."""
    migrations = load_migrations("postgres")
    known = migrations[-1].number
    if number != known:
        return [
            f"the guards of the log were not looked at: the store has schema {number}, and this "
            f"code knows schema {known}; verify it with the code that made it"
        ]
    script = "".join(in_schema(migration.script, sql.schema) for migration in migrations)
    rows = yield sql.ask("definitions", schema=sql.schema)
    gone = _definitions(script) - {(kind, name, _plain(kind, text)) for kind, name, text in rows}
    return sorted(f"the {kind} {name} is not there as it was made" for kind, name, _ in gone)


def _definitions(script: str) -> set[tuple[str, str, str]]:
    """Return the kind, the name and the text of what the migrations make."""
    functions = dict(_FUNCTION.findall(script))  # the last one of a name holds
    made = {("function", name, body) for name, body in functions.items()}
    for kind, pattern in (("trigger", _TRIGGER), ("index", _INDEX)):
        made |= {(kind, found[1], _plain(kind, found[0])) for found in pattern.finditer(script)}
    return made | {("constraint", name, "") for name in _CONSTRAINT.findall(script)}


def _plain(kind: str, text: str) -> str:
    """Return a definition as it reads without what the server spells in its own way."""
    return text if kind == "function" else _SPELLING.sub(" ", text.lower().replace('"', "")).strip()
