"""Brings values into the one form they are encoded in: times in UTC, sets and keys sorted.

Where a class holds nothing but what msgspec brings into that form by itself, it does so faster;
`needs_help` tells the two apart. The text is the same either way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

import msgspec

from holdfast.errors import DefinitionError
from holdfast.machine.fields import Opaque, fields_of, value_of
from holdfast.machine.hints import class_of
from holdfast.machine.members import is_foreign, is_plain

_JSON = msgspec.json.Encoder()
_encode = _JSON.encode
_TIME_LENGTH = len('"2026-03-14T09:26:53.589793Z"')
_SOME_TIME = datetime(2026, 3, 14, tzinfo=UTC)
_LEAVES = frozenset((str, int, float, bool, NoneType))
_SORTABLE = frozenset((str, int, float, bytes, date, timedelta, Decimal, UUID))


def encode_canonically(value: Any) -> bytes:
    """Return the JSON text of a value; raises ValueError for a datetime without a time zone."""
    return _JSON.encode(_plain(value))


def format_time(time: datetime) -> str:
    """Return an aware datetime as text: UTC, six fraction digits, `Z`."""
    try:
        text = _encode(time.astimezone(UTC))  # eight times as fast as isoformat
    except TypeError:
        text = _encode(plain_time(time))
    if len(text) == _TIME_LENGTH:
        return text[1:-1].decode()
    return f"{text[1:-2].decode()}.000000Z"


def plain_time(time: datetime) -> datetime:
    """Return an aware datetime in UTC, and as a datetime itself where its class is derived.

    Raises OverflowError for a time that UTC cannot tell.
    """
    utc = time.astimezone(UTC)
    # Made from one that was there before: those who freeze time put a class of their own in place.
    return _SOME_TIME.replace(
        year=utc.year, month=utc.month, day=utc.day, hour=utc.hour, minute=utc.minute,
        second=utc.second, microsecond=utc.microsecond,
    )  # fmt: skip


parse_time: Callable[[str], datetime] = datetime.fromisoformat
"""Returns the datetime that `format_time` wrote."""


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over what a value directly consists of, each with the step that leads to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield "", key
            yield f".{key}", item
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield f"[{i}]", item
    elif isinstance(value, set | frozenset):
        for item in value:
            yield "[...]", item
    elif _is_object(value):
        for field in fields_of(type(value)):
            yield f".{field.name}", value_of(value, field)


def has_parts(value: Any) -> bool:
    """Tell whether a value is stored as a list or a mapping."""
    return isinstance(value, dict | list | tuple | set | frozenset) or _is_object(value)


def _plain(value: Any) -> Any:
    if type(value) in _LEAVES:
        return value
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, dict):
        plain = [(_plain(key), _plain(item)) for key, item in value.items()]
        return dict(sorted(plain, key=_key_text))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return _sorted([_plain(item) for item in value])
    return _plain_object(value)


def _plain_object(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _struct(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Opaque):
        return _opaque(value.value, value.dumped())
    if is_foreign(type(value)):
        parts = ((each.stored, value_of(value, each)) for each in fields_of(type(value)))
        return {name: _plain(part) for name, part in parts if part is not msgspec.UNSET}
    return value


def _opaque(value: Any, dumped: Any) -> Any:
    """Return what pydantic wrote, with times, sets and nested values in the one form.

    It writes sets and mappings in their own order, so that the parts of both stand side by side.
    """
    if isinstance(value, datetime):
        return _time(value)
    if _is_object(value):
        return _plain(value)
    if hasattr(value, "get_secret_value"):
        secret = value.get_secret_value()
        return _opaque(secret, sys.modules["pydantic_core"].to_jsonable_python(secret))
    pairs = _side_by_side(value, dumped)
    if pairs is None:
        return dumped
    if isinstance(value, dict):
        plain = [(_opaque(key, text), _opaque(value[key], dumped[text])) for key, text in pairs]
        return dict(sorted(plain, key=_key_text))
    parts = [_opaque(part, text) for part, text in pairs]
    return _sorted(parts) if isinstance(value, set | frozenset) else parts


def _side_by_side(value: Any, dumped: Any) -> list[tuple[Any, Any]] | None:
    """Return the parts of a collection, each with what was written; None for anything else."""
    kinds = dict if isinstance(value, dict) else list | tuple | set | frozenset
    written = dict if isinstance(value, dict) else list
    if isinstance(value, kinds) and isinstance(dumped, written) and len(value) == len(dumped):
        return list(zip(value, dumped, strict=True))
    return None


def _is_object(value: Any) -> bool:
    return isinstance(value, msgspec.Struct) or is_foreign(type(value))


def _time(time: datetime) -> str:
    if time.tzinfo is not UTC and time.utcoffset() is None:
        raise ValueError(f"{time} is a datetime without a time zone")
    return format_time(time)


def _struct(value: msgspec.Struct) -> Any:
    config = value.__struct_config__
    parts = [
        (stored, _plain(getattr(value, name)))
        for name, stored in zip(
            value.__struct_fields__, value.__struct_encode_fields__, strict=True
        )
    ]
    if config.tag is not None:
        parts.insert(0, (config.tag_field or "type", config.tag))
    if config.array_like:
        return [part for _, part in parts]
    return {name: part for name, part in parts if part is not msgspec.UNSET}


def _key_text(item: tuple[Any, Any]) -> str:
    key = item[0]
    return key if isinstance(key, str) else _JSON.encode(key).decode().strip('"')


def _sorted(items: list[Any]) -> list[Any]:
    """Sort by value where values of one type have an order, else by text."""
    kinds = set(map(type, items))
    if len(kinds) == 1 and kinds <= _SORTABLE:
        return sorted(items)
    return sorted(items, key=_JSON.encode)


def needs_help(kind: Any, stands_for: Mapping[Any, Any]) -> bool:
    """Tell whether msgspec alone would not bring a class into the one form.

    `stands_for` has the classes that outlines stand for. Raises DefinitionError for a field whose
    type has no encoding.
    """
    import msgspec.inspect as types

    simple_keys = (types.StrType, types.AnyType)
    no_keys = (
        types.BoolType,
        types.DataclassType,
        types.FrozenSetType,
        types.NamedTupleType,
        types.NoneType,
        types.StructType,
        types.TupleType,
        types.VarTupleType,
    )
    simple_items = (
        types.BytesType,
        types.DateType,
        types.DecimalType,
        types.FloatType,
        types.IntType,
        types.StrType,
        types.TimeDeltaType,
        types.UUIDType,
    )
    found = False
    for owner, info in _types_in(kind):
        match info:
            case types.StructType(cls=cls):
                found = found or not _is_written_natively(stands_for.get(cls, cls))
            case types.CustomType():
                raise DefinitionError(
                    f"{owner} has a field of type {info.cls!r}, which has no encoding"
                )
            case types.DictType() if isinstance(info.key_type, no_keys):
                key = type(info.key_type).__name__.removesuffix("Type").lower()
                raise DefinitionError(
                    f"{owner} has a field with a {key} as key, which has no encoding"
                )
            case types.DictType():
                found = found or not isinstance(info.key_type, simple_keys)
            case types.SetType() | types.FrozenSetType():
                found = found or not isinstance(info.item_type, simple_items)
            case types.DateTimeType():
                found = True
            case _:
                pass
    return found


def _is_written_natively(kind: Any) -> bool:
    """Tell whether msgspec writes all fields of a class, and under the names that are read."""
    cls = class_of(kind)
    if is_foreign(cls):
        return is_plain(cls)
    config = getattr(cls, "__struct_config__", None)
    return config is None or not config.omit_defaults


def _types_in(kind: Any) -> Iterator[tuple[str, Any]]:
    """Walk the types that a class is made of, each with the name of the class it stands in."""
    from msgspec.inspect import type_info

    seen: set[Any] = set()
    pending: list[tuple[str, Any]] = [(class_of(kind).__name__, type_info(kind))]
    while pending:
        owner, info = pending.pop()
        yield owner, info
        cls: Any = getattr(info, "cls", None)
        if cls is not None:
            if cls in seen:
                continue
            seen.add(cls)
            owner = class_of(cls).__name__
        pending += [(owner, part) for part in _parts_of_type(info)]


def _parts_of_type(info: Any) -> list[Any]:
    """Return the types that a type directly consists of, as `msgspec.inspect` tells them."""
    parts = [field.type for field in getattr(info, "fields", ()) if hasattr(field, "type")]
    parts += getattr(info, "types", ()) or getattr(info, "item_types", ())
    for name in ("item_type", "key_type", "value_type", "type"):
        part = getattr(info, name, None)
        if part is not None:
            parts.append(part)
    return parts
