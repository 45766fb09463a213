"""The process that stops a test session's servers and removes their folder once the session ends.

It is run as a program with the standard library alone, by whichever interpreter runs the tests.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CLEANUP_SECONDS = 30.0


def remove_session(folder: Path) -> None:
    """Stop every server whose data lies in `folder`, then remove the folder."""
    deadline = time.monotonic() + CLEANUP_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        for data in folder.glob("*/data"):
            stop_at_once(data, timeout_seconds=max(0.0, deadline - time.monotonic()))
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)


def stop_at_once(data: Path, *, timeout_seconds: float) -> None:
    """Stop the server of a data folder without a checkpoint; kill it when it takes too long."""
    pid = running_pid(data)
    if pid is None:
        remove_shared_memory(data)
        return
    send(pid, signal.SIGQUIT)
    if not wait_until_gone(data, pid, timeout_seconds=min(8.0, timeout_seconds)):
        send(pid, signal.SIGKILL)
        wait_until_gone(data, pid, timeout_seconds=1.0)
        remove_shared_memory(data)


def wait_until_gone(data: Path, pid: int, *, timeout_seconds: float) -> bool:
    """Tell whether the process of a data folder ended in time."""
    deadline = time.monotonic() + timeout_seconds
    while is_postmaster(pid, data):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


def running_pid(data: Path) -> int | None:
    """Return the process that serves a data folder, or None when there is none."""
    lines = _pid_file(data)
    if not lines or not lines[0].isdigit():
        return None
    pid = int(lines[0])
    return pid if is_postmaster(pid, data) else None


def is_ready(data: Path, pid: int) -> bool:
    """Tell whether this process has told in its pid file that it takes connections."""
    lines = _pid_file(data)
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def is_postmaster(pid: int, data: Path) -> bool:
    """Tell whether a process is alive and serves a data folder: a pid may have a new bearer."""
    if not Path("/proc/self").exists():
        return str(data) in _told_by_ps(pid)
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # Empty when the process is dead and only waits for its parent.
    return os.fsencode(data) in arguments.split(b"\0")


def remove_shared_memory(data: Path) -> None:
    """Free the segment that a killed server left; the kernel keeps it past the process."""
    facts = "".join(_pid_file(data)[6:7]).split()
    ipcrm = shutil.which("ipcrm")
    if len(facts) == 2 and ipcrm is not None:
        command = [ipcrm, "-m", facts[1]]
        owner = data.stat()
        user, group, others = (
            (owner.st_uid, owner.st_gid, list[int]()) if os.geteuid() == 0 else (None, None, None)
        )
        subprocess.run(
            command, user=user, group=group, extra_groups=others, capture_output=True, check=False
        )


def send(pid: int, signal_number: signal.Signals) -> None:
    """Send a signal to a process that may have ended meanwhile."""
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        return


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _told_by_ps(pid: int) -> str:
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def main(folder: Path) -> None:
    """Wait until the session lets go of its lock, which the kernel does for a killed one."""
    try:
        alive = (folder / "alive").open("r+b")
    except FileNotFoundError:  # The session ended before this process was up.
        return
    with alive:
        fcntl.lockf(alive, fcntl.LOCK_EX)
        remove_session(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
