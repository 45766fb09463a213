"""The PostgreSQL store agrees with the one in memory, whatever is asked of them in what order."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize, run_state_machine_as_test
from tests.servers.databases import Database
from tests.stores.postgres.accounts import migrated
from tests.stores.test_stores_agree import NAMES, Stores

from holdfast import open_store
from holdfast.testing import ManualClock

EMPTY = """
    ALTER TABLE holdfast.transition DISABLE TRIGGER USER;
    ALTER TABLE holdfast.feed DISABLE TRIGGER USER;
    ALTER TABLE holdfast.entity DISABLE TRIGGER USER;
    TRUNCATE holdfast.entity, holdfast.transition, holdfast.feed, holdfast.checkpoint
        RESTART IDENTITY;
    UPDATE holdfast.log_head SET position = 0, seen = 0, missing = '{}', missing_since = '{}';
    ALTER TABLE holdfast.transition ENABLE TRIGGER USER;
    ALTER TABLE holdfast.feed ENABLE TRIGGER USER;
    ALTER TABLE holdfast.entity ENABLE TRIGGER USER;
"""


class PostgresStores(Stores):
    """Does the same to a store in memory and to one of PostgreSQL, and compares all they say."""

    database: ClassVar[Database]
    url: ClassVar[str]

    @initialize()
    def open(self) -> None:
        with self.database.connect() as connection:
            connection.execute(EMPTY)
        self.clock = ManualClock()
        self.stores = [open_store(url, clock=self.clock) for url in ("memory://", self.url)]
        self.past = {name: [None] for name in NAMES}
        self.sent = []


def test_the_stores_agree(postgres_database: Database) -> None:
    """Writes, conflicts, checks, checkpoints, keys, purges and reads, by chance."""
    PostgresStores.database = postgres_database
    PostgresStores.url = migrated(postgres_database, "application")
    limits = settings(
        max_examples=25,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(PostgresStores, settings=limits)
