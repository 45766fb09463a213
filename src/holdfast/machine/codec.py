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

from holdfast.errors import DefinitionError, ValidationError

T = TypeVar("T")

MAX_VALUE_BYTES = 1024 * 1024
"""The largest encoded state or command."""
MAX_METADATA_BYTES = 64 * 1024
"""The largest encoded metadata of one transition."""

_JSON = msgspec.json.Encoder(order="deterministic")
_ESCAPED_NUL = b"\\u0000"


class Codec(Generic[T]):
    """Encodes and decodes the members of one union."""

    def __init__(self, role: str, members: Sequence[type]) -> None:
        self.role = role
        self.names: dict[type, str] = {member: tag_of(member) for member in members}
        try:
            decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(_union(members))
            timed = any(_holds_datetimes(member) for member in members)
        except (TypeError, NameError) as error:
            raise DefinitionError(
                f"the {role} union cannot be encoded: {error}; a field that is a union of several "
                "classes may list State and Command classes only, and every name in an annotation "
                "must exist when the machine is first used"
            ) from error
        self._decode = decoder.decode
        self._encode: Callable[[T], bytes] = _encode_timed if timed else _JSON.encode

    def encode(self, value: T) -> tuple[str, T]:
        """Return the JSON text of a member, and the equal value that the text decodes to.

        Raises ValidationError, with the path, for what could not be read back as it is.
        """
        return _encode_checked(self.role, value, self._encode, self._decode, MAX_VALUE_BYTES)

    def decode(self, text: str | bytes) -> T:
        """Return the member that the text encodes; raises msgspec.DecodeError."""
        return self._decode(text)

    def parse(self, data: str | bytes | Mapping[str, Any]) -> T:
        """Return the member that somebody else's JSON encodes, constraints checked.

        Raises ValidationError.
        """
        text = _JSON.encode(data) if isinstance(data, Mapping) else data
        try:
            return self.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _invalid(self.role, error) from error


def encode_metadata(metadata: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the JSON text of metadata, and the equal mapping that the text decodes to.

    Raises ValidationError, with the path, for what is not JSON.
    """
    if not isinstance(metadata, Mapping):
        raise ValidationError(f"metadata is a mapping, not {type(metadata).__name__}", "$")
    plain = dict(metadata)
    return _encode_checked("metadata", plain, _JSON.encode, _METADATA.decode, MAX_METADATA_BYTES)


_METADATA = msgspec.json.Decoder(dict[str, Any])


def decode_metadata(text: str | None) -> dict[str, Any]:
    """Return the metadata that the text encodes; empty where there is none."""
    return {} if text is None else _METADATA.decode(text)


def tag_of(member: type) -> str:
    """Return the name under which a State or Command class is stored."""
    return cast("str", member.__struct_config__.tag)  # type: ignore[attr-defined]


def format_time(time: datetime) -> str:
    """Return an aware datetime as text: UTC, six fraction digits, `Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def parse_time(text: str) -> datetime:
    """Return the datetime that `format_time` wrote."""
    return datetime.fromisoformat(text)


def _encode_checked(
    role: str,
    value: T,
    encode: Callable[[T], bytes],
    decode: Callable[[bytes], T],
    limit: int,
) -> tuple[str, T]:
    try:
        text = encode(value)
        copy = decode(text)
    except ValidationError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise _invalid(role, error) from error
    if copy != value:
        raise _altered(role, value, copy)
    if _ESCAPED_NUL in text:
        _refuse_nul(role, msgspec.json.decode(text), "$")
    if len(text) > limit:
        raise ValidationError(f"the {role} takes {len(text):,} bytes; the limit is {limit:,}", "$")
    return text.decode(), copy


def _union(members: Sequence[type]) -> Any:
    return reduce(or_, members)


def _encode_timed(value: Any) -> bytes:
    plain = msgspec.to_builtins(value, builtin_types=(datetime,), order="deterministic")
    return _JSON.encode(_with_time_as_text(plain, "$"))


def _with_time_as_text(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        return {
            _with_time_as_text(key, path): _with_time_as_text(item, f"{path}.{key}")
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_with_time_as_text(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValidationError(f"{path} is a datetime without a time zone: {value}", path)
        return format_time(value)
    return value


def _holds_datetimes(member: type) -> bool:
    """Walk the types of a class's fields; raises DefinitionError for one without an encoding."""
    import msgspec.inspect as types

    seen: set[type] = set()
    found = False
    pending: list[tuple[str, Any]] = [(member.__name__, types.type_info(member))]
    while pending:
        owner, info = pending.pop()
        if isinstance(info, types.CustomType):
            raise DefinitionError(
                f"{owner} has a field of type {info.cls!r}, which has no encoding"
            )
        found = found or isinstance(info, types.DateTimeType)
        cls = getattr(info, "cls", None)
        if cls is not None:
            if cls in seen:
                continue
            seen.add(cls)
            owner = cls.__name__
        pending += [(owner, child) for child in _parts(info)]
    return found


def _parts(info: Any) -> list[Any]:
    """Return the types that a type is made of."""
    parts = [field.type for field in getattr(info, "fields", ()) if hasattr(field, "type")]
    parts += getattr(info, "types", ()) or getattr(info, "item_types", ())
    for name in ("item_type", "key_type", "value_type", "type"):
        part = getattr(info, name, None)
        if part is not None:
            parts.append(part)
    return parts


def _invalid(role: str, error: Exception) -> ValidationError:
    message, _, path = str(error).partition(" - at `")
    where = path.rstrip("`") or "$"
    return ValidationError(f"the {role} is not valid at {where}: {message}", where)


def _altered(role: str, value: Any, copy: Any) -> ValidationError:
    path, before, after = _difference(value, copy, "$")
    return ValidationError(
        f"the {role} would not survive being stored: {path} is {_short(before)} and would be read "
        f"back as {_short(after)}",
        path,
    )


def _difference(value: Any, copy: Any, path: str) -> tuple[str, Any, Any]:
    """Return the path of the first part that differs, and both parts."""
    if type(value) is type(copy):
        for step, before, after in _children(value, copy):
            if before != after:
                return _difference(before, after, path + step)
    return path, value, copy


def _children(value: Any, copy: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return [(f".{name}", getattr(value, name), getattr(copy, name)) for name in names]
    if isinstance(value, dict):
        keys = [*value, *(key for key in copy if key not in value)]
        return [(f".{key}", value.get(key), copy.get(key)) for key in keys]
    if isinstance(value, list | tuple) and len(value) == len(copy):
        return [
            (f"[{i}]", before, after)
            for i, (before, after) in enumerate(zip(value, copy, strict=True))
        ]
    return []


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
    text = f"{value!r} ({type(value).__name__})"
    return text if len(text) <= 80 else text[:79] + "…"
