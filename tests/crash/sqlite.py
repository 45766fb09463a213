"""A file of SQLite that workers share: dying between two statements, a held lock, a full disk."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from tests.crash.forks import fork
from tests.crash.place import Disturbance, End, Place
from tests.crash.traps import REQUESTS, Trap, trapped

from holdfast.stores import utc_now
from holdfast.stores.sqlite import SqliteStore
from holdfast.stores.sqlite.connections import Connections
from holdfast.stores.sqlite.file import SqliteFile, Synchronous

BUSY_TIMEOUT_SECONDS = 0.3
FIRST_STATEMENT = "CREATE TABLE entity"
"""It runs once in the life of a store."""
STATEMENTS = (
    "BEGIN IMMEDIATE",
    "INSERT INTO transition",
    "INSERT INTO entity",
    "UPDATE entity",
    "COMMIT",
    FIRST_STATEMENT,
)
"""Points that lie right before a statement."""
LONG_SECONDS = 60.0

_COMMENT = re.compile(r"--[^\n]*")


class SqlitePlace(Place):
    """A file; with a small disk, one that is full now and then."""

    points: Sequence[str] = (*REQUESTS, *STATEMENTS)

    def __init__(
        self, path: Path, *, synchronous: Synchronous = "FULL", small_disk: bool = False
    ) -> None:
        self.path = path
        self._synchronous: Synchronous = synchronous
        self._small_disk = small_disk

    @property
    def url(self) -> str:
        """See `Place.url`."""
        return f"sqlite:///{self.path}"

    def open(self, trap: Trap) -> SqliteStore:
        """See `Place.open`."""
        path, seconds = str(self.path), BUSY_TIMEOUT_SECONDS
        store = SqliteStore(path, busy_timeout_seconds=seconds, clock=utc_now)
        file = TrappedFile(path, store.url, self._synchronous, seconds, "rwc", trap)
        store.connections = Connections(file, utc_now)
        return trapped(store, trap)

    def disturbances(self) -> Mapping[str, Disturbance]:
        """See `Place.disturbances`."""
        full = {"disks full": self._fill} if self._small_disk else {}
        return {"locks held": self._hold_the_lock, **full}

    def will_pass(self, point: str) -> bool:
        """See `Place.will_pass`."""
        return point != FIRST_STATEMENT or not self.path.exists()

    def flaws(self) -> list[str]:
        """See `Place.flaws`."""
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute("PRAGMA integrity_check").fetchall()
        return [f"integrity_check: {row[0]}" for row in rows if row != ("ok",)]

    def _hold_the_lock(self) -> End:
        """Have another program keep the workers from writing, until it is killed."""
        pid = fork(lambda: _hold_the_lock(self.path))

        def end() -> None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

        return end

    def _fill(self) -> End:
        """Take all the room that is left."""
        filler = self.path.with_name("filler")
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        return filler.unlink


class TrappedFile(SqliteFile, frozen=True):
    """A file whose connections tell a trap of every statement."""

    trap: Trap

    def connect(self, *, still: bool = False) -> sqlite3.Connection:
        """See `SqliteFile.connect`."""
        connection = super().connect(still=still)
        if self.trap.point in STATEMENTS:
            connection.set_trace_callback(self._pass_by)
        return connection

    def _pass_by(self, statement: str) -> None:
        words = " ".join(_COMMENT.sub("", statement).split())
        if words.startswith(self.trap.point):
            self.trap.pass_by(self.trap.point)


def _hold_the_lock(path: Path) -> None:
    with suppress(sqlite3.OperationalError):  # it may meet what it disturbs: a file in the making
        connection = sqlite3.connect(path, isolation_level=None, timeout=LONG_SECONDS)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(LONG_SECONDS)
