"""Many processes on one entity: each of their commands is counted, none is lost, none twice."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from tests.stores.scenes import command, environment

from holdfast import Conflict, Context, Retry, Service, open_store
from holdfast.testing.consistency import all_transitions, faults
from holdfast.testing.sample import Add, Open, sample

PROCESSES = 8
COMMANDS = 500


def scene_increment(path: str, worker: str) -> None:
    """Increment one entity, with a handler that takes its time, and print what was met."""
    conflicts: list[Conflict] = []
    patient = Retry(
        attempts=10_000, cap_seconds=0.05, budget_seconds=300, on_conflict=conflicts.append
    )

    def think(context: Context) -> None:
        time.sleep(0.001)

    with open_store(f"sqlite:///{path}?busy_timeout_seconds=60") as store:
        service = Service(sample, store, deps=think, retry=patient)
        versions = [
            service.handle("hot", Add(), metadata={"worker": worker, "n": n}).version
            for n in range(COMMANDS)
        ]
    print(json.dumps({"versions": versions, "conflicts": len(conflicts)}))


def test_no_increment_is_lost_between_processes(tmp_path: Path) -> None:
    """Eight processes, 500 increments each, conflicts at every turn: version 4,000, no gap."""
    path = tmp_path / "hot.db"
    workers = [
        subprocess.Popen(
            command(scene_increment, path, worker),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for worker in range(PROCESSES)
    ]
    try:
        said = [worker.communicate(timeout=240) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [error for _, error in said] == [""] * PROCESSES
    answers = [json.loads(out) for out, _ in said]
    conflicts = sum(answer["conflicts"] for answer in answers)
    assert conflicts > 500, "the processes hardly met, so this shows nothing"
    with open_store(f"sqlite:///{path}") as store:
        [row] = store.find("sample", limit=9)
        assert row.version == PROCESSES * COMMANDS
        log = all_transitions(store, "sample", "hot")
        assert faults(store) == []
        service = Service(sample, store, deps=lambda context: None)
        assert service.get("hot").state == Open(PROCESSES * COMMANDS)
    made = sorted(version for answer in answers for version in answer["versions"])
    assert made == [row.version for row in log] == list(range(1, 4_001))
    assert len({row.metadata for row in log}) == 4_000
    assert len({row.token for row in log}) == 4_000
