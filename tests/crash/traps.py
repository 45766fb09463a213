"""Named points of a store at which a worker kills or stops itself."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from holdfast.stores import utc_now
from holdfast.stores.contract import Key, Loaded, Outcome, Write
from holdfast.stores.sqlite import SqliteStore
from holdfast.stores.sqlite.connections import Connections
from holdfast.stores.sqlite.file import SqliteFile, Synchronous

BUSY_TIMEOUT_SECONDS = 0.3
FIRST_POINT = "CREATE TABLE entity"
"""It is passed once in the life of a store."""
STATEMENTS = (
    FIRST_POINT,
    "BEGIN IMMEDIATE",
    "INSERT INTO transition",
    "INSERT INTO entity",
    "UPDATE entity",
    "COMMIT",
)
"""Points that lie right before a statement."""
POINTS = (*STATEMENTS, "load", "loaded", "commit", "committed")
"""The others lie before and after requests of the service."""

_COMMENT = re.compile(r"--[^\n]*")


class Trap(Struct):
    """A point, the passing at which it takes effect, and the signal that a worker sends itself."""

    point: str
    passing: int
    signal: int

    def pass_by(self, point: str) -> None:
        """Count a passing of a point."""
        if point == self.point:
            self.passing -= 1
            if self.passing == 0:
                os.kill(os.getpid(), self.signal)

    def pass_statement(self, text: str) -> None:
        """Count a statement that is about to run."""
        if self.point in STATEMENTS:
            words = " ".join(_COMMENT.sub("", text).split())
            if words.startswith(self.point):
                self.pass_by(self.point)


NO_TRAP = Trap("", 0, 0)


class TrappedFile(SqliteFile, frozen=True):
    """A file whose connections tell a trap of every statement."""

    trap: Trap

    def connect(self, *, still: bool = False) -> sqlite3.Connection:
        """See `SqliteFile.connect`."""
        connection = super().connect(still=still)
        connection.set_trace_callback(self.trap.pass_statement)
        return connection


class TrappedStore(SqliteStore):
    """A store on a file, with a trap in it."""

    def __init__(self, path: Path, trap: Trap, *, synchronous: Synchronous) -> None:
        super().__init__(str(path), busy_timeout_seconds=BUSY_TIMEOUT_SECONDS, clock=utc_now)
        self.trap = trap
        file = TrappedFile(str(path), self.url, synchronous, BUSY_TIMEOUT_SECONDS, "rwc", trap)
        self.connections = Connections(file, utc_now)

    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        """See `Store.load`."""
        self.trap.pass_by("load")
        loaded = super().load(keys)
        self.trap.pass_by("loaded")
        return loaded

    def commit(self, writes: Sequence[Write], **options: Any) -> list[Outcome]:
        """See `Store.commit`."""
        self.trap.pass_by("commit")
        outcomes = super().commit(writes, **options)
        self.trap.pass_by("committed")
        return outcomes
