"""What a worker asked and was told, in a file that outlives it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from tests.crash.machines import MACHINES

from holdfast import (
    BatchError,
    HoldfastError,
    NotFoundError,
    OutcomeUnknownError,
    Record,
    RetriesExhaustedError,
    VersionConflictError,
)
from holdfast.testing import Operation


class Note(msgspec.Struct, tag=True):
    """Something that a worker met on its way, which is counted."""

    seen: str


class Line(msgspec.Struct, tag=True):
    """An operation as it was asked, and once more as it was answered."""

    number: int
    operation: Operation
    what: str
    """The machine and the verb of the call that it was part of."""
    error: str | None = None
    """The class of the error that it was answered with."""


_DECODER = msgspec.json.Decoder(Line | Note)


class Journal:
    """The file of one worker: nothing is asked before it is written here that it is."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._numbers = count()

    def asked(self, operations: Sequence[Operation], what: str) -> list[Line]:
        """Write down what is asked from now on, in one call."""
        now = time.monotonic()
        for operation in operations:
            operation.began = now
        lines = [Line(next(self._numbers), operation, what) for operation in operations]
        self._write(lines)
        return lines

    def told(self, lines: Sequence[Line], answer: Any) -> None:
        """Write down the answer of each operation: records, or the error of all."""
        now = time.monotonic()
        for line, each in zip(lines, _answers(lines, answer), strict=True):
            line.operation.ended = now
            line.error = type(each).__name__ if isinstance(each, Exception) else None
            _tell(line.operation, each)
        self._write(lines)

    def note(self, seen: str) -> None:
        """Write down what was met, to be counted."""
        self._write([Note(seen)])

    def _write(self, lines: Sequence[Line | Note]) -> None:
        """Write in one piece, which whoever kills this process may cut short."""
        os.write(self._file, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def lines_in(journal: Path) -> list[Line]:
    """Return what a worker asked, as far as it was written down, with the answers it was told."""
    lines = [line for line in _whole_lines(journal) if isinstance(line, Line)]
    return list({line.number: line for line in lines}.values())


def notes_in(journal: Path) -> Counter[str]:
    """Return how often a worker met what it counts."""
    return Counter(line.seen for line in _whole_lines(journal) if isinstance(line, Note))


def _whole_lines(journal: Path) -> list[Line | Note]:
    whole, _, _ = journal.read_bytes().rpartition(b"\n")
    return [_DECODER.decode(line) for line in whole.splitlines()]


def _answers(lines: Sequence[Line], answer: Any) -> Iterator[Any]:
    """Yield the answer of each operation."""
    for place, line in enumerate(lines):
        if isinstance(answer, Mapping):
            yield answer.get(line.operation.id, NotFoundError(line.operation.machine, ""))
        else:
            yield answer[place] if isinstance(answer, Sequence) else answer


def _tell(operation: Operation, answer: Any) -> None:
    match answer:
        case Record():
            codec = MACHINES[operation.machine].state_codec
            operation.told = "done"
            operation.version = answer.version
            operation.state = codec.encode(answer.state)[0]
        case NotFoundError():
            operation.told, operation.version = "done", 0
        case OutcomeUnknownError():
            operation.told = "unknown"
        case BatchError() if answer.subgroup(OutcomeUnknownError):
            operation.told = "unknown"
        case HoldfastError():
            operation.told = "refused"
            operation.version = _version_met(operation, answer)
        case _:
            raise TypeError(f"{operation} was answered with {answer!r}")


def _version_met(operation: Operation, error: HoldfastError) -> int | None:
    """Return the version that a write met where it expected another."""
    if not isinstance(error, VersionConflictError) or isinstance(error, RetriesExhaustedError):
        return None
    is_own = operation.expected is not None and error.expected == operation.expected
    return error.actual if is_own else None
