"""What a store meets beside its workers: processes, a lock that is held, a disk that is full."""

from __future__ import annotations

import ctypes
import os
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PATIENCE_SECONDS = 15.0


def hold_the_lock(path: Path, seconds: float) -> None:
    """Keep others from writing to a store, as another program may."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_SECONDS)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(seconds)
    connection.execute("ROLLBACK")
    connection.close()


def fill(path: Path) -> None:
    """Take all the room that a small disk has left."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def fork(work: Callable[[], None]) -> int:
    """Do something in a process of its own, which ends with 1 where it fails."""
    pid = os.fork()
    if pid:
        return pid
    try:
        _end_with_parent()
        work()
        os._exit(0)
    except BaseException:  # noqa: BLE001 (told, and by the exit code)
        traceback.print_exc()
    finally:
        os._exit(1)


def _end_with_parent() -> None:
    """Have this process killed when the one that started it is gone, where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
