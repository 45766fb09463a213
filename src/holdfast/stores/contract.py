"""What every store does, in strings and bytes; no user type passes here.

A store keeps one row per entity (its current state) and an append-only log of transitions, and
writes both or neither. Conflicts are answers, not exceptions. The conformance suite in
`holdfast.testing` holds every store to this text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakSet

from msgspec import Struct
from msgspec.structs import replace

from holdfast.errors import StoreError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Clock = Callable[[], datetime]

MAX_BATCH = 1_000
"""The most entities that one load or commit takes."""
MAX_PAGE = 1_000
"""The most rows that one page takes."""


class Key(Struct, frozen=True, gc=False):
    """An entity to load, and the idempotency keys to look up with it."""

    machine: str
    id: str
    keys: tuple[str, ...] = ()


class EntityRow(Struct, frozen=True, gc=False):
    """The current state of an entity. Of a deleted one the row stays, with `state_type` None."""

    machine: str
    id: str
    version: int
    state_type: str | None
    state: str | None
    schema_version: int
    created_at: str
    updated_at: str
    entered_version: int
    """The version at which the entity entered the state it is in."""
    digest: str
    """The digest of its last log row."""


class LogRow(Struct, frozen=True, gc=False):
    """A row of the log. `seq`, `recorded_at` and `digest` are the store's to fill in."""

    seq: int
    machine: str
    id: str
    version: int
    kind: str
    from_type: str | None
    to_type: str | None
    command_type: str | None
    command: str | None
    events: str | None
    state: str | None
    command_schema_version: int | None
    state_schema_version: int | None
    metadata: str | None
    key: str | None
    token: str | None
    at: str
    recorded_at: str
    digest: str


class Applied(NamedTuple):
    """What a key made when it was first used."""

    row: LogRow
    created_at: str
    """When the entity that the row belongs to was created."""
    previous_state: str | None
    """The state before the row; what a deletion is answered with."""


class Loaded(Struct, frozen=True):
    """An entity as it is now, and the store's time."""

    entity: EntityRow | None
    now: datetime
    """UTC; never before the entity's `updated_at`."""
    applied: dict[str, Applied]
    """What those of the keys made that were used before."""


class Write(Struct, frozen=True):
    """One entity's new row and the log rows that lead to it, to be written whole or not at all."""

    expected: int
    """The version that the stored row must have; 0 demands that there is none."""
    previous_digest: str
    """The digest of that version; empty where there is none."""
    entity: EntityRow
    log: tuple[LogRow, ...]
    purge: bool = False
    """Whether every earlier version is erased but for a stub; the log row records the purge.

    That row is a deletion without a command, also where the entity was deleted before. A stub
    keeps the position, the name, the version, the key, the token, the times, the schema versions
    and the digest.
    """


class Check(Struct, frozen=True):
    """An entity that must still be at a version for a commit to happen; 0: has no row."""

    machine: str
    id: str
    version: int
    deleted: bool = False
    """Whether it is a deleted entity at that version; for whoever is told of the conflict."""


class Outcome(Struct, frozen=True, gc=False):
    """What became of a write."""

    applied: bool
    version: int
    """The version of the stored row after the attempt; 0 where there is none.

    Of a checkpoint it is the position found before.
    """
    found: bool = False
    """Whether it was in the log already, its acknowledgement having been lost."""
    deleted: bool = False
    """Of one that came too late: whether the stored row is that of a deleted entity."""


class Checkpoint(NamedTuple):
    """How far a named reader came; written with what it read led to.

    It moves from where the reader started, so of two readers that started there one is refused.
    """

    name: str
    position: int
    after: int | None = None
    """Where the reader started: what `Store.checkpoint` answered; None and 0 are the beginning."""


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

    def __init__(self) -> None:
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
        same transaction, unless nothing is; it never falls. Raises CommitUncertainError where the
        store cannot tell what became of it.
        """

    @abstractmethod
    def history(self, machine: str, id: str, *, after: int = 0, limit: int) -> list[LogRow]:
        """Return log rows of an entity with versions above `after`, in order."""

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

    def as_stored(self) -> Store:
        """Return the store for a reader that is to see damaged text too, and not an error.

        Where text is no UTF-8, its bytes are given as lone surrogates.
        """
        return self

    def flaws(self) -> list[str]:
        """Return, in words, what is wrong with how the store guards its log."""
        return []

    @abstractmethod
    def migrate(self) -> None:
        """Bring the schema up to what this code needs."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was accepted and let go of the store; closing twice is harmless."""


class CommitUncertainError(StoreError):
    """The commit failed and may have happened; the same write must be sent again to know."""


class WriteRefusedError(StoreError):
    """A write was refused for what it is: others of its commit can be written without it."""


def expect_batch(entities: Sequence[object], more: Sequence[object] = ()) -> None:
    """Raise StoreError for more than MAX_BATCH entities."""
    if len(entities) + len(more) > MAX_BATCH:
        raise StoreError(
            f"{len(entities) + len(more):,} entities at once, where {MAX_BATCH:,} are the most; "
            "nothing was written"
        )


def seal(write: Write, recorded_at: str) -> Write:
    """Return the write with its recording time and the chain of its digests filled in."""
    digest = write.previous_digest
    log: list[LogRow] = []
    for row in write.log:
        digest = digest_of(digest, row, recorded_at)
        log.append(replace(row, recorded_at=recorded_at, digest=digest))
    return replace(write, entity=replace(write.entity, digest=digest), log=tuple(log))


def all_or_none(writes: Sequence[Write], outcomes: Sequence[Outcome]) -> list[Outcome] | None:
    """Return what became of a commit that is all or nothing, None where it can go on.

    The outcomes are those of the writes, of the checks and of the checkpoint. One write that was
    found settles it: the commit happened before. One that came too late means that nothing is
    written.
    """
    if any(outcome.found for outcome in outcomes):
        return [replace(outcome, applied=True) for outcome in outcomes]
    if all(outcome.applied for outcome in outcomes):
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


def digest_of(previous: str, row: LogRow, recorded_at: str) -> str:
    """Return the SHA-256, hexadecimal, of a log row chained to the one before it.

    It covers every column but `seq` and the digest itself. NUL separates the columns: no text
    that a store accepts contains one. A column without a value counts as empty: no column that
    may lack its value may be empty. Raises WriteRefusedError for text that no store accepts.
    """
    columns = (
        previous,
        row.machine,
        row.id,
        str(row.version),
        row.kind,
        row.from_type or "",
        row.to_type or "",
        row.command_type or "",
        row.command or "",
        row.events or "",
        row.state or "",
        str(row.command_schema_version or ""),
        str(row.state_schema_version or ""),
        row.metadata or "",
        row.key or "",
        row.token or "",
        row.at,
        recorded_at,
    )
    text = "\0".join(columns)
    if text.count("\0") != len(columns) - 1:
        raise _unacceptable(row, "a NUL character")
    try:
        return sha256(text.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise _unacceptable(row, "a lone surrogate") from error


def _unacceptable(row: LogRow, what: str) -> WriteRefusedError:
    return WriteRefusedError(
        f"{row.machine!r} {row.id!r} would be written with {what}; nothing was written"
    )
