"""The order kept by hand in `sqlite3`: the statements that Holdfast sends, on its schema.

`RawOrders` works out what it writes, in straight lines and for this order alone: it decodes the
state, decides by a nested `match`, encodes, draws the token, reads the clock and chains the digest.
It checks nothing but the version. `Statements` sends values made beforehand, which no program
could; it shows what the database itself takes.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from msgspec.json import Decoder, encode

from benchmarks.order import (
    CIRCLE,
    PLACE,
    OrderCommand,
    OrderState,
    Packed,
    Paid,
    Pending,
    Shipped,
    decide,
)
from holdfast import open_store
from holdfast.stores.sql import load_queries

METADATA = {"by": "alice@example.com"}
TIME = "2026-03-14T09:26:53.589793Z"
TOKEN = "9f86d081884c7d659a2feaa0c55ad015"
DIGEST = TOKEN + TOKEN

QUERIES = load_queries("sqlite")
LOAD = QUERIES["load"].positional
LOAD_MANY = QUERIES["load_many"].positional
INSERT_ENTITY = QUERIES["insert_entity"].positional
UPDATE_ENTITY = QUERIES["update_entity"].positional
INSERT_TRANSITION = QUERIES["insert_transition"].positional

WRITTEN = {
    "load": "machine id",
    "load_many": "wanted",
    "insert_entity": "machine id version state_type state schema_version created_at updated_at "
    "entered_version digest",
    "update_entity": "version state_type state schema_version created_at updated_at "
    "entered_version digest machine id expected",
    "insert_transition": "machine id version kind from_type to_type command_type command events "
    "state command_schema_version state_schema_version metadata key token at recorded_at digest",
}
"""The parameters of each statement, in the order that this file gives them."""


Written = tuple[tuple[Any, ...], tuple[Any, ...]]
"""The parameters that write an entity, and those that write its log."""


class Statements:
    """One connection; the statement cache of `sqlite3` keeps the statements prepared."""

    def __init__(self, path: str, synchronous: str, ids: Sequence[str]) -> None:
        for name, parameters in WRITTEN.items():
            assert QUERIES[name].names == tuple(parameters.split()), f"{name} has changed"
        with open_store(f"sqlite:///{path}") as store:
            store.migrate()
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute(f"PRAGMA synchronous = {synchronous}")
        self.moves = moves()
        self.place(ids)

    def place(self, ids: Sequence[str]) -> None:
        """Create the orders, in one transaction."""
        to_type, state, command_type, command, metadata = self.moves[None]
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        for id in ids:
            entity = ("order", id, 1, to_type, state, 1, TIME, TIME, 1, DIGEST)
            execute(INSERT_ENTITY, entity)
            log = ("order", id, 1, "command", None, to_type, command_type, command, None, state)
            execute(INSERT_TRANSITION, (*log, 1, 1, metadata, None, TOKEN, TIME, TIME, DIGEST))
        execute("COMMIT")

    def handle(self, id: str) -> None:
        """Move one order on: read it, and write it and its log under its version."""
        execute = self.connection.execute
        row = execute(LOAD, ("order", id)).fetchone()
        entity, log = self._written(row)
        execute("BEGIN IMMEDIATE")
        if execute(UPDATE_ENTITY, entity).rowcount != 1:
            execute("ROLLBACK")
            raise RuntimeError(f"{id} was changed by somebody else")
        execute(INSERT_TRANSITION, log)
        execute("COMMIT")

    def handle_many(self, ids: Sequence[str]) -> None:
        """Move many orders on in one transaction."""
        connection = self.connection
        wanted = json.dumps([("order", id) for id in ids])
        rows = connection.execute(LOAD_MANY, (wanted,)).fetchall()
        written = [self._written(row) for row in rows]
        connection.execute("BEGIN IMMEDIATE")
        entities = [entity for entity, _ in written]
        if connection.executemany(UPDATE_ENTITY, entities).rowcount != len(ids):
            connection.execute("ROLLBACK")
            raise RuntimeError("an order was changed by somebody else")
        connection.executemany(INSERT_TRANSITION, [log for _, log in written])
        connection.execute("COMMIT")

    def close(self) -> None:
        self.connection.close()

    def _written(self, row: Any) -> Written:
        made = self.moves[row[3]]
        return _bound(row, *made, TOKEN, TIME, DIGEST)


class RawOrders(Statements):
    """The same, with the values that a program must work out for itself."""

    def __init__(self, path: str, synchronous: str, ids: Sequence[str]) -> None:
        super().__init__(path, synchronous, ids)
        self.decode = Decoder(OrderState).decode

    def _written(self, row: Any) -> Written:
        machine, id, version, from_type, text, _, _, updated_at, _, previous = row
        state = self.decode(text)
        command = COMMANDS[type(state)]
        after = decide(state, command)
        written, payload = encode(after).decode(), encode(command).decode()
        metadata = encode(METADATA).decode()
        to_type, command_type = type(after).__name__, type(command).__name__
        at = max(datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z", updated_at)
        token = os.urandom(16).hex()
        new = version + 1
        chained = (
            f"{previous}\0{machine}\0{id}\0{new}\0command\0{from_type}\0{to_type}\0{command_type}\0"
            f"{payload}\0\0{written}\x001\x001\0{metadata}\0\0{token}\0{at}\0{at}"
        )
        digest = sha256(chained.encode()).hexdigest()
        return _bound(row, to_type, written, command_type, payload, metadata, token, at, digest)


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
) -> Written:
    machine, id, version, from_type, _, schema, created_at, _, _, _ = row
    new = version + 1
    move = (machine, id, new, "command", from_type, to_type, command_type, command, None, state)
    return (
        (new, to_type, state, schema, created_at, at, new, digest, machine, id, version),
        (*move, 1, 1, metadata, None, token, at, at, digest),
    )


NEXT = dict(zip(CIRCLE, (*CIRCLE[1:], CIRCLE[0]), strict=True))
COMMANDS: dict[type, OrderCommand] = dict(
    zip((Pending, Paid, Packed, Shipped), CIRCLE, strict=True)
)


def moves() -> dict[str | None, tuple[str, str, str, str, str]]:
    """Return, by the name of a state, what its command writes; encoded beforehand."""
    metadata = encode(METADATA).decode()
    made: dict[str | None, tuple[str, str, str, str, str]] = {}
    state = None
    for command in (PLACE, *CIRCLE):
        after = decide(state, command)
        made[None if state is None else type(state).__name__] = (
            type(after).__name__,
            encode(after).decode(),
            type(command).__name__,
            encode(command).decode(),
            metadata,
        )
        state = after
    return made
