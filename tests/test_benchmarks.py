"""The benchmarks run, and compare like with like; their figures are not judged here."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
from benchmarks.concurrent import RawGroupCommit
from benchmarks.handle import OurOrders, sqlite
from benchmarks.order import CIRCLE, Pair, decide, handled_pairs, order
from benchmarks.raw import RawOrders

from holdfast import open_store
from holdfast.testing.consistency import all_transitions, digest_by_recipe

ROOT = Path(__file__).parent.parent
WIDE = {**os.environ, "COLUMNS": "300"}
IDS = ["o-1", "o-2", "o-3"]
VARYING = {"seq", "created_at", "updated_at", "at", "recorded_at", "token", "digest"}


def test_a_quick_run_prints_every_measurement_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Given any set of libraries installed, a quick run ends well with a row for each of them."""
    command = [sys.executable, "-m", "benchmarks", "--quick", "--directory", str(tmp_path)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=WIDE)

    assert done.returncode == 0, done.stderr
    for words in (
        "nested match",
        "transitions",
        "python-statemachine",
        "automat",
        "handle, FULL",
        "eventsourcing",
        "handle, NORMAL",
        "xstate-statemachine",
        "handle_many",
        "transition_to",
        "64 coroutines",
        "a lone call",
        "for a hot id",
        "get on",
        "import holdfast",
    ):
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["__init__", "handle_many"])
def test_a_benchmark_whose_thread_fails_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """With the failure, whether the thread had begun or not, and however many wait for it."""

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with closing(RawGroupCommit(str(tmp_path / "a.db"), IDS)) as raw:
        monkeypatch.setattr(RawOrders, verb, fail)
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
                raw.handle_all(IDS, 2)


def test_the_pairs_measured_are_those_that_the_machine_handles() -> None:
    """Every pair of a state and a command with a handler is measured, once."""
    measured = [(type(pair.state), type(pair.command)) for pair in handled_pairs()]

    handled = [
        (source, command)
        for source in (NoneType, *order.states)
        for command in order.commands
        if order.handler_for(source, command) is not None
    ]
    assert sorted(measured, key=repr) == sorted(handled, key=repr)


@pytest.mark.parametrize(
    "pair",
    handled_pairs(),
    ids=lambda pair: f"{type(pair.command).__name__} in {type(pair.state).__name__}",
)
def test_the_nested_match_decides_what_the_machine_decides(pair: Pair) -> None:
    """Given a handled pair, both come to an equal state."""
    assert decide(pair.state, pair.command) == order.step(pair.state, pair.command)


@pytest.mark.parametrize("batched", [False, True], ids=["one at a time", "in batches"])
def test_the_raw_statements_write_what_the_service_writes(tmp_path: Path, batched: bool) -> None:
    """Given the same commands, both leave equal rows, but for times, tokens and digests.

    Those are as long as the service's.
    """
    ours_path, raw_path = str(tmp_path / "ours.db"), str(tmp_path / "raw.db")
    with (
        closing(OurOrders(sqlite(ours_path, "NORMAL"), IDS)) as ours,
        closing(RawOrders(raw_path, "NORMAL", IDS)) as raw,
    ):
        for orders in (ours, raw):
            for _ in range(len(CIRCLE) + 1):
                if batched:
                    orders.handle_many(IDS)
                else:
                    for id in IDS:
                        orders.handle(id)

    for table in ("entity", "transition"):
        assert _rows(ours_path, table) == _rows(raw_path, table)


def test_what_is_worked_out_by_hand_chains_as_a_service_does(tmp_path: Path) -> None:
    """The digests of the raw side are those that a service would have written."""
    with closing(RawOrders(str(tmp_path / "raw.db"), "NORMAL", IDS)) as raw:
        for id in IDS * 2:
            raw.handle(id)

    with open_store(f"sqlite:///{tmp_path}/raw.db") as store:
        first, *rest = all_transitions(store, "order", "o-1")
    assert len(rest) == 2
    for before, row in zip((first, *rest), rest, strict=False):
        assert row.digest == digest_by_recipe(before.digest, row)


def _rows(path: str, table: str) -> list[dict[str, Any]]:
    """Return a table's rows; of what varies, the length alone."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY id, version").fetchall()
    return [
        {name: len(str(row[name])) if name in VARYING else row[name] for name in row.keys()}  # noqa: SIM118
        for row in rows
    ]
