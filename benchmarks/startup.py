"""Measures what `import holdfast` adds to the start of an interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from time import perf_counter

from benchmarks.measure import Effort, Sample, spread, take_turns
from benchmarks.report import Row, bracketed, duration

WITH = "import holdfast"
BARE = "bare interpreter"
MOST_SECONDS = 0.060
COMPILED = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment in which an interpreter keeps what it compiles, as an installed one does."""


def measure_import(effort: Effort, directory: str) -> list[Row]:
    """Return the median of what each start with the import took longer than one without."""
    samples = {WITH: _start("import holdfast"), BARE: _start("pass")}
    take_turns(samples, 1)  # so that the compiled modules are there
    times = take_turns(samples, effort.starts)
    added = spread([a - b for a, b in zip(times[WITH], times[BARE], strict=True)])
    milliseconds = bracketed(type(added)(*(seconds * 1e3 for seconds in added)))
    return [
        Row(
            WITH,
            f"{BARE}; the difference",
            duration(spread(times[WITH]).middle),
            duration(spread(times[BARE]).middle),
            f"{milliseconds} ms",
            f"under {MOST_SECONDS * 1e3:g} ms",
            added.middle < MOST_SECONDS,
        )
    ]


def _start(code: str) -> Sample:
    def sample() -> float:
        began = perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=COMPILED)
        return perf_counter() - began

    return sample
