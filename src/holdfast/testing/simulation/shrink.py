"""Makes the story of a violation short: leaves out faults, and what clients do, while it stays."""

from __future__ import annotations

from msgspec.structs import replace

from holdfast.testing.simulation.faults import KINDS
from holdfast.testing.simulation.run import run_seed
from holdfast.testing.simulation.setup import NOTHING, Cut, Run, Setup

MAX_RUNS = 600
"""The most runs that are spent on it."""
ORDERS = 6
"""In how many other orders a shorter run is tried."""


def shortest_story(run: Run, setup: Setup) -> list[str]:
    """Return the shortest story found of a run that broke a promise, line by line."""
    story: list[str] = []
    run_seed(run.seed, setup, cut=_Shrinking(run, setup).shortest(), listener=story.append)
    return story


class _Shrinking:
    def __init__(self, run: Run, setup: Setup) -> None:
        self.seed = run.seed
        self.setup = setup
        self.left = MAX_RUNS
        self.cut = NOTHING
        self.run = run

    def shortest(self) -> Cut:
        """Return what to leave out."""
        self._try(replace(self.cut, calm=True))
        for kind in KINDS:
            self._try(replace(self.cut, faults=self.cut.faults | {kind}))
        size = len(self.run.done)
        while size:
            size = min(size, len(self.run.done)) // 2 if size > 1 else self._last_round()
            start = 0
            while size and start < len(self.run.done):
                part = self.run.done[start : start + size]
                if not self._try(replace(self.cut, actions=self.cut.actions.union(part))):
                    start += size
        return self.cut

    def _last_round(self) -> int:
        """Return 1 as long as leaving out single actions still helps, then 0."""
        before = len(self.run.done)
        for place in list(self.run.done):
            self._try(replace(self.cut, actions=self.cut.actions | {place}))
        return int(len(self.run.done) < before)

    def _try(self, cut: Cut) -> bool:
        """Take a cut over if, in this order or another, a promise is still broken."""
        for order in range(cut.order, cut.order + ORDERS):
            if self.left == 0:
                return False
            self.left -= 1
            tried = replace(cut, order=order)
            run = run_seed(self.seed, self.setup, cut=tried)
            if run.violations:
                self.cut, self.run = tried, run
                return True
        return False
