"""Rich's console on the standard output, with the errors and exit codes of the command line."""

from __future__ import annotations

import sys
from typing import IO, Any, cast

from rich.console import Console

from holdfast.cli.exits import output_failure


def output_console() -> Console:
    """Return a console that raises Failure where the standard output does not take it."""
    return Console(file=cast("IO[str]", _Output()), highlight=False)


class _Output:
    """The standard output of this moment, told apart from other files where it fails.

    Rich itself ends the process where a pipe was closed, with a code that means something else.
    """

    def __init__(self) -> None:
        self._file = sys.stdout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        try:
            return self._file.write(text)
        except OSError as error:
            raise output_failure(error) from error

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise output_failure(error) from error
