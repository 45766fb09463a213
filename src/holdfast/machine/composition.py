"""Which classes with fields the members of a union are made of, and what these hold."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, NotRequired, Required, get_origin
from uuid import UUID

from typing_extensions import is_typeddict

from holdfast.machine.fields import MemberField, fields_of
from holdfast.machine.hints import class_of, classes_in, has_fields, hints_of
from holdfast.machine.members import expect_sound, is_foreign, is_model

_FLAT = frozenset(
    (bool, bytes, date, datetime, Decimal, float, int, NoneType, str, time, timedelta, UUID)
)

Parts = tuple[tuple[MemberField, Any], ...]
"""The fields of a class, each with its type."""


def parts_in(members: Sequence[type]) -> dict[Any, Parts]:
    """Return the fields of the classes that members are made of; raises NameError."""
    found: dict[Any, Parts] = {}
    pending: list[Any] = list(members)
    while pending:
        kind = pending.pop()
        if kind not in found:
            found[kind] = tuple(_read(kind))
            hints = [hint for _, hint in found[kind]]
            pending += [part for hint in hints for part in classes_in(hint) if has_fields(part)]
    return found


def _read(kind: Any) -> Iterator[tuple[MemberField, Any]]:
    cls = class_of(kind)
    if is_foreign(cls):
        if is_model(cls):
            cls.model_rebuild()
        expect_sound(cls)
    hints = hints_of(kind)
    if is_typeddict(cls):
        yield from _keys(cls, hints)
        return
    for field in fields_of(cls):
        yield field, hints.get(field.name, Any)


def _keys(cls: Any, hints: Mapping[str, Any]) -> Iterator[tuple[MemberField, Any]]:
    """Read a TypedDict, whose keys may be other than the names that a field may have."""
    for number, (key, hint) in enumerate(hints.items()):
        origin = get_origin(hint)
        required = origin is Required or (
            origin is not NotRequired and key in cls.__required_keys__
        )
        sound = key.isidentifier() and not keyword.iskeyword(key)
        yield MemberField(key if sound else f"key_{number}", key, key, required), hint


def contents_of(parts: Mapping[Any, Parts]) -> dict[Any, set[Any]]:
    """Return the classes within the fields of each class."""
    return {
        kind: {part for _, hint in fields for part in classes_in(hint)}
        for kind, fields in parts.items()
    }


def nest_at_will(contents: Mapping[Any, set[Any]]) -> bool:
    """Tell whether a class may contain itself, or anything."""
    bounded: set[Any] = set()
    found = {None}
    while found:
        found = {
            kind
            for kind in contents.keys() - bounded
            if all(part in bounded or _is_flat(part) for part in contents[kind])
        }
        bounded |= found
    return len(bounded) < len(contents)


def _is_flat(cls: Any) -> bool:
    return cls in _FLAT or (isinstance(cls, type) and issubclass(cls, Enum))
