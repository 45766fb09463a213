"""What options take: numbers that every store can hold, and files that are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

LARGEST = 2**63 - 1
"""The largest version, and the largest count, of any store."""


class Count(click.IntRange):
    """A whole number from `min` on, up to the largest of any store, of which the help is silent."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; fails for one that no store can hold."""
        number = super().convert(value, param, ctx)
        if number > LARGEST:
            self.fail(f"this is more than any store holds, which is {LARGEST:,}.", param, ctx)
        return number


class NewFile(click.Path):
    """A file to be written, which `-`, elsewhere the standard output, is not."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; fails for `-`."""
        if value == "-":
            self.fail("it is written to a file; ./- is one of that name", param, ctx)
        return super().convert(value, param, ctx)
