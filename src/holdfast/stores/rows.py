"""What passes between services and stores: rows, writes and outcomes, in strings and numbers."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from msgspec import Struct


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


class Loaded(Struct, frozen=True, gc=False):
    """An entity as it is now, and the store's time."""

    entity: EntityRow | None
    now: datetime
    """UTC; never before the entity's `updated_at`."""
    applied: dict[str, Applied]
    """What those of the keys made that were used before."""


class Write(Struct, frozen=True, gc=False):
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


Seal = tuple[int, str, str]
"""What a store adds to a log row as it writes it: `seq`, `recorded_at` and `digest`.

`seq` is 0 where readers of the log give it.
"""


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
    seal: Seal | None = None
    """That of its last log row, where the store knows it without reading."""


class Checkpoint(NamedTuple):
    """How far a named reader came; written with what it read led to.

    It moves from where the reader started, so of two readers that started there one is refused.
    """

    name: str
    position: int
    after: int | None = None
    """Where the reader started: what `Store.checkpoint` answered; None and 0 are the beginning."""
