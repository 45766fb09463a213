"""The servers of one test session: started when a test first asks, shared by all its processes."""

from __future__ import annotations

import fcntl
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers import guard
from tests.servers.installation import Installation, common_folder, readable

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer


class Session:
    """A folder with the servers of a test session, none of which outlives it.

    The process that opened the session holds a lock on a file in the folder. When it lets go, at
    the end or by dying, the guard stops the servers and removes the folder. The other processes
    of the session are given the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shared: dict[str, PostgresServer] = {}

    def shared(self, name: str, installation: Installation) -> PostgresServer:
        """Return the one server of this name, started by whichever process asks first."""
        from tests.servers.postgres import PostgresServer

        if name not in self._shared:
            with self._known(f"{name}.json") as known:
                if "folder" in known:
                    server = PostgresServer(Path(known["folder"]))
                else:
                    server = self._create(name, installation)
                    server.start()
                    known["folder"] = str(server.folder)
                self._shared[name] = server
        return self._shared[name]

    @contextmanager
    def own(self, installation: Installation) -> Generator[PostgresServer]:
        """Start a server that one test has for itself, and remove it."""
        server = self._create("own", installation)
        try:
            server.start()
            yield server
        finally:
            server.remove()

    def _create(self, name: str, installation: Installation) -> PostgresServer:
        """Create a server from the files of a first one, since making those takes longest."""
        from tests.servers.postgres import create_cluster, create_server

        with self._known(f"cluster-{installation.major}.json") as known:
            if not known:
                programs = readable(installation, self._new_folder("programs"))
                password = secrets.token_urlsafe(12)
                cluster = self._new_folder("cluster")
                create_cluster(programs, cluster, password=password)
                known |= {"cluster": str(cluster), "password": password}
                known |= {"programs": str(programs.programs)}
        return create_server(
            Installation(Path(known["programs"]), installation.major),
            self._new_folder(name),
            cluster=Path(known["cluster"]),
            password=known["password"],
        )

    def _new_folder(self, name: str) -> Path:
        """Return where a folder may be made that nobody else uses, not even a process that died."""
        return self.folder / f"{name}-{secrets.token_hex(4)}"

    @contextmanager
    def _known(self, name: str) -> Generator[dict[str, str]]:
        """Give one process at a time what the session knows under a name, to read and to add to."""
        with (self.folder / name).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            known: dict[str, str] = json.loads(file.read() or "{}")
            before = dict(known)
            yield known
            if known != before:
                file.truncate(0)
                file.write(json.dumps(known))


@contextmanager
def opened_session() -> Generator[Session]:
    """Open a session for this process and those that it gives the folder to, and end it."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-", dir=common_folder()))
    folder.chmod(0o711)
    with (folder / "alive").open("wb") as alive:
        fcntl.lockf(alive, fcntl.LOCK_EX)
        _detach([sys.executable, "-I", "-S", guard.__file__, str(folder)])
        try:
            yield Session(folder)
        finally:
            guard.remove_session(folder)


def _detach(command: list[str]) -> None:
    """Start a process that outlives this one and is nobody's to wait for."""
    subprocess.run(
        ["sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", *command],
        start_new_session=True, check=True,
    )  # fmt: skip
