"""How an SQLite file is opened: the modes, and reading one without making files beside it.

Whoever reads a file with a write-ahead log makes a `-shm` file, which readers share, and so needs
the right to write to the folder. Where there is no log, nobody has the file open: then it is read
as if it never changed, and a reading during which it did counts for nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

Mode = Literal["ro", "rw", "rwc"]
MODES: dict[str, Mode] = {"ro": "ro", "rw": "rw", "rwc": "rwc"}
"""As SQLite names them: read only; read and write what exists; and create what does not."""

_BESIDE = ("-wal", "-shm", "-journal")


class Stamp(NamedTuple):
    """What tells of a file whether it was written since."""

    inode: int
    size: int
    mtime_ns: int


def stamp_of_still(path: str) -> Stamp | None:
    """Return the stamp of a file that nobody has open, else None."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if any(os.path.exists(path + ending) for ending in _BESIDE):
        return None
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def uri_of(path: str, mode: Mode, *, still: bool) -> str:
    """Return what SQLite opens a file by; a still one is neither locked nor watched."""
    uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
    return f"{uri}&immutable=1" if still else uri
