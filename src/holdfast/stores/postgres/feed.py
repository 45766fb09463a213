"""The order of the log: positions that readers give to what was committed, as steps.

A transition draws its `seq` while its entity's row is locked, so what caused it has a lower one;
but transactions commit in another order than they draw, so a reader that went by `seq` would pass
some by. Therefore the first reader that needs positions gives them, to all that is committed and
has none, by `seq`. The function `number_log` does it in a transaction of its own, one at a time:
positions have no gaps, none is given twice, and what was read once stands where it stood. A `seq`
that is missed is looked for again, until no transaction lives that could still commit it.
"""

from __future__ import annotations

from holdfast.stores.contract import LogRow
from holdfast.stores.postgres.statements import Ask, Row, Statements, Steps

MOST = 10_000
"""How many transitions are numbered at a time: other readers wait no longer than that takes."""


def read_log(sql: Statements, after: int, limit: int) -> Steps[list[LogRow]]:
    """Read the log above a position, numbering what is not numbered yet where it is needed."""
    rows = yield sql.ask("read_log", after=after, limit=limit)
    numbered = 1
    while numbered and len(rows) < limit and (yield from _is_behind(sql)):
        numbered = yield from _number(sql)
        last = rows[-1][0] if rows else after
        rows += yield sql.ask("read_log", after=last, limit=limit - len(rows))
    return [LogRow(*row) for row in rows]


def with_positions(sql: Statements, ask: Ask, place: int = 0) -> Steps[list[Row]]:
    """Read rows that hold a position at a place, numbering first where it is still 0."""
    rows = yield ask
    numbered = 1
    while numbered and any(row[place] == 0 for row in rows) and (yield from _is_behind(sql)):
        numbered = yield from _number(sql)
        rows = yield ask
    return rows


def _is_behind(sql: Statements) -> Steps[bool]:
    [[is_behind]] = yield sql.ask("is_behind")
    return bool(is_behind)


def _number(sql: Statements) -> Steps[int]:
    """Number some transitions; answers with 0 where another reader has numbered all."""
    [[numbered]] = yield sql.ask("number_log", most=MOST)
    return int(numbered)
