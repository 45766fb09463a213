"""The order in `dbos`: a durable workflow whose step loads, decides and saves in a transaction."""

from __future__ import annotations

from collections.abc import Sequence

from dbos import DBOS, SQLAlchemyDatasource
from msgspec.json import Decoder, encode
from sqlalchemy import text

from benchmarks.order import PLACE, OrderState, decide
from benchmarks.raw import COMMANDS, METADATA

TABLES = """
    CREATE TABLE orders (id text PRIMARY KEY, version bigint NOT NULL, state jsonb NOT NULL);
    CREATE TABLE order_log (
        id text, version bigint, command jsonb NOT NULL, state jsonb NOT NULL,
        metadata jsonb NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, version)
    )
"""
LOAD = text("SELECT version, CAST(state AS text) FROM orders WHERE id = :id")
INSERT = text("INSERT INTO orders VALUES (:id, 1, CAST(:state AS jsonb))")
UPDATE = text(
    "UPDATE orders SET version = :version, state = CAST(:state AS jsonb)"
    " WHERE id = :id AND version = :version - 1"
)
APPEND = text(
    "INSERT INTO order_log (id, version, command, state, metadata) VALUES (:id, :version,"
    " CAST(:command AS jsonb), CAST(:state AS jsonb), CAST(:metadata AS jsonb))"
)


class ServerOrders:
    """It records the workflow and its step beside what they write; that is what it is for."""

    def __init__(self, url: str, ids: Sequence[str]) -> None:
        url = url.replace("postgresql://", "postgresql+psycopg://")
        DBOS.destroy(destroy_registry=True)
        DBOS(config={"name": "orders", "system_database_url": url, "log_level": "ERROR"})
        self.source = SQLAlchemyDatasource.create(url)
        self.decode = Decoder(OrderState).decode
        with self.source.engine.begin() as connection:
            connection.execute(text(TABLES))
            state = encode(decide(None, PLACE)).decode()
            connection.execute(INSERT, [{"id": id, "state": state} for id in ids])
        move = self.source.transaction(isolation_level="READ COMMITTED")(self._move)

        @DBOS.workflow()
        def handle(id: str) -> None:
            move(id)

        DBOS.launch()
        self.handle = handle

    def _move(self, id: str) -> None:
        session = self.source.sql_session()
        version, state = session.execute(LOAD, {"id": id}).one()
        before = self.decode(state)
        command = COMMANDS[type(before)]
        written = {
            "id": id,
            "version": version + 1,
            "state": encode(decide(before, command)).decode(),
        }
        session.execute(UPDATE, written)
        logged = {"command": encode(command).decode(), "metadata": encode(METADATA).decode()}
        session.execute(APPEND, {**written, **logged})

    def close(self) -> None:
        DBOS.destroy()
        self.source.engine.dispose()
