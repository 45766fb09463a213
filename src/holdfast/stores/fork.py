"""Lets stores renew themselves in a forked child, where locks and connections are the parent's."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """A store that must not go on using in a child what it holds."""

    def after_fork(self) -> None:
        """Drop what belongs to the parent. Runs in the child, before anything else does."""
        ...


_stores: WeakSet[Forkable] = WeakSet()


def renew_after_fork(store: Forkable) -> None:
    """Have `after_fork` called in every child forked while the store is alive."""
    _stores.add(store)


def _renew() -> None:
    for store in list(_stores):
        store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
