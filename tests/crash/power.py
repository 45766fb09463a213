"""Cuts the power: workers begin anew on what had reached the disk by then."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.crash.checker import violations
from tests.crash.sqlite import SqlitePlace
from tests.crash.supervisor import WORKERS, Running, Supervisor
from tests.crash.traps import NO_TRAP

from holdfast.stores.sqlite.file import Synchronous

IMAGE_BYTES = 48 * 1024**2
MAX_COPIES = 20
WITHIN = ("unshare", "--mount", "--propagation", "private")
"""A command that runs another, whose mounts are gone with it."""


class Disk:
    """A file system in a file of its own, whose copy is what a power cut would leave of it.

    What is written to a file and not flushed stays in the memory of the system, and out of the
    copy. Nothing but a flush gets it there in time: the file system would wait for minutes.
    """

    def __init__(self, folder: Path) -> None:
        self.mounted_at = folder / "disk"
        self._folder = folder
        self._images = 0
        self._image = self._next_image()
        with self._image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", self._image)
        self._mount()

    def copy(self) -> Path:
        """Return a copy as of one moment, at which nothing was being written."""
        device = _run("findmnt", "--noheadings", "--output", "SOURCE", self.mounted_at).strip()
        statistics = Path("/sys/block") / Path(device).name / "stat"
        copy = self._next_image()
        for _ in range(MAX_COPIES):
            before = statistics.read_text("ascii")
            _run("cp", "--sparse=always", self._image, copy)
            if statistics.read_text("ascii") == before:
                return copy
        raise RuntimeError(f"{device} was written all the time")

    def replace(self, copy: Path) -> None:
        """Go on with a copy."""
        _run("umount", self.mounted_at)
        self._image.unlink()
        self._image = copy
        self._mount()

    def _next_image(self) -> Path:
        self._images += 1
        return self._folder / f"image-{self._images}"

    def _mount(self) -> None:
        _run("mount", "-o", "loop,commit=300", self._image, self.mounted_at)


class PowerCuts(Supervisor):
    """Keeps workers running on a disk, and cuts its power."""

    def __init__(
        self, folder: Path, journals: Path, seed: int, *, synchronous: Synchronous
    ) -> None:
        self._disk = Disk(folder)
        place = SqlitePlace(self._disk.mounted_at / "store.db", synchronous=synchronous)
        super().__init__(place, journals, seed)

    def cut(self, times: int) -> None:
        """Cut the power so often; after each cut, hold what is left against the journals."""
        seen: Counter[str] = Counter()
        try:
            while self.counts["cuts"] < times and not self.violations:
                seen.clear()
                self._begin()
                self._cut()
                self.violations += violations(self.place, self.journals, seen)
        finally:
            self._end()
        self.counts.update(seen)

    def _begin(self) -> None:
        """Start workers, and let them work for a while."""
        while len(self._workers) < WORKERS:
            self._workers.append(self._start(NO_TRAP))
        self._expect_progress()
        time.sleep(self._random.uniform(0.0, 0.2))

    def _cut(self) -> None:
        """Stop the workers, keep what has reached the disk, and let nothing else remain."""
        for worker in self._workers:
            os.kill(worker.pid, signal.SIGSTOP)
        for worker in self._workers:
            self._wait_until_stopped(worker)
        copy = self._disk.copy()
        self._end()
        self._disk.replace(copy)
        self.counts["cuts"] += 1

    def _wait_until_stopped(self, worker: Running) -> None:
        _, status = os.waitpid(worker.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self._workers.remove(worker)
            self.violations.append(f"{worker.name} ended by itself, with status {status}")


@cache
def lets_cut_the_power() -> bool:
    """Whether a file system in a file can be made and mounted here."""
    trial = (
        "truncate -s 4M image && mkfs.ext4 -q -F image && mkdir disk && mount -o loop image disk"
    )
    if not all(map(shutil.which, ("findmnt", WITHIN[0]))):
        return False
    with TemporaryDirectory() as folder:
        command = [*WITHIN, "sh", "-c", trial]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True)
    return done.returncode == 0


def _run(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
