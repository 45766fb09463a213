"""Group commit for threads: those that arrive while one writes are written together by the next.

There is no timer and no thread of its own. A thread that finds nobody writing writes at once; one
that finds somebody waits, and is either told its outcome or told to write for all who wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from holdfast.errors import StoreError
from holdfast.stores.contract import CommitUncertainError, Outcome, Write

WriteTogether = Callable[[Sequence[Write]], list[Outcome]]


class GroupCommit:
    """Shares commits between threads; `write` writes the submissions it is given in one."""

    def __init__(self, write: WriteTogether) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._waiting: list[_Submission] = []
        self._writing = False

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write, together with others where they are many; raises what `write` raises."""
        begins = False
        try:
            with self._lock:
                begins = not self._writing  # known before it holds: an interrupt may come between
                self._writing = True
            return self._write(writes) if begins else self._write_with_others(writes)
        finally:
            if begins:
                self._pass_on([])

    def _write_with_others(self, writes: Sequence[Write]) -> list[Outcome]:
        """Wait to be told the outcome, or to write for all who wait."""
        own = _Submission(writes)
        try:
            if self._waits(own):
                own.told.acquire()
            if own.group:
                self._lead(own)
        except BaseException:
            self._leave(own)
            raise
        if own.error is not None:
            raise own.error
        return own.outcomes

    def _waits(self, own: _Submission) -> bool:
        """Queue up behind who is writing; where nobody is any more, take the lead."""
        with self._lock:
            if self._writing:
                self._waiting.append(own)
            else:
                own.group = [own]
                self._writing = True
            return not own.group

    def _lead(self, own: _Submission) -> None:
        """Write for a group whose first is the caller, then pass the lead on."""
        group = own.group
        try:
            self._write_all(group)
        except StoreError as error:
            if len(group) == 1 or isinstance(error, CommitUncertainError):
                _fail(group, error)
            else:
                self._write_each(group)
        except Exception as error:  # noqa: BLE001 (raised in every thread of the group)
            _fail(group, error)
        self._pass_on_from(own)

    def _write_all(self, group: Sequence[_Submission]) -> None:
        outcomes = self._write([write for submission in group for write in submission.writes])
        start = 0
        for submission in group:
            end = start + len(submission.writes)
            submission.outcomes = outcomes[start:end]
            start = end

    def _write_each(self, group: Sequence[_Submission]) -> None:
        """Write for each thread alone, so that one bad write fails alone.

        The second that fails shows that the store itself does, and the rest are not tried any more.
        """
        failed = 0
        for place, submission in enumerate(group):
            try:
                self._write_all([submission])
            except StoreError as error:
                failed += 1
                if failed == 2:
                    _fail(group[place:], error)
                    return
                submission.error = error

    def _leave(self, own: _Submission) -> None:
        """Withdraw a thread that was interrupted; where it has the lead, pass that on."""
        with self._lock:
            if own in self._waiting:
                self._waiting.remove(own)
        if own.group:
            interrupted = CommitUncertainError(
                "the thread that wrote for this one was interrupted; it may have written"
            )
            _fail([one for one in own.group if not one.outcomes], interrupted)
            self._pass_on_from(own)

    def _pass_on_from(self, own: _Submission) -> None:
        group, own.group = own.group, []
        self._pass_on([one for one in group if one is not own])

    def _pass_on(self, told: Sequence[_Submission]) -> None:
        """Let the first who waits write for all who wait, then tell those that are written."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._writing = bool(waiting)
            if waiting:  # under the lock: an interrupted thread either still waits, or has the lead
                waiting[0].group = waiting
        if waiting:
            waiting[0].told.release()
        for submission in told:
            submission.told.release()


class _Submission:
    """What one thread wants to be written, and what became of it."""

    __slots__ = ("error", "group", "outcomes", "told", "writes")

    def __init__(self, writes: Sequence[Write]) -> None:
        self.writes = writes
        self.outcomes: list[Outcome] = []
        self.error: Exception | None = None
        self.group: list[_Submission] = []
        """Those to write for, itself first, while it has the lead."""
        self.told = threading.Lock()
        self.told.acquire()


def _fail(group: Sequence[_Submission], error: Exception) -> None:
    for submission in group:
        submission.error = error
