"""Draws values for the fields of commands: small ones mostly, now and then empty or large."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from random import Random
from typing import Any
from uuid import UUID

import msgspec
from msgspec import inspect as types

from holdfast.errors import DefinitionError
from holdfast.testing.simulation.patterns import text_of

Draw = Callable[[Random], Any]
MAX_ITEMS = 3
LARGE_CHARACTERS = 3_000
TEXTS = ("", "a", "b", " ", "é", "😀", '"', "ab", "\\n", "\n", "null", "0", "ba ", "a-b")
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def draw_value(random: Random, cls: type, given: Mapping[type, Draw]) -> Any:
    """Return a value of a class: as the given functions draw it, else from its annotations."""
    if cls in given:
        return given[cls](random)
    return _drawing(cls)(random)


@cache
def _drawing(cls: type) -> Draw:
    info = types.type_info(cls)
    if isinstance(info, types.StructType | types.DataclassType):
        return _class(info, cls.__name__)
    raise _undrawable(cls.__name__, info)


def _class(info: types.StructType | types.DataclassType, where: str) -> Draw:
    draws = {}
    for field in info.fields:
        try:
            draws[field.name] = (_of(field.type, f"{where}.{field.name}"), field.required)
        except DefinitionError:
            if field.required:
                raise
    cls = info.cls

    def draw(random: Random) -> Any:
        given = {
            name: one(random)
            for name, (one, required) in draws.items()
            if required or random.random() < 0.8
        }
        return cls(**given)

    return draw


def _of(info: types.Type, where: str) -> Draw:  # noqa: C901, PLR0911, PLR0912 (a case a type)
    match info:
        case types.NoneType():
            return lambda random: None
        case types.BoolType():
            return lambda random: random.random() < 0.5
        case types.IntType():
            return _int(info)
        case types.FloatType():
            return _float(info)
        case types.StrType() if info.pattern is None:
            return _text(info)
        case types.StrType() if draw := text_of(
            info.pattern or "", info.min_length or 0, info.max_length
        ):
            return draw
        case types.BytesType():
            low, high = info.min_length or 0, info.max_length
            return lambda random: random.randbytes(_length(random, low, high))
        case types.DateTimeType():
            return lambda random: _EPOCH + timedelta(microseconds=random.randrange(10**15))
        case types.DateType():
            return lambda random: date(2026, 1, 1) + timedelta(days=random.randrange(3_000))
        case types.TimeDeltaType():
            return lambda random: timedelta(seconds=random.randrange(10**6))
        case types.DecimalType():
            return lambda random: Decimal(random.randrange(10**6)) / 100
        case types.UUIDType():
            return lambda random: UUID(int=random.getrandbits(128))
        case types.EnumType():
            members = list(info.cls)
            return lambda random: random.choice(members)
        case types.LiteralType():
            values = info.values
            return lambda random: random.choice(values)
        case types.UnionType():
            draws = [_of(part, where) for part in info.types]
            return lambda random: random.choice(draws)(random)
        case types.ListType() | types.SetType() | types.FrozenSetType() | types.VarTupleType():
            return _items(info, where)
        case types.TupleType():
            parts = [_of(part, where) for part in info.item_types]
            return lambda random: tuple(part(random) for part in parts)
        case types.DictType():
            return _dict(info, where)
        case types.StructType() | types.DataclassType():
            return lambda random: _drawing(info.cls)(random)  # noqa: PLW0108 (it may hold itself)
        case types.AnyType() | types.RawType():
            return lambda random: random.randrange(10)
        case types.Metadata():
            return _of(info.type, where)
        case _:
            raise _undrawable(where, info)


def _int(info: types.IntType) -> Draw:
    step = info.multiple_of or 1
    low = info.ge if info.ge is not None else None if info.gt is None else info.gt + 1
    high = info.le if info.le is not None else None if info.lt is None else info.lt - 1
    if low is None:
        low = 0 if high is None else min(0, high - 1_000)
    if high is None:
        high = low + 1_000 * step
    first, last = -(-low // step), high // step

    def draw(random: Random) -> int:
        if random.random() < 0.5:
            return random.randint(first, last) * step
        return (first if random.random() < 0.5 else last) * step

    return draw


def _float(info: types.FloatType) -> Draw:
    low = next((bound for bound in (info.ge, info.gt) if bound is not None), 0.0)
    high = next((bound for bound in (info.le, info.lt) if bound is not None), low + 1_000.0)
    return lambda random: low + (high - low) * random.randrange(1, 1_000) / 1_000


def _text(info: types.StrType) -> Draw:
    low, high = info.min_length or 0, info.max_length
    short = [text for text in TEXTS if len(text) >= low and (high is None or len(text) <= high)]
    large = LARGE_CHARACTERS if high is None else min(LARGE_CHARACTERS, high)

    def draw(random: Random) -> str:
        if random.random() < 0.01:
            return "x" * max(large, low)
        return random.choice(short) if short else "".join(random.choices("ab é", k=low))

    return draw


def _items(
    info: types.ListType | types.SetType | types.FrozenSetType | types.VarTupleType, where: str
) -> Draw:
    item = _of(info.item_type, where)
    low, high = info.min_length or 0, info.max_length
    make: Any = {
        types.ListType: list,
        types.SetType: set,
        types.FrozenSetType: frozenset,
        types.VarTupleType: tuple,
    }[type(info)]

    def draw(random: Random) -> Any:
        return make(item(random) for _ in range(_length(random, low, high)))

    return draw


def _dict(info: types.DictType, where: str) -> Draw:
    key, value = _of(info.key_type, where), _of(info.value_type, where)
    low, high = info.min_length or 0, info.max_length

    def draw(random: Random) -> dict[Any, Any]:
        return {key(random): value(random) for _ in range(_length(random, low, high))}

    return draw


def _length(random: Random, low: int, high: int | None) -> int:
    top = low + MAX_ITEMS if high is None else min(high, low + MAX_ITEMS)
    return random.randint(low, top)


def _undrawable(where: str, info: types.Type) -> DefinitionError:
    kind = type(info).__name__.removesuffix("Type")
    return DefinitionError(
        f"no value can be drawn for {where} ({kind}); pass "
        "commands={Class: lambda random: Class(…)} to the simulation"
    )


def encoded_size(value: Any) -> int:
    """Return how many bytes a command takes as JSON."""
    return len(msgspec.json.encode(value))
