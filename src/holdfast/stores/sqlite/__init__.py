"""The SQLite store: one file, safe for several threads and processes, durable at power loss."""

from holdfast.stores.sqlite.file import MODES, SYNCHRONOUS, Mode, Synchronous
from holdfast.stores.sqlite.store import SqliteStore

__all__ = ["MODES", "SYNCHRONOUS", "Mode", "SqliteStore", "Synchronous"]
