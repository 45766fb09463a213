"""Reads a stream of commands: the lines of a file, its fingerprint, and what a line says."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from typing import IO, Annotated, Any, NamedTuple

import msgspec

from holdfast.cli.exits import Exit, Failure
from holdfast.cli.progress import show_progress
from holdfast.errors import ValidationError
from holdfast.machine.codec import tag_of
from holdfast.machine.definition import Machine
from holdfast.machine.model import TAG_FIELD
from holdfast.record import Request

MAX_LINE_BYTES = 4 * 1024 * 1024
"""The longest line that is looked into."""
MAX_BATCH_BYTES = 16 * 1024 * 1024
"""A batch that has reached it takes no further line."""

MARK_DIGITS = 16

_CHUNK_BYTES = 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line of the file."""

    number: int
    """Counts every line from 1, blank ones included."""
    text: bytes
    """What the line holds, of a longer one the first MAX_LINE_BYTES."""
    size: int
    """The length of the whole line in bytes."""

    @property
    def blank(self) -> bool:
        """Whether there is nothing in it."""
        return not self.text.strip()


class Batch(NamedTuple):
    """Lines to be handled together, without the blank ones among them."""

    lines: list[Line]
    first: int
    last: int


class Stream:
    """A file of lines as it was when it was opened; what is appended later is not read.

    The first reading takes its fingerprint, the SHA-256 of its content. Holds one line at a time.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._file = file
        status = os.fstat(file.fileno())
        self.mode = stat.S_IMODE(status.st_mode) & 0o666 | 0o600
        """The rights to read and write it, for what repeats its lines."""
        self._size = status.st_size
        self.last = 0
        self.commands = 0
        with show_progress(f"Reading {name}", "lines") as tell:
            for line in self._read():
                self.last = line.number
                self.commands += not line.blank
                tell(line.number)
        self.fingerprint = self._digest.hexdigest()

    @property
    def mark(self) -> str:
        """The fingerprint, shortened, for keys."""
        return self.fingerprint[:MARK_DIGITS]

    def batches(self, *, after: int, size: int) -> Iterator[Batch]:
        """Read again, from the line after `after`, in batches of up to `size` lines.

        Raises Failure at the end if the file was not the same this time.
        """
        lines: list[Line] = []
        first, held = after + 1, 0
        for line in self._read():
            if line.number <= after:
                continue
            if not line.blank:
                lines.append(line)
                held += len(line.text)
            if len(lines) >= size or held >= MAX_BATCH_BYTES or line.number == self.last:
                yield Batch(lines, first, line.number)
                lines, first, held = [], line.number + 1, 0
        if self._digest.hexdigest() != self.fingerprint:
            raise Failure(
                f"{self.name} changed while it was read, so what was applied belongs to no file "
                "that there is; run it again only if each line has a key",
                Exit.FAILED,
            )

    def count_commands(self, *, up_to: int) -> int:
        """Return how many lines up to a number are not blank."""
        if up_to >= self.last:
            return self.commands
        return sum(not line.blank for line in self._read() if line.number <= up_to)

    def _read(self) -> Iterator[Line]:
        self._file.seek(0)
        self._digest = sha256()
        left, number = self._size, 0
        while left > 0 and (text := self._file.readline(min(left, MAX_LINE_BYTES + 1))):
            self._digest.update(text)
            number += 1
            size = len(text)
            part = text
            while size < left and not part.endswith(b"\n"):
                part = self._file.readline(min(left - size, _CHUNK_BYTES))
                if not part:
                    break
                self._digest.update(part)
                size += len(part)
            left -= size
            if number == 1:
                text = text.removeprefix(_BYTE_ORDER_MARK)
            yield Line(number, text[:MAX_LINE_BYTES], size)


@contextmanager
def open_stream(path: str) -> Generator[Stream]:
    """Yield the stream in a file, or in the standard input for `-`, its fingerprint taken.

    What cannot be read twice, a pipe, is copied to a temporary file first. Raises Failure.
    """
    name = "standard input" if path == "-" else path
    try:
        file = _open(path)
        stream = Stream(file, name)
    except OSError as error:
        raise Failure(f"cannot read {name}: {error.strerror or error}", Exit.USAGE) from error
    with file:
        yield stream


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """What a line holds, the command not yet read."""

    id: str
    command: msgspec.Raw
    key: str | None = None
    metadata: dict[str, Any] | None = None
    at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


_ENTRY = msgspec.json.Decoder(Entry)


def read_entry(line: Line) -> Entry:
    """Return what a line holds; raises ValidationError."""
    if line.size > MAX_LINE_BYTES:
        raise ValidationError(
            f"the line takes {line.size:,} bytes; the limit is {MAX_LINE_BYTES:,}"
        )
    try:
        return _ENTRY.decode(line.text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = _HALF_A_PAIR if _holds_half_a_pair(line.text) else error
        raise ValidationError(f"the line is no request: {reason}") from error


_HALF_A_PAIR = r"it holds one half of a surrogate pair, like \ud800, which is no character"


def _holds_half_a_pair(text: bytes) -> bool:
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


def request_of(machine: Machine[Any, Any, Any], entry: Entry, key: str) -> Request[Any]:
    """Return the request, its command read; `key` is for one without. Raises ValidationError."""
    try:
        command = machine.parse_command(bytes(entry.command))
    except ValidationError as error:
        if TAG_FIELD not in str(error) or error.path not in ("$", f"$.{TAG_FIELD}"):
            raise
        known = ", ".join(map(tag_of, machine.commands))
        raise ValidationError(f"{error}; {machine.name} takes {known}", error.path) from error
    return Request(
        entry.id, command, key if entry.key is None else entry.key, entry.metadata, entry.at
    )


def _open(path: str) -> IO[bytes]:
    if path == "-":
        return _copy(sys.stdin.buffer)
    file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    with file:
        return _copy(file)


def _copy(source: IO[bytes]) -> IO[bytes]:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    shutil.copyfileobj(source, copy)
    copy.flush()
    return copy
