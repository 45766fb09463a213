"""One pair of states and one command, declared in each of the four ways that members may be."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import attrs
import pydantic

import holdfast
from holdfast import Command, Meta, State
from holdfast.machine.codec import Codec


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Rank(IntEnum):
    LOW = 2
    HIGH = 10


@dataclass(frozen=True)
class Place:
    name: str
    since: datetime


class Ship(Command):
    to: str
    at: datetime


class Draft(State):
    text: str


def rich_class(kind: str) -> Any:
    """Return the class `Rich`, which has a field of every kind, declared as a kind of member."""
    return {
        "state": _rich_state,
        "dataclass": _rich_dataclass,
        "attrs": _rich_attrs,
        "pydantic": _rich_pydantic,
    }[kind]()


def _rich_state() -> Any:
    class Rich(State):
        text: str
        number: int
        ratio: float
        data: bytes
        at: datetime
        times: frozenset[datetime]
        by_time: dict[datetime, Color]
        by_number: dict[int, UUID]
        by_color: dict[Color, frozenset[Rank]]
        amounts: tuple[Decimal, ...]
        pair: tuple[date, time]
        span: timedelta
        size: Literal["s", "m"]
        positive: Annotated[int, Meta(gt=0)]
        anything: Any
        place: Place | None
        command: Ship
        either: Draft | Ship | None = None
        tags: dict[str, datetime] = holdfast.field(default_factory=dict)

    return Rich


def _rich_dataclass() -> Any:
    @dataclass(frozen=True)
    class Rich:
        text: str
        number: int
        ratio: float
        data: bytes
        at: datetime
        times: frozenset[datetime]
        by_time: dict[datetime, Color]
        by_number: dict[int, UUID]
        by_color: dict[Color, frozenset[Rank]]
        amounts: tuple[Decimal, ...]
        pair: tuple[date, time]
        span: timedelta
        size: Literal["s", "m"]
        positive: Annotated[int, Meta(gt=0)]
        anything: Any
        place: Place | None
        command: Ship
        either: Draft | Ship | None = None
        tags: dict[str, datetime] = dataclass_field(default_factory=dict)

    return Rich


def _rich_attrs() -> Any:
    @attrs.frozen
    class Rich:
        text: str
        number: int
        ratio: float
        data: bytes
        at: datetime
        times: frozenset[datetime]
        by_time: dict[datetime, Color]
        by_number: dict[int, UUID]
        by_color: dict[Color, frozenset[Rank]]
        amounts: tuple[Decimal, ...]
        pair: tuple[date, time]
        span: timedelta
        size: Literal["s", "m"]
        positive: Annotated[int, Meta(gt=0)]
        anything: Any
        place: Place | None
        command: Ship
        either: Draft | Ship | None = None
        tags: dict[str, datetime] = attrs.field(factory=dict)

    return Rich


def _rich_pydantic() -> Any:
    class Rich(pydantic.BaseModel, frozen=True):
        text: str
        number: int
        ratio: float
        data: bytes
        at: datetime
        times: frozenset[datetime]
        by_time: dict[datetime, Color]
        by_number: dict[int, UUID]
        by_color: dict[Color, frozenset[Rank]]
        amounts: tuple[Decimal, ...]
        pair: tuple[date, time]
        span: timedelta
        size: Literal["s", "m"]
        positive: int = pydantic.Field(gt=0)
        anything: Any
        place: Place | None
        command: Ship
        either: Draft | Ship | None = None
        tags: dict[str, datetime] = pydantic.Field(default_factory=dict)

    return Rich


KINDS = ("state", "dataclass", "attrs", "pydantic")
FOREIGN = KINDS[1:]
CLASSES = {kind: rich_class(kind) for kind in KINDS}
CODECS: dict[str, Codec[Any]] = {kind: Codec("state", [CLASSES[kind]]) for kind in KINDS}
