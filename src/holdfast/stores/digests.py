"""The digests that chain an entity's log rows."""

from __future__ import annotations

from hashlib import sha256

from msgspec.structs import replace

from holdfast.stores.outcomes import WriteRefusedError
from holdfast.stores.rows import LogRow, Write

_SEPARATORS = 17
_fresh = sha256().copy
"""Begins a digest; a copy is spared the search for the algorithm, which a cold processor feels."""


def seal(write: Write, recorded_at: str) -> Write:
    """Return the write with its recording time and the chain of its digests filled in."""
    digest = write.previous_digest
    log: list[LogRow] = []
    for row in write.log:
        digest = digest_of(digest, row, recorded_at)
        log.append(replace(row, recorded_at=recorded_at, digest=digest))
    return replace(write, entity=replace(write.entity, digest=digest), log=tuple(log))


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
    if text.count("\0") != _SEPARATORS:
        raise _unacceptable(row, "a NUL character")
    digest = _fresh()
    try:
        digest.update(text.encode())
    except UnicodeEncodeError as error:
        raise _unacceptable(row, "a lone surrogate") from error
    return digest.hexdigest()


def _unacceptable(row: LogRow, what: str) -> WriteRefusedError:
    return WriteRefusedError(
        f"{row.machine!r} {row.id!r} would be written with {what}; nothing was written"
    )
