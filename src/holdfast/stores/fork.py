"""Prepares stores for a fork: a child inherits neither their locks nor their connections.

SQLite keeps a table of the files that a process has open and which of them it has locked. A child
inherits the table and not the locks, so a connection it opens to such a file would go unprotected.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """A store that a child must not go on using as the parent left it."""

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


_stores: WeakSet[Forkable] = WeakSet()


def follow_forks(store: Forkable) -> None:
    """Tell a store of every fork while it is alive."""
    _stores.add(store)


def _before() -> None:
    for store in list(_stores):
        store.before_fork()


def _after_in_parent() -> None:
    for store in list(_stores):
        store.after_fork_in_parent()


def _after_in_child() -> None:
    for store in list(_stores):
        store.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
