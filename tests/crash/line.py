"""A line between workers and their server that cuts, swallows or delays commits while it is bad."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from ctypes import Array, c_longlong
from functools import partial
from multiprocessing.sharedctypes import RawArray
from os import close, kill, pipe, read, waitpid, write
from random import Random

from tests.crash.forks import fork
from tests.crash.place import End
from tests.stores.postgres.proxy import Fate, Proxy

COMMITS = (b"$type", b"COMMIT\0")
"""What only a message holds that writes, or that ends a transaction."""
FATES: tuple[tuple[Fate, str, str], ...] = (
    ("is lost", "line cuts before", "commits cut off before they went out"),
    ("loses its sender", "line cuts after", "commits cut off after they went out"),
    ("loses its answer", "line swallows", "answers to commits swallowed"),
    ("is answered late", "line delays", "answers to commits delayed"),
)
"""What happens to a commit, the disturbance during which it does, and what it is counted as."""
SHARE = 0.5
"""Of the commits that come by while the line is bad."""
SILENT_SECONDS = 0.1


class Line:
    """A proxy in a process of its own, since those who fork workers have no threads."""

    def __init__(self, url: str) -> None:
        self._bad = RawArray(c_longlong, [-1])
        self._happened = RawArray(c_longlong, len(FATES))
        reading, writing = pipe()
        self.pid = fork(lambda: self._run(url, writing))
        close(writing)
        self.url = read(reading, 10_000).decode()
        close(reading)
        assert self.url, "the line to the server could not be opened"

    def counts(self) -> Counter[str]:
        """Return how many commits met which fate."""
        return Counter({FATES[place][2]: n for place, n in enumerate(self._happened) if n})

    def turn_bad(self, fate: int) -> End:
        """Have commits meet a fate until the returned function is called."""
        self._bad[0] = fate
        return partial(self._bad.__setitem__, 0, -1)

    def _run(self, url: str, writing: int) -> None:
        proxy = _Bad(url, self._bad, self._happened)
        write(writing, proxy.url.encode())
        signal.pause()


class _Bad(Proxy):
    silent_seconds = SILENT_SECONDS

    def __init__(self, url: str, bad: Array[c_longlong], happened: Array[c_longlong]) -> None:
        self._bad = bad
        self._happened = happened
        self._random = Random()
        super().__init__(url)

    def fate_of(self, data: bytes) -> Fate | None:
        """See `Proxy.fate_of`."""
        fate = self._bad[0]
        if fate < 0 or not any(part in data for part in COMMITS) or self._random.random() > SHARE:
            return None
        self._happened[fate] += 1
        return FATES[fate][0]


@contextmanager
def line_to(url: str) -> Generator[Line]:
    """Run a line to the server of a URL."""
    line = Line(url)
    try:
        yield line
    finally:
        kill(line.pid, signal.SIGKILL)
        waitpid(line.pid, 0)
