"""Runs that are killed: started again, every line is applied once and every reject is kept once."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import PLAIN, SHOP, Cli, request, spawn, write_stream

from holdfast import open_store
from holdfast.stores.verify import verify

# Kills the process at the nth time that it comes to a point, if it is told to.
KILL = """
import signal, sys
from holdfast.cli.rejects import Rejects

point, _, count = os.environ.get("KILL", "").partition(":")
passed = []

def come_to(here):
    passed.append(here)
    if here == point and passed.count(here) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)

def around(cls, name, before, after):
    original = getattr(cls, name)
    def wrapped(self, *args, **options):
        come_to(before)
        result = original(self, *args, **options)
        come_to(after)
        return result
    setattr(cls, name, wrapped)

around(Rejects, "write", "decided", "rejects on disk")
around(Rejects, "accept", "committed", "accepted")
around(type(orders.store), "commit", "commit begins", "commit ended")

original_write = Rejects.write

def write_in_parts(self, entries):
    original_write(self, entries[:1])
    self._file.seek(0, 2)
    self._file.write(b\'{"input":"\' + self.mark.encode()[:7])
    self._file.flush()
    come_to("rejects half written")
    original_write(self, entries)

Rejects.write = write_in_parts
"""

POINTS = [
    "decided",
    "rejects half written",
    "rejects on disk",
    "commit begins",
    "commit ended",
    "committed",
    "accepted",
]


def stream(count: int) -> Iterator[Any]:
    """Lines of all kinds, such that a line applied twice or late changes what others come to."""
    for n in range(count):
        id = f"o-{n % 7}"
        yield request(id, "Place", total=n, line_metadata={"line": n})
        if n % 5 == 0:
            yield "{broken"
        if n % 3 == 0:
            yield request(id, "Cancel", reason=f"late {n}", line_key=f"k-{n}")
        if n % 11 == 0:
            yield ""
        if n % 4 == 0:
            yield request(id, "Pay", line_metadata={"line": n})


class Outcome:
    """What a run leaves behind, without what differs from run to run."""

    def __init__(self, folder: Path) -> None:
        with open_store(f"sqlite:///{folder}/shop.db") as store:
            self.sound = verify(store).sound
            self.transitions = [
                (row.id, row.version, row.from_type, row.to_type, row.command, row.metadata)
                for row in store.read_log(limit=1_000)
            ]
            self.keys = [row.key for row in store.read_log(limit=1_000)]
            self.entities = [(row.id, row.version, row.state) for row in store.entities(limit=9)]
        self.rejects = [
            json.loads(line) for line in (folder / "rejects").read_text("utf-8").splitlines()
        ]
        marks = {entry.pop("input") for entry in self.rejects}
        assert len(marks) == 1  # each folder has a store of its own, and so a mark


def run_in(folder: Path, **environment: str) -> int:
    return spawn(
        folder,
        *("run", "shop:orders", "in.ndjson", "--batch", "6", "--rejected", "rejects"),
        env={**os.environ, **environment},
    ).code


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the stream comes to when nobody interferes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "shop.py").write_text(SHOP)
    write_stream(folder / "in.ndjson", stream(20))
    assert run_in(folder) == 1
    return Outcome(folder)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_a_point_goes_on_as_if_nothing_was(
    shop: Path, undisturbed: Outcome, point: str, count: int
) -> None:
    """In the first batch and in a later one."""
    (shop / "shop.py").write_text(SHOP + KILL)
    write_stream(shop / "in.ndjson", stream(20))
    assert run_in(shop, KILL=f"{point}:{count}") == -signal.SIGKILL
    assert run_in(shop, KILL="decided:1") == -signal.SIGKILL
    assert run_in(shop) == 1
    assert vars(Outcome(shop)) == vars(undisturbed)


def lines_done(folder: Path) -> int:
    """How far the runs have come, by the store."""
    try:
        connection = sqlite3.connect(f"file:{folder}/shop.db?mode=ro", uri=True)
    except sqlite3.Error:
        return 0
    try:
        return int(connection.execute("SELECT max(position) FROM checkpoint").fetchone()[0] or 0)
    except sqlite3.Error:  # not made yet
        return 0
    finally:
        connection.close()


def kill_after(folder: Path, lines: int, delay_seconds: float) -> bool:
    """Start a run and kill it once it did some lines more, and then a moment; or see it end."""
    target = lines_done(folder) + lines
    process = subprocess.Popen(
        [*PLAIN, "run", "shop:orders", "in.ndjson", "--batch", "3", "--rejected", "rejects"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and lines_done(folder) < target:
        time.sleep(0.001)
    time.sleep(delay_seconds)
    process.kill()
    _, said = process.communicate(timeout=60)
    assert said == ""
    assert process.returncode in (1, -signal.SIGKILL)
    return process.returncode == 1


def test_a_run_killed_again_and_again_ends_as_if_it_never_was(
    shop: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At any moment, from the interpreter's start on."""
    calm = tmp_path_factory.mktemp("calm")
    (calm / "shop.py").write_text(SHOP)
    write_stream(calm / "in.ndjson", stream(2_000))
    write_stream(shop / "in.ndjson", stream(2_000))
    assert run_in(calm) == 1
    moments = random.Random(17)
    ended = [kill_after(shop, 0, moments.uniform(0, 0.3)) for _ in range(3)]
    ended += [kill_after(shop, 30, moments.uniform(0, 0.01)) for _ in range(10)]
    assert not all(ended[3:6])
    assert run_in(shop) == 1
    assert vars(Outcome(shop)) == vars(Outcome(calm))


def test_rejects_are_kept_when_an_earlier_file_was_lost(cli: Cli, shop: Path) -> None:
    """Who removes the file loses what was in it, and nothing else."""
    (shop / "shop.py").write_text(SHOP + KILL)
    write_stream(shop / "in.ndjson", stream(20))
    assert run_in(shop, KILL="accepted:2") == -signal.SIGKILL
    (shop / "rejects").unlink()
    assert run_in(shop) == 1
    assert cli("verify", "shop:orders").code == 0
