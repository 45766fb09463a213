"""Prepares stores, and what uses them, for a fork: a child inherits neither locks nor connections.

SQLite keeps a table of the files that a process has open and which of them it has locked. A child
inherits the table and not the locks, so a connection it opens to such a file would go unprotected.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet

from holdfast.errors import StoreError


class Forkable(Protocol):
    """What a child must not go on using as the parent left it: stores, locks, threads."""

    def before_fork(self) -> None:
        """Let go of what a child must not inherit. Runs in the thread that forks."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Drop what belongs to the parent. Runs before anything else in the child does."""
        ...


class Renewed:
    """What a fork need not wait for, and a child begins anew."""

    def before_fork(self) -> None:
        """Nothing to let go of."""

    def after_fork_in_parent(self) -> None:
        """Nothing to take up again."""


def forked_within(name: str) -> StoreError:
    """Return the refusal of a child to commit what its parent began; `name` is whose it is."""
    return StoreError(
        f"{name} was forked in the midst of a transaction, which stayed with the parent process; "
        "nothing was written"
    )


_lock = threading.RLock()  # held over a fork: nobody enters in the midst of it
_following: WeakSet[Forkable] = WeakSet()


def follow_forks(follower: Forkable) -> None:
    """Tell something of every fork while it is alive."""
    with _lock:
        _following.add(follower)


def _before() -> None:
    _lock.acquire()
    for follower in list(_following):
        follower.before_fork()


def _after_in_parent() -> None:
    try:
        for follower in list(_following):
            follower.after_fork_in_parent()
    finally:
        _lock.release()


def _after_in_child() -> None:
    global _lock  # noqa: PLW0603 (the parent's other threads may wait for the one it was)
    _lock = threading.RLock()
    for follower in list(_following):
        follower.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
