"""One thread at a time: a lock that an interrupt does not leave held, and that knows its holder.

A signal handler runs between any two instructions of the main thread. It may raise there, and it
may call the store from there, in the midst of a call that the same thread is in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from threading import get_ident
from typing import Any, Final, TypeVar

from holdfast.errors import StoreError

T = TypeVar("T")

FOR_EVER: Final = -1.0


class Taken(Enum):
    """What a thread is told that did not get its turn in time."""

    TAKEN = "taken"


TAKEN: Final = Taken.TAKEN


class Turns:
    """Lets one thread at a time do something; `name` is whose turns they are, for error texts."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()
        self._owned = threading.Condition(self._lock)
        self._holder: int | None = None

    def take(self, wait_seconds: float, act: Callable[..., T], *given: Any) -> T | Taken:
        """Do something while no other thread does, once the others have left off, or not at all.

        Raises StoreError in the midst of what the same thread does in its turn: it would wait for
        itself.
        """
        holder = self._holder
        if holder is not None and holder == get_ident():
            if not wait_seconds:
                return TAKEN
            raise in_the_midst(self._name)
        try:
            if not self._lock.acquire(True, wait_seconds):
                return TAKEN
            try:
                self._holder = get_ident()
                return act(*given)
            finally:
                self._holder = None
        finally:
            # The first call here, and one into C: an interrupt comes before it or after it, and
            # before it there is no place where Python would look for one.
            try:  # noqa: SIM105 (`suppress` would be another call)
                self._lock.release()
            except RuntimeError:  # it was not acquired
                pass

    @property
    def is_own(self) -> bool:
        """Whether the thread that asks has its turn, or is about to begin or to end it."""
        try:
            self._owned.notify(0)
        except RuntimeError:  # what a condition says whose lock is another thread's
            return False
        return True

    def hold(self, wait_seconds: float) -> bool:
        """Take a turn that lasts until `let_go`; False where that is not possible in time."""
        thread = get_ident()
        if self._holder == thread or not self._lock.acquire(True, wait_seconds):
            return False
        self._holder = thread
        return True

    def let_go(self) -> None:
        """End the turn that `hold` began."""
        self._holder = None
        self._lock.release()


def in_the_midst(name: str) -> StoreError:
    """Return the refusal of a call that comes into another one of the same thread."""
    return StoreError(
        f"{name} was called in the midst of a call of the same thread, by a hook or by a signal "
        "handler; nothing was written: a hook calls services, which join its transaction, and a "
        "signal handler calls it when that call is over"
    )
