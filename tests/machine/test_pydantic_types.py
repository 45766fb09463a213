"""Fields whose types pydantic alone knows are stored in the one form of all others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone, tzinfo
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import pydantic
import pytest

from holdfast import DefinitionError, State, ValidationError
from holdfast.machine.codec import Codec

EAST = timezone(timedelta(hours=2))
NOON = datetime(2024, 5, 6, 14, tzinfo=EAST)
NOON_TEXT = "2024-05-06T12:00:00.000000Z"
NAIVE = datetime(2024, 5, 6)  # noqa: DTZ001 (that is the point)
SECRET = "4111-1111"


class Nowhere(tzinfo):
    """A zone that does not know its offset: times in it are naive."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return None

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return None


class Step(State):
    at: datetime


class Part(pydantic.BaseModel, frozen=True):
    path: PurePosixPath
    at: datetime = pydantic.Field(default=NOON, alias="when")


class Color(Enum):
    RED = "red"


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Celsius) and self.degrees == other.degrees

    def __hash__(self) -> int:
        return hash(self.degrees)


Temperature = Annotated[
    Celsius,
    pydantic.PlainValidator(lambda v: v if isinstance(v, Celsius) else Celsius(v)),
    pydantic.PlainSerializer(lambda v: v.degrees, when_used="json"),
]


class Odd(pydantic.BaseModel, frozen=True, arbitrary_types_allowed=True):
    aware: pydantic.AwareDatetime | None = None
    pair: tuple[datetime, Path] | None = None
    paths: frozenset[PurePosixPath] = frozenset()
    by_path: dict[PurePosixPath, frozenset[datetime]] = {}
    by_time: dict[pydantic.AwareDatetime, PurePosixPath] = {}
    url_or_number: pydantic.HttpUrl | int | None = None
    parts: tuple[Part | PurePosixPath, ...] = ()
    step: tuple[Step, PurePosixPath] | None = None
    color: tuple[Color, bytes, PurePosixPath] | None = None
    warm: frozenset[Temperature] = frozenset()
    secrets: list[pydantic.SecretStr] = []
    codes: dict[str, pydantic.SecretBytes] = {}
    birthday: pydantic.Secret[date] | None = None


ODD: Codec[Any] = Codec("state", [Odd])


def text_of(**given: Any) -> str:
    """Return the text of what is stored for some fields, having seen that it comes back."""
    value = Odd(**given)
    text, copy = ODD.encode(value)
    assert copy == value == ODD.decode(text)
    assert ODD.encode(copy)[0] == text
    [field] = given
    return text.partition(f'"{field}":')[2]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"aware": NOON}, f'"{NOON_TEXT}"'),
        ({"pair": (NOON, Path("a"))}, f'["{NOON_TEXT}","a"]'),
        ({"paths": frozenset(map(PurePosixPath, "bca"))}, '["a","b","c"]'),
        (
            {"by_path": {PurePosixPath("b"): frozenset(), PurePosixPath("a"): frozenset([NOON])}},
            f'{{"a":["{NOON_TEXT}"],"b":[]}}',
        ),
        ({"by_time": {NOON: PurePosixPath("a")}}, f'{{"{NOON_TEXT}":"a"}}'),
        ({"url_or_number": 5}, "5"),
        ({"url_or_number": pydantic.HttpUrl("https://a.example/")}, '"https://a.example/"'),
        (
            {"parts": (Part(path=PurePosixPath("a"), when=NOON), PurePosixPath("b"))},
            f'[{{"path":"a","when":"{NOON_TEXT}"}},"b"]',
        ),
        (
            {"step": (Step(at=NOON), PurePosixPath("b"))},
            f'[{{"$type":"Step","at":"{NOON_TEXT}"}},"b"]',
        ),
        ({"color": (Color.RED, b"a", PurePosixPath("b"))}, '["red","a","b"]'),
        ({"warm": frozenset([Celsius(9.5), Celsius(1.5)])}, "[1.5,9.5]"),
        ({"secrets": [pydantic.SecretStr(SECRET)]}, f'["{SECRET}"]'),
        ({"codes": {"a": pydantic.SecretBytes(b"b")}}, '{"a":"b"}'),
        ({"birthday": pydantic.Secret(date(2000, 1, 2))}, '"2000-01-02"'),
    ],
    ids=range(14),
)
def test_what_pydantic_alone_knows_is_stored_in_the_one_form(
    given: dict[str, Any], expected: str
) -> None:
    """Times in UTC, sets and keys sorted, parts as they are stored elsewhere."""
    assert text_of(**given).startswith(expected)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Odd(pair=(NAIVE, Path("a"))), "$.pair"),
        (Odd(parts=(Part(path=PurePosixPath(), when=NAIVE),)), "$.parts"),
        (Odd(by_path={PurePosixPath(): frozenset([NAIVE])}), "$.by_path"),
        (Odd.model_construct(aware=NAIVE), "$.aware"),
        (Odd.model_construct(aware=datetime(2024, 5, 6, tzinfo=Nowhere())), "$.aware"),
        (Odd.model_construct(paths=5), "$.paths"),
        (Odd.model_construct(codes={SECRET: pydantic.SecretBytes(b"\xff")}), "$.codes"),
    ],
    ids=range(7),
)
def test_what_would_not_come_back_is_refused_with_the_path(value: Any, path: str) -> None:
    """A time without a zone among it, wherever pydantic takes it."""
    with pytest.raises(ValidationError) as raised:
        ODD.encode(value)

    assert raised.value.path == path
    assert SECRET not in str(raised.value)


def test_a_time_whose_zone_has_no_offset_is_naive() -> None:
    """In a state as well."""
    with pytest.raises(ValidationError, match=r"\$\.at: .* without a time zone"):
        Codec[Step]("state", [Step]).encode(Step(at=datetime(2024, 5, 6, tzinfo=Nowhere())))


def test_secrets_within_collections_are_secret() -> None:
    """Their fields are masked as a whole."""
    value = Odd(
        secrets=[pydantic.SecretStr(SECRET)], codes={SECRET: pydantic.SecretBytes(SECRET.encode())}
    )
    text, _ = ODD.encode(value)

    assert text.count(SECRET) == 3
    assert SECRET not in ODD.redact(text)


def test_the_text_is_the_same_in_every_process() -> None:
    """Sets of what pydantic alone knows are in no order of their own."""
    code = (
        "from tests.machine.test_pydantic_types import *;"
        "print(ODD.encode(Odd(paths=frozenset(map(PurePosixPath, 'abcdefgh'))))[0])"
    )

    def encoded_under(seed: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    assert len({encoded_under(seed) for seed in "123"}) == 1


class Strict(pydantic.BaseModel, frozen=True, strict=True):
    at: pydantic.AwareDatetime
    number: int


def test_a_strict_model_takes_what_is_stored_of_such_a_type() -> None:
    """It is stored as JSON, of which pydantic takes it too; the rest is as strict as it was."""
    codec: Codec[Any] = Codec("state", [Strict])
    value = Strict(at=NOON, number=1)

    assert codec.encode(value)[1] == value
    with pytest.raises(ValidationError, match="Expected `int`, got `str`"):
        codec.parse({"$type": "Strict", "at": NOON_TEXT, "number": "1"})


class Written(pydantic.BaseModel, frozen=True):
    path: PurePosixPath

    @pydantic.model_serializer
    def write(self) -> str:
        return str(self.path)


def test_a_model_that_writes_no_field_by_itself_is_refused() -> None:
    """Its own form cannot be read field by field."""
    with pytest.raises(ValidationError, match=r"Written does not write path by itself") as raised:
        Codec[Any]("state", [Written]).encode(Written(path=PurePosixPath("a")))
    assert raised.value.path == "$.path"


def test_a_type_that_nobody_knows_is_refused_at_first_use() -> None:
    """Outside of pydantic models."""

    class Holder(State):
        path: PurePosixPath

    with pytest.raises(DefinitionError, match=r"Holder has a field of type .*PurePosixPath"):
        Codec[Any]("state", [Holder])


def test_a_class_that_is_used_no_more_is_let_go() -> None:
    """Nothing that was read off a class keeps it alive."""
    import gc
    import weakref

    def use() -> Callable[[], object]:
        class Local(pydantic.BaseModel, frozen=True):
            before: Local | None = None
            path: PurePosixPath = PurePosixPath()

        Local.model_rebuild(_types_namespace={"Local": Local})
        codec: Codec[Any] = Codec("state", [Local])
        assert codec.encode(Local(before=Local()))[1] == Local(before=Local())
        return weakref.ref(Local)

    gone = use()
    gc.collect()

    assert gone() is None
