"""The exit codes: what each means, and which error leads to which."""

from __future__ import annotations

import traceback
from enum import IntEnum
from pathlib import Path

from holdfast.errors import (
    DecodeError,
    DefinitionError,
    HoldfastError,
    NotFoundError,
    QueryError,
    RejectedError,
    StoreError,
)


class Exit(IntEnum):
    """What the process ends with."""

    DONE = 0
    FOUND = 1
    USAGE = 2
    NOT_FOUND = 3
    STORE = 4
    FAILED = 5
    UNSHOWN = 6
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANINGS = {
    Exit.DONE: "Done.",
    Exit.FOUND: "There is something to look at: a refused command, rejected lines, findings.",
    Exit.USAGE: "Not begun: a wrong option or argument, a TARGET that cannot be used.",
    Exit.NOT_FOUND: "There is no such entity.",
    Exit.STORE: "The store could not do it, or holds what this code cannot read.",
    Exit.FAILED: "Stopped: a handler or another part failed, or there was a conflict.",
    Exit.UNSHOWN: "Done, but the output could not be written.",
    Exit.INTERRUPTED: "Interrupted with Ctrl-C.",
    Exit.PIPE_CLOSED: "Nobody reads the output any more.",
}
"""The table of the help and of the documentation."""

_CODES: list[tuple[tuple[type[Exception], ...], Exit]] = [
    ((NotFoundError,), Exit.NOT_FOUND),
    ((StoreError, DecodeError), Exit.STORE),
    ((DefinitionError, QueryError, RejectedError), Exit.USAGE),
]


class Failure(Exception):  # noqa: N818 (what went wrong is in its message)
    """The end of a verb that did not do what it was asked: a line for the user, an exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code


def failure_of(error: BaseException) -> Failure:
    """Return how an error is shown and what the process ends with."""
    if isinstance(error, Failure):
        return error
    for kinds, code in _CODES:
        if isinstance(error, kinds):
            return Failure(text_of(error), code)
    return Failure(describe(error), Exit.FAILED)


def output_failure(error: OSError) -> Failure:
    """Return the end of a verb whose output was not taken."""
    if isinstance(error, BrokenPipeError):
        return Failure("nobody reads the output any more", Exit.PIPE_CLOSED)
    return Failure(f"cannot write the output: {error.strerror or error}", Exit.UNSHOWN)


def describe(error: BaseException, *, placed: bool = False) -> str:
    """Return an error in one line: others by type, text and place, ours by its text alone.

    With `placed` ours is told as others are.
    """
    text = text_of(error)
    if isinstance(error, HoldfastError) and not placed:
        return text
    name = type(error).__name__ + (f": {text}" if text else "")
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:
        return name
    here = [frame for frame in frames if Path(frame.filename).is_relative_to(Path.cwd())]
    frame = (here or frames)[-1]
    return f"{name} (at {_short(frame.filename)}:{frame.lineno} in {frame.name})"


def text_of(error: BaseException) -> str:
    """Return the text of an error, whatever its class does when it is asked for it."""
    try:
        return str(error).strip()
    except Exception as fault:  # noqa: BLE001 (the error itself is what is to be told)
        return f"(its text cannot be told: {type(fault).__name__})"


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
