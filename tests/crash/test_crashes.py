"""Workers that are killed, stopped, locked out and out of room lose nothing they acknowledged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn, cast
from unittest.mock import patch

import msgspec
import pytest
from tests import soak
from tests.crash import supervisor
from tests.crash.checker import violations
from tests.crash.sqlite import SqlitePlace
from tests.crash.supervisor import MAX_SECONDS, Supervisor
from tests.crash.told import LOST, PATIENCE_SECONDS, Record, Told
from tests.simulation.bugs import BUGS
from tests.simulation.planting import planted
from tests.stores.scenes import play
from tests.stores.test_sqlite_files import namespace

from holdfast import AsyncService, Service, StoreError
from holdfast.stores.sqlite.file import Synchronous

KILLS = 25
MANY_KILLS = 50
BUG_SECONDS = 4.0
FEW_SECONDS = 3.0
"""In which workers whose store is sound are answered everything."""
SEEDS = soak.seeds(60)
LEAST = {
    "kills": KILLS,
    "acknowledged": 25,
    "reads": 10,
    "duplicates": 1,
    "StoreError": 1,
    "unanswered, not written": 5,
    "unanswered, written": 1,
    "kills at random": 3,
    "killed at COMMIT": 1,
    "killed at committed": 1,
    "stopped at random": 1,
    "locks held": 1,
}
"""How often at least each thing is seen while 25 workers are killed."""
FOUND_BY_KILLS = {
    "acknowledged before the commit": LOST,
    "no version check on SQLite": r"WriteRefusedError .*machine='(counter|account|register|names)'",
    "no rollback of half a batch": "was written in part|the accounts hold -?[1-9]",
    "the entity without the log": "its versions are|entered its state at version",
    "a key not looked up": "WriteRefusedError .*machine='keyed'",
}
"""Bugs, and what the harness says of what each does."""


def test_killed_workers_lose_nothing(tmp_path: Path, record_property: Record) -> None:
    """At named points and at random ones, while others are stopped and hold the lock."""
    disturbed(tmp_path, 1, KILLS).keep(record_property).expect_sound(LEAST)


def test_workers_on_a_full_disk_lose_nothing(tmp_path: Path, record_property: Record) -> None:
    """It is full now and then, and everything goes on once there is room."""
    told = disturbed(tmp_path, 2, KILLS, within=small_disk(tmp_path)).keep(record_property)
    told.expect_sound({**LEAST, "disks full": 1})


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_loses_anything(tmp_path: Path, record_property: Record, seed: int) -> None:
    """As of the first."""
    disturbed(tmp_path, seed, MANY_KILLS).keep(record_property).expect_sound(LEAST)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_loses_anything_on_a_full_disk(
    tmp_path: Path, record_property: Record, seed: int
) -> None:
    """As of the first."""
    told = disturbed(tmp_path, seed, MANY_KILLS, within=small_disk(tmp_path))
    told.keep(record_property).expect_sound({**LEAST, "disks full": 1})


@pytest.mark.soak
@pytest.mark.parametrize("seed", soak.seeds(5))
def test_no_kill_loses_anything_at_normal(
    tmp_path: Path, record_property: Record, seed: int
) -> None:
    """What `synchronous=NORMAL` leaves to the system outlives the process."""
    told = disturbed(tmp_path, seed, MANY_KILLS, synchronous="NORMAL")
    told.keep(record_property).expect_sound(LEAST)


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, marks=[pytest.mark.soak] if place else [])
        for place, bug in enumerate(FOUND_BY_KILLS)
    ],
)
def test_a_planted_bug_is_found(tmp_path: Path, bug: str) -> None:
    """The checker can fail, and says what the bug does."""
    disturbed(tmp_path, 3, KILLS, bug=bug).expect_violation(FOUND_BY_KILLS[bug])


@pytest.mark.parametrize("verb", ["get_many", "get"])
def test_a_verb_that_is_answered_no_more_is_told(tmp_path: Path, verb: str) -> None:
    """Though its machine is answered other things."""
    journals = tmp_path / "journals"
    journals.mkdir()
    [told, *_] = play(scene_without, tmp_path / "store.db", journals, verb).splitlines()
    assert re.fullmatch(rf"no progress of .*'\w+\.{verb}'.* in {FEW_SECONDS} s", told), told


def scene_without(path: str, journals: str, verb: str) -> None:
    """Have workers met by an error whenever they call a verb, and tell what does not hold."""

    def away(*given: object) -> NoReturn:
        raise StoreError("it is away")

    supervisor.PROGRESS_SECONDS = FEW_SECONDS
    with ExitStack() as stack:
        stack.enter_context(patch.object(Service, verb, away))
        stack.enter_context(patch.object(AsyncService, verb, away))
        harness = Supervisor(SqlitePlace(Path(path)), Path(journals), 1)
        harness.disturb(0, max_seconds=0.5)
    print(*harness.violations, sep="\n")


def disturbed(
    folder: Path,
    seed: int,
    kills: int,
    *,
    bug: str = "",
    within: Sequence[str] = (),
    synchronous: Synchronous = "FULL",
) -> Told:
    """Disturb workers in a process of its own, and return what it told."""
    for name in ("journals", "disk"):
        (folder / name).mkdir(exist_ok=True)
    told = play(
        scene,
        folder,
        seed,
        kills,
        "small" if within else "",
        bug,
        synchronous,
        within=within,
        seconds=PATIENCE_SECONDS,
    )
    print(told)
    return msgspec.json.decode(told, type=Told)


def scene(folder: str, seed: str, kills: str, *setting: str) -> None:
    """Disturb workers on a store, hold against it what they were told, and tell what was seen."""
    small, bug, synchronous = setting
    place = SqlitePlace(
        Path(folder) / "disk" / "store.db",
        synchronous=cast("Synchronous", synchronous),
        small_disk=bool(small),
    )
    journals = Path(folder) / "journals"
    harness = Supervisor(place, journals, int(seed))
    with ExitStack() as stack:
        if bug:
            stack.enter_context(planted(*BUGS[bug].changes))
        harness.disturb(int(kills), BUG_SECONDS if bug else MAX_SECONDS)
    found = harness.violations + violations(place, journals, harness.counts)
    Told(found, harness.counts).show()


def small_disk(folder: Path) -> tuple[str, ...]:
    """Return a command that runs another with a disk of 32 MB mounted; skips where nobody may.

    SQLite's log grows by some megabytes while a reader is stopped, and a log that fills a disk by
    itself leaves no room to begin it anew.
    """
    if not namespace():
        pytest.skip("this machine lets nobody mount a small disk: no disk was filled")
    disk = folder / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=32m tmpfs "{disk}" && exec "$@"'
    return (*namespace(), "sh", "-c", mount, "sh")
