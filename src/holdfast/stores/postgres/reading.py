"""What is read from a store in PostgreSQL, as steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from holdfast.machine.canonical import parse_time
from holdfast.stores.contract import Applied, EntityRow, Key, Loaded, LogRow
from holdfast.stores.postgres.feed import with_positions
from holdfast.stores.postgres.statements import Row, Statements, Steps

Now = Callable[[str], datetime]
"""Makes the time that a load answers with of what the database says."""

_ENTITY = slice(1, 11)
_APPLIED = 11
_LOG = len(LogRow.__struct_fields__)


def load(sql: Statements, keys: Sequence[Key], now: Now) -> Steps[list[Loaded]]:
    """Load entities, in one statement and so as of one moment."""
    if len(keys) == 1 and not keys[0].keys:
        [row] = yield sql.ask("load", machine=keys[0].machine, id=keys[0].id)
        return [_loaded(row, now(row[0]))]
    machines, ids = [key.machine for key in keys], [key.id for key in keys]
    if not any(key.keys for key in keys):
        rows = yield sql.ask("load_many", machines=machines, ids=ids)
        time = now(rows[0][0]) if rows else None
        return [_loaded(row, time) for row in rows if time is not None]
    return (yield from _load_with_keys(sql, keys, now))


def _load_with_keys(sql: Statements, keys: Sequence[Key], now: Now) -> Steps[list[Loaded]]:
    asked = [(place, text) for place, key in enumerate(keys) for text in (key.keys or (None,))]
    ask = sql.ask(
        "load_keys",
        machines=[keys[place].machine for place, _ in asked],
        ids=[keys[place].id for place, _ in asked],
        keys=[text for _, text in asked],
    )
    rows = yield from with_positions(sql, ask, _APPLIED)
    time = now(rows[0][0])
    answers: dict[int, Loaded] = {}
    for (place, text), row in zip(asked, rows, strict=True):
        answer = answers.setdefault(place, _loaded(row, time))
        applied = row[_APPLIED:]
        if text is not None and applied[0] is not None:
            answer.applied[text] = _applied(applied)
    return list(answers.values())


def history(sql: Statements, machine: str, id: str, after: int, limit: int) -> Steps[list[LogRow]]:
    """Read an entity's transitions in order."""
    ask = sql.ask("history", machine=machine, id=id, after=after, limit=limit)
    rows = yield from with_positions(sql, ask)
    return [LogRow(*row) for row in rows]


def as_written(sql: Statements, machine: str, id: str, version: int) -> Steps[LogRow | None]:
    """Read the transition of a version, and number nothing."""
    rows = yield sql.ask("history", machine=machine, id=id, after=version - 1, limit=1)
    return LogRow(*rows[0]) if rows else None


def transition_at(
    sql: Statements, machine: str, id: str, version: int | None, time: str | None
) -> Steps[Applied | None]:
    """Read the transition of a version, or the last one at or before a time."""
    if version is None:
        ask = sql.ask("transition_at_time", machine=machine, id=id, time=time)
    else:
        ask = sql.ask("transition_at_version", machine=machine, id=id, version=version)
    rows = yield from with_positions(sql, ask)
    return _applied(rows[0]) if rows else None


def find(
    sql: Statements, machine: str, state_types: Sequence[str] | None, after: str, limit: int
) -> Steps[list[EntityRow]]:
    """Read live entities by id."""
    if state_types is None:
        rows = yield sql.ask("find", machine=machine, after=after, limit=limit)
    else:
        states = list(dict.fromkeys(state_types))
        rows = yield sql.ask(
            "find_in_state", machine=machine, state_types=states, after=after, limit=limit
        )
    return [EntityRow(*row) for row in rows]


def count(sql: Statements, machine: str) -> Steps[dict[str, int]]:
    """Count live entities by state."""
    return dict((yield sql.ask("count", machine=machine)))


def entities(sql: Statements, after: tuple[str, str], limit: int) -> Steps[list[EntityRow]]:
    """Read the rows of all entities by machine and id."""
    rows = yield sql.ask("entities", machine=after[0], id=after[1], limit=limit)
    return [EntityRow(*row) for row in rows]


def checkpoint(sql: Statements, name: str) -> Steps[int | None]:
    """Read how far a named reader came."""
    rows = yield sql.ask("load_checkpoint", name=name)
    return rows[0][0] if rows else None


def time(sql: Statements) -> Steps[str]:
    """Read the time of the database."""
    [[text]] = yield sql.ask("time")
    return str(text)


def _loaded(row: Row, now: datetime) -> Loaded:
    if row[1] is None:
        return Loaded(None, now, {})
    entity = EntityRow(*row[_ENTITY])
    return Loaded(entity, max(now, parse_time(entity.updated_at)), {})


def _applied(row: Row) -> Applied:
    return Applied(LogRow(*row[:_LOG]), *row[_LOG:])
