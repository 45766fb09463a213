"""Two states with a field of every kind, and one value of them with everything in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from holdfast import Command, Meta, State, field
from holdfast.machine.codec import Codec


class SummerTime(tzinfo):
    """The zone of Berlin in 2024, for machines without a database of zones."""

    begins = datetime(2024, 3, 31, 2)  # noqa: DTZ001 (told by the clock on the wall)
    ends = datetime(2024, 10, 27, 3)  # noqa: DTZ001 (told by the clock on the wall)

    def utcoffset(self, dt: datetime | None) -> timedelta:
        assert dt is not None
        wall = dt.replace(tzinfo=None, fold=0)
        hour = timedelta(hours=1)
        repeated = self.ends - hour <= wall < self.ends
        skipped = self.begins <= wall < self.begins + hour
        summer = self.begins <= wall < self.ends
        if repeated or skipped:
            summer = bool(dt.fold) is skipped
        return 2 * hour if summer else hour

    def dst(self, dt: datetime | None) -> timedelta:
        return self.utcoffset(dt) - timedelta(hours=1)

    def tzname(self, dt: datetime | None) -> str:
        return "CEST" if self.dst(dt) else "CET"


BERLIN = SummerTime()


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Rank(IntEnum):
    LOW = 2
    HIGH = 10


class Part(msgspec.Struct, frozen=True):
    text: str
    at: datetime | None
    amounts: tuple[Decimal, ...]


@dataclass(frozen=True)
class Place:
    name: str
    ranks: frozenset[Rank]


class Do(Command):
    note: str
    at: datetime


class Leaf(State):
    """Encoded by msgspec alone."""

    text: str
    number: int
    ratio: float
    maybe: float | None
    data: bytes
    words: frozenset[str]
    numbers: frozenset[int]
    scores: dict[str, list[float]]
    size: Literal["s", "m"]
    positive: Annotated[int, Meta(gt=0)]
    anything: Any


class Tree(State):
    """Needs help: times, enums, sets of sets, keys that are no text, nested states."""

    at: datetime
    times: frozenset[datetime]
    by_time: dict[datetime, Color]
    by_number: dict[int, UUID]
    by_color: dict[Color, frozenset[Color]]
    groups: frozenset[frozenset[str]]
    mixed: frozenset[int | str | None]
    parts: list[Part]
    part_set: frozenset[Part]
    place: Place | None
    pair: tuple[date, time]
    span: timedelta
    command: Do | None
    previous: Leaf | Tree | None = None
    either: int | datetime | None = None
    tags: dict[str, datetime] = field(default_factory=dict)


CODEC: Codec[Leaf | Tree] = Codec("state", [Leaf, Tree])


def sample() -> Tree:
    """Return a value whose sets and dicts iterate differently in every process."""
    at = datetime(2024, 10, 27, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    words = frozenset(["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"])
    leaf = Leaf(
        text="é",
        number=10**30,
        ratio=0.1,
        maybe=None,
        data=b"a",
        words=words,
        numbers=frozenset(range(-50, 50, 7)),
        scores={word: [1.5] for word in words},
        size="m",
        positive=1,
        anything=dict.fromkeys(words),
    )
    return Tree(
        at=at,
        times=frozenset(at + timedelta(hours=hours) for hours in range(9)),
        by_time={at + timedelta(days=days): Color.RED for days in range(9)},
        by_number={number: UUID(int=number) for number in range(12)},
        by_color={color: frozenset(Color) for color in Color},
        groups=frozenset(frozenset([word, word[0]]) for word in words),
        mixed=frozenset([1, "a", None, 2, "b"]),
        parts=[],
        part_set=frozenset(Part(text=w, at=at, amounts=(Decimal("1.10"),)) for w in words),
        place=Place("x", frozenset(Rank)),
        pair=(at.date(), at.time()),
        span=timedelta(1),
        command=Do(note="n", at=at),
        previous=leaf,
        either=at,
        tags=dict.fromkeys(words, at),
    )
