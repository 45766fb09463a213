"""Processes that the harness starts, and that end with it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable


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
