"""Brings values into the one form they are encoded in: times in UTC, sets and keys sorted.

Where a class holds nothing but what msgspec brings into that form by itself, it does so faster;
`needs_help` tells the two apart. The text is the same either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

import msgspec

from holdfast.errors import DefinitionError
from holdfast.machine.members import (
    TAG_FIELD,
    fields_of,
    is_foreign,
    is_model,
    outline_of,
    part_of,
    secrets_of,
    types_in,
)

_JSON = msgspec.json.Encoder()
_TIME_LENGTH = len("2026-03-14T09:26:53.589793Z")
_LEAVES = frozenset((str, int, float, bool, NoneType))
_SORTABLE = frozenset((str, int, float, bytes, date, timedelta, Decimal, UUID))


def encode_canonically(value: Any) -> bytes:
    """Return the JSON text of a value; raises ValueError for a datetime without a time zone."""
    return _JSON.encode(_plain(value))


def format_time(time: datetime) -> str:
    """Return an aware datetime as text: UTC, six fraction digits, `Z`."""
    text = _JSON.encode(time.astimezone(UTC)).decode()[1:-1]  # eight times as fast as isoformat
    return text if len(text) == _TIME_LENGTH else f"{text[:-1]}.000000Z"


def parse_time(text: str) -> datetime:
    """Return the datetime that `format_time` wrote."""
    return datetime.fromisoformat(text)


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
    elif is_model(type(value)):
        for field in fields_of(type(value)):
            yield f".{field.name}", part_of(value, field)
    else:
        for name in _field_names(value):
            yield f".{name}", getattr(value, name)


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
    if is_model(type(value)):
        return {field.stored: _plain(part_of(value, field)) for field in fields_of(type(value))}
    names = _field_names(value)
    return {name: _plain(getattr(value, name)) for name in names} if names else value


def _time(time: datetime) -> str:
    if time.tzinfo is None:
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


def _field_names(value: Any) -> list[str]:
    """Return the fields of a struct, a dataclass or an attrs object; of anything else none."""
    if isinstance(value, msgspec.Struct):
        return list(value.__struct_fields__)
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return [attribute.name for attribute in attributes]
    fields = getattr(type(value), "__dataclass_fields__", {})
    return [name for name in fields if hasattr(value, name)]


def _key_text(item: tuple[Any, Any]) -> str:
    key = item[0]
    return key if isinstance(key, str) else _JSON.encode(key).decode().strip('"')


def _sorted(items: list[Any]) -> list[Any]:
    """Sort by value where values of one type have an order, else by text."""
    kinds = set(map(type, items))
    if len(kinds) == 1 and kinds <= _SORTABLE:
        return sorted(items)
    return sorted(items, key=_JSON.encode)


def needs_help(member: type) -> bool:
    """Tell whether msgspec alone would not bring a class into the one form.

    Raises DefinitionError for a field whose type has no encoding.
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
    for owner, info in _types_in(member):
        match info:
            case types.CustomType() if is_model(info.cls):
                found = True
            case types.CustomType():
                raise DefinitionError(
                    f"{owner} has a field of type {info.cls!r}, which has no encoding"
                )
            case types.DictType() if isinstance(info.key_type, no_keys):
                kind = type(info.key_type).__name__.removesuffix("Type").lower()
                raise DefinitionError(
                    f"{owner} has a field with a {kind} as key, which has no encoding"
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


def secrets_in(member: type) -> dict[str | None, frozenset[str]]:
    """Return the names of the secret fields that a class is made of, by the tag.

    They are the names of the attributes and those that are stored. Of parts that are stored without
    a tag they stand under None.
    """
    found: dict[str | None, frozenset[str]] = {}
    for _, info in _types_in(member):
        cls = getattr(info, "cls", None)
        if isinstance(cls, type) and (issubclass(cls, msgspec.Struct) or is_foreign(cls)):
            hidden = secrets_of(cls)
            tag, stored = _stored_names(cls)
            names = hidden.union(stored[name] for name in hidden)
            if names:
                found[tag] = found.get(tag, frozenset()) | names
    return found


def _stored_names(cls: Any) -> tuple[str | None, dict[str, str]]:
    """Return a class's tag, where it has one, and the stored names of its fields."""
    if is_model(cls):
        return None, {field.name: field.stored for field in fields_of(cls)}
    if not issubclass(cls, msgspec.Struct):
        return None, {name: name for name in secrets_of(cls)}
    stored = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    config = cls.__struct_config__
    return str(config.tag) if config.tag_field == TAG_FIELD else None, stored


def _types_in(member: type) -> Iterator[tuple[str, Any]]:
    """Walk the types that a class is made of, each with the name of the class it stands in."""
    from msgspec.inspect import type_info

    seen: set[Any] = set()
    pending: list[tuple[str, Any]] = [(member.__name__, type_info(member))]
    while pending:
        owner, info = pending.pop()
        yield owner, info
        cls: Any = getattr(info, "cls", None)
        if cls is not None:
            if cls in seen:
                continue
            seen.add(cls)
            owner = cls.__name__
        if cls is not None and is_model(cls):
            info = type_info(outline_of(cls).struct)
        pending += [(owner, part) for part in types_in(info)]
