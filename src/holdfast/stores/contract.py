"""What every store does, in strings and bytes; no user type passes here.

A store keeps one row per entity (its current state) and an append-only log of transitions, and
writes both or neither. Conflicts are answers, not exceptions. The conformance suite in
`holdfast.testing` holds every store to this text.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakSet

from msgspec import Struct

from holdfast.errors import StoreError
from holdfast.stores.outcomes import (
    CommitUncertainError,
    KeptBack,
    WriteRefusedError,
    all_or_none,
    judge,
)
from holdfast.stores.rows import (
    Applied,
    Check,
    Checkpoint,
    EntityRow,
    Key,
    Loaded,
    LogRow,
    Outcome,
    Seal,
    Write,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = [
    "MAX_BATCH",
    "MAX_PAGE",
    "Applied",
    "Around",
    "Check",
    "Checkpoint",
    "Clock",
    "CommitUncertainError",
    "Drainable",
    "EntityRow",
    "KeptBack",
    "Key",
    "Loaded",
    "LogRow",
    "OnCommit",
    "Outcome",
    "Seal",
    "Shield",
    "Store",
    "Write",
    "WriteRefusedError",
    "all_or_none",
    "expect_batch",
    "judge",
]

Clock = Callable[[], datetime]
OnCommit = Callable[[Callable[[], None]], object]
"""Takes a function, and calls it once the outermost transaction is committed."""
Shield = Callable[[Callable[[], bool]], object]
"""Calls a function, and undoes what it did in a transaction where it answers False."""
T = TypeVar("T")

MAX_BATCH = 1_000
"""The most entities that one load or commit takes."""
MAX_PAGE = 1_000
"""The most rows that one page takes."""
CLOSE_SECONDS = 5.0
"""How long closing waits at most for what other threads have under way."""


class Around(Struct, frozen=True):
    """A transaction that a caller has open, as a store finds it by itself."""

    store: Store
    """What reads and writes in it."""
    on_commit: OnCommit | None
    """Takes what is to follow its commit; None where nobody tells of that."""
    shield: Shield | None = None
    """Is called around what may fail and is to leave the transaction usable, where that needs it.
    """


class Drainable(Protocol):
    """A user of a store that may have accepted work for it."""

    async def drain(self) -> None:
        """Wait until that work is finished."""
        ...


class Store(ABC):
    """Where records and the log live. Safe for threads; opened at first use.

    Every method raises StoreError where the store cannot do it, with nothing written.
    """

    url: str
    place: object = None
    """What is the same for every store object on the same database; None: no other has it."""
    is_awaited = False
    """Whether what the verbs return is to be awaited, as on a connection that is."""

    def __init__(self) -> None:
        self.identity = object()
        """Is shared by what joins a transaction on this store."""
        self.under_way: dict[object, int] = {}
        """What has been accepted and is not finished, and the thread that is to finish it."""
        self._users: WeakSet[Drainable] = WeakSet()

    def before_close(self, user: Drainable) -> None:
        """Have `async with` let a user of the store finish what it accepted before it closes."""
        self._users.add(user)

    async def __aenter__(self) -> Self:
        """Return the store itself; nothing is opened yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store, once what was accepted is finished."""
        import asyncio

        try:
            for user in list(self._users):
                await user.drain()
        finally:
            await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        """Return the store itself; nothing is opened yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def finish(self) -> None:
        """Wait, CLOSE_SECONDS at most, for what other threads have under way by now."""
        patience = time.monotonic() + CLOSE_SECONDS
        own = threading.get_ident()
        others = {thread.ident for thread in threading.enumerate()} - {own}  # fewer after a fork
        begun = [work for work, thread in self.under_way.copy().items() if thread in others]
        for work in begun:
            while work in self.under_way and time.monotonic() < patience:
                time.sleep(0.001)

    @abstractmethod
    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        """Return the entities in the order asked, as of one moment. At most MAX_BATCH."""

    @abstractmethod
    def commit(
        self,
        writes: Sequence[Write],
        *,
        checks: Sequence[Check] = (),
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        timeout_seconds: float | None = None,
    ) -> list[Outcome]:
        """Write, durably, what still finds its expected version; report the others.

        Answers for the writes, then for the checks, then for the checkpoint. No two of them name
        the same entity. With `atomic`, or with checks, one that is too late keeps all from being
        written, and so does a checkpoint that is not where its reader started. A
        write that is found in the log already, by its token at the version it would make, counts
        as applied, and in an atomic batch so does all the rest. The checkpoint is written in the
        same transaction, unless nothing is; it never falls. Raises WriteRefusedError where a write
        is refused for what it is, so that the others can be written without it, and
        CommitUncertainError where the store cannot tell what became of all.
        """

    @abstractmethod
    def transact(self, act: Callable[[Store], T], *, timeout_seconds: float | None = None) -> T:
        """Do something in one transaction, and return what it returns once that is committed.

        `act` is called in this thread, with a store that is joined to the transaction: what it
        reads there it reads together with what it wrote. It is called again, from its beginning,
        where the database has undone the transaction for others' sake, and may let such a
        TransientError pass. Where it raises anything else, all is rolled back;
        with KeptBack it tells what to return nevertheless. `timeout_seconds` bounds the wait for
        others before it begins. Nested in a transaction, be it a caller's or another `act`, it is a
        savepoint there.
        """

    def bare(self) -> Store:
        """Return the store, joined to a transaction, for whoever ends it where a write fails.

        Its writes need not be savepoints: what one leaves that fails, or conflicts, is rolled back.
        """
        return self

    @abstractmethod
    def history(self, machine: str, id: str, *, after: int = 0, limit: int) -> list[LogRow]:
        """Return log rows of an entity with versions above `after`, in order."""

    def written(self, machine: str, id: str, version: int) -> LogRow | None:
        """Return the log row of a version, for whoever wrote it; its `seq` may be 0.

        That is so where the log's order is given by its readers, and none has come by yet.
        """
        rows = self.history(machine, id, after=version - 1, limit=1)
        return rows[0] if rows else None

    @abstractmethod
    def transition_at(
        self, machine: str, id: str, *, version: int | None = None, time: str | None = None
    ) -> Applied | None:
        """Return the log row of a version, or the last one at or before a time."""

    @abstractmethod
    def find(
        self,
        machine: str,
        *,
        state_types: Sequence[str] | None = None,
        after: str = "",
        limit: int,
    ) -> list[EntityRow]:
        """Return live entities by id, bytewise, above `after`; in one of the states, if given."""

    @abstractmethod
    def count(self, machine: str) -> dict[str, int]:
        """Return the number of live entities by state type."""

    @abstractmethod
    def entities(self, *, after: tuple[str, str] = ("", ""), limit: int) -> list[EntityRow]:
        """Return the rows of all machines, deleted entities included, by machine and id."""

    @abstractmethod
    def read_log(self, *, after: int = 0, limit: int) -> list[LogRow]:
        """Return log rows of all machines with a `seq` above `after`, in order."""

    @abstractmethod
    def checkpoint(self, name: str) -> int | None:
        """Return the position last committed under a name."""

    def on(self, connection: object) -> Store:
        """Return the store inside the transaction that is open on a connection of the caller's.

        What is written there is the caller's to commit or to roll back, and is seen there before.
        Raises StoreError for what is no such connection.
        """
        raise StoreError(
            f"{self.url} keeps nothing that a connection could reach: open the service on a store "
            f"in a database to join a transaction, not on {connection!r:.80}"
        )

    def around(self) -> Around | None:
        """Return the transaction that the caller is in, where the store can tell by itself.

        Services join it without being told to, as they do one that is passed to `on`.
        """
        return None

    def as_stored(self) -> Store:
        """Return the store for a reader that is to see damaged text too, and not an error.

        Where text is no UTF-8, its bytes are given as lone surrogates.
        """
        return self

    def plan(self) -> str:
        """Return the SQL that `migrate` would run; empty where the store migrates itself."""
        return ""

    def flaws(self) -> list[str]:
        """Return, in words, what is wrong with how the store guards its log."""
        return []

    @abstractmethod
    def migrate(self) -> None:
        """Bring the schema up to what this code needs."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was accepted, as `finish` does, and let go of the store.

        Closing twice is harmless.
        """


def expect_batch(entities: Sequence[object], more: Sequence[object] = ()) -> None:
    """Raise StoreError for more than MAX_BATCH entities."""
    if len(entities) + len(more) > MAX_BATCH:
        raise StoreError(
            f"{len(entities) + len(more):,} entities at once, where {MAX_BATCH:,} are the most; "
            "nothing was written"
        )
