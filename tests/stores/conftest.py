"""Fixtures of the stores' tests."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a store's file is made."""
    return tmp_path / "store.db"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Return a list of the connections that stores open from now on, which works as ever."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connect_and_tell(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        opened.append(connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_tell)
    return opened
