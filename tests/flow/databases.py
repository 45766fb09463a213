"""Databases that a store shares with a transaction of the test's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from typing import Any

from holdfast.stores import file_of


class Outer:
    """A transaction of the caller's, and what is to follow its commit."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._due: list[Callable[[], None]] = []

    def on_commit(self, function: Callable[[], None]) -> None:
        """Take what is to be called after the commit."""
        self._due.append(function)

    def commit(self) -> None:
        """Commit, and call what was left for then."""
        self.connection.commit()
        for function in self._due:
            function()

    def rollback(self) -> None:
        """Undo all."""
        self.connection.rollback()


@contextmanager
def outer(url: str) -> Generator[Outer]:
    """Open a connection to the database of a store's URL, and a transaction on it."""
    file = file_of(url)
    if file is not None:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield Outer(connection)
    else:
        import psycopg

        with psycopg.connect(url) as connected:
            yield Outer(connected)
