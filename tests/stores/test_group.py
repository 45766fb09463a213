"""Group commit: who writes at once, and who waits to be written together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from holdfast import StoreError
from holdfast.stores import utc_now
from holdfast.stores.contract import (
    CommitUncertainError,
    EntityRow,
    LogRow,
    Outcome,
    Write,
    WriteRefusedError,
)
from holdfast.stores.group import GroupCommit
from holdfast.stores.sqlite import SqliteStore
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


@pytest.mark.parametrize("broken", [[], [4], [4, 7], [1, 2, 3]], ids=["0", "1", "2", "3"])
def test_a_broken_write_fails_alone(path: Path, broken: list[int]) -> None:
    """However many of them a group holds, the threads of the others learn that theirs is there."""
    with SqliteStore(str(path), clock=utc_now) as store:
        store.migrate()
        sizes: list[int] = []

        def write(group: Sequence[Write], since: float | None) -> list[Outcome]:
            sizes.append(len(group))
            return store._write_together(group, since)  # pyright: ignore[reportPrivateUsage]

        answers = in_one_group(GroupCommit("the store", write, bool), submissions(9, broken=broken))

        assert sizes == [1, 8, *[1] * 8 * bool(broken)]
        refused = [n for n, answer in enumerate(answers) if isinstance(answer, WriteRefusedError)]
        assert refused == broken
        assert store.count("sample") == {"Open": 9 - len(broken)}


def test_a_store_that_fails_is_everybodys_error() -> None:
    """It is not asked again for each, and each has an error of its own to add notes to."""
    calls: list[int] = []

    def write(group: Sequence[Write], since: float | None) -> list[Outcome]:
        calls.append(len(group))
        if len(calls) == 2:
            error = StoreError("database is locked")
            error.add_note("of the store")
            raise error
        return [Outcome(True, 1) for _ in group]

    answers = in_one_group(GroupCommit("the store", write, bool), submissions(9))

    assert calls == [1, 8]
    errors = [answer for answer in answers if isinstance(answer, StoreError)]
    assert len({id(error) for error in errors}) == 8
    for n, error in enumerate(errors):
        error.add_note(f"note {n}")
    assert [error.__notes__ for error in errors] == [
        ["of the store", f"note {n}"] for n in range(8)
    ]


def test_a_store_that_fails_among_single_writes_is_not_asked_for_the_rest() -> None:
    """They are told that theirs was not tried, not what was wrong with another's."""
    calls: list[int] = []

    def write(group: Sequence[Write], since: float | None) -> list[Outcome]:
        calls.append(len(group))
        if len(calls) == 2:
            raise WriteRefusedError("one of them")
        if len(calls) == 4:
            raise StoreError("the disk went away")
        return [Outcome(True, 1) for _ in group]

    answers = in_one_group(GroupCommit("the store", write, bool), submissions(5))

    assert calls == [1, 4, 1, 1]
    assert [type(answer) for answer in answers] == [list, list, *[StoreError] * 3]
    assert [str(answer).startswith("nothing was written: the store") for answer in answers] == [
        *[False] * 3,
        *[True] * 2,
    ]


def test_a_commit_of_unknown_outcome_is_everybodys() -> None:
    """Each thread is told that it cannot be told, and none of them writes again by itself."""
    calls: list[int] = []

    def write(group: Sequence[Write], since: float | None) -> list[Outcome]:
        calls.append(len(group))
        if len(calls) == 2:
            raise CommitUncertainError("the disk went away")
        return [Outcome(True, 1) for _ in group]

    answers = in_one_group(GroupCommit("the store", write, bool), submissions(5))

    assert calls == [1, 4]
    assert answers[0] == [Outcome(True, 1)]
    assert [type(answer) for answer in answers[1:]] == [CommitUncertainError] * 4


def test_another_error_is_everybodys_too() -> None:
    """A defect in the store reaches every thread of the group, and the next group is written."""
    calls: list[int] = []

    def write(group: Sequence[Write], since: float | None) -> list[Outcome]:
        calls.append(len(group))
        if len(calls) == 2:
            raise ZeroDivisionError
        return [Outcome(True, 1) for _ in group]

    commit = GroupCommit("the store", write, bool)
    answers = in_one_group(commit, submissions(5))

    assert [type(answer) for answer in answers] == [list] + [ZeroDivisionError] * 4
    assert commit.commit(submissions(1)[0]) == [Outcome(True, 1)]


def in_one_group(group: GroupCommit, wanted: Sequence[Sequence[Write]]) -> list[Any]:
    """Hand writes in from a thread each, in order, all while the first is being written."""
    answers: list[Any] = [None] * len(wanted)
    write_together = group._write  # pyright: ignore[reportPrivateUsage]
    begun, opened = threading.Event(), threading.Event()

    def wait_and_write(writes: Sequence[Write], since: float | None) -> list[Outcome]:
        begun.set()
        assert opened.wait(WAIT_SECONDS)
        return write_together(writes, since)

    def work(place: int) -> None:
        try:
            answers[place] = group.commit(wanted[place])
        except Exception as error:  # noqa: BLE001 (the answer)
            answers[place] = error

    group._write = wait_and_write  # pyright: ignore[reportPrivateUsage]
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(len(wanted))]
    for place, thread in enumerate(threads):
        thread.start()
        assert begun.wait(WAIT_SECONDS)
        until(lambda: len(group._waiting) == place)  # noqa: B023  # pyright: ignore[reportPrivateUsage]
    opened.set()
    for thread in threads:
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive(), "a thread waits for ever"
    return answers


def submissions(count: int, *, broken: Sequence[int] = ()) -> list[list[Write]]:
    """Return a write for each of so many threads; the store refuses those that are broken."""
    return [[_write_of(f"e-{n}", broken=n in broken)] for n in range(count)]


def _write_of(id: str, *, broken: bool) -> Write:
    at = "2026-01-02T03:04:05.000000Z"
    entity = EntityRow("sample", id, 1, "Open", "{}", 1, at, at, 1, "")
    kind = "broken" if broken else "command"
    log = LogRow(
        *(0, "sample", id, 1, kind, None, "Open", "Add", "{}", None, "{}", 1, 1, None, None),
        *(None, at, "", ""),
    )
    return Write(0, "", entity, (log,))


def until(holds: Callable[[], bool]) -> None:
    """Return once something holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
