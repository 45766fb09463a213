"""Databases that a store shares with tables of its users, and transactions over both."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg.rows import dict_row

from holdfast import open_store
from holdfast.stores.contract import Store

NOTE = "INSERT INTO note (text) VALUES ('of the caller')"


class Shared(ABC):
    """A database with a store, and a table `note` of somebody else's."""

    url: str

    @abstractmethod
    def begin(self) -> Any:
        """Return a connection of the users', with a transaction open."""

    @abstractmethod
    def notes(self) -> int:
        """Return how many notes are committed."""

    def open(self) -> Store:
        """Open the store."""
        return open_store(self.url)


class SharedFile(Shared):
    """An SQLite file; connections have tastes of their own in what rows and texts are."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path
        with self.open() as store:
            store.migrate()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE note (text TEXT)")
        connection.close()

    def begin(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.row_factory = lambda cursor, row: {"row": row}
        connection.text_factory = bytes
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def notes(self) -> int:
        connection = sqlite3.connect(self._path)
        try:
            return int(connection.execute("SELECT count(*) FROM note").fetchone()[0])
        finally:
            connection.close()


class SharedDatabase(Shared):
    """A PostgreSQL database; connections have tastes of their own in what rows are."""

    def __init__(self, url: str) -> None:
        self.url = url
        with self.open() as store:
            store.migrate()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE note (text TEXT)")

    def begin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, row_factory=cast("Any", dict_row))

    def notes(self) -> int:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT count(*) FROM note").fetchone()
            assert row is not None
            return int(row[0])
