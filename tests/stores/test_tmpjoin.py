import sqlite3
from collections.abc import Iterator
from pathlib import Path
import pytest
from holdfast import open_store
from holdfast.testing import StoreConformance
from holdfast.testing.conformance.base import service_on

class TestJoinedSqlite(StoreConformance):
    forgets = "a transaction ends with its connection"
    @pytest.fixture
    def open(self, tmp_path):
        made=[]
        def open(*, clock=None):
            store = open_store(f"sqlite:///{tmp_path/'s.db'}", clock=clock)
            store.migrate()
            connection = sqlite3.connect(tmp_path/'s.db', isolation_level=None, check_same_thread=False)
            connection.row_factory = lambda c, r: {"x": 1}
            connection.text_factory = bytes
            connection.execute("BEGIN IMMEDIATE")
            made.append((store, connection))
            return store.on(connection)
        yield open
        for store, connection in made:
            connection.close(); store.close()
    @pytest.fixture
    def connect(self):
        return service_on
