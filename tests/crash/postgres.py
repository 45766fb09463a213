"""A database that workers share: sessions end, rows are locked, lines are bad, servers crash."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import psycopg
import psycopg.errors
import psycopg.sql
from psycopg.conninfo import conninfo_to_dict
from tests.crash.forks import fork
from tests.crash.line import FATES, Line
from tests.crash.place import Disturbance, End, Place
from tests.crash.traps import Trap, trapped
from tests.crash.workloads import ACCOUNTS
from tests.servers.postgres import PostgresServer

from holdfast.stores.contract import Store
from holdfast.stores.postgres.store import PostgresStore

END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.7
"""
LOCK_ROWS = "SELECT id FROM holdfast.entity ORDER BY machine, id FOR UPDATE"
LOCK_ACCOUNT = "SELECT FROM holdfast.entity WHERE machine = 'account' AND id = %s FOR UPDATE"
FOUND_BY_WORKERS = "SET deadlock_timeout = '50ms'"
"""So that a deadlock ends what a worker asked for, and not what it is in the way of."""
LONG_SECONDS = 5.0
AT_ONCE = 0.0, 0.05
LEFT_TO_OTHERS = "SET deadlock_timeout = '1min'"


class PostgresPlace(Place):
    """A database of a server that nobody else uses, and the workers' line to it."""

    in_commit_order = False

    def __init__(
        self, server: PostgresServer, url: str, line: Line, away_seconds: tuple[float, float]
    ) -> None:
        self._server = server
        self._url = url
        self._line = line
        self._away_seconds = away_seconds
        self._database = str(conninfo_to_dict(url)["dbname"])
        self._seen: Counter[str] = Counter()
        with server.connect() as connection:
            database = psycopg.sql.Identifier(self._database)
            connection.execute(
                psycopg.sql.SQL("ALTER DATABASE {} " + FOUND_BY_WORKERS).format(database)
            )

    @property
    def url(self) -> str:
        """See `Place.url`."""
        return self._url

    def open(self, trap: Trap) -> Store:
        """See `Place.open`."""
        return trapped(PostgresStore(self._line.url), trap)

    def disturbances(self) -> Mapping[str, Disturbance]:
        """See `Place.disturbances`."""
        return {
            "sessions ended": self._end_sessions,
            "rows locked": self._lock_rows,
            "rows locked crosswise": self._lock_crosswise,
            "immediate restarts": self._crash,
            "fast restarts": self._go_away,
            **{name: partial(self._line.turn_bad, at) for at, (_, name, _) in enumerate(FATES)},
        }

    def lasting(self, disturbance: str) -> tuple[float, float]:
        """See `Place.lasting`."""
        if disturbance == "sessions ended":
            return AT_ONCE
        is_away = disturbance == "fast restarts"
        return self._away_seconds if is_away else super().lasting(disturbance)

    def counts(self) -> Counter[str]:
        """Return what was seen of the disturbances."""
        deadlocks = self._server.log.read_text(errors="replace").count("deadlock detected")
        return self._seen + Counter({"deadlocks": deadlocks}) + self._line.counts()

    def _end_sessions(self) -> End:
        """Have most sessions end in the midst of what they do."""
        with self._server.connect(self._database) as connection:
            self._seen["backends ended"] += len(connection.execute(END_SESSIONS).fetchall())
        return _nothing

    def _lock_rows(self) -> End:
        """Keep every entity from being written."""
        connection = psycopg.connect(self._server.url(self._database))
        connection.execute(LOCK_ROWS)
        return connection.close

    def _lock_crosswise(self) -> End:
        """Lock the accounts against the order in which transfers lock them."""
        pid = fork(lambda: _lock_against_the_order(self._server.url(self._database)))
        return partial(_kill, pid)

    def _crash(self) -> End:
        """Let the server crash, and come back at once."""
        return _aside(lambda: self._server.restart("immediate"))

    def _go_away(self) -> End:
        """Stop the server, which comes back later."""
        began = time.monotonic()
        stopped = _aside(lambda: self._server.stop("fast"))

        def end() -> None:
            stopped()
            if time.monotonic() - began >= LONG_SECONDS:
                self._seen["server away for long"] += 1
            _aside(self._server.start)()

        return end


def _aside(work: Callable[[], None]) -> End:
    """Do something in a process of its own, which may leave a server behind."""
    pid = fork(work)

    def end() -> None:
        _, status = os.waitpid(pid, 0)
        assert status == 0, "the server for the tests could not be stopped or started"

    return end


def _lock_against_the_order(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(LEFT_TO_OTHERS)
        connection.commit()
        while True:
            with suppress(psycopg.errors.DeadlockDetected), connection.transaction():
                for id in reversed(ACCOUNTS):
                    connection.execute(LOCK_ACCOUNT, [id])
                    time.sleep(0.01)
            time.sleep(0.01)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _nothing() -> None:
    """What has ended by itself."""
