"""The transaction that hooks run in: services that they call join it, or are refused at once."""

from __future__ import annotations

from collections.abc import Callable, Container
from contextvars import ContextVar
from typing import Any

from holdfast.errors import DefinitionError
from holdfast.stores.contract import Store


class Within:
    """An open transaction, and what is to happen after it."""

    def __init__(
        self, store: Store, joined: Store, due: list[Callable[[], None]], *, is_heard: bool
    ) -> None:
        self.store = store
        self.joined = joined
        self.due = due
        """What is to be called after the commit."""
        self.is_heard = is_heard
        """Whether anybody tells of the commit."""
        self.busy: Container[tuple[str, str]] = ()
        """Machines and ids of what is about to be written."""

    def takes_in(self, store: Store) -> bool:
        """Whether a service on a store takes part; DefinitionError where it would wait for this."""
        if store.identity is self.store.identity:
            return True
        if store.place is not None and store.place == self.store.place:
            raise DefinitionError(
                f"a hook called a service on {store.url}, which is another store object on the "
                "database that its transaction is in, and would wait for it; nothing was written: "
                "let both services share one store"
            )
        return False


_innermost: ContextVar[Within | None] = ContextVar("holdfast_within", default=None)


def innermost() -> Within | None:
    """Return the transaction that the caller is in, as a hook."""
    return _innermost.get()


def inside(here: Within | None, call: Callable[..., object], facts: dict[str, Any]) -> object:
    """Call a hook in a transaction; return what it returns."""
    before = _innermost.set(here)
    try:
        return call(**facts)
    finally:
        _innermost.reset(before)
