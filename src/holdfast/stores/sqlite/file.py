"""How an SQLite file is opened: the modes, and reading one without making files beside it.

Whoever reads a file with a write-ahead log makes a `-shm` file, which readers share, and so needs
the right to write to the folder. Where there is no log, nobody has the file open: then it is read
as if it never changed, and a reading during which it did counts for nothing.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct

from holdfast.errors import StoreError
from holdfast.stores.sqlite.errors import code_of, store_error

Synchronous = Literal["NORMAL", "FULL", "EXTRA"]
SYNCHRONOUS: dict[str, Synchronous] = {"NORMAL": "NORMAL", "FULL": "FULL", "EXTRA": "EXTRA"}
Mode = Literal["ro", "rw", "rwc"]
MODES: dict[str, Mode] = {"ro": "ro", "rw": "rw", "rwc": "rwc"}
"""As SQLite names them: read only; read and write what exists; and create what does not."""

_BESIDE = ("-wal", "-shm", "-journal")


class SqliteFile(Struct, frozen=True):
    """A file, or `:memory:`, and how it is to be opened."""

    path: str
    """Absolute, so that the file stays the same when the process goes to another folder."""
    url: str
    """How it was named, for error texts."""
    synchronous: Synchronous
    busy_timeout_seconds: float
    mode: Mode

    @property
    def in_memory(self) -> bool:
        """Whether it is no file, and gone with its connection."""
        return self.path == ":memory:"

    def connect(self, *, still: bool = False) -> sqlite3.Connection:
        """Open a connection; a still file is neither locked nor watched."""
        if self.mode != "rwc" and not os.path.exists(self.path):
            raise StoreError(
                f"{self.url} does not exist; check the path, mode={self.mode} makes no file"
            )
        if os.path.isdir(self.path):
            raise StoreError(f"{self.url} is a folder; name a file in it")
        try:
            connection = sqlite3.connect(
                self.path if self.mode == "rwc" else _uri_of(self.path, self.mode, still=still),
                timeout=self.busy_timeout_seconds,
                isolation_level=None,
                check_same_thread=False,
                uri=self.mode != "rwc",
            )
        except sqlite3.Error as error:
            raise store_error("open", self.url, error) from error
        if self.mode != "ro":
            self._set_up(connection)
        return connection

    def use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        """Switch the file to WAL; SQLite does not wait for other processes here, so this does."""
        patience = time.monotonic() + self.busy_timeout_seconds
        mode = None
        while mode is None:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError as error:
                if code_of(error) != "SQLITE_BUSY" or time.monotonic() > patience:
                    raise
                time.sleep(0.005)
        if mode != "wal" and not self.in_memory:
            raise StoreError(
                f"{self.url} cannot use a write-ahead log (its journal mode is {mode}); put the "
                "file on a local disk that this process may write"
            )

    def expect_utf8(self, connection: sqlite3.Connection) -> None:
        """Refuse a file in another encoding."""
        encoding = connection.execute("PRAGMA encoding").fetchone()[0]
        if encoding != "UTF-8":
            raise StoreError(
                f"{self.url} keeps text in {encoding}, where ids do not sort by their bytes; use "
                "another file"
            )

    def _set_up(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
            # Without these two, macOS hands over to a disk that may still lose it; others ignore
            # them.
            connection.execute("PRAGMA fullfsync = ON")
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
            connection.execute("PRAGMA secure_delete = ON")  # a purge leaves nothing in free pages
        except sqlite3.Error as error:
            connection.close()
            raise store_error("open", self.url, error) from error


class Stamp(NamedTuple):
    """What tells of a file whether it was written since."""

    inode: int
    size: int
    mtime_ns: int


def stamp_of_still(path: str) -> Stamp | None:
    """Return the stamp of a file that nobody has open, else None."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if any(os.path.exists(path + ending) for ending in _BESIDE):
        return None
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def _uri_of(path: str, mode: Mode, *, still: bool) -> str:
    """Return what SQLite opens a file by."""
    uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
    return f"{uri}&immutable=1" if still else uri
