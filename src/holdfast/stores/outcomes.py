"""What becomes of a commit, and what those who share one are told where it fails.

One rule holds for threads and for batches: a write that was refused for what it is fails alone, and
each of the others is tried by itself. Any other error is the store's, and everybody's: to try again
is to wait again.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from operator import attrgetter
from typing import Any, TypeVar

from msgspec.structs import replace

from holdfast.errors import StoreError
from holdfast.stores.rows import Checkpoint, Outcome, Write

E = TypeVar("E", bound=BaseException)

_APPLIED, _FOUND = attrgetter("applied"), attrgetter("found")


class CommitUncertainError(StoreError):
    """The commit failed and may have happened; the same write must be sent again to know."""


class TransientError(StoreError):
    """The transaction was undone for others' sake, and may well succeed at the next attempt."""


class KeptBack(Exception):  # noqa: N818 (it is no error)
    """Ends what is done in a transaction so that it is rolled back, and tells what came of it."""

    def __init__(self, result: Any) -> None:
        super().__init__(result)
        self.result = result


class WriteRefusedError(StoreError):
    """A write was refused for what it is: others of its commit can be written without it."""


def all_or_none(writes: Sequence[Write], outcomes: Sequence[Outcome]) -> list[Outcome] | None:
    """Return what became of a commit that is all or nothing, None where it can go on.

    The outcomes are those of the writes, of the checks and of the checkpoint. One write that was
    found settles it: the commit happened before. One that came too late means that nothing is
    written.
    """
    if any(map(_FOUND, outcomes)):
        return [replace(outcome, applied=True) for outcome in outcomes]
    if all(map(_APPLIED, outcomes)):
        return None
    expected = [write.expected for write in writes]
    expected += [outcome.version for outcome in outcomes[len(writes) :]]
    return [
        Outcome(False, version) if outcome.applied else outcome
        for version, outcome in zip(expected, outcomes, strict=True)
    ]


def judge(checkpoint: Checkpoint, stored: int | None, writes: Sequence[Write]) -> Outcome:
    """Tell whether a checkpoint may be moved from where it is stored.

    Without writes it counts as moved where it is at its new position already: that is what a
    commit finds whose acknowledgement was lost, and nothing is applied twice by it.
    """
    position = stored or 0
    due = position == (checkpoint.after or 0) and position <= checkpoint.position
    return Outcome(due or (not writes and position == checkpoint.position), position)


def left_out(failure: StoreError) -> StoreError:
    """Return what to tell of a write that was not tried any more, since the store failed."""
    error = StoreError(f"nothing was written: the store failed at the write before this: {failure}")
    error.__cause__ = failure
    return error


def copied(error: E) -> E:
    """Return an error for one more caller: raised in several, one would mix their tracebacks."""
    try:
        own = copy(error)
        own.__cause__ = error.__cause__
        own.__traceback__ = error.__traceback__
        if hasattr(error, "__notes__"):
            own.__notes__ = list(error.__notes__)
    except Exception:  # noqa: BLE001 (an error that cannot be copied is shared)
        return error
    return own
