"""What many runs saw, and the two ways in which they can fail: a violation, or too little seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from holdfast.errors import HoldfastError

EXPECTED_PER_THOUSAND = {
    "conflicts": 600,
    "crash_before": 150,
    "crash_after": 150,
    "lost_before": 200,
    "lost_after": 200,
    "lost_late": 80,
    "crash_late": 40,
    "drop_before": 120,
    "drop_after": 120,
    "found again": 200,
    "unresolved, written": 10,
    "unresolved, not written": 10,
    "duplicates": 80,
    "refusals": 1_000,
    "keys reused": 150,
    "deletions": 250,
    "re-creations": 150,
    "batches with a repeated entity": 500,
    "atomic batches": 250,
    "transactions": 200,
    "crowds": 100,
    "callers cancelled": 50,
    "checkpoints": 100,
    "reads": 600,
    "refused by a guard": 60,
    "undone by a hook": 60,
    "followed by a hook": 700,
    "largest payloads": 2,
    "long lives": 2,
}
"""What a thousand runs of generated machines see at least; about a third of what is usual."""

OF_ANY_MACHINE = {
    "conflicts": 200,
    "crash_before": 150,
    "crash_after": 150,
    "lost_before": 100,
    "lost_after": 100,
    "lost_late": 40,
    "crash_late": 20,
}
"""What a thousand runs of a user's machine see at least, whatever its commands are."""

FEWEST_JUDGED = 200
"""Fewer runs than these may see anything."""


class ViolationError(AssertionError, HoldfastError):
    """A run broke a promise. `seed` lives through it again, `story` is the shortest one found."""

    def __init__(self, seed: int, violations: Sequence[str], story: Sequence[str]) -> None:
        self.seed = seed
        self.violations = list(violations)
        self.story = list(story)
        super().__init__(seed, self.violations, self.story)

    def __str__(self) -> str:
        broken = "\n".join(f"  {violation}" for violation in self.violations[:5])
        told = "\n".join(self.story)
        return f"seed {self.seed} breaks a promise:\n{broken}\nThe shortest story found:\n{told}"


class VacuousError(AssertionError, HoldfastError):
    """Runs saw too little of what they are there to show. `missing` holds what, seen and needed."""

    def __init__(self, runs: int, missing: Mapping[str, tuple[int, int]]) -> None:
        self.runs = runs
        self.missing = dict(missing)
        super().__init__(runs, self.missing)

    def __str__(self) -> str:
        few = ", ".join(
            f"{what} {seen:,} of {needed:,}" for what, (seen, needed) in self.missing.items()
        )
        return (
            f"{self.runs:,} runs saw too few of these to show anything: {few}; simulate more "
            "seeds, or pass commands={Class: …} whose commands meet each other more often"
        )


class Report(Struct, frozen=True):
    """What runs saw."""

    runs: int
    counts: Counter[str]

    def expect(self, per_thousand: Mapping[str, int]) -> None:
        """Raise VacuousError where the runs saw less than so many of each in a thousand runs."""
        needed = {what: count * self.runs // 1_000 for what, count in per_thousand.items()}
        missing = {
            what: (self.counts[what], count)
            for what, count in needed.items()
            if self.counts[what] < count
        }
        if missing:
            raise VacuousError(self.runs, missing)
