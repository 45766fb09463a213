"""The values that the library hands out: records, changes, transitions, contexts, pages.

They carry users' types and know neither the machine nor the store they came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Generic, Literal

from msgspec import Struct
from typing_extensions import TypeVar

S_co = TypeVar("S_co", covariant=True, default=Any)
C_co = TypeVar("C_co", covariant=True, default=Any)

Kind = Literal["command", "deletion", "staged", "purged"]


class Context(Struct, frozen=True):
    """What a handler may know beside the state and the command.

    It is the same for every replay of the transition that the log records.
    """

    now: datetime
    """The store's time, in UTC; never before the entity's last transition."""
    token: str = ""
    """Random, drawn once for a call and kept through its retries: 32 hexadecimal digits."""
    id: str = ""
    """The entity's id."""
    version: int = 0
    """The version decided on; 0 where the entity does not exist."""
    metadata: Mapping[str, Any] = {}
    """The metadata as the log will record it."""


class Record(Struct, Generic[S_co], frozen=True):
    """An entity as it was loaded or just written."""

    machine: str
    id: str
    version: int
    """Counts transitions from 1, and goes on rising over a deletion."""
    state: S_co
    """The state; of a record that a deletion returns, the state that was deleted."""
    created_at: datetime
    updated_at: datetime
    deleted: bool = False
    """True only on what a deleting command returns: the entity does not exist any more."""


class Change(Struct, Generic[S_co, C_co], frozen=True):
    """A transition about to be written: what guards and hooks see, and what a preview shows."""

    machine: str
    id: str
    version: int
    """The version that the transition would make."""
    before: S_co | None
    """The state decided on; None where the entity does not exist."""
    command: C_co
    after: S_co | None
    """The state decided; None where the entity would be deleted."""
    metadata: Mapping[str, Any]
    at: datetime
    from_state: str | None = None
    """Name of the state decided on; None where the entity does not exist, unless it is a flow's."""
    to_state: str | None = None
    """Name of the state decided; None for a deletion, and where none was decided."""

    @property
    def actor(self) -> Any:
        """Who asks for it: `by` in the metadata; None where that is not there."""
        return self.metadata.get("by")

    @property
    def reason(self) -> Any:
        """Why: `reason` in the metadata; None where that is not there."""
        return self.metadata.get("reason")


class Transition(Struct, Generic[S_co, C_co], frozen=True):
    """One entry of the log."""

    position: int
    """Its place in the log of the whole store; 0 in a flow's answer on PostgreSQL, where those who
    read the log give the places.
    """
    machine: str
    id: str
    version: int
    kind: Kind
    from_state: str | None
    """Name of the state before; None where there was no entity."""
    to_state: str | None
    """Name of the state after; None for a deletion."""
    command_type: str | None
    command: C_co | None
    state: S_co | None
    """The state after; None for a deletion, or where it was purged."""
    metadata: Mapping[str, Any]
    key: str | None
    token: str | None
    at: datetime
    """When it happened, by the store's clock or as the import said."""
    recorded_at: datetime
    """When it was written, by the store's clock."""
    digest: str
    """SHA-256 over the previous digest and every column of this entry, hexadecimal."""

    @property
    def actor(self) -> Any:
        """Who did it: `by` in the metadata; None where that is not there."""
        return self.metadata.get("by")

    @property
    def reason(self) -> Any:
        """Why: `reason` in the metadata; None where that is not there."""
        return self.metadata.get("reason")


class Request(Struct, Generic[C_co], frozen=True):
    """One command of a batch, with what `handle` takes as keyword arguments."""

    id: str
    command: C_co
    key: str | None = None
    metadata: Mapping[str, Any] | None = None
    at: datetime | None = None
    expected_version: int | None = None


class Page(Struct, Generic[S_co], frozen=True):
    """Some of the records that were asked for, ordered by id."""

    records: list[Record[S_co]]
    next: str | None = None
    """Pass it as `after` for the next page; None where this was the last."""

    def __iter__(self) -> Iterator[Record[S_co]]:
        """Iterate over the records of this page."""
        return iter(self.records)

    def __len__(self) -> int:
        """Return the number of records on this page."""
        return len(self.records)
