"""Times contestants in turns and takes the ratios of neighbours: noise then meets all alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from typing import NamedTuple

Sample = Callable[[], float]
"""Runs a contestant once; returns its seconds per operation."""
Times = dict[str, list[float]]
"""Seconds per operation by contestant, one figure a round."""


class Effort(NamedTuple):
    """How much is measured."""

    runs: int
    """Fresh databases, one after the other."""
    rounds: int
    """Turns that every contestant has in a run."""
    entities: int
    calls: int
    """Decisions in a turn."""
    transitions: int
    """The length of a long history."""
    starts: int
    """Interpreters started for each side."""


FULL = Effort(runs=3, rounds=10, entities=1_000, calls=400, transitions=10_000, starts=41)
QUICK = Effort(runs=1, rounds=2, entities=20, calls=10, transitions=200, starts=3)


class Spread(NamedTuple):
    """A median with the quartiles around it."""

    low: float
    middle: float
    high: float


def take_turns(samples: Mapping[str, Sample], rounds: int) -> Times:
    """Time every contestant once a round; who begins changes from round to round."""
    times: Times = {name: [] for name in samples}
    names = list(samples)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            times[name].append(samples[name]())
    return times


def join(runs: Sequence[Times]) -> Times:
    """Put the rounds of several runs together."""
    return {name: [figure for run in runs for figure in run[name]] for name in runs[0]}


def ratios(times: Times, over: str, under: str) -> Spread:
    """Return how many times as long `over` took as `under`, round by round."""
    return spread([a / b for a, b in zip(times[over], times[under], strict=True)])


def spread(figures: Sequence[float]) -> Spread:
    """Return the median and the quartiles."""
    low, _, high = quantiles(figures, n=4, method="inclusive")
    return Spread(low, median(figures), high)
