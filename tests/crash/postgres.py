"""A database that workers share: sessions that end, rows that are locked, a server that crashes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import psycopg
from psycopg.conninfo import conninfo_to_dict
from tests.crash.forks import fork
from tests.crash.place import Disturbance, End, Place
from tests.crash.traps import Trap, trapped
from tests.servers.postgres import PostgresServer

from holdfast.stores.contract import Store
from holdfast.stores.postgres.store import PostgresStore

END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.7
"""
LOCK_ROWS = "SELECT id FROM holdfast.entity ORDER BY machine, id FOR UPDATE"


class PostgresPlace(Place):
    """A database of a server that nobody else uses."""

    in_commit_order = False

    def __init__(self, server: PostgresServer, url: str) -> None:
        self._server = server
        self._url = url
        self._database = str(conninfo_to_dict(url)["dbname"])

    @property
    def url(self) -> str:
        """See `Place.url`."""
        return self._url

    def open(self, trap: Trap) -> Store:
        """See `Place.open`."""
        return trapped(PostgresStore(self._url), trap)

    def disturbances(self) -> Mapping[str, Disturbance]:
        """See `Place.disturbances`."""
        return {
            "sessions ended": self._end_sessions,
            "rows locked": self._lock_rows,
            "crashes": self._crash,
            "absences": self._go_away,
        }

    def _end_sessions(self) -> End:
        """Have most sessions end in the midst of what they do."""
        with self._server.connect(self._database) as connection:
            connection.execute(END_SESSIONS)
        return _nothing

    def _lock_rows(self) -> End:
        """Keep every entity from being written."""
        connection = psycopg.connect(self._server.url(self._database))
        connection.execute(LOCK_ROWS)
        return connection.close

    def _crash(self) -> End:
        """Let the server crash, and come back at once."""
        return _aside(lambda: self._server.restart("immediate"))

    def _go_away(self) -> End:
        """Stop the server, which comes back later."""
        stopped = _aside(lambda: self._server.stop("fast"))

        def end() -> None:
            stopped()
            _aside(self._server.start)()

        return end


def _aside(work: Callable[[], None]) -> End:
    """Do something in a process of its own, which may leave a server behind."""
    pid = fork(work)

    def end() -> None:
        _, status = os.waitpid(pid, 0)
        assert status == 0, "the server for the tests could not be stopped or started"

    return end


def _nothing() -> None:
    """What has ended by itself."""
