"""A PostgreSQL that the tests start: its files, its process, and how it ends."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Literal

from tests.servers import guard
from tests.servers.address import Address
from tests.servers.databases import Server
from tests.servers.installation import Identity, Installation, identity

START_SECONDS = 30.0
STOP_SECONDS = 30.0
# Below the ranges that systems draw from, so that a port stays free over a restart.
PORTS = range(15000, 32000)
SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "listen_addresses": "127.0.0.1",
    "max_connections": "400",
    "max_prepared_transactions": "10",
    "max_wal_size": "256MB",
    "shared_buffers": "32MB",
    # Not UTC, so that a time that loses its zone is seen.
    "timezone": "Asia/Kathmandu",
    "log_line_prefix": "%m [%p] %d ",
}


class ServerError(Exception):
    """A server for tests could not be started or stopped."""


class PostgresServer(Server):
    """A server that the tests started, in a folder of its own; it can be stopped and killed."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / "facts.json").read_text())
        super().__init__(
            Address(
                user="postgres", password=facts["password"], host="127.0.0.1", port=facts["port"]
            )
        )
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self.programs = Path(facts["programs"])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the running server's process, or None."""
        return guard.running_pid(self.data)

    def start(self) -> None:
        """Start the server and return when it takes connections."""
        if self.pid is not None:
            raise ServerError("The server runs, so it cannot be started.")
        deadline = time.monotonic() + START_SECONDS
        while not self._start_once(deadline):
            if time.monotonic() >= deadline:
                raise ServerError(f"PostgreSQL did not start in time; it said:\n{self.tail()}")
            time.sleep(0.02)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server: `fast` after a checkpoint, `immediate` as in a crash."""
        self._end(signal.SIGINT if mode == "fast" else signal.SIGQUIT)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and start it on the same data and port."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill the server's first process; the others end as soon as they see it."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Stop the server if it runs, and remove its files."""
        guard.stop_at_once(self.data, timeout_seconds=STOP_SECONDS)
        if self._process is not None:
            self._process.wait(STOP_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def tail(self) -> str:
        """Return the end of the server's log."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def _start_once(self, deadline: float) -> bool:
        """Tell whether the server started: not while what a killed one left still ends."""
        command = [str(self.programs / "postgres"), "-D", str(self.data)]
        seen = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data,
                env=_environment(), start_new_session=True, **identity(),
            )  # fmt: skip
        while self._process.poll() is None and time.monotonic() < deadline:
            if guard.is_ready(self.data, self._process.pid):
                return True
            time.sleep(0.01)
        said = self.log.read_bytes()[seen:].decode(errors="replace")
        if self._process.poll() is None or "still in use" in said or "lock file" in said:
            return False
        raise ServerError(f"PostgreSQL did not start; it said:\n{said[-2000:]}")

    def _end(self, signal_number: signal.Signals) -> None:
        pid = self.pid
        if pid is None:
            raise ServerError("The server does not run, so it cannot be stopped.")
        guard.send(pid, signal_number)
        if self._process is not None and self._process.pid == pid:
            self._process.wait(STOP_SECONDS)
        elif not guard.wait_until_gone(self.data, pid, timeout_seconds=STOP_SECONDS):
            raise ServerError(f"PostgreSQL did not stop in time; it said:\n{self.tail()}")


def create_cluster(installation: Installation, folder: Path, *, password: str) -> None:
    """Create the files of a new server, in a folder that its account owns."""
    account = make_own_folder(folder)
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o644)
    command = [
        str(installation.programs / "initdb"), "--pgdata", str(folder / "data"),
        "--username", "postgres", "--pwfile", str(secret), "--encoding", "UTF8", "--no-sync",
        "--auth-local", "trust", "--auth-host", "scram-sha-256", "--no-instructions",
    ]  # fmt: skip
    # Not bytewise where it can be, so that a comparison without COLLATE "C" is seen.
    unicode = ["--locale", "C", "--locale-provider", "icu", "--icu-locale", "und"]
    told = _run([*command, *unicode], folder, account)
    if "ICU is not supported" in told.stderr:
        told = _run([*command, "--locale", "C"], folder, account)
    if told.returncode:
        raise ServerError(f"initdb failed; it said:\n{told.stdout}{told.stderr}")


def create_server(
    installation: Installation, folder: Path, *, cluster: Path, password: str
) -> PostgresServer:
    """Return a new server, not started, on a copy of a cluster's files."""
    account = make_own_folder(folder)
    told = _run(["cp", "-R", str(cluster / "data"), str(folder / "data")], folder, account)
    if told.returncode:
        raise ServerError(f"The cluster could not be copied: {told.stderr}")
    port = free_port()
    settings = SETTINGS | {"port": str(port), "unix_socket_directories": str(folder)}
    lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
    with (folder / "data" / "postgresql.auto.conf").open("a") as configuration:
        configuration.writelines(lines)
    facts = {"programs": str(installation.programs), "port": port, "password": password}
    (folder / "facts.json").write_text(json.dumps(facts))
    return PostgresServer(folder)


def make_own_folder(folder: Path) -> Identity:
    """Create a folder that belongs to the servers' account, and return that account."""
    account = identity()
    folder.mkdir(mode=0o700)
    if account["user"] is not None and account["group"] is not None:
        try:
            os.chown(folder, account["user"], account["group"])
        except PermissionError as error:
            raise ServerError(
                "PostgreSQL refuses to run as root, and root may not change accounts here. "
                "Run the tests as another user, or set HOLDFAST_TEST_POSTGRES."
            ) from error
    return account


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerError("No free TCP port was found.")


def _run(command: list[str], folder: Path, account: Identity) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=folder,
        env=_environment(), **account,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """Return the environment without what would steer PostgreSQL or translate its messages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}
