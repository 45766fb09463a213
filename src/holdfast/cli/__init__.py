"""The command line: `main` is its entry point; the verbs are loaded when they are called."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    try:
        from holdfast.cli.app import app

        if "_HOLDFAST_COMPLETE" in os.environ:
            from holdfast.cli.completion import complete_in_bash

            complete_in_bash()
        if isinstance(sys.stdout, TextIOWrapper):
            # What the terminal's encoding lacks is shown as an escape, as on the standard error.
            sys.stdout.reconfigure(errors="backslashreplace")
        app(prog_name="holdfast")
    except KeyboardInterrupt:
        sys.exit(130)
