"""Drives the steps of a store on a connection that blocks."""

from __future__ import annotations

from typing import Literal, TypeVar

import psycopg

from holdfast.errors import StoreError
from holdfast.stores.contract import WriteRefusedError
from holdfast.stores.postgres.errors import statement_error
from holdfast.stores.postgres.statements import Ask, Row, Steps

T = TypeVar("T")
Connection = psycopg.Connection[Row]
Doing = Literal["open", "read", "write", "migrate"]


def drive(steps: Steps[T], connection: Connection, url: str, doing: Doing) -> T:
    """Drive steps to their end; where a statement fails, StoreError is raised inside them."""
    try:
        ask = next(steps)
        while True:
            try:
                rows = fetch(connection, ask, url, doing)
            except StoreError as error:
                ask = steps.throw(error)
            else:
                ask = steps.send(rows)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # (what the steps return)


def fetch(connection: Connection, ask: Ask, url: str, doing: Doing) -> list[Row]:
    """Execute a statement and return its rows."""
    try:
        cursor = connection.execute(ask.text, ask.parameters, prepare=not ask.is_control)
        result = cursor.pgresult
        return cursor.fetchall() if result is not None and result.nfields else []
    except UnicodeEncodeError as error:
        kind = WriteRefusedError if doing == "write" else StoreError
        raise kind(f"cannot {doing} {url}: {error}; nothing was written") from error
    except psycopg.Error as error:
        raise statement_error(
            url, error, doing=doing, lost=connection.closed, is_commit=ask.is_commit
        ) from error
