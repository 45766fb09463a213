"""`python -m benchmarks.postgres`: measure what was chosen on PostgreSQL and print the table."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tests.servers.databases import Databases, Server, server_at
from tests.servers.installation import from_wheel
from tests.servers.session import opened_session

from benchmarks.measure import FULL, QUICK, Effort
from benchmarks.postgres.callers import measure_coroutines, measure_hot
from benchmarks.postgres.handle import measure_batches, measure_handle
from benchmarks.postgres.history import measure_history
from benchmarks.postgres.log import measure_log
from benchmarks.report import Row, print_rows, print_versions

DSN = "HOLDFAST_TEST_POSTGRES"
SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
MEASUREMENTS: dict[str, Callable[[Effort, Databases], list[Row]]] = {
    "handle": measure_handle,
    "batches": measure_batches,
    "coroutines": measure_coroutines,
    "hot": measure_hot,
    "log": measure_log,
    "history": measure_history,
}


def main() -> None:
    options = _parse()
    effort = QUICK if options.quick else FULL
    if options.runs:
        effort = effort._replace(runs=options.runs)
    print_versions()
    rows: list[Row] = []
    with _server() as server:
        _print_settings(server)
        databases = Databases(server)
        for name in options.only or MEASUREMENTS:
            print(f"measuring {name} ...", flush=True)
            rows += MEASUREMENTS[name](effort, databases)
        databases.close()
    print_rows(rows, judge=not options.quick)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=MEASUREMENTS, help="measure this; may be repeated"
    )
    parser.add_argument(
        "--quick", action="store_true", help="run everything once, in seconds, to see that it runs"
    )
    parser.add_argument("--runs", type=int, help="on how many fresh databases, one after another")
    return parser.parse_args()


@contextmanager
def _server() -> Generator[Server]:
    """Give the server that the environment names, or one that is started for this."""
    if DSN in os.environ:
        yield server_at(os.environ[DSN])
        return
    installation = from_wheel()
    assert installation is not None, "the locked dependencies bring a PostgreSQL"
    with opened_session() as session, session.own(installation) as server:
        yield server


def _print_settings(server: Server) -> None:
    with server.connect() as connection:
        for name in SETTINGS:
            [[value]] = connection.execute(f"SHOW {name}".encode()).fetchall()
            print(f"{name} {value}", end="\n" if name == SETTINGS[-1] else ", ")


if __name__ == "__main__":
    main()
