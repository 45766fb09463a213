"""A test session's servers: one for all its processes, and none left however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.postgres


ROOT = Path(__file__).parents[1]
TOLD = Path("told")

SHARING = """
import os, pathlib

def test_tell(postgres_server, postgres_database, own_postgres_server):
    facts = os.getpid(), postgres_server.pid, own_postgres_server.pid, postgres_database.name
    with open("told", "a") as told:
        print(*facts, postgres_server.folder.parent, file=told)
"""
WAITING = """
import pathlib, time

def test_wait(postgres_server, own_postgres_server):
    pathlib.Path("told").write_text(str(postgres_server.folder.parent))
    time.sleep(60)
"""
ASKING = """
def test_ask(postgres_server, postgres_database):
    with postgres_database.connect() as connection, open("told", "a") as told:
        print(connection.info.port, connection.info.dbname, file=told)
"""
WITHOUT_WHEEL = """
import tests.conftest

tests.conftest.from_wheel = lambda: None
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the sessions in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def session(tests: str, *options: str, **environment: str) -> Generator[subprocess.Popen[str]]:
    """Start a test session of its own over a file of tests."""
    Path("test_inner.py").write_text(tests)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "HOLD"))
    }
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    with subprocess.Popen(
        [*command, *options, "test_inner.py"],
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            end_group(running.pid, signal.SIGKILL)


def end_group(group: int, signal_number: signal.Signals) -> None:
    try:
        os.killpg(group, signal_number)
    except ProcessLookupError:
        return


def finished(tests: str, *options: str, **environment: str) -> tuple[int, str]:
    """Run a test session, and return its exit status and its output."""
    with session(tests, *options, **environment) as running:
        output, _ = running.communicate(timeout=120)
        return running.returncode, output


def wait_for(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def processes_of(folder: Path) -> list[str]:
    """Return the command lines that name a folder of servers."""
    if Path("/proc/self").exists():
        lines = [_command(process) for process in Path("/proc").glob("[0-9]*")]
    else:
        lines = subprocess.run(
            ["ps", "-A", "-o", "command="], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    return [line for line in lines if str(folder) in line]


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # It ended meanwhile.
        return ""


def is_gone(folder: Path) -> bool:
    return not folder.exists() and not processes_of(folder)


def test_processes_share_one_server() -> None:
    """All processes of a session use one server, each test a database; then all are gone."""
    status, output = finished(SHARING, "-n", "2", "--dist", "each")
    assert status == 0, output
    told = [line.split() for line in TOLD.read_text().splitlines()]
    processes, shared, own, databases, folders = (set(column) for column in zip(*told, strict=True))
    assert (len(processes), len(shared), len(own), len(databases)) == (2, 1, 2, 2)
    (servers,) = folders
    assert not Path(servers).exists()
    wait_for(lambda: is_gone(Path(servers)))


@pytest.mark.parametrize(
    ("processes", "signal_number", "to_all"),
    [
        pytest.param("0", signal.SIGKILL, False, id="killed"),
        pytest.param("2", signal.SIGKILL, False, id="first of several killed"),
        pytest.param("2", signal.SIGKILL, True, id="all killed"),
        pytest.param("2", signal.SIGINT, True, id="interrupted"),
    ],
)
def test_a_session_that_is_ended(
    processes: str, signal_number: signal.Signals, to_all: bool
) -> None:
    """However a session ends, its servers end with it, and their folder goes."""
    with session(WAITING, "-n", processes) as running:
        wait_for(lambda: TOLD.exists() and TOLD.read_text() != "")
        servers = Path(TOLD.read_text())
        assert len(processes_of(servers)) >= 3  # two servers and the guard
        if to_all:
            os.killpg(running.pid, signal_number)
        else:
            os.kill(running.pid, signal_number)
        wait_for(lambda: is_gone(servers))


def test_no_server_is_a_failure() -> None:
    """Without a server the tests fail and say what to do; they are not skipped."""
    Path("conftest.py").write_text(WITHOUT_WHEEL)
    status, output = finished(ASKING)
    assert status == 1
    assert "There is no PostgreSQL to test with." in output
    assert "HOLDFAST_TEST_POSTGRES" in output
    assert "1 error" in output


def test_no_server_to_stop_is_a_failure() -> None:
    """A server that the environment names is never stopped, so it does not help there."""
    Path("conftest.py").write_text(WITHOUT_WHEEL)
    asking = "def test_it(own_postgres_server): pass"
    status, output = finished(asking, HOLDFAST_TEST_POSTGRES="postgresql://localhost/shop")
    assert status == 1
    assert "There is no PostgreSQL that a test may stop and kill" in output
    assert "1 error" in output


def test_a_dsn_wins(own_postgres_server: PostgresServer) -> None:
    """A server that the environment names is used, and left as it was found."""
    dsn = own_postgres_server.url()
    status, output = finished(ASKING, HOLDFAST_TEST_POSTGRES=dsn)
    assert status == 0, output
    port, database = TOLD.read_text().split()
    assert port == str(own_postgres_server.address.port)
    with own_postgres_server.connect() as connection:
        rows = connection.execute("SELECT datname FROM pg_database").fetchall()
    assert (database,) not in rows
    assert ("postgres",) in rows


def test_a_socket_in_a_dsn(own_postgres_server: PostgresServer) -> None:
    """A DSN may name a socket's folder, and carry further parameters."""
    address = own_postgres_server.address
    dsn = f"host={own_postgres_server.folder} port={address.port} user=postgres sslmode=disable"
    status, output = finished(ASKING, HOLDFAST_TEST_POSTGRES=dsn)
    assert status == 0, output


def test_a_dsn_without_a_server() -> None:
    """A named server that does not answer is a failure, and nothing else is tried."""
    dsn = "postgresql://alice:secret@127.0.0.1:1/postgres"
    status, output = finished(ASKING, HOLDFAST_TEST_POSTGRES=dsn)
    assert status == 1
    assert "The server that HOLDFAST_TEST_POSTGRES names cannot be used" in output
    assert "secret" not in output
