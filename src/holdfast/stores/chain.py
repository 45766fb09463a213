"""An entity's log as a chain: whether a row can follow the rows before it, and what it leads to."""

from __future__ import annotations

from hashlib import sha256
from operator import attrgetter
from sys import intern

from holdfast.errors import StoreError
from holdfast.stores.contract import EntityRow, LogRow
from holdfast.stores.digests import digest_of

NO_UTF8 = "has text that is no UTF-8, or that holds NUL characters; no store takes such text"

_PURGED = ("from_type", "to_type", "command_type", "command", "events", "state", "metadata")
_purged_of = attrgetter(*_PURGED)
_optional_of = attrgetter(
    *_PURGED, "key", "token", "command_schema_version", "state_schema_version"
)


class Chain:
    """An entity's log as far as it was read: its end, and what the entity's row must then be."""

    __slots__ = (
        "at",
        "created_at",
        "digest",
        "entered_version",
        "kind",
        "schema_version",
        "seen",
        "state",
        "to_type",
        "version",
    )

    def __init__(self) -> None:
        self.version = 0
        self.digest = ""
        self.kind = ""
        self.to_type: str | None = None
        self.state: bytes | None = None  # hashed
        self.at = ""
        self.created_at: str | None = None  # None where a purge erased it
        self.entered_version: int | None = None
        self.schema_version: int | None = None  # None where there is no state
        self.seen = False

    def problem_of(self, row: LogRow) -> str | None:
        """Return why a row cannot follow."""
        if row.seq < 1:
            return "its position is below 1, where no reader of the log looks"
        if row.version != self.version + 1:
            return f"the log has version {row.version} after version {self.version}"
        if row.kind == "purged":
            kept = any(value is not None for value in _purged_of(row))
            return "is purged, and has values that a purge erases" if kept else None
        return self._altered(row) or self._detached(row)

    def _altered(self, row: LogRow) -> str | None:
        try:
            digest = digest_of(self.digest, row, row.recorded_at)
        except StoreError:
            return NO_UTF8
        if digest != row.digest:
            return "its content, or what is before it, is not what its digest was made from"
        if any(value in ("", 0) for value in _optional_of(row)):  # to the digest as if missing
            return "has an empty value where there should be none"
        return None

    def _detached(self, row: LogRow) -> str | None:
        if self.kind == "purged":
            is_record = row.kind == "deletion" and row.command_type is None
            return None if is_record else "follows what was purged, and records no purge"
        if row.from_type != self.to_type:
            start, end = row.from_type or "no entity", self.to_type or "none"
            return f"starts from {start}, and the version before led to {end}"
        return None

    def follow(self, row: LogRow) -> None:
        """Move on to a row."""
        self.version = row.version
        self.digest = row.digest
        self.kind = row.kind
        self.to_type = row.to_type and intern(row.to_type)
        self.state = _hash(row.state)
        self.schema_version = row.state_schema_version
        self.at = row.at
        if row.kind == "purged":
            self.created_at = self.entered_version = None
        elif row.from_type is None and row.to_type is not None:
            self.created_at = row.at
            self.entered_version = row.version
        elif row.from_type != row.to_type:
            self.entered_version = row.version

    def differences(self, row: EntityRow) -> list[str]:
        """Return the columns of an entity's row that are not what the log leads to."""
        pairs: list[tuple[str, object, object]] = [
            ("state_type", row.state_type, self.to_type),
            ("state", _hash(row.state), self.state),
            ("schema_version", row.schema_version, self.schema_version or row.schema_version),
            ("created_at", row.created_at, self.created_at or row.created_at),
            ("updated_at", row.updated_at, self.at),
            ("entered_version", row.entered_version, self.entered_version or row.entered_version),
            ("digest", row.digest, self.digest),
        ]
        return [name for name, stored, logged in pairs if stored != logged]


def is_text(*names: str) -> bool:
    """Tell whether names are such as a store takes."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        return False
    return True


def _hash(text: str | None) -> bytes | None:
    return None if text is None else sha256(text.encode("utf-8", "surrogateescape")).digest()
