"""Empty databases for tests, emptied after use and lent again: creating one takes far longer."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from tests.servers.address import Address

EMPTY = (Path(__file__).parent / "empty_database.sql").read_bytes()
CONTENT = (Path(__file__).parent / "database_content.sql").read_bytes()


class Server:
    """A running PostgreSQL, which tests share: none of them may stop it."""

    def __init__(self, address: Address, *, database: str = "postgres") -> None:
        self.address = address
        self._database = database

    def url(
        self, database: str | None = None, *, user: str | None = None, password: str | None = None
    ) -> str:
        """Return the URL of a database; without a name, of the one that is always there."""
        return self.address.url(database or self._database, user=user, password=password)

    def connect(self, database: str | None = None) -> psycopg.Connection:
        """Return a connection of the superuser that commits every statement."""
        return psycopg.connect(self.url(database), autocommit=True)

    @cached_property
    def version(self) -> str:
        """The version of PostgreSQL that it is."""
        with self.connect() as connection:
            return str(connection.info.parameter_status("server_version")).partition(" ")[0]

    def create_database(self) -> str:
        """Create an empty database and return its name."""
        name = f"holdfast_test_{secrets.token_hex(6)}"
        query = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
        with self.connect() as connection:
            connection.execute(query.format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, and cut whoever is still connected to it."""
        query = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        with self.connect() as connection:
            connection.execute(query.format(sql.Identifier(name)))

    def create_login(self, name: str) -> str:
        """Return the password of a role, created when no process of the session has done so.

        Roles belong to the whole server: tests that run at once share them.
        """
        password = self.address.password or name
        with self.connect() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [name])
            known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
            if not known.fetchall():
                query = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
                connection.execute(query.format(sql.Identifier(name), sql.Literal(password)))
        return password


def server_at(dsn: str) -> Server:
    """Return the server of a DSN, which names a superuser and a database to connect to."""
    given = conninfo_to_dict(dsn)
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        info = connection.info
        address = Address(
            user=info.user,
            password=info.password,
            host=info.host,
            port=info.port,
            parameters={
                name: str(value)
                for name, value in given.items()
                if name not in {"user", "password", "host", "port", "dbname"}
            },
        )
        return Server(address, database=info.dbname)


@dataclass(frozen=True)
class Database:
    """A database that one test has for itself."""

    server: Server
    name: str

    def url(self, *, user: str | None = None, password: str | None = None) -> str:
        """Return its URL, for the superuser unless another user is named."""
        return self.server.url(self.name, user=user, password=password)

    def connect(self) -> psycopg.Connection:
        """Return a connection of the superuser that commits every statement."""
        return self.server.connect(self.name)


class Databases:
    """The databases that one process lends to its tests."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._free: list[Database] = []
        self._empty: object = None

    def take(self) -> Database:
        """Return an empty database."""
        if self._free:
            return self._free.pop()
        database = Database(self.server, self.server.create_database())
        if self._empty is None:
            with database.connect() as connection:
                self._empty = connection.execute(CONTENT).fetchall()
        return database

    def give_back(self, database: Database) -> None:
        """Empty a database for the next test, or drop it when something stays in it."""
        if self._emptied(database):
            self._free.append(database)
        else:
            self.server.drop_database(database.name)

    def close(self) -> None:
        """Drop the databases that wait for a test."""
        while self._free:
            self.server.drop_database(self._free.pop().name)

    def _emptied(self, database: Database) -> bool:
        try:
            with database.connect() as connection:
                _roll_back_prepared(connection)
                connection.execute(EMPTY)
                return connection.execute(CONTENT).fetchall() == self._empty
        except psycopg.Error:  # The test may have dropped or closed it: then it is dropped.
            return False


def _roll_back_prepared(connection: psycopg.Connection) -> None:
    """Roll back what was prepared and forgotten: it holds locks, and keeps its database."""
    query = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
    for (gid,) in connection.execute(query).fetchall():
        connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
