"""`python -m benchmarks`: measure what was chosen and print the table."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.concurrent import measure_coroutines, measure_hot, measure_lone
from benchmarks.flow import measure_flow
from benchmarks.handle import measure_batches, measure_full, measure_normal
from benchmarks.history import measure_history
from benchmarks.measure import FULL, QUICK, Effort
from benchmarks.report import Row, print_rows, print_versions
from benchmarks.startup import measure_import
from benchmarks.step import measure_step

MEASUREMENTS: dict[str, Callable[[Effort, str], list[Row]]] = {
    "step": measure_step,
    "full": measure_full,
    "normal": measure_normal,
    "batches": measure_batches,
    "flow": measure_flow,
    "coroutines": measure_coroutines,
    "lone": measure_lone,
    "hot": measure_hot,
    "history": measure_history,
    "import": measure_import,
}


def main() -> None:
    options = _parse()
    effort = QUICK if options.quick else FULL
    if options.runs:
        effort = effort._replace(runs=options.runs)
    print_versions()
    rows: list[Row] = []
    options.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.directory) as directory:
        for name in options.only or MEASUREMENTS:
            print(f"measuring {name} ...", flush=True)
            rows += MEASUREMENTS[name](effort, directory)
    print_rows(rows, judge=not options.quick)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=MEASUREMENTS, help="measure this; may be repeated"
    )
    parser.add_argument(
        "--quick", action="store_true", help="run everything once, in seconds, to see that it runs"
    )
    parser.add_argument("--runs", type=int, help="on how many fresh databases, one after another")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("build"),
        help="where the database files go while it runs: on a disk, not in memory (build)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
