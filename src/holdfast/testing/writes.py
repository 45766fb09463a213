"""Builds writes as a service does, for tests that talk to a store directly."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from holdfast.stores.contract import EntityRow, LogRow, Write

MACHINE = "sample"
AT = "2026-01-02T03:04:05.000000Z"


def write(
    id: str,
    *states: str | None,
    on: EntityRow | None = None,
    machine: str = MACHINE,
    keys: Sequence[str | None] = (),
    tokens: Sequence[str | None] = (),
    at: str = AT,
    purge: bool = False,
) -> Write:
    """Return the write that takes an entity through states, None being its deletion.

    `on` is its row as loaded; keys and tokens belong to the transitions in order. A purge takes it
    to None, whether it lives or was deleted before.
    """
    row = on or EntityRow(machine, id, 0, None, None, 1, at, at, 0, "")
    log: list[LogRow] = []
    for place, state in enumerate(states):
        entry = _transition(row, state, at, _nth(keys, place), _nth(tokens, place))
        if purge:
            entry = replace(entry, command_type=None, command=None, command_schema_version=None)
        log.append(entry)
        row = _after(row, entry)
    expected, digest = (on.version, on.digest) if on else (0, "")
    return Write(expected, digest, replace(row, digest=""), tuple(log), purge)


def _transition(
    row: EntityRow, state: str | None, at: str, key: str | None, token: str | None
) -> LogRow:
    version = row.version + 1
    return LogRow(
        0,
        row.machine,
        row.id,
        version,
        "command" if state else "deletion",
        row.state_type,
        state,
        "Become",
        f'{{"$type":"Become","version":{version}}}',
        None,
        f'{{"$type":"{state}","version":{version}}}' if state else None,
        1,
        1 if state else None,
        None,
        key,
        token,
        at,
        "",
        "",
    )


def _after(row: EntityRow, entry: LogRow) -> EntityRow:
    return replace(
        row,
        version=entry.version,
        state_type=entry.to_type,
        state=entry.state,
        created_at=entry.at if row.state_type is None and entry.to_type else row.created_at,
        updated_at=entry.at,
        entered_version=(row.entered_version if entry.to_type == row.state_type else entry.version),
    )


def _nth(values: Sequence[str | None], place: int) -> str | None:
    return values[place] if place < len(values) else None
