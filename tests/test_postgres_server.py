"""The PostgreSQL servers of the tests: as durable as the real ones, and gone afterwards."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.servers import guard
from tests.servers.databases import Database, Databases, Server
from tests.servers.installation import Installation, common_folder, identity, readable
from tests.servers.postgres import PostgresServer, ServerError, create_cluster

# A second without a look at whether the server's first process lives.
COMPUTE = b"""
DO $$
DECLARE
    finish timestamptz := clock_timestamp() + interval '1 second';
BEGIN
    WHILE clock_timestamp() < finish LOOP
        NULL;
    END LOOP;
END
$$
"""
COMPUTING = "SELECT state FROM pg_stat_activity WHERE pid = %s"

pytestmark = pytest.mark.postgres


def write(server: Server, number: int) -> None:
    with server.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS number (value int)")
        connection.execute("INSERT INTO number VALUES (%s)", [number])


def numbers(server: Server) -> list[int]:
    with server.connect() as connection:
        rows = connection.execute("SELECT value FROM number ORDER BY value").fetchall()
    return [value for (value,) in rows]


def test_an_unprivileged_account_runs_it(own_postgres_server: PostgresServer) -> None:
    """Root starts the server under another account; everybody else under their own."""
    owner = (own_postgres_server.data / "postmaster.pid").stat().st_uid
    assert owner == (identity()["user"] or os.geteuid())
    assert owner != 0


def test_it_is_durable(postgres_server: Server) -> None:
    """A commit waits for the disk, since the tests are about what a crash leaves."""
    with postgres_server.connect() as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            assert connection.execute(f"SHOW {setting}".encode()).fetchone() == ("on",)


def test_the_oldest_supported_version(oldest_postgres_server: Server) -> None:
    """Where the system has a PostgreSQL 15, tests can run on it as well."""
    with oldest_postgres_server.connect() as connection:
        assert connection.info.server_version // 10_000 == 15


def test_it_asks_for_the_password(own_postgres_server: PostgresServer) -> None:
    """Who comes by TCP needs the password."""
    url = own_postgres_server.url(user="postgres", password="wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_a_fast_restart(own_postgres_server: PostgresServer) -> None:
    """A restarted server has its data, and answers where it did."""
    write(own_postgres_server, 1)
    before = own_postgres_server.pid
    own_postgres_server.restart()
    assert numbers(own_postgres_server) == [1]
    assert own_postgres_server.pid not in {before, None}
    assert "not properly shut down" not in own_postgres_server.tail()


def test_an_immediate_restart(own_postgres_server: PostgresServer) -> None:
    """After an immediate restart the server recovers what was committed, and nothing else."""
    write(own_postgres_server, 1)
    with closing(own_postgres_server.connect()) as unfinished:
        unfinished.execute("BEGIN; INSERT INTO number VALUES (2)")
        own_postgres_server.restart("immediate")
    assert numbers(own_postgres_server) == [1]
    assert "not properly shut down" in own_postgres_server.tail()


def test_a_killed_server_starts_again(own_postgres_server: PostgresServer) -> None:
    """A killed server recovers, once what it was computing for a client has ended."""
    write(own_postgres_server, 1)
    with (
        closing(own_postgres_server.connect()) as busy,
        closing(own_postgres_server.connect()) as watching,
    ):
        busy.pgconn.send_query(COMPUTE)
        while watching.execute(COMPUTING, [busy.info.backend_pid]).fetchall() != [("active",)]:
            time.sleep(0.01)
        own_postgres_server.kill()
        assert own_postgres_server.pid is None
        own_postgres_server.start()
    assert numbers(own_postgres_server) == [1]


def test_a_stopped_server_stays_away(own_postgres_server: PostgresServer) -> None:
    """Between `stop` and `start` nobody answers; to stop or start twice is a mistake."""
    own_postgres_server.stop()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        own_postgres_server.connect()
    with pytest.raises(ServerError, match="does not run"):
        own_postgres_server.stop()
    own_postgres_server.start()
    own_postgres_server.connect().close()
    with pytest.raises(ServerError, match="runs"):
        own_postgres_server.start()


def test_a_server_that_cannot_start(own_postgres_server: PostgresServer) -> None:
    """What PostgreSQL says to a start that fails is in the error."""
    own_postgres_server.stop()
    with (own_postgres_server.data / "postgresql.auto.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(ServerError, match="no_such_setting"):
        own_postgres_server.start()


def test_a_killed_server_leaves_no_memory(own_postgres_server: PostgresServer) -> None:
    """The shared memory of a killed server is freed with its folder."""
    lines = (own_postgres_server.data / "postmaster.pid").read_text().splitlines()
    segment = lines[6].split()[1]
    memory = Path("/proc/sysvipc/shm")
    if not memory.exists():
        pytest.skip("this system does not list its shared memory")
    assert segment in memory.read_text().split()
    own_postgres_server.kill()
    own_postgres_server.remove()
    assert segment not in memory.read_text().split()


def test_a_pid_with_a_new_bearer(own_postgres_server: PostgresServer) -> None:
    """A pid file that names a process of somebody else's names no server."""
    own_postgres_server.kill()
    file = own_postgres_server.data / "postmaster.pid"
    file.write_text("\n".join([str(os.getpid()), *file.read_text().splitlines()[1:]]))
    assert own_postgres_server.pid is None
    guard.stop_at_once(own_postgres_server.data, timeout_seconds=1)


def test_databases_are_emptied(postgres_databases: Databases) -> None:
    """The next test finds nothing of the last one's, though it may get the same database."""
    first = postgres_databases.take()
    forgotten = first.connect()
    forgotten.execute("CREATE SCHEMA holdfast")
    forgotten.execute("CREATE TABLE holdfast.entity (id text PRIMARY KEY)")
    forgotten.execute("CREATE TABLE public.entity (id text PRIMARY KEY)")
    first.server.create_login("reader")
    for rights in (
        "ALTER DATABASE {} SET lock_timeout = '1s'",
        "ALTER ROLE reader IN DATABASE {} SET lock_timeout = '1s'",
        "GRANT CREATE ON DATABASE {} TO reader",
        "REVOKE CONNECT ON DATABASE {} FROM PUBLIC",
    ):
        forgotten.execute(rights.format(first.name).encode())
    forgotten.execute("BEGIN; LOCK TABLE holdfast.entity; PREPARE TRANSACTION 'forgotten'")
    forgotten.execute("BEGIN; LOCK TABLE public.entity")
    postgres_databases.give_back(first)
    second = postgres_databases.take()
    with second.connect() as connection:
        schemas = connection.execute(
            "SELECT count(*) FROM pg_namespace WHERE nspname = 'holdfast'"
        ).fetchone()
        connection.execute("CREATE TABLE public.entity (id text PRIMARY KEY)")
        timeout = connection.execute("SHOW lock_timeout").fetchone()
    postgres_databases.give_back(second)
    assert (second, schemas, timeout) == (first, (0,), ("0",))
    with pytest.raises(psycopg.OperationalError):
        forgotten.execute("SELECT 1")
    forgotten.close()


def test_a_login_is_created_once(postgres_database: Database) -> None:
    """Whoever asks for a login gets its password, and may connect."""
    first = postgres_database.server.create_login("reader")
    second = postgres_database.server.create_login("reader")
    assert first == second
    with psycopg.connect(postgres_database.url(user="reader", password=first)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("reader",)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT lo_create(0)",
        "CREATE PUBLICATION everything FOR ALL TABLES",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    ],
)
def test_a_database_that_cannot_be_emptied(postgres_databases: Databases, statement: str) -> None:
    """A database in which something stays is not lent again."""
    database = postgres_databases.take()
    with database.connect() as connection:
        connection.execute(statement.encode())
    postgres_databases.give_back(database)
    other = postgres_databases.take()
    postgres_databases.give_back(other)
    assert other != database


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are closed to the server")
def test_programs_that_the_server_may_not_read(
    postgres_installation: Installation, tmp_path: Path
) -> None:
    """Programs in a folder of root's are copied to where the server may run them."""
    package = postgres_installation.programs.parents[1]
    for name in (package.name, f"{package.name}.libs"):
        (tmp_path / name).symlink_to(package.parent / name)
    tmp_path.chmod(0o700)
    closed = Installation(tmp_path / package.name / "pginstall" / "bin", 18)
    with tempfile.TemporaryDirectory(dir=common_folder()) as opened:
        Path(opened).chmod(0o755)
        copied = readable(closed, Path(opened, "programs"))
        assert copied != closed
        assert readable(copied, Path(opened, "unused")) == copied
        create_cluster(copied, Path(opened, "cluster"), password="secret")
