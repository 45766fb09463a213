"""Keeps the rejected lines of a run, each with its reason, in a file that a killed run resumes.

A run is told from others by its input, its machine and its store: no two share entries. An entry
is on the disk before the commit that passes its line. So of the entries in the file,
those up to the checkpoint are all there and count; those beyond it are of a batch that was not
committed, and opening the file drops them.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO

import msgspec

from holdfast.cli.exits import Exit, Failure, text_of
from holdfast.cli.files import sync_folder
from holdfast.cli.stream import MARK_DIGITS, MAX_LINE_BYTES, Line, Stream
from holdfast.cli.text import valid, visible_json

MAX_REASON_CHARACTERS = 2_000
CUT_BYTES = 1_000
"""What an entry repeats of a line that is too long to be looked into."""


class Reject(msgspec.Struct, frozen=True):
    """An entry: a line that was not applied, and why."""

    input: str
    """Stands for the content of the file, the machine and the store together."""
    line: int
    id: str | None
    error: str
    """The name of the error's type."""
    reason: str
    text: str
    """The line as it stands in the file; what is no UTF-8 in it is escaped."""
    cut: bool = False
    """Whether `text` is only its beginning."""


def mark_of(stream: Stream, machine: str, place: str) -> str:
    """Return what tells a run from those of other inputs, for other machines, in other stores."""
    whole = [stream.fingerprint, machine, valid(place)]
    return sha256(msgspec.json.encode(whole)).hexdigest()[:MARK_DIGITS]


def reject(mark: str, line: Line, id: str | None, error: Exception) -> Reject:
    """Return the entry for a line that an error refused."""
    cut = line.size > MAX_LINE_BYTES
    text = line.text[:CUT_BYTES] if cut else line.text.rstrip(b"\r\n")
    return Reject(
        mark,
        line.number,
        id,
        type(error).__name__,
        valid(text_of(error))[:MAX_REASON_CHARACTERS],
        text.decode(errors="backslashreplace"),
        cut,
    )


class Rejects:
    """The rejected lines of one run, by their file. `counts` has them by error."""

    def __init__(self, file: IO[bytes], path: Path, mark: str) -> None:
        self.path = path
        self.mark = mark
        self.counts: Counter[str] = Counter()
        self._file = file
        self._lasting = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._end = self._next = 0
        self._written: Sequence[Reject] = ()

    def resume(self, after: int) -> None:
        """Take over the entries for lines up to `after`, and drop those beyond; raises Failure."""
        if not self._lasting:
            return
        last = 0
        self._file.seek(0)
        for text in self._file:
            entry = self._read(text)
            if entry is None:
                break
            if entry.line <= last:
                raise self._foreign()
            last = entry.line
            if last <= after:
                self.counts[entry.error] += 1
                self._end += len(text)
        self._file.truncate(self._end)
        self._next = self._end

    def write(self, entries: Sequence[Reject]) -> None:
        """Put a batch's entries on the disk, in place of those that it had at an earlier attempt.

        Raises Failure.
        """
        if not entries and not self._written:
            return
        try:
            if self._lasting:
                self._file.seek(self._end)
                self._file.truncate()
            for entry in entries:
                line = visible_json(msgspec.json.encode(entry).decode())
                self._file.write(f"{line}\n".encode())
            self._file.flush()
            if self._lasting:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise Failure(
                f"cannot write the rejected lines to {self.path}: {error.strerror}; nothing of "
                "this batch was applied, run again to go on",
                Exit.FAILED,
            ) from error
        self._written = entries
        self._next = self._file.tell() if self._lasting else 0

    def accept(self) -> None:
        """Count the entries last written: their batch is committed."""
        self.counts.update(entry.error for entry in self._written)
        self._written = ()
        self._end = self._next

    @property
    def empty(self) -> bool:
        """Whether the file holds nothing."""
        return self._lasting and os.fstat(self._file.fileno()).st_size == 0

    def _read(self, text: bytes) -> Reject | None:
        """Return an entry, None for one whose writing was cut short; raises Failure for others."""
        if not text.endswith(b"\n"):
            begun = b'{"input":"' + self.mark.encode()
            if text.startswith(begun) or begun.startswith(text) or not text.strip(b"\0"):
                return None
            raise self._foreign()
        try:
            entry = msgspec.json.decode(text, type=Reject)
        except msgspec.DecodeError as error:
            raise self._foreign() from error
        if entry.input != self.mark:
            raise self._foreign()
        return entry

    def _foreign(self) -> Failure:
        return Failure(
            f"{self.path} holds something else than the rejected lines of this input for this "
            "machine and store; move it away, or name another file with --rejected",
            Exit.USAGE,
        )


@contextmanager
def open_rejects(path: Path, mark: str, *, mode: int, keep_empty: bool) -> Generator[Rejects]:
    """Yield the file of a run's rejected lines, made if need be and locked against other runs.

    A file that is made gets the mode. Without `keep_empty` one without entries goes away
    afterwards. Raises Failure.
    """
    file = _open_locked(path, mode)
    rejects = Rejects(file, path, mark)
    try:
        yield rejects
    finally:
        if rejects.empty and not keep_empty:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # of what could not be written, and was told
            file.close()


def default_path(input_path: str, mark: str) -> Path:
    """Return where the rejected lines of a run go by default: beside its input, with its mark."""
    path = Path(input_path)
    if not path.is_file():  # a pipe
        path = Path("stdin.ndjson")
    return path.with_name(f"{path.stem}.rejected-{mark[:8]}.ndjson")


def _open_locked(path: Path, mode: int) -> IO[bytes]:
    try:
        while True:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, mode), "r+b")
            _lock(file, path)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                sync_folder(path)
                return file
            file.close()  # another run has just removed it
    except OSError as error:
        raise Failure(
            f"cannot write the rejected lines to {path}: {error.strerror or error}; name another "
            "file with --rejected",
            Exit.USAGE,
        ) from error


def _lock(file: IO[bytes], path: Path) -> None:
    if os.name == "nt" or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise Failure(
            f"another run of this input is under way, it holds {path}; wait for it to end",
            Exit.USAGE,
        ) from error
