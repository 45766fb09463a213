"""The simulation can fail: each planted bug breaks a promise within 2,000 seeds."""

from __future__ import annotations

import pytest
from tests.simulation.bugs import BUGS, Bug
from tests.simulation.planting import Change, planted

from holdfast.service.commit import commit
from holdfast.stores.sqlite.statements import QUERIES
from holdfast.testing import ViolationError, simulate

MAX_SEEDS = 2_000


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_found(bug: Bug) -> None:
    """A run breaks a promise, and a short story tells how."""
    with planted(*bug.changes), pytest.raises(ViolationError) as caught:
        simulate(seeds=MAX_SEEDS, stores=bug.stores)
    assert caught.value.violations
    assert "VIOLATION" in caught.value.story[-1]


def test_nothing_stays_planted() -> None:
    """After a bug was planted the code is as it was, also where something failed meanwhile."""
    before = commit.__code__, QUERIES["load_key"]
    names = "a lost acknowledgement taken for a failure", "a key looked up for any entity on SQLite"
    changes = [change for name in names for change in BUGS[name].changes]

    def fail() -> None:
        with planted(*changes):
            assert commit.__code__ is not before[0]
            assert QUERIES["load_key"] != before[1]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (commit.__code__, QUERIES["load_key"]) == before


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
