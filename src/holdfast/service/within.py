"""The transaction that hooks run in: services that they call join it, or are refused at once."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from threading import get_ident
from typing import Any

from holdfast.errors import DefinitionError
from holdfast.stores.contract import Store


class Within:
    """An open transaction, and what is to happen after it."""

    def __init__(self, store: Store, joined: Store, *, is_heard: bool) -> None:
        self.store = store
        self.joined = joined
        self.is_heard = is_heard
        """Whether anybody tells of the commit."""
        self.due: list[Callable[[], None]] = []
        """What is to be called after the commit."""
        self.busy: frozenset[tuple[str, str]] = frozenset()
        """Machines and ids of what is about to be written."""
        self.is_over = False
        self._thread = get_ident()
        self.outer = _innermost.get()

    @property
    def held(self) -> frozenset[tuple[str, str]]:
        """Machines and ids of what is about to be written, here or around it, on the same store."""
        held: frozenset[tuple[str, str]] = frozenset()
        here: Within | None = self
        while here is not None:
            if here.store.identity is self.store.identity and not here.is_over:
                held |= here.busy
            here = here.outer
        return held

    def found(self, store: Store) -> Within | None:
        """Return the transaction on a store, this or one around it, that the caller is in.

        Raises DefinitionError where a service on the store would wait for one of them.
        """
        here: Within | None = self
        while here is not None:
            if not here.is_over:
                is_same = store.identity is here.store.identity
                if is_same or (store.place is not None and store.place == here.store.place):
                    here.expect_open_to(store, is_same=is_same)
                    return here
            here = here.outer
        return None

    def expect_open_to(self, store: Store, *, is_same: bool) -> None:
        """Raise DefinitionError for a store, or a thread, that would wait for the transaction."""
        if not is_same:
            raise DefinitionError(
                f"a hook called a service on {store.url}, which is another store object on the "
                "database that its transaction is in, and would wait for it; nothing was written: "
                "let both services share one store"
            )
        if get_ident() != self._thread:
            raise DefinitionError(
                f"a service on {store.url} was called in another thread than the hook whose "
                "transaction it would wait for; nothing was written: call it in the hook's own "
                "thread, or once the transaction is over"
            )


_innermost: ContextVar[Within | None] = ContextVar("holdfast_within", default=None)


def innermost() -> Within | None:
    """Return the transaction that the caller is in, as a hook.

    What a hook has started may outlive its transaction.
    """
    within = _innermost.get()
    while within is not None and within.is_over:
        within = within.outer
    return within


def inside(here: Within | None, call: Callable[..., object], facts: dict[str, Any]) -> object:
    """Call a hook in a transaction; return what it returns."""
    before = _innermost.set(here)
    try:
        return call(**facts)
    finally:
        _innermost.reset(before)


def expect_outside(store: Store) -> None:
    """Raise DefinitionError in a hook whose transaction on a store a service cannot join."""
    within = innermost()
    if within is not None and within.found(store) is not None:
        raise DefinitionError(
            f"a hook asked {store.url} through AsyncService, or through a transaction that was "
            "begun before it, which its own transaction is none of; nothing was written: use a "
            "Service, and begin transactions in the hook"
        )
