"""The commit of a transaction of Django's that PostgreSQL would roll back: it raises instead."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import InternalError

from holdfast.errors import StoreError


class RolledBackError(StoreError, InternalError):
    """What was to be committed was rolled back; Django takes it for what it is, too."""


def has_failed(connection: BaseDatabaseWrapper) -> bool:
    """Whether PostgreSQL would take a COMMIT for a ROLLBACK, without a word."""
    return connection.vendor == "postgresql" and _has_failed(connection.connection)


def watch(connection: BaseDatabaseWrapper) -> None:
    """Have the commit of the open transaction raise where PostgreSQL would roll back.

    Django would call what is to follow the commit then, which is none. It has no signal before a
    commit, so the driver's connection is given other ends, until the transaction is over.
    """
    driver: Any = connection.connection
    if connection.vendor == "postgresql" and "commit" not in vars(driver):
        driver.commit = partial(_commit, driver, connection.alias)
        driver.rollback = partial(_rollback, driver)


def _has_failed(driver: Any) -> bool:
    from holdfast.stores.postgres import drive

    return drive.has_failed(driver)


def _commit(driver: Any, alias: str) -> None:
    _forget(driver)
    if _has_failed(driver):
        raise RolledBackError(
            f"PostgreSQL refused a statement of the transaction on {alias!r}, and its error was "
            "passed over; nothing was written: let such errors through, or put what may fail into "
            "a transaction.atomic() of its own"
        )
    driver.commit()


def _rollback(driver: Any) -> None:
    _forget(driver)
    driver.rollback()


def _forget(driver: Any) -> None:
    del driver.commit, driver.rollback
