"""What SQLite's errors mean to whoever called, and what to do next."""

from __future__ import annotations

import sqlite3

from holdfast.errors import StoreError
from holdfast.stores.contract import WriteRefusedError

REFUSALS = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError)
"""What a write is refused with for what it is."""
ERRORS = (sqlite3.Error, *REFUSALS)
"""What a statement may raise."""

_ADVICE = (
    (
        "SQLITE_BUSY_SNAPSHOT",
        ", what the transaction has read was written over since: roll it back, and begin it with "
        "BEGIN IMMEDIATE",
    ),
    ("SQLITE_BUSY", ", another process is writing: try again, or raise busy_timeout_seconds"),
    ("SQLITE_LOCKED", ", another connection is writing: try again"),
    ("SQLITE_FULL", ", the disk is full: free some space"),
    (
        "SQLITE_READONLY",
        ", the file or its folder is read-only: allow this process to write there, "
        "or read it with ?mode=ro (but for a -wal file that a killed writer left)",
    ),
    ("SQLITE_CANTOPEN", ", check that the folder exists and that this process may write there"),
    ("SQLITE_NOTADB", ", the file is no SQLite database: check the path"),
    ("SQLITE_CORRUPT", ", the file is damaged: restore a backup, or salvage it with .recover"),
    ("SQLITE_IOERR", ", the disk failed: check it"),
)


def store_error(doing: str, url: str, error: Exception) -> StoreError:
    """Return what to raise where the database refused."""
    name = getattr(error, "sqlite_errorname", None) or ""
    advice = next((text for prefix, text in _ADVICE if name.startswith(prefix)), "")
    refused = doing == "write" and isinstance(error, REFUSALS)
    kind = WriteRefusedError if refused else StoreError
    return kind(f"cannot {doing} {url}: {error}; nothing was written{advice}")


def code_of(error: Exception) -> str:
    """Return the library's name of the error, without the extension: SQLITE_BUSY."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])
