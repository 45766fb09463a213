"""Group commit: who writes at once, and who waits to be written together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.stores.contract import Outcome, Write
from holdfast.stores.group import GroupCommit
from holdfast.testing.writes import write

WAIT_SECONDS = 10


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_as_many_write_at_the_same_time_as_there_are_lanes(lanes: int) -> None:
    """The others wait, and are written together by the first lane that becomes free."""
    groups: list[int] = []
    opened = threading.Event()

    def wait_and_write(writes: Sequence[Write], since: float | None) -> list[Outcome]:
        groups.append(len(writes))
        assert opened.wait(WAIT_SECONDS)
        return [Outcome(True, 1) for _ in writes]

    group = GroupCommit("the store", wait_and_write, bool, lanes=lanes)
    commits = [write("e", "Open")]
    with ThreadPoolExecutor(10) as pool:
        first = [pool.submit(group.commit, commits) for _ in range(lanes)]
        until(lambda: groups == [1] * lanes)
        late = [pool.submit(group.commit, commits) for _ in range(5)]
        until(lambda: len(group._waiting) == 5)  # pyright: ignore[reportPrivateUsage]
        opened.set()
        assert all(future.result() == [Outcome(True, 1)] for future in [*first, *late])
    assert groups == [*[1] * lanes, 5]


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_lane_is_given_back_whatever_happens(lanes: int) -> None:
    """By a thread whose write fails, or is interrupted, as by any other."""

    def fail(writes: Sequence[Write], since: float | None) -> list[Outcome]:
        raise (ZeroDivisionError if len(writes) == 1 else KeyboardInterrupt)

    group = GroupCommit("the store", fail, bool, lanes=lanes)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            group.commit([write("e", "Open")])
        with pytest.raises(KeyboardInterrupt):
            group.commit([write("e", "Open")] * 2)


def until(holds: Callable[[], bool]) -> None:
    """Return once something holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
