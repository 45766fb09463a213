"""Measures the decision alone: `step` over the handled pairs, and what others do in its place."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from time import perf_counter
from typing import Any

from benchmarks.measure import Effort, Sample, take_turns
from benchmarks.order import Pair, decide, handled_pairs, order
from benchmarks.report import Row, faster, missing
from benchmarks.rivals import Calls, find_step_rivals

OURS = "holdfast"
MATCH = "nested match"
TARGETS = {MATCH: 1.0, "transitions": 10.0, "python-statemachine": 100.0, "automat": 1.0}


def measure_step(effort: Effort, directory: str) -> list[Row]:
    """Return a row for the nested `match` and one for each library."""
    rivals, absent = find_step_rivals()
    few = max(effort.calls // 10, 2)
    samples = {
        OURS: _sample(_calls_of(order.step), effort.calls),
        MATCH: _sample(_calls_of(decide), effort.calls),
        **{name: _sample(prepare, few) for name, prepare in rivals.items()},
    }
    times = take_turns(samples, effort.runs * effort.rounds)
    found = [name for name in samples if name != OURS]
    rows = [faster("step", times, OURS, name, TARGETS[name]) for name in found]
    return rows + [missing("step", name) for name in absent]


def _calls_of(decide: Callable[[Any, Any], object]) -> Callable[[Pair, int], Calls]:
    """Return what makes calls of a function that keeps no state."""
    return lambda pair, count: [(decide, (pair.state, pair.command))] * count


def _sample(prepare: Callable[[Pair, int], Calls], count: int) -> Sample:
    """Return the mean over the pairs; the clock runs for the calls alone."""
    pairs = handled_pairs()

    def sample() -> float:
        return fmean(_time(prepare(pair, count)) for pair in pairs)

    return sample


def _time(calls: Calls) -> float:
    began = perf_counter()
    for call, arguments in calls:
        call(*arguments)
    return (perf_counter() - began) / len(calls)
