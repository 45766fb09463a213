"""Shows how far something is, on the standard error and only where that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

REFRESH_SECONDS = 0.1


class Progress(Protocol):
    """What the one at work tells."""

    def __call__(self, done: int, note: str = "") -> None:
        """Tell how much is done by now, with a note if need be."""
        ...


@contextmanager
def show_progress(what: str, unit: str, *, total: int | None = None) -> Generator[Progress]:
    """Yield the function to call: it draws a bar, or counts where the total is not known."""
    if not sys.stderr.isatty():
        yield lambda done, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    known = [BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn()]
    columns = [TextColumn("{task.description}"), *(known if total else [SpinnerColumn()])]
    columns.append(TextColumn("{task.fields[note]}"))
    began, start, drawn = time.monotonic(), -1, 0.0
    with Bar(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        task = bar.add_task(what, total=total, note="")

        def tell(done: int, note: str = "") -> None:
            nonlocal drawn, start
            now = time.monotonic()
            start = done if start < 0 else start
            if now - drawn < REFRESH_SECONDS:
                return
            drawn = now
            rate = (done - start) / max(now - began, 0.001)
            bar.update(task, completed=done, note=f"{done:,} {unit}, {rate:,.0f}/s{note}")

        yield tell
