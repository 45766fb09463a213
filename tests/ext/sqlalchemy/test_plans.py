"""Databases answer queries by state with indexes, and read no table from end to end."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session
from tests.ext.sqlalchemy.shop import Label, Order, Shop, Ticket

COUNT = 100_000
HITS = 10

FILL = """
INSERT INTO {entity} (machine, id, version, state_type, schema_version, created_at, updated_at,
    entered_version, digest)
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
SELECT :machine, {id}, 1, CASE WHEN n > :count - :hits THEN :rare ELSE :usual END, 1, '', '', 1, ''
FROM numbers
"""
LOG = """
INSERT INTO {log} (machine, id, version, kind, at, recorded_at, digest)
SELECT machine, id, version, 'command', '', '', '' FROM {entity}
"""
UUIDS = {
    "sqlite": "printf('%08x-0000-0000-0000-000000000000', n)",
    "postgresql": "lpad(to_hex(n), 8, '0') || '-0000-0000-0000-000000000000'",
}


def fill(shop: Shop) -> None:
    """Store many instances and their entities, of which few are in one state."""
    dialect = shop.engine.dialect.name
    schema = "" if dialect == "sqlite" else "holdfast."
    ids = {"order": "CAST(n AS text)", "ticket": UUIDS[dialect]}
    with Session(shop.engine) as session:
        for machine, rare, usual in (
            ("order", "cancelled", "shipped"),
            ("ticket", "closed", "open"),
        ):
            statement = text(FILL.format(entity=f"{schema}entity", id=ids[machine]))
            given = {"count": COUNT, "hits": HITS, "rare": rare, "usual": usual}
            session.execute(statement, {**given, "machine": machine})
        session.execute(text(LOG.format(log=f"{schema}transition", entity=f"{schema}entity")))
        session.execute(insert(Order), [{"id": n} for n in range(1, COUNT + 1)])
        drawn = [UUID(int=n << 96) for n in range(1, COUNT + 1)]
        session.execute(insert(Ticket), [{"id": id} for id in drawn])
        session.execute(insert(Label), [{"name": str(id)} for id in drawn])
        session.commit()
    with shop.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def plan_of(session: Session, query: Any) -> list[str]:
    """Return the steps by which the database answers a query."""
    dialect = session.get_bind().dialect
    compiled = query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    words = "EXPLAIN QUERY PLAN" if dialect.name == "sqlite" else "EXPLAIN"
    rows = session.connection().exec_driver_sql(f"{words} {str(compiled).replace('%', '%%')}")
    return [str(row[-1]).strip() for row in rows]


def scans(steps: list[str]) -> list[str]:
    """Return the steps that read a table from end to end."""
    return [
        step
        for step in steps
        if "Seq Scan" in step or (step.startswith("SCAN") and "USING" not in step)
    ]


def test_few_of_many_are_found_without_a_scan(shop: Shop) -> None:
    """By the state of the entity first, and by the key of the model then; from a row or to one."""
    fill(shop)
    last = Order.most_recent_transition()
    with Session(shop.engine) as session:
        model: Any
        for model, state in ((Order, "cancelled"), (Ticket, "closed"), (Label, "closed")):
            query = select(model.id).where(model.in_state(state))
            assert len(session.scalars(query).all()) == HITS
            assert scans(plan_of(session, query)) == []
        queries: list[Any] = [
            select(Order.id).where(Order.in_state("cancelled", "paid"), Order.lines == 1),
            select(Order.id).where(Order.id == 7, Order.not_in_state("shipped")),
            select(Order.id).where(Order.id == 7, Order.not_in_state()),
            select(Order.id).where(Order.id == 7, Order.in_state("pending")),
            select(last.at).where(Order.id == 7),
            select(Order.id, last.to_state).where(Order.in_state("cancelled")),
        ]
        for query in queries:
            assert scans(plan_of(session, query)) == [], query
