"""Fixtures that several folders of tests use: the PostgreSQL servers of the session."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests import soak
from tests.guarantees import plugin
from tests.servers.installation import Installation, from_system, from_wheel
from tests.servers.session import Session, opened_session

if TYPE_CHECKING:
    from tests.servers.databases import Database, Databases, Server
    from tests.servers.postgres import PostgresServer

DSN = "HOLDFAST_TEST_POSTGRES"
NO_SERVER = (
    "There is no PostgreSQL to test with. Install the locked dependencies with "
    f"`make .venv/ready`, which bring one, or set {DSN} to the DSN of a superuser."
)
NO_SERVER_TO_STOP = (
    "There is no PostgreSQL that a test may stop and kill: the server that "
    f"{DSN} names is not used for that. Install the locked dependencies with `make .venv/ready`, "
    "which bring one."
)
OLDEST = 15
SESSION = pytest.StashKey[Session]()


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what asks for a soak that there is not, before anything runs.

    Where this was started in the background by a shell that lets nothing there be interrupted, the
    programs that tests start and interrupt would be deaf to it too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        soak.scale()
        soak.named_seeds()
    except soak.BadInputError as error:
        raise pytest.UsageError(str(error)) from error
    plugin.register(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, which `make test-postgres` runs."""
    for item in items:
        fixtures: list[str] = getattr(item, "fixturenames", [])
        if any("postgres" in name or name == "application_url" for name in fixtures):
            item.add_marker(pytest.mark.postgres)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process that will run tests where the session's servers are."""
    node.workerinput["servers"] = str(_session(node.config).folder)


@pytest.fixture(scope="session")
def postgres_installation() -> Installation:
    """Return the PostgreSQL programs that tests start."""
    found = from_wheel()
    if found is None:
        pytest.fail(NO_SERVER_TO_STOP if os.environ.get(DSN) else NO_SERVER, pytrace=False)
    return found


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Server:
    """Return the running PostgreSQL that all tests share."""
    dsn = os.environ.get(DSN)
    if dsn:
        return _server_at(dsn)
    installation: Installation = request.getfixturevalue("postgres_installation")
    return _session(request.config).shared("postgres", installation)


@pytest.fixture(scope="session")
def oldest_postgres_server(pytestconfig: pytest.Config) -> Server:
    """Return a running PostgreSQL of the oldest supported version, where the system has one."""
    installation = from_system(OLDEST)
    if installation is None:
        pytest.skip(f"no PostgreSQL {OLDEST} is installed on this system")
    return _session(pytestconfig).shared("oldest", installation)


@pytest.fixture(scope="session")
def postgres_databases(postgres_server: Server) -> Iterator[Databases]:
    """Lend empty databases of the shared server."""
    yield from _lent(postgres_server)


@pytest.fixture(scope="session")
def oldest_postgres_databases(oldest_postgres_server: Server) -> Iterator[Databases]:
    """Lend empty databases of the oldest supported server."""
    yield from _lent(oldest_postgres_server)


@pytest.fixture
def postgres_database(
    postgres_databases: Databases, record_property: Callable[[str, object], None]
) -> Iterator[Database]:
    """Return an empty database of the test's own."""
    database = postgres_databases.take()
    record_property("postgres", database.server.version)
    yield database
    postgres_databases.give_back(database)


@pytest.fixture
def postgres_url(postgres_database: Database) -> str:
    """Return the URL of an empty database of the test's own, for the superuser."""
    return postgres_database.url()


@pytest.fixture
def own_postgres_server(
    postgres_installation: Installation,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> Iterator[PostgresServer]:
    """Return a running PostgreSQL that only this test uses, so it may stop and kill it."""
    with _session(pytestconfig).own(postgres_installation) as server:
        record_property("postgres", server.version)
        yield server
        print(server.tail())  # pytest shows it where the test failed


def _session(config: pytest.Config) -> Session:
    """Return the session of servers: opened by the first process, whose folder the others know."""
    if SESSION not in config.stash:
        given: dict[str, str] | None = getattr(config, "workerinput", None)
        if given is None:
            stack = ExitStack()
            config.stash[SESSION] = stack.enter_context(opened_session())
            config.add_cleanup(stack.close)
        else:
            config.stash[SESSION] = Session(Path(given["servers"]))
    return config.stash[SESSION]


def _server_at(dsn: str) -> Server:
    import psycopg
    from tests.servers.databases import server_at

    try:
        return server_at(dsn)
    except psycopg.Error as error:
        pytest.fail(f"The server that {DSN} names cannot be used: {error}", pytrace=False)


def _lent(server: Server) -> Iterator[Databases]:
    from tests.servers.databases import Databases

    databases = Databases(server)
    yield databases
    databases.close()
