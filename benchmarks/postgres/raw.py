"""The order kept by hand in psycopg: the statements that Holdfast sends, on its schema.

`RawOrders` works out what it writes, as its namesake for SQLite does; `Statements` sends values
made beforehand, which shows what the database itself takes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import psycopg
from msgspec.json import Decoder, encode

from benchmarks.order import OrderState, decide
from benchmarks.raw import COMMANDS, DIGEST, METADATA, TIME, TOKEN, moves
from holdfast.stores.postgres.statements import to_array
from holdfast.stores.sql import load_queries

QUERIES = load_queries("postgres")
LOAD = QUERIES["load"].numbered.encode()
LOAD_MANY = QUERIES["load_many"].numbered.encode()
WRITE = QUERIES["write"].numbered.encode()
WRITE_MANY = QUERIES["write_many"].numbered.encode()
WRITTEN = (
    *("machine", "id", "version", "kind", "from_type", "to_type", "command_type", "command"),
    *("events", "state", "command_schema_version", "state_schema_version", "metadata", "key"),
    *("token", "at", "recorded_at", "digest"),
    *("expected", "schema_version", "created_at", "entered_version"),
)
"""The parameters of both statements that write, in the order that this file gives them."""


class Statements:
    """One connection, on which every statement is prepared and commits by itself."""

    def __init__(self, url: str) -> None:
        for name in ("write", "write_many"):
            assert tuple(dict.fromkeys(QUERIES[name].names)) == WRITTEN, f"{name} has changed"
        self.connection = psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor)
        self.connection.execute(QUERIES["prepare_session"].numbered.encode())
        self.moves = moves()

    def handle(self, id: str) -> None:
        """Move an order on: one SELECT, one statement that writes."""
        row = self._execute(LOAD, ["order", id]).fetchone()
        if self._execute(WRITE, self._written(row)).fetchone() is None:
            raise RuntimeError(f"{id} was changed by somebody else")

    def handle_many(self, ids: Sequence[str]) -> None:
        """Move many orders on with as many statements."""
        machines = to_array(["order"] * len(ids))
        rows = self._execute(LOAD_MANY, [machines, to_array(ids)]).fetchall()
        entries = [self._written(row) for row in rows]
        columns = [to_array(column) for column in zip(*entries, strict=True)]
        if len(self._execute(WRITE_MANY, columns).fetchall()) != len(ids):
            raise RuntimeError("an order was changed by somebody else")

    def close(self) -> None:
        self.connection.close()

    def _execute(self, statement: bytes, parameters: Sequence[str | None]) -> Any:
        return self.connection.execute(statement, parameters, prepare=True)

    def _written(self, row: Any) -> list[str | None]:
        made = self.moves[row[4]]
        return _bound(row, *made, TOKEN, TIME, DIGEST)


class RawOrders(Statements):
    """The same, with the values that a program must work out for itself."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.decode = Decoder(OrderState).decode

    def _written(self, row: Any) -> list[str | None]:
        now, machine, id, version, from_type, text, _, _, updated_at, _, previous = row
        state = self.decode(text)
        command = COMMANDS[type(state)]
        after = decide(state, command)
        written, payload = encode(after).decode(), encode(command).decode()
        metadata = encode(METADATA).decode()
        to_type, command_type = type(after).__name__, type(command).__name__
        at = max(now, updated_at)
        recorded_at = datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
        token = os.urandom(16).hex()
        chained = (
            f"{previous}\0{machine}\0{id}\0{version + 1}\0command\0{from_type}\0{to_type}\0"
            f"{command_type}\0{payload}\0\0{written}\x001\x001\0{metadata}\0\0{token}\0{at}\0"
            f"{recorded_at}"
        )
        digest = sha256(chained.encode()).hexdigest()
        bound = _bound(row, to_type, written, command_type, payload, metadata, token, at, digest)
        bound[16] = recorded_at
        return bound


def _bound(  # noqa: PLR0917 (a column each)
    row: Any,
    to_type: str,
    state: str,
    command_type: str,
    command: str,
    metadata: str,
    token: str,
    at: str,
    digest: str,
) -> list[str | None]:
    _, machine, id, version, from_type, _, schema, created_at, _, _, _ = row
    new = str(version + 1)
    move = [machine, id, new, "command", from_type, to_type, command_type, command, None, state]
    log = ["1", "1", metadata, None, token, at, at, digest]
    return [*move, *log, str(version), str(schema), created_at, new]
