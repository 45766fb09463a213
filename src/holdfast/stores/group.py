"""Group commit for threads: those that arrive while one writes are written together by the next.

There is no timer and no thread of its own. A thread that finds nobody writing writes at once; one
that finds somebody waits, and is either told its outcome or told to write for all who wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from holdfast.stores.contract import CommitUncertainError, Outcome, Write

WriteTogether = Callable[[Sequence[Sequence[Write]]], list[list[Outcome]]]


class GroupCommit:
    """Shares commits between threads; `write` writes the submissions it is given in one."""

    def __init__(self, write: WriteTogether) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._waiting: list[_Submission] = []
        self._writing = False

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write, together with others where they are many; raises what `write` raises."""
        own = _Submission(writes)
        with self._lock:
            first = not self._writing
            self._writing = True
            if not first:
                own.told = threading.Lock()
                own.told.acquire()
                self._waiting.append(own)
        if first:
            self._lead([own])
        elif own.told is not None:
            own.told.acquire()
            if own.group:
                self._lead(own.group)
        if own.error is not None:
            raise own.error
        return own.outcomes

    def _lead(self, group: list[_Submission]) -> None:
        """Write for a group whose first is the caller, then pass the lead on."""
        try:
            outcomes = self._write([submission.writes for submission in group])
            for submission, given in zip(group, outcomes, strict=True):
                submission.outcomes = given
        except Exception as error:  # noqa: BLE001 (raised in every thread of the group)
            for submission in group:
                submission.error = error
        except BaseException:
            for submission in group[1:]:
                submission.error = CommitUncertainError(
                    "the thread that wrote for this one was interrupted; it may have written"
                )
            raise
        finally:
            self._pass_on()
            for submission in group[1:]:
                submission.tell()

    def _pass_on(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._writing = bool(waiting)
        if waiting:
            waiting[0].group = waiting
            waiting[0].tell()


class _Submission:
    """What one thread wants to be written, and what became of it."""

    __slots__ = ("error", "group", "outcomes", "told", "writes")

    def __init__(self, writes: Sequence[Write]) -> None:
        self.writes = writes
        self.outcomes: list[Outcome] = []
        self.error: BaseException | None = None
        self.group: list[_Submission] = []
        self.told: threading.Lock | None = None

    def tell(self) -> None:
        """Wake the thread."""
        if self.told is not None:
            self.told.release()
