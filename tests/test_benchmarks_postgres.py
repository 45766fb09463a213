"""The benchmarks on PostgreSQL run, and their raw side writes what the service writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from benchmarks.handle import OurOrders
from benchmarks.order import CIRCLE
from benchmarks.postgres.raw import RawOrders, Statements
from msgspec.structs import asdict
from tests.conftest import DSN
from tests.servers.databases import Database, Server

from holdfast import open_store
from holdfast.stores.contract import LogRow
from holdfast.testing.consistency import all_log_rows, faults

ROOT = Path(__file__).parent.parent
IDS = ["o-1", "o-2", "o-3"]
VARYING = {"at", "recorded_at", "token", "digest"}


@pytest.mark.soak
def test_a_quick_run_prints_every_measurement(postgres_server: Server) -> None:
    """Given any set of libraries installed, it ends well with a row for each of them."""
    command = [sys.executable, "-m", "benchmarks.postgres", "--quick"]
    env = {**os.environ, "COLUMNS": "300", DSN: postgres_server.url()}

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)

    assert done.returncode == 0, done.stderr
    for words in (
        "raw psycopg",
        "its statements alone",
        "eventsourcing",
        "dbos",
        "handle_many",
        "64 coroutines",
        "p99",
        "for a hot id",
        "catching up",
        "read_log, decoded",
        "an idle poll",
        "get on",
    ):
        assert words in done.stdout


@pytest.mark.parametrize("raw", [RawOrders, Statements])
@pytest.mark.parametrize("batched", [False, True], ids=["one at a time", "in batches"])
def test_the_raw_statements_write_what_the_service_writes(
    postgres_database: Database, raw: Callable[[str], Statements], batched: bool
) -> None:
    """Given the same commands, the log says the same, but for times, tokens and digests."""
    url = postgres_database.url()
    with open_store(url) as store:
        store.migrate()
        OurOrders(url, IDS).close()
        with closing(raw(url)) as orders:
            for _ in CIRCLE:
                if batched:
                    orders.handle_many(IDS)
                else:
                    for id in IDS:
                        orders.handle(id)
        written = [plain(row) for row in all_log_rows(store)]
        if raw is RawOrders:
            assert faults(store) == []
        with closing(OurOrders(url, others := [f"other-{id}" for id in IDS])) as orders:
            for _ in CIRCLE:
                orders.handle_many(others)
        expected = [plain(row) for row in all_log_rows(store)[len(written) :]]
    assert written == expected


def plain(row: LogRow) -> dict[str, object]:
    """Return a row without what differs from one log to the other; of what varies, the length."""
    values = asdict(row)
    del values["seq"]
    values["id"] = values["id"].removeprefix("other-")
    return {name: len(text) if name in VARYING else text for name, text in values.items()}
