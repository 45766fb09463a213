"""Accounts with the roles of a store, on the servers of the tests."""

from __future__ import annotations

from functools import cache

from tests.servers.databases import Database, Server

from holdfast import open_store
from holdfast.stores.sql import load_script

ROLES = ("application", "viewer", "migrator")


def account_url(database: Database, role: str) -> str:
    """Return the URL of a database for an account that has a role of a store."""
    passwords = create_accounts(database.server)
    return database.url(user=f"holdfast_test_{role}", password=passwords[role])


def migrated(database: Database, role: str) -> str:
    """Have the migrator make the tables of a store, and return the URL for a role."""
    url = account_url(database, "migrator")
    with database.connect() as connection:
        connection.execute(
            f'GRANT CREATE ON DATABASE "{database.name}" TO holdfast_migrator'.encode()
        )
    with open_store(url) as store:
        store.migrate()
    return account_url(database, role)


@cache
def create_accounts(server: Server) -> dict[str, str]:
    """Create an account for each role, where there is none yet, and return their passwords."""
    passwords = {role: server.create_login(f"holdfast_test_{role}") for role in ROLES}
    with server.connect() as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('roles of holdfast'))")
        connection.execute(load_script("postgres", "roles").encode())
        for role in ROLES:
            connection.execute(f"GRANT holdfast_{role} TO holdfast_test_{role}".encode())
        connection.execute("ALTER ROLE holdfast_test_migrator SET role = holdfast_migrator")
    return passwords
