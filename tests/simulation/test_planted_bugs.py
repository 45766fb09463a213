"""The simulation can fail: each planted bug breaks a promise within 2,000 seeds."""

from __future__ import annotations

import pytest
from tests.simulation.bugs import BUGS, Bug
from tests.simulation.planting import Change, planted

from holdfast.stores.digests import digest_of
from holdfast.stores.sqlite.statements import QUERIES
from holdfast.testing.simulation.run import run_seed
from holdfast.testing.simulation.setup import Run, Setup

MAX_SEEDS = 2_000


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_found(bug: Bug) -> None:
    """A run breaks a promise; without the bug the same run breaks none."""
    setup = Setup(stores=bug.stores)
    with planted(*bug.changes):
        found = first_violation(setup)
    assert found is not None, f"{MAX_SEEDS} seeds break no promise"
    assert run_seed(found.seed, setup).violations == []


def first_violation(setup: Setup) -> Run | None:
    """Return the first run that breaks a promise."""
    runs = (run_seed(seed, setup) for seed in range(MAX_SEEDS))
    return next((run for run in runs if run.violations), None)


def test_nothing_stays_planted() -> None:
    """After a bug was planted the code is as it was, also where something failed meanwhile."""
    before = digest_of.__code__, QUERIES["load_key"]
    names = "the digest leaves out what was before", "a key looked up for any entity on SQLite"
    changes = [change for name in names for change in BUGS[name].changes]

    def fail() -> None:
        with planted(*changes):
            assert digest_of.__code__ is not before[0]
            assert QUERIES["load_key"] != before[1]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (digest_of.__code__, QUERIES["load_key"]) == before


@pytest.mark.parametrize(
    "change",
    [
        Change("service", "surely not there", ""),
        Change("service", "return", ""),
        Change("surely_no_package", "return", ""),
        Change("sql:load_key", "surely not there", ""),
    ],
)
def test_a_bug_that_cannot_be_planted_is_told(change: Change) -> None:
    """A change that no longer fits the code is no bug that was found."""
    with pytest.raises(LookupError, match="plant the bug anew"):
        planted(change).__enter__()
