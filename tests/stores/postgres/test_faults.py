"""Sessions that end and a server that crashes: what was acknowledged is there, once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from tests.servers.databases import Database
from tests.servers.postgres import PostgresServer
from tests.stores.postgres.accounts import migrated

from holdfast.record import Record, Request
from holdfast.stores.contract import CommitUncertainError, Outcome, Write
from holdfast.stores.postgres.store import PostgresStore
from holdfast.testing.conformance.base import SampleService, service_on
from holdfast.testing.consistency import all_log_rows, faults
from holdfast.testing.sample import Add

MINUTE = {"seconds": 60, "crashes": 3, "uncertain": 20}
A_WHILE = {"seconds": 10, "crashes": 1, "uncertain": 3}
WRITERS = 6
END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.7
"""


class Observed(PostgresStore):
    """Counts the commits whose outcome it did not know."""

    uncertain = 0

    def commit(self, writes: Sequence[Write], **options: Any) -> list[Outcome]:
        try:
            return super().commit(writes, **options)
        except CommitUncertainError:
            self.uncertain += 1
            raise


@pytest.mark.parametrize(
    "least", [A_WHILE, pytest.param(MINUTE, marks=pytest.mark.soak)], ids=["a while", "a minute"]
)
def test_every_acknowledged_transition_is_there_once(
    own_postgres_server: PostgresServer,
    least: dict[str, int],
    record_property: Callable[[str, object], None],
) -> None:
    """Versions have no gaps, nothing was written twice, and no outcome was told wrongly."""
    database = Database(own_postgres_server, own_postgres_server.create_database())
    end = time.monotonic() + least["seconds"]
    with Observed(migrated(database, "application")) as store:
        with ThreadPoolExecutor(WRITERS + 1) as pool:
            disturbing = pool.submit(disturb, own_postgres_server, database, end - 2)
            working = [
                pool.submit(work, service_on(store, attempts=60), number, end)
                for number in range(WRITERS)
            ]
            acknowledged = [answer for worker in working for answer in worker.result()]
        crashes = disturbing.result()
        written = Counter((row.id, row.version) for row in all_log_rows(store))
        assert faults(store) == []
        assert store.flaws() == []
    seen = {"acknowledged": len(acknowledged), "immediate restarts": crashes}
    record_property("seen", {**seen, "outcomes unknown": store.uncertain})
    told = Counter((record.id, record.version) for record in acknowledged)
    assert set(told.values()) == {1}
    assert set(told) == set(written)
    assert crashes >= least["crashes"]
    assert store.uncertain >= least["uncertain"]


def work(service: SampleService, number: int, end: float) -> list[Record[Any]]:
    """Send commands to an entity of one's own, to shared ones, and in batches, one by one."""
    answers: list[Record[Any]] = []
    turn = 0
    while time.monotonic() < end:
        turn += 1
        if turn % 3:
            answers.append(
                service.handle(f"own-{number}" if turn % 2 else f"shared-{turn % 4}", Add())
            )
            continue
        batch = [Request(f"batch-{number}-{place}", Add()) for place in range(5)]
        for answer in service.handle_many(batch, atomic=turn % 2 == 0):
            assert isinstance(answer, Record), answer
            answers.append(answer)
    return answers


def disturb(server: PostgresServer, database: Database, end: float) -> int:
    """End sessions by chance, and let the server crash now and then; return how often it did."""
    chance = random.Random(1)
    crashes = 0
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.05, 0.4))
        with psycopg.connect(database.url(), autocommit=True) as connection:
            connection.execute(END_SESSIONS)
        if chance.random() < 0.1:
            server.restart("immediate")
            crashes += 1
    return crashes
