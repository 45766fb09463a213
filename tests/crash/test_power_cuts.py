"""Power cuts: what was acknowledged had reached the disk."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import pytest
from tests import soak
from tests.crash.power import WITHIN, PowerCuts, lets_cut_the_power
from tests.crash.told import LOST, PATIENCE_SECONDS, Record, Told
from tests.stores.scenes import play

from holdfast.stores.sqlite.file import Synchronous

CUTS = 4
MANY_CUTS = 20
SEEDS = soak.seeds(10)
LEAST = {"acknowledged": 25, "reads": 20, "unanswered, not written": 1}


@pytest.fixture(autouse=True)
def _power() -> None:
    if not lets_cut_the_power():
        pytest.skip("nobody may mount a file system in a file here: no power was cut")


def test_a_power_cut_loses_nothing(tmp_path: Path, record_property: Record) -> None:
    """Whatever was acknowledged is on the disk, and everything goes on there."""
    told = cut(tmp_path, 1, CUTS, "FULL").keep(record_property)
    told.expect_sound({**LEAST, "cuts": CUTS})


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_loses_anything(tmp_path: Path, record_property: Record, seed: int) -> None:
    """As of the first."""
    told = cut(tmp_path, seed, MANY_CUTS, "FULL").keep(record_property)
    told.expect_sound({**LEAST, "cuts": MANY_CUTS})


def test_without_flushes_a_power_cut_loses_what_was_acknowledged(
    tmp_path: Path, record_property: Record
) -> None:
    """As is said of `synchronous=NORMAL`; so the cuts are such."""
    told = cut(tmp_path, 2, CUTS, "NORMAL").keep(record_property)
    told.expect_violation(LOST)


def cut(folder: Path, seed: int, cuts: int, synchronous: str) -> Told:
    """Cut the power in a process of its own, and return what it told."""
    for name in ("journals", "disk"):
        (folder / name).mkdir()
    told = play(scene, folder, seed, cuts, synchronous, within=WITHIN, seconds=PATIENCE_SECONDS)
    print(told)
    return msgspec.json.decode(told, type=Told)


def scene(folder: str, seed: str, cuts: str, synchronous: str) -> None:
    """Cut the power, and tell what was seen."""
    journals = Path(folder) / "journals"
    power = PowerCuts(
        Path(folder), journals, int(seed), synchronous=cast("Synchronous", synchronous)
    )
    power.cut(int(cuts))
    Told(power.violations, power.counts).show()
