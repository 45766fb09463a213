"""Empty stores for tests that leave the tables as they are: emptied after use and lent again."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.databases import Database, Databases
from tests.stores.postgres.accounts import account_url, migrated

EMPTY = (Path(__file__).parent / "empty_store.sql").read_bytes()


class Stores:
    """The stores that one process lends to its tests, each in a database of its own."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._free: list[Database] = []

    @property
    def version(self) -> str:
        """The version of PostgreSQL that they are on."""
        return self._databases.server.version

    @contextmanager
    def lent(self) -> Generator[str]:
        """Give the URL of an empty store, for an account with the rights of applications."""
        if not self._free:
            made = self._databases.take()
            migrated(made, "application")
            self._free.append(made)
        database = self._free.pop()
        yield account_url(database, "application")
        with database.connect() as connection:
            connection.execute(EMPTY)
        self._free.append(database)

    def close(self) -> None:
        """Give the databases back."""
        while self._free:
            self._databases.give_back(self._free.pop())
