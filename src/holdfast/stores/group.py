"""Group commit for threads: those that arrive while one writes are written together by the next.

There is no timer and no thread of its own. A thread that finds a lane free writes at once; one that
finds none waits, and is either told its outcome or told to write for those behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from threading import get_ident
from time import monotonic

from msgspec import Struct

from holdfast.errors import StoreError
from holdfast.stores.contract import (
    MAX_BATCH,
    CommitUncertainError,
    Outcome,
    Write,
    WriteRefusedError,
)
from holdfast.stores.outcomes import copied, left_out
from holdfast.stores.turns import in_the_midst

WriteTogether = Callable[[Sequence[Write], float | None], list[Outcome]]
"""Writes in one transaction what has waited since then, in monotonic seconds; None: not at all."""


class GroupCommit:
    """Shares commits between threads; `write` writes the submissions it is given in one.

    `is_busy` tells whether the thread that asks is in the midst of what `write` would wait for.
    `name` is whose commits they are, for error texts. There are as many lanes as threads may write
    at the same time. An interrupt ends the call that it comes into and no other: whatever it cuts
    short can be done over again.

    `leaders` is empty where no thread writes here, or waits to.
    """

    def __init__(
        self, name: str, write: WriteTogether, is_busy: Callable[[], bool], *, lanes: int = 1
    ) -> None:
        self._name = name
        self._write = write
        self._is_busy = is_busy
        self._lanes = lanes
        self._committing: set[int] = set()  # threads; a signal handler may come into one
        self._lock = threading.Lock()
        self._waiting: list[_Submission] = []
        self.leaders: tuple[_Submission, ...] = ()  # one in each lane that is taken

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write, together with others where they are many; raises what `write` raises."""
        thread = get_ident()
        if thread in self._committing:
            raise in_the_midst(self._name)
        own = _Submission(writes)
        try:
            self._committing.add(thread)
            with self._lock:
                if len(self.leaders) < self._lanes:
                    self.leaders = (*self.leaders, own)
                else:
                    self._queue_up(own)
            if own.told is not None:
                own.told.acquire()
            if own in self.leaders:
                self._lead(own)
        except BaseException:
            self._leave(own)
            raise
        finally:
            self._committing.discard(thread)
        if own.error is not None:
            raise own.error
        return own.outcomes

    def _queue_up(self, own: _Submission) -> None:
        if self._is_busy():
            raise in_the_midst(self._name)
        own.queued_at = monotonic()
        own.told = threading.Lock()
        own.told.acquire()
        self._waiting.append(own)

    def _lead(self, own: _Submission) -> None:
        """Write, for those behind the caller too, then pass the lead on."""
        if own.behind:
            self._write_group([own, *own.behind])
        else:
            own.outcomes = self._write(own.writes, own.queued_at)
        self._pass_on(own)

    def _write_group(self, group: Sequence[_Submission]) -> None:
        try:
            self._write_all(group)
        except WriteRefusedError:
            self._write_each(group)
        except Exception as error:  # noqa: BLE001 (raised in every thread of the group)
            _fail(group, error)

    def _write_all(self, group: Sequence[_Submission]) -> None:
        writes = [write for submission in group for write in submission.writes]
        outcomes = self._write(writes, group[0].queued_at)
        start = 0
        for submission in group:
            end = start + len(submission.writes)
            submission.outcomes = outcomes[start:end]
            start = end

    def _write_each(self, group: Sequence[_Submission]) -> None:
        """Write for each thread alone; where the store fails, the rest are not tried any more."""
        for place, submission in enumerate(group):
            try:
                self._write_all([submission])
            except WriteRefusedError as error:
                submission.error = error
            except StoreError as error:
                submission.error = error
                _fail(group[place + 1 :], left_out(error))
                return

    def _pass_on(self, own: _Submission) -> None:
        """Let the first who waits write for those behind it, then tell those that are written."""
        with self._lock:
            others = [one for one in self.leaders if one is not own]
            if own in self.leaders and self._waiting:
                following = _next(self._waiting)
                rest = self._waiting[1 + len(following) :]
                # No call from here on: an interrupt finds all of it done, or nothing.
                self._waiting[0].behind = following
                self.leaders = (*others, self._waiting[0])
                self._waiting = rest
            elif own in self.leaders:
                self.leaders = (*others,)
            leaders = self.leaders
        for leader in leaders:  # an interrupt may have kept others from telling theirs
            _tell(leader)
        for submission in own.behind:
            _tell(submission)

    def _leave(self, own: _Submission) -> None:
        """Withdraw a thread that was interrupted; what it has to pass on and to tell, it does."""
        with self._lock:
            self._waiting = [one for one in self._waiting if one is not own]
        interrupted = CommitUncertainError(
            "the thread that wrote for this one was interrupted; it may have written"
        )
        _fail([one for one in own.behind if not (one.outcomes or one.error)], interrupted)
        self._pass_on(own)


class _Submission(Struct, eq=False):
    """What one thread wants to be written, and what became of it."""

    writes: Sequence[Write]
    outcomes: list[Outcome] = []
    error: Exception | None = None
    behind: Sequence[_Submission] = ()
    """Those that it writes for beside itself, once it has the lead."""
    told: threading.Lock | None = None
    """Held until it is told, where it waits."""
    queued_at: float | None = None
    """Since when it waits for others of its process, in monotonic seconds."""


def _next(waiting: Sequence[_Submission]) -> Sequence[_Submission]:
    """Return those behind the first who are written with it, as one transaction takes them."""
    size = 0
    for place, submission in enumerate(waiting):
        size += len(submission.writes)
        if place and size > MAX_BATCH:
            return waiting[1:place]
    return waiting[1:]


def _tell(submission: _Submission) -> None:
    try:
        if submission.told is not None:
            submission.told.release()
    except RuntimeError:  # it was told before
        pass


def _fail(group: Sequence[_Submission], error: Exception) -> None:
    for submission in group:
        submission.error = copied(error)
