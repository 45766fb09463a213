"""What a history is made of: what clients asked and were told, and what the log holds."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Operation(Struct, kw_only=True):
    """One thing that a client asked of one entity, and what it was told.

    Times are numbers on one clock that all clients share. All fields are JSON, so that clients may
    write their operations to files and have them checked together later.
    """

    client: str
    machine: str
    id: str
    kind: Literal["write", "read", "past"] = "write"
    """`past` reads a version that need not be the current one."""
    name: str | None = None
    """What tells a write from every other, and is found in the log; None for what reads."""
    key: str | None = None
    """The idempotency key of a write."""
    began: float
    """When it was sent."""
    ended: float | None = None
    """When its answer came; None where none came."""
    told: Literal["done", "refused", "unknown"] = "unknown"
    """`refused` where the answer says that nothing was written, for whatever reason."""
    expected: int | None = None
    """The version that a write was to find; 0 for no live entity."""
    version: int | None = None
    """The version that the answer tells; 0 for no live entity. Of a refusal, the one it met."""
    state: str | None = None
    """The state that the answer tells, as text; None where it tells that there is no entity."""
    saw: str | None = None
    """The name of the state that a refusal tells of; empty where it tells of no entity."""
    together: str | None = None
    """Shared by what happens at one moment: writes all or none, reads right before them."""


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of the log."""

    position: int
    """Its place in the log; rises with the versions of an entity, and as `check_history` says."""
    machine: str
    id: str
    version: int
    name: str | None
    """The name of the write that led to it."""
    key: str | None = None
    state: str | None = None
    """The state after it, as text; None where it deleted the entity."""
    state_type: str | None = None
    """The name of that state, where refusals tell of states."""
    purged: bool = False
    """Whether its content was erased: then neither its name nor its state are known."""


Named = tuple[str, str]
"""A machine's name and an entity's id."""
