"""The command line: `main` is its entry point; the verbs are loaded when they are called."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    try:
        _replace_closed_streams()
        from holdfast.cli.app import app

        if "_HOLDFAST_COMPLETE" in os.environ:
            from holdfast.cli.completion import complete_in_bash

            complete_in_bash()
        if isinstance(sys.stdout, TextIOWrapper):
            # What the terminal's encoding lacks is shown as an escape, as on the standard error.
            sys.stdout.reconfigure(errors="backslashreplace")
        app(prog_name="holdfast")
    except KeyboardInterrupt:
        sys.stderr.write("Error: interrupted\n")
        sys.exit(130)
    finally:
        _forget_unwritten()


def _replace_closed_streams() -> None:
    """Give a stream that was closed (`>&-`) a file that cannot be read or written in its place.

    Else the next file opened, a store perhaps, would take its number. Errors go to nowhere.
    """
    for name, flags, mode in _STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, flags), mode))  # noqa: SIM115 (stays open)


def _forget_unwritten() -> None:
    """Send what was not taken to nowhere, so that the interpreter's last flush does not fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_STREAMS = (
    ("stdin", os.O_WRONLY, "r"),
    ("stdout", os.O_RDONLY, "w"),
    ("stderr", os.O_WRONLY, "w"),
)
