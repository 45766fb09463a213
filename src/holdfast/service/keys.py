"""What an idempotency key made: before, as the log has it, or earlier among the same calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from holdfast.errors import KeyReusedError
from holdfast.record import Record
from holdfast.service.call import Call
from holdfast.service.records import decode_transition, record_of

if TYPE_CHECKING:
    from holdfast.service.draft import Draft


def made_by(draft: Draft, call: Call, key: str) -> Record[Any] | None:
    """Return what the key's first command made; raises KeyReusedError for another command."""
    if key in draft.made:
        return _made_just_now(draft, call, key)
    machine = draft.machine
    applied = draft.loaded.applied.get(key)
    if applied is None:
        return None
    row = applied.row
    if row.kind == "purged":
        raise KeyReusedError(machine.name, draft.id, key, row.version, "and purged since")
    if row.command_type != call.command_type or (
        row.command != call.command_text and decode_transition(machine, row).command != call.command
    ):
        raise KeyReusedError(machine.name, draft.id, key, row.version, "by another command")
    return record_of(machine, applied)


def _made_just_now(draft: Draft, call: Call, key: str) -> Record[Any]:
    """Return a record of its own, for the state may be shared by nobody."""
    first, record = draft.made[key]
    if first.command_text != call.command_text and first.command != call.command:
        name = draft.machine.name
        raise KeyReusedError(name, draft.id, key, record.version, "by another command")
    return replace(record, state=draft.machine.state_codec.encode(record.state)[1])
