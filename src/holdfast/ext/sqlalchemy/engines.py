"""The driver's connection under a session, and the transaction that is really open there.

The driver of SQLite begins no transaction before the first change of data. A SAVEPOINT before that
is a transaction of its own, which its RELEASE commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util.concurrency import in_greenlet

from holdfast.errors import StoreError

PASSED_OVER = (
    "PostgreSQL refused a statement of the session's transaction, and its error was passed over; "
    "nothing was written: roll the session back, and let such errors through, or make a savepoint "
    "around what may fail"
)
_BEGIN = "BEGIN IMMEDIATE"
"""Takes the lock for writing: a reader that waits for it later may have to be refused."""
_NESTS = "holdfast.nests"
_DRIVERS = ("pysqlite", "psycopg")

_begun: WeakKeyDictionary[SessionTransaction, WeakSet[Connection]] = WeakKeyDictionary()
"""The connections on which sessions were seen to have begun a transaction."""


def nest_savepoints(engine: Engine) -> Engine:
    """Have an engine on SQLite begin a transaction before a SAVEPOINT; return the engine.

    `Session.begin_nested` needs it where it comes before the first change. With another database
    it does nothing.
    """
    if engine.dialect.name == "sqlite" and not event.contains(engine, "savepoint", _before):
        event.listen(engine, "savepoint", _before)
    return engine


def driver_of(connection: Connection) -> object:
    """Return the connection of the driver; raises StoreError for one that cannot be joined."""
    driver = connection.dialect.driver
    if driver == "aiosqlite":
        raise StoreError(
            "a session on aiosqlite cannot be joined: its connection lives in a thread of its own; "
            "nothing was written: use a Session on sqlite3, in asyncio.to_thread, or PostgreSQL"
        )
    if driver not in _DRIVERS:
        raise StoreError(
            f"a session on the driver {driver} cannot be joined; nothing was written: make its "
            'engine with "sqlite://" or with "postgresql+psycopg://"'
        )
    return connection.connection.driver_connection


def has_begun(connection: Connection) -> bool:
    """Tell whether a transaction is open in the database, or is opened by the next statement."""
    driver: Any = driver_of(connection)
    if isinstance(driver, sqlite3.Connection):
        return driver.in_transaction
    # To ask the store besides would hold up whoever awaits.
    return connection.dialect.is_async or not driver.autocommit


def expect_awaited(session: Session, binding: Mapping[str, Any], url: str) -> None:
    """Raise StoreError where a session is awaited, and whoever calls this is not."""
    if session.get_bind(**binding).dialect.is_async and not in_greenlet():
        raise StoreError(
            f"the session that {url} is joined to is awaited, and this call is not; nothing was "
            "written: await session.run_sync(…) of a function that makes it"
        )


def outermost(
    session: Session, binding: Mapping[str, Any]
) -> tuple[SessionTransaction, Connection]:
    """Return the session's outermost transaction, and its connection: no savepoint is made yet."""
    root = session.get_transaction()
    if root is None:
        session.connection(bind_arguments=dict(binding))
        root = cast("SessionTransaction", session.get_transaction())
    rest = dict(binding)
    return root, root.connection(rest.pop("mapper", None), **rest)


def begin(session: Session, binding: Mapping[str, Any]) -> None:
    """Begin a transaction on the session's connection, where it has not really begun.

    Raises StoreError where what the session takes for a savepoint may be the whole transaction.
    """
    root, connection = outermost(session, binding)
    driver = driver_of(connection)
    if _commits_by_itself(connection, driver):
        raise StoreError(
            "the connection of the session is in AUTOCOMMIT, where no transaction can be joined; "
            "nothing was written: leave isolation_level and autocommit as they are"
        )
    seen = _begun.setdefault(root, WeakSet())
    if not isinstance(driver, sqlite3.Connection):
        seen.add(connection)
        return
    if connection in seen and driver.in_transaction:
        return
    if not driver.in_transaction:
        _begin_immediately(connection)
    elif connection.in_nested_transaction() and not _nests(connection, driver):
        raise StoreError(
            "the session is in a nested transaction that SQLite may take for the whole one, since "
            "its driver begins none before a SAVEPOINT; nothing was written: call "
            "nest_savepoints(engine) where the engine is made"
        )
    seen.add(connection)


def expect_intact(session: Session) -> None:
    """Raise StoreError where PostgreSQL would take the session's COMMIT for a ROLLBACK, unsaid."""
    root = session.get_transaction()
    for connection in list(_begun.get(root, ())) if root is not None else ():
        if has_failed(connection):
            raise StoreError(PASSED_OVER)


def has_failed(connection: Connection) -> bool:
    """Whether PostgreSQL refused a statement of the transaction on a connection."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.driver != "psycopg":
        return False
    from holdfast.stores.postgres import drive

    return drive.has_failed(driver)


def _before(connection: Connection, name: str | None) -> None:
    """Begin before a savepoint is made."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection) or _ends_nothing(driver):
        return
    if not driver.in_transaction:
        connection.exec_driver_sql(_BEGIN)
        connection.info[_NESTS] = True
    elif not connection.in_nested_transaction():
        connection.info[_NESTS] = True


def _begin_immediately(connection: Connection) -> None:
    try:
        connection.exec_driver_sql(_BEGIN)
    except DBAPIError as error:
        is_locked = "locked" in str(error.orig)
        advice = ", try again, or wait longer: connect_args={'timeout': 30}" if is_locked else ""
        raise StoreError(
            f"the session could not begin to write: {error.orig}; nothing was written{advice}"
        ) from error


def _nests(connection: Connection, driver: sqlite3.Connection) -> bool:
    """Whether a savepoint on the connection is known to lie within a transaction."""
    if connection.info.get(_NESTS) or getattr(driver, "autocommit", None) is False:
        return True
    # Somebody begins for himself, as SQLAlchemy's docs say.
    return driver.isolation_level is None and bool(connection.dispatch.begin)


def _commits_by_itself(connection: Connection, driver: object) -> bool:
    if _ends_nothing(driver):
        return True
    levels = (
        connection.get_execution_options().get("isolation_level"),
        getattr(connection.dialect, "_on_connect_isolation_level", None),
    )
    return "AUTOCOMMIT" in levels


def _ends_nothing(driver: object) -> bool:
    """Whether the driver's commit does nothing: psycopg's, and Python's from 3.12 on, may be so."""
    return getattr(driver, "autocommit", None) is True
