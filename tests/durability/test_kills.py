"""Killing a writing process: what it was told is stored is stored, and nothing is there in half."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.stores.scenes import play

from holdfast import Checkpoint, Record, Request, Retry, Service, open_store
from holdfast.stores.contract import LogRow
from holdfast.testing.consistency import all_log_rows, faults
from holdfast.testing.sample import Add, Remove, sample, undisturbed

KILLS = 200
AT_ONCE = 2
EARLY = 4  # every fourth writer is killed without waiting for its first acknowledgement
LIFE_SECONDS = 20.0  # of a writer that nobody kills


class Writer:
    """Writes without end, in every way there is, and tells in a file what was acknowledged."""

    def __init__(self, path: str, acknowledged: str, name: str, ready: int) -> None:
        self.store = open_store(f"sqlite:///{path}?busy_timeout_seconds=60")
        self.service = Service(
            sample, self.store, deps=undisturbed, retry=Retry(attempts=1_000, cap_seconds=0.01)
        )
        self.file = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.name = name
        self.ready = ready
        self.random = random.Random(name)
        self.made = 0

    def write(self) -> None:
        """Write until killed."""
        ways = (self.one, self.one_with_key, self.some, self.all_or_none, self.stream, self.gone)
        stop = time.monotonic() + LIFE_SECONDS
        while time.monotonic() < stop:
            self.random.choice(ways)()

    def one(self) -> None:
        n = self.number()
        self.tell([(n, self.service.handle(self.entity(), Add(), metadata={"n": n}))])

    def one_with_key(self) -> None:
        n, id = self.number(), self.entity()
        records = [self.service.handle(id, Add(), key=n, metadata={"n": n}) for _ in range(2)]
        self.tell([(n, record) for record in records])

    def some(self) -> None:
        self.batch([self.request(self.entity()) for _ in range(10)])

    def all_or_none(self) -> None:
        group = self.number()
        ids = self.random.sample(range(5), 3)
        self.batch(
            [self.request(f"e-{i}", group=group) for i in ids for _ in range(2)], atomic=True
        )

    def stream(self) -> None:
        position = self.store.checkpoint(self.name) or 0
        requests = [
            Request(f"stream-{self.name}", Add(), metadata={"n": f"{self.name}:{place}"})
            for place in range(position, position + 4)
        ]
        self.batch(requests, checkpoint=Checkpoint(self.name, position + 4, position))

    def gone(self) -> None:
        id = f"short-{self.number()}"
        self.batch([self.request(id), self.request(id, Remove())])

    def batch(self, requests: list[Request[Any]], **options: Any) -> None:
        answers = self.service.handle_many(requests, **options)
        self.tell(
            [
                (request.metadata["n"], answer)
                for request, answer in zip(requests, answers, strict=True)
                if request.metadata is not None and isinstance(answer, Record)
            ]
        )
        assert all(isinstance(answer, Record) for answer in answers), answers

    def entity(self) -> str:
        return f"e-{self.random.randrange(5)}"

    def number(self) -> str:
        self.made += 1
        return f"{self.name}-{self.made}"

    def request(self, id: str, command: Any = None, **more: str) -> Request[Any]:
        return Request(id, command or Add(), metadata={"n": self.number(), **more})

    def tell(self, answers: list[tuple[str, Record[Any]]]) -> None:
        """Say what was acknowledged, in one write, before anything else is done."""
        lines = [f"{json.dumps([n, r.id, r.version, r.deleted])}\n" for n, r in answers]
        os.write(self.file, "".join(lines).encode())
        os.write(self.ready, b".")


def scene_kill(path: str, acknowledged: str) -> None:
    """Start writers from this warm process, and kill each at a moment of its own."""
    import_module("holdfast.stores.sqlite")  # else each writer would begin with it
    moments = random.Random()
    for round in range(KILLS // AT_ONCE):
        names = [f"w{round}-{i}" for i in range(AT_ONCE)]
        writers = [fork_writer(path, acknowledged, name) for name in names]
        for i, (pid, ready) in enumerate(writers):
            if (round + i) % EARLY:
                os.read(ready, 1)
            time.sleep(moments.uniform(0.005, 0.06))
            os.kill(pid, signal.SIGKILL)
        for pid, ready in writers:
            os.close(ready)
            _, status = os.waitpid(pid, 0)
            assert os.WIFSIGNALED(status), f"writer {pid} ended by itself with {status}"
    print("killed", end="")


def fork_writer(path: str, acknowledged: str, name: str) -> tuple[int, int]:
    """Start a writer; return its process, and what can be read once it was acknowledged a write."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            Writer(path, acknowledged, name, done).write()
        finally:  # reached with an error, or when nobody kills it
            traceback.print_exc()
            os._exit(1)
    os.close(done)
    return pid, ready


def test_200_kills_lose_nothing_and_leave_nothing_in_half(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each acknowledged transition is in the log once; the others are there whole or not at all."""
    path, acknowledged = tmp_path / "store.db", tmp_path / "acknowledged"
    assert play(scene_kill, path, acknowledged) == "killed"
    told = [json.loads(line) for line in acknowledged.read_text("utf-8").splitlines()]
    record_property("seen", {"kills": KILLS, "acknowledged": len(told)})
    with open_store(f"sqlite:///{path}") as store:
        log = all_log_rows(store)
        made = dict(numbered(log))
        assert len(made) == len(log), "something was applied twice"
        writers = {re.split(":|-(?=[0-9]+$)", n)[0] for n, *_ in told}
        assert len(writers) >= KILLS - KILLS // EARLY
        lost = [
            line
            for line in told
            if (row := made.get(line[0])) is None
            or [row.id, row.version, row.kind == "deletion"] != line[1:]
        ]
        assert lost == []
        groups = Counter(json.loads(row.metadata or "{}").get("group") for row in log)
        assert {size for group, size in groups.items() if group} == {6}
        for name in {n.partition(":")[0] for n in made if ":" in n}:
            places = sorted(int(n.partition(":")[2]) for n in made if n.startswith(f"{name}:"))
            assert places == list(range(store.checkpoint(name) or 0))
        assert faults(store) == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def numbered(log: list[LogRow]) -> Iterator[tuple[str, LogRow]]:
    """Yield each row with the number that its writer gave it."""
    for row in log:
        yield json.loads(row.metadata or "{}")["n"], row
