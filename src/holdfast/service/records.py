"""Makes records and transitions of what a store keeps; what cannot be read is a DecodeError."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from holdfast.errors import DecodeError, entity_name
from holdfast.machine.canonical import parse_time
from holdfast.machine.codec import decode_metadata
from holdfast.machine.definition import Machine
from holdfast.record import Kind, Record, Transition
from holdfast.stores.contract import Applied, EntityRow, LogRow

AnyMachine = Machine[Any, Any, Any]


def record_from(machine: AnyMachine, row: EntityRow) -> Record[Any]:
    """Return the record of a live entity; raises DecodeError."""
    return Record(
        row.machine,
        row.id,
        row.version,
        decode_state(machine, row),
        parse_time(row.created_at),
        parse_time(row.updated_at),
    )


def record_of(machine: AnyMachine, applied: Applied) -> Record[Any]:
    """Return the record that a transition made; raises DecodeError."""
    row = applied.row
    text = row.state if row.state is not None else applied.previous_state
    state = None if text is None else decode(machine, row.id, row.version, "state", text)
    return Record(
        row.machine,
        row.id,
        row.version,
        state,
        parse_time(applied.created_at),
        parse_time(row.at),
        deleted=row.kind == "deletion",
    )


def decode_state(machine: AnyMachine, row: EntityRow) -> Any:
    """Return the state of an entity's row; raises DecodeError."""
    try:
        return machine.state_codec.decode(row.state or "")
    except msgspec.DecodeError as error:
        return _former(machine, row.id, row.version, "state", row.state, error)


def decode_transition(machine: AnyMachine, row: LogRow) -> Transition[Any, Any]:
    """Return a log row with its command and state decoded; raises DecodeError."""

    def read(role: str, text: str | None) -> Any:
        return None if text is None else decode(machine, row.id, row.version, role, text)

    return Transition(
        row.seq,
        row.machine,
        row.id,
        row.version,
        cast("Kind", row.kind),
        row.from_type,
        row.to_type,
        row.command_type,
        read("command", row.command),
        read("state", row.state),
        decode_metadata(row.metadata),
        row.key,
        row.token,
        parse_time(row.at),
        parse_time(row.recorded_at),
        row.digest,
    )


_UNREADABLE = (
    "a class or a field was renamed, removed or changed since it was written, or newer code wrote "
    "it: keep old names with tag= and field(name=), give new fields a default, or use that code"
)


def decode(machine: AnyMachine, id: str, version: int, role: str, text: str | None) -> Any:
    """Return the state or the command that a text holds; raises DecodeError."""
    codec = machine.state_codec if role == "state" else machine.command_codec
    try:
        return codec.decode(text or "")
    except msgspec.DecodeError as error:
        return _former(machine, id, version, role, text, error)


def _former(  # noqa: PLR0917 (what `decode` takes, and what came of it)
    machine: AnyMachine, id: str, version: int, role: str, text: str | None, error: Exception
) -> Any:
    """Return what former code meant by a text; raises DecodeError where that is not known."""
    former = machine.former and machine.former.read(role, text or "")
    if former is not None:
        return former
    raise DecodeError(
        f"the {role} of {entity_name(machine.name, id)} at version {version} cannot be "
        f"read by this code: {error}; {_UNREADABLE}"
    ) from error
