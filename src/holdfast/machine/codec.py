"""How states, commands and metadata become JSON text and come back; the encoding is for ever.

Datetimes are written in UTC with six fraction digits, so that they sort as text; sets and keys
are sorted. A value is accepted only if its text decodes to an equal value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar, cast

import msgspec
from msgspec import UNSET

from holdfast.errors import DefinitionError, ValidationError
from holdfast.machine.canonical import encode_canonically, needs_help, parts_of

T = TypeVar("T")

MAX_VALUE_BYTES = 1024 * 1024
"""The largest encoded state or command."""
MAX_METADATA_BYTES = 64 * 1024
"""The largest encoded metadata of one transition."""

_JSON = msgspec.json.Encoder(order="deterministic")
_MAPPING = msgspec.json.Decoder(dict[str, Any])
_FAILURES = (TypeError, ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError)
_ESCAPED_NUL = b"\\u0000"


class Codec(Generic[T]):
    """Encodes and decodes the members of one union."""

    def __init__(self, role: str, members: Sequence[type]) -> None:
        self.role = role
        self.names: dict[type, str] = {member: tag_of(member) for member in members}
        try:
            decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(_union(members))
            helped = [needs_help(member) for member in members]
        except (TypeError, NameError) as error:
            raise DefinitionError(
                f"the {role} union cannot be encoded: {error}; a field that is a union of several "
                "classes may list State and Command classes only, and every name in an annotation "
                "must exist when the machine is first used"
            ) from error
        self._decode = decoder.decode
        self._encoders: dict[type, Callable[[T], bytes]] = {
            member: encode_canonically if needs_it else _JSON.encode
            for member, needs_it in zip(members, helped, strict=True)
        }

    def encode(self, value: T) -> tuple[str, T]:
        """Return the JSON text of a member, and the equal value that the text decodes to.

        Raises ValidationError, with the path, for what could not be read back as it is.
        """
        encode = self._encoders[type(value)]
        return _encode_checked(self.role, value, encode, self._decode, MAX_VALUE_BYTES)

    def decode(self, text: str | bytes) -> T:
        """Return the member that the text encodes; raises msgspec.DecodeError."""
        return self._decode(text)

    def parse(self, data: str | bytes | Mapping[str, Any]) -> T:
        """Return the member that somebody else's JSON encodes, constraints checked.

        Raises ValidationError.
        """
        if isinstance(data, Mapping):
            data, _ = _encode_mapping(self.role, data, MAX_VALUE_BYTES)
        try:
            return self.decode(data)
        except _FAILURES as error:
            raise _invalid(self.role, error) from error


def encode_metadata(metadata: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the JSON text of metadata, and the equal mapping that the text decodes to.

    Raises ValidationError, with the path, for what is not JSON.
    """
    if not isinstance(metadata, Mapping):
        raise ValidationError(f"metadata is a mapping, not {type(metadata).__name__}", "$")
    return _encode_mapping("metadata", metadata, MAX_METADATA_BYTES)


def decode_metadata(text: str | None) -> dict[str, Any]:
    """Return the metadata that the text encodes; empty where there is none."""
    return {} if text is None else _MAPPING.decode(text)


def tag_of(member: type) -> str:
    """Return the name under which a State or Command class is stored."""
    return cast("str", member.__struct_config__.tag)  # type: ignore[attr-defined]


def _encode_mapping(
    role: str, mapping: Mapping[str, Any], limit: int
) -> tuple[str, dict[str, Any]]:
    return _encode_checked(role, dict(mapping), _JSON.encode, _MAPPING.decode, limit)


def _encode_checked(
    role: str,
    value: T,
    encode: Callable[[T], bytes],
    decode: Callable[[bytes], T],
    limit: int,
) -> tuple[str, T]:
    try:
        text = encode(value)
    except _FAILURES as error:
        raise _invalid(role, error, _blame(encode, value, error)) from error
    try:
        copy = decode(text)
    except _FAILURES as error:
        raise _invalid(role, error) from error
    if _differ(value, copy):
        _refuse_altered(role, value, copy)
    if _ESCAPED_NUL in text:
        _refuse_nul(role, msgspec.json.decode(text), "$")
    if len(text) > limit:
        raise ValidationError(f"the {role} takes {len(text):,} bytes; the limit is {limit:,}", "$")
    return text.decode(), copy


def _union(members: Sequence[type]) -> Any:
    return reduce(or_, members)


def _blame(encode: Callable[[Any], bytes], value: Any, error: Exception) -> str:
    """Return the path to the smallest part that cannot be encoded."""
    path = "$"
    while not isinstance(error, RecursionError):
        for step, part in parts_of(value):
            try:
                encode(part)
            except _FAILURES as cause:
                path, value, error = path + step, part, cause
                break
        else:
            break
    return path


def _invalid(role: str, error: Exception, path: str | None = None) -> ValidationError:
    message, _, where = str(error).partition(" - at `")
    path = path or where.rstrip("`") or "$"
    return ValidationError(f"the {role} is not valid at {path}: {message}", path)


def _refuse_altered(role: str, value: Any, copy: Any) -> None:
    """Raise ValidationError, unless all that differs is the zone in which a time is told."""
    difference = _difference(value, copy, "$")
    if difference is not None:
        path, before, after = difference
        raise ValidationError(
            f"the {role} would not survive being stored: {path} is {_short(before)} and would be "
            f"read back as {_short(after)}",
            path,
        )


def _difference(value: Any, copy: Any, path: str) -> tuple[str, Any, Any] | None:
    """Return the path of the first part that differs, and both parts.

    Python calls times of a repeated or a skipped hour unequal to every time in another zone;
    such a time differs from itself in UTC in name only.
    """
    if isinstance(value, datetime | set | frozenset) and _in_utc(value) == _in_utc(copy):
        return None
    if type(value) is not type(copy):
        return path, value, copy
    in_name_only = isinstance(value, dict)
    for step, before, after in _children(value, copy):
        if _differ(before, after):
            in_name_only = True
            difference = _difference(before, after, path + step)
            if difference is not None:
                return difference
    return None if in_name_only else (path, value, copy)


def _differ(value: Any, copy: Any) -> bool:
    try:
        return bool(value != copy)
    except ArithmeticError:  # a signalling NaN
        return True


def _in_utc(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, set | frozenset):
        return frozenset(map(_in_utc, value))
    parts = [_in_utc(part) for _, part in parts_of(value)]
    return (type(value), *parts) if parts else value


def _children(value: Any, copy: Any) -> list[tuple[str, Any, Any]]:
    """Return the parts of two values of one type, side by side."""
    if isinstance(value, set | frozenset):
        return []
    if isinstance(value, dict):
        items = {_in_utc(key): item for key, item in value.items()}
        keys = [*items, *(key for key in copy if key not in items)]
        return [(f".{key}", items.get(key, UNSET), copy.get(key, UNSET)) for key in keys]
    parts, copies = list(parts_of(value)), list(parts_of(copy))
    if len(parts) != len(copies):
        return []
    return [(step, part, other) for (step, part), (_, other) in zip(parts, copies, strict=True)]


def _refuse_nul(role: str, value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_nul(role, key, path)
            _refuse_nul(role, item, f"{path}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _refuse_nul(role, item, f"{path}[{i}]")
    elif isinstance(value, str) and "\0" in value:
        raise ValidationError(f"the {role} has a NUL character at {path}", path)


def _short(value: Any) -> str:
    text = "absent" if value is UNSET else f"{value!r} ({type(value).__name__})"
    return text if len(text) <= 80 else text[:79] + "…"
