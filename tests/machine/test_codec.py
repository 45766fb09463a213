"""The encoding of states, commands and metadata: one text for a value, and no value lost in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
import pytest
from tests.machine.rich import BERLIN

from holdfast import Command, DefinitionError, Machine, Meta, State, ValidationError, field
from holdfast.machine.codec import (
    MAX_METADATA_BYTES,
    MAX_VALUE_BYTES,
    Codec,
    decode_metadata,
    encode_metadata,
)

LOCAL_MEAN = timezone(timedelta(minutes=53, seconds=28))
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Rank(IntEnum):
    LOW = 2
    HIGH = 10


class Line(msgspec.Struct, frozen=True):
    price: Annotated[int, Meta(gt=0)]


class TimedLine(msgspec.Struct, frozen=True):
    price: int
    at: datetime | None = None


@dataclass(frozen=True)
class Address:
    street: str


@dataclass(frozen=True)
class TimedAddress:
    street: str
    since: datetime | None = None


class Point(NamedTuple):
    x: int
    y: int


class Renamed(msgspec.Struct, frozen=True, rename="camel"):
    first_name: str
    born_at: datetime


class Row(msgspec.Struct, frozen=True, array_like=True, tag=True):
    a: int
    at: datetime


class Timed(State):
    at: datetime


class Times(State):
    by_time: dict[datetime, int] = field(default_factory=dict)
    some: frozenset[datetime] = frozenset()
    maybe: datetime | None = None
    either: int | datetime = 0
    nested: list[tuple[datetime, ...]] = field(default_factory=list)
    lines: dict[str, TimedLine] = field(default_factory=dict)
    address: TimedAddress | None = None
    renamed: Renamed | None = None
    row: Row | None = None


class Rich(State):
    text: str = ""
    number: int = 0
    ratio: float = 0.0
    maybe: float | None = None
    data: bytes = b""
    price: Decimal = Decimal(0)
    ident: UUID = UUID(int=0)
    day: date = date(2024, 1, 1)
    clock: time = time(0)
    span: timedelta = timedelta(0)
    color: Color = Color.RED
    rank: Rank = Rank.LOW
    size: Literal["s", "m"] = "s"
    pair: tuple[int, str] = (0, "")
    many: tuple[int, ...] = ()
    words: set[str] = field(default_factory=set)
    numbers: frozenset[int] = frozenset()
    ratios: dict[str, list[float]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)
    line: Line | None = None
    lines: list[Line] = field(default_factory=list)
    address: Address | None = None
    point: Point | None = None
    anything: Any = None


class Keyed(State):
    by_number: dict[int, str] = field(default_factory=dict)
    by_color: dict[Color, str] = field(default_factory=dict)
    by_day: dict[date, str] = field(default_factory=dict)
    by_id: dict[UUID, str] = field(default_factory=dict)


class Gathered(State):
    colors: frozenset[Color] = frozenset()
    ranks: frozenset[Rank] = frozenset()
    lines: frozenset[Line] = frozenset()
    pairs: frozenset[tuple[int, str]] = frozenset()
    groups: frozenset[frozenset[str]] = frozenset()
    mixed: frozenset[int | str | None] = frozenset()


def text_of(value: State) -> str:
    """Return a value's text, having seen that it decodes to an equal value and the same text."""
    codec = Codec[State]("state", [type(value)])
    text, copy = codec.encode(value)
    assert copy == value
    assert codec.decode(text) == value
    assert codec.encode(copy)[0] == text
    return text


def stored(value: State, name: str) -> Any:
    """Return what the text holds for one field."""
    return json.loads(text_of(value))[name]


def refusal(value: State) -> ValidationError:
    """Return the error with which a value is refused."""
    with pytest.raises(ValidationError) as caught:
        Codec[State]("state", [type(value)]).encode(value)
    assert caught.value.path is not None
    assert caught.value.path in str(caught.value)
    return caught.value


def mistyped(cls: type[State], **fields: Any) -> State:
    """Return a state whose fields are not what their annotations say."""
    return cls(**fields)


def test_text_is_json_that_a_person_can_read_fields_in_their_order() -> None:
    """The tag comes first, then the fields as they are declared."""

    class Cart(State):
        z: int
        a: str

    assert text_of(Cart(z=1, a="x")) == '{"$type":"Cart","z":1,"a":"x"}'


def test_the_text_of_a_class_with_times_has_the_same_form() -> None:
    """Whether a class holds times or not makes no difference to the order of its fields."""

    class Cart(State):
        z: int
        at: datetime
        b: dict[str, int] = field(default_factory=dict)

    assert text_of(Cart(z=1, at=NOON, b={"y": 1, "x": 2})) == (
        '{"$type":"Cart","z":1,"at":"2024-05-06T12:00:00.000000Z","b":{"x":2,"y":1}}'
    )


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (NOON, "2024-05-06T12:00:00.000000Z"),
        (NOON.replace(microsecond=120), "2024-05-06T12:00:00.000120Z"),
        (datetime(2024, 5, 6, 14, tzinfo=BERLIN), "2024-05-06T12:00:00.000000Z"),
        (
            datetime(2024, 5, 6, 0, 0, 1, tzinfo=timezone(timedelta(hours=14))),
            "2024-05-05T10:00:01.000000Z",
        ),
        (
            datetime(2024, 5, 6, 12, tzinfo=timezone(-timedelta(minutes=1))),
            "2024-05-06T12:01:00.000000Z",
        ),
        (datetime(999, 1, 1, tzinfo=UTC), "0999-01-01T00:00:00.000000Z"),
        (datetime(1880, 1, 1, tzinfo=LOCAL_MEAN), "1879-12-31T23:06:32.000000Z"),
    ],
)
def test_a_time_of_any_zone_is_stored_in_utc_with_six_digits(at: datetime, text: str) -> None:
    """Times are told in UTC, with `Z` and always six fraction digits."""
    assert stored(Timed(at=at), "at") == text


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN), "2024-10-27T00:30:00.000000Z"),
        (datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1), "2024-10-27T01:30:00.000000Z"),
        (datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN), "2024-03-31T01:30:00.000000Z"),
    ],
)
def test_a_time_of_a_repeated_or_skipped_hour_is_stored(at: datetime, text: str) -> None:
    """Summer time's odd hours are times too, though Python calls them unequal to their own UTC."""
    codec = Codec[Times]("state", [Times])
    value = Times(maybe=at, some=frozenset([at]), by_time={at: 1}, nested=[(at,)])

    encoded, copy = codec.encode(value)

    assert json.loads(encoded)["maybe"] == text
    assert json.loads(encoded)["some"] == [text]
    assert json.loads(encoded)["by_time"] == {text: 1}
    assert copy.maybe == at.astimezone(UTC)


def test_times_sort_as_text_as_they_sort_in_time() -> None:
    """Stored times may be compared as text, whatever zone they came from."""
    moments = [
        NOON + timedelta(microseconds=step) * sign
        for step in (0, 1, 10, 999_999, 10**6, 3_600_000_000)
        for sign in (1, -1)
    ]
    zones = (UTC, BERLIN, timezone(timedelta(hours=-11)))
    times = [moment.astimezone(zone) for moment in moments for zone in zones]

    texts = [stored(Timed(at=at), "at") for at in times]

    assert sorted(texts) == [stored(Timed(at=at), "at") for at in sorted(times)]


def test_times_are_found_wherever_they_stand() -> None:
    """Keys, sets, unions, nested structs, dataclasses and arrays all hold times in one form."""
    noon = datetime(2024, 5, 6, 14, tzinfo=BERLIN)
    text = "2024-05-06T12:00:00.000000Z"
    value = Times(
        by_time={noon: 1},
        some=frozenset([noon]),
        maybe=noon,
        either=noon,
        nested=[(noon,), ()],
        lines={"a": TimedLine(price=1, at=noon)},
        address=TimedAddress("High St", noon),
        renamed=Renamed("Ada", noon),
        row=Row(1, noon),
    )

    assert json.loads(text_of(value)) == {
        "$type": "Times",
        "by_time": {text: 1},
        "some": [text],
        "maybe": text,
        "either": text,
        "nested": [[text], []],
        "lines": {"a": {"price": 1, "at": text}},
        "address": {"street": "High St", "since": text},
        "renamed": {"firstName": "Ada", "bornAt": text},
        "row": ["Row", 1, text],
    }


NAIVE = NOON.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Timed(at=NAIVE), "$.at"),
        (Times(maybe=NAIVE), "$.maybe"),
        (Times(either=NAIVE), "$.either"),
        (Times(by_time={NAIVE: 1}), "$.by_time"),
        (Times(some=frozenset([NAIVE])), "$.some[...]"),
        (Times(nested=[(), (NOON, NAIVE)]), "$.nested[1][1]"),
        (Times(lines={"a": TimedLine(price=1, at=NAIVE)}), "$.lines.a.at"),
        (Times(address=TimedAddress("High St", NAIVE)), "$.address.since"),
    ],
)
def test_a_time_without_a_zone_is_refused_with_its_path(value: State, path: str) -> None:
    """Nobody could say later which moment it was."""
    assert refusal(value).path == path


@pytest.mark.parametrize(
    "at",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=5))),
    ],
)
def test_a_time_that_utc_cannot_tell_is_refused_with_its_path(at: datetime) -> None:
    """At both ends of the calendar a zone may lead out of it."""
    assert refusal(Timed(at=at)).path == "$.at"


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        (Rich(data=b"\0\xff"), "data", "AP8="),
        (Rich(price=Decimal("1.10")), "price", "1.10"),
        (Rich(price=Decimal("1E+5")), "price", "1E+5"),
        (Rich(ident=UUID(int=7)), "ident", "00000000-0000-0000-0000-000000000007"),
        (Rich(day=date(999, 2, 3)), "day", "0999-02-03"),
        (Rich(clock=time(1, 2, 3, 4)), "clock", "01:02:03.000004"),
        (Rich(span=timedelta(days=1, microseconds=1)), "span", "P1DT0.000001S"),
        (Rich(color=Color.BLUE), "color", "blue"),
        (Rich(rank=Rank.HIGH), "rank", 10),
        (Rich(size="m"), "size", "m"),
        (Rich(pair=(1, "a")), "pair", [1, "a"]),
        (Rich(many=(3, 1)), "many", [3, 1]),
        (Rich(maybe=-0.0), "maybe", -0.0),
        (Rich(maybe=5e-324), "maybe", 5e-324),
        (Rich(number=10**400), "number", 10**400),
        (Rich(number=-(2**63) - 1), "number", -(2**63) - 1),
        (Rich(line=Line(price=3)), "line", {"price": 3}),
        (Rich(address=Address("a")), "address", {"street": "a"}),
        (Rich(point=Point(1, 2)), "point", [1, 2]),
        (Rich(anything={"a": [1, None, "x"]}), "anything", {"a": [1, None, "x"]}),
        (Rich(text="é\U0001f600\t"), "text", "é\U0001f600\t"),
    ],
)
def test_a_field_of_each_type_is_stored_as(value: State, name: str, expected: object) -> None:
    """Every type that a field may have is readable as JSON, and comes back as it was."""
    assert stored(value, name) == expected


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        (Rich(words={"b", "a", "é", "B"}), "words", ["B", "a", "b", "é"]),
        (Rich(numbers=frozenset([10, 9, -1])), "numbers", [-1, 9, 10]),
        (Rich(names={"b": "1", "a": "2"}), "names", {"a": "2", "b": "1"}),
        (Keyed(by_number={10: "a", 9: "b"}), "by_number", {"10": "a", "9": "b"}),
        (Keyed(by_color={Color.RED: "a", Color.BLUE: "b"}), "by_color", {"blue": "b", "red": "a"}),
        (
            Keyed(by_day={date(2024, 2, 1): "a", date(2023, 2, 1): "b"}),
            "by_day",
            {"2023-02-01": "b", "2024-02-01": "a"},
        ),
        (Keyed(by_id={UUID(int=1): ""}), "by_id", {str(UUID(int=1)): ""}),
        (Gathered(colors=frozenset(Color)), "colors", ["blue", "red"]),
        (Gathered(ranks=frozenset(Rank)), "ranks", [2, 10]),
        (
            Gathered(lines=frozenset([Line(price=2), Line(price=1)])),
            "lines",
            [{"price": 1}, {"price": 2}],
        ),
        (Gathered(pairs=frozenset([(2, "a"), (1, "b")])), "pairs", [[1, "b"], [2, "a"]]),
        (
            Gathered(groups=frozenset([frozenset("ba"), frozenset("c"), frozenset()])),
            "groups",
            [["a", "b"], ["c"], []],
        ),
        (Gathered(mixed=frozenset([2, "a", None, 1])), "mixed", ["a", 1, 2, None]),
    ],
)
def test_sets_and_keys_are_sorted(value: State, name: str, expected: object) -> None:
    """Sets and dicts that are equal have one text, in the order that text shows here."""
    found = stored(value, name)
    assert found == expected
    if isinstance(found, dict) and isinstance(expected, dict):
        assert list(found) == list(expected)


def test_times_in_a_set_are_sorted_in_time() -> None:
    """Sets of times of different zones are in the order of their UTC text."""
    early, late = NOON, datetime(2024, 5, 6, 14, 1, tzinfo=BERLIN)
    assert stored(Times(some=frozenset([late, early])), "some") == [
        "2024-05-06T12:00:00.000000Z",
        "2024-05-06T12:01:00.000000Z",
    ]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Rich(text="a\0b"), "$.text"),
        (Rich(listed=["a", "\0"]), "$.listed[1]"),
        (Rich(names={"a": "\0"}), "$.names.a"),
        (Rich(names={"\0": "a"}), "$.names"),
        (Rich(address=Address("\0")), "$.address.street"),
        (Rich(anything={"a": [{"b": "\0"}]}), "$.anything.a[0].b"),
        (Times(address=TimedAddress("\0")), "$.address.street"),
        (Rich(text="a\ud800"), "$.text"),
        (Rich(listed=["a", "\udfff"]), "$.listed[1]"),
        (Rich(names={"a": "\ud800"}), "$.names.a"),
        (Rich(names={"\ud800": "a"}), "$.names"),
        (Rich(address=Address("\ud800")), "$.address.street"),
        (Times(address=TimedAddress("\ud800")), "$.address.street"),
    ],
)
def test_nul_and_lone_surrogates_are_refused_with_their_path(value: State, path: str) -> None:
    """Not every store can keep them, so none is given them."""
    assert refusal(value).path == path


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "a\\u0000\\", "\\ud800", "\x01\x7f"])
def test_text_that_merely_looks_like_an_escape_is_accepted(text: str) -> None:
    """A backslash followed by `u0000` is six characters, none of them NUL."""
    assert stored(Rich(text=text, names={text: text}), "text") == text


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Rich(ratio=math.nan), "$.ratio"),
        (Rich(ratio=math.inf), "$.ratio"),
        (Rich(ratio=1e400), "$.ratio"),
        (Rich(maybe=math.nan), "$.maybe"),
        (Rich(maybe=-math.inf), "$.maybe"),
        (Rich(anything=[1, {"a": math.inf}]), "$.anything[1].a"),
        (Rich(price=Decimal("NaN")), "$.price"),
        (Rich(price=Decimal("sNaN")), "$.price"),
    ],
)
def test_what_is_no_number_is_refused_with_its_path(value: State, path: str) -> None:
    """JSON knows neither NaN nor infinity, and NaN does not even equal itself."""
    assert refusal(value).path == path


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf], ids=repr)
def test_a_number_that_json_cannot_hold_is_named(number: float) -> None:
    """Not the null that JSON would have in its place."""
    for value in (Rich(ratio=number), Rich(ratios={"a": [number]}), Rich(maybe=number)):
        assert str(number) in str(refusal(value))
        assert "null" not in str(refusal(value))


def test_a_number_that_is_none_deep_inside_is_refused() -> None:
    """The path leads to the element."""
    error = refusal(Rich(ratios={"a": [0.0, math.nan]}))
    assert error.path == "$.ratios.a[1]"


def test_an_integer_in_a_field_of_floats_is_stored_if_nothing_is_lost() -> None:
    """Type checkers allow it; what a float cannot hold is refused."""
    _, copy = Codec[Rich]("state", [Rich]).encode(Rich(ratio=3))
    assert copy == Rich(ratio=3.0)
    assert refusal(Rich(ratio=2**53 + 1)).path == "$.ratio"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (mistyped(Rich, text=5), "$.text"),
        (Rich(number=True), "$.number"),
        (Rich(ratio=True), "$.ratio"),
        (mistyped(Rich, listed="abc"), "$.listed"),
        (mistyped(Rich, many=[1]), "$.many"),
        (mistyped(Rich, size="xl"), "$.size"),
        (Rich(line=Line(price=0)), "$.line.price"),
        (Rich(lines=[Line(price=1), Line(price=-1)]), "$.lines[1].price"),
        (Rich(anything=(1, 2)), "$.anything"),
        (Rich(anything={1: 2}), "$.anything"),
        (Rich(anything=NOON), "$.anything"),
        (Rich(anything=[object()]), "$.anything[0]"),
        (Rich(number=10**5000), "$.number"),
        (mistyped(Keyed, by_color={"red": "a"}), "$.by_color.red"),
    ],
)
def test_what_would_come_back_different_is_refused_with_its_path(value: State, path: str) -> None:
    """Written means readable: a value is compared with what its text decodes to."""
    assert refusal(value).path == path


def test_a_value_that_holds_itself_is_refused() -> None:
    """Endless nesting ends in an error of the right branch."""
    loop: list[Any] = []
    loop.append(loop)
    assert refusal(Rich(anything=loop)).path == "$.anything" + 99 * "[0]"


def test_a_constraint_that_the_constructor_does_not_check_is_refused() -> None:
    """Constraints are checked where the value is written, not where somebody reads it."""

    class Order(State):
        total: Annotated[int, Meta(gt=0)]

    assert refusal(Order(total=0)).path == "$.total"


class Trimmed(msgspec.Struct, frozen=True):
    text: str

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "text", self.text.strip())


def test_a_field_that_its_own_type_changes_is_refused() -> None:
    """A constructor that would alter what the text holds makes the text unreadable as it is."""

    class Note(State):
        trimmed: Trimmed

    value = Trimmed("a")
    msgspec.structs.force_setattr(value, "text", " a ")
    assert refusal(Note(trimmed=value)).path == "$.trimmed.text"


class Odd(msgspec.Struct, frozen=True, eq=False):
    text: str


class HoldsOdd(State):
    odd: Odd


def test_a_part_that_equals_nothing_is_refused() -> None:
    """What cannot be compared cannot be known to have survived."""
    assert refusal(HoldsOdd(odd=Odd("a"))).path == "$.odd"


def test_a_value_may_be_as_large_as_the_limit() -> None:
    """The limit counts the bytes of the text, all of them."""

    class Note(State):
        text: str

    frame = len(text_of(Note(text="")))
    assert len(text_of(Note(text="x" * (MAX_VALUE_BYTES - frame)))) == MAX_VALUE_BYTES
    with pytest.raises(ValidationError, match=r"takes 1,048,577 bytes; the limit is 1,048,576"):
        text_of(Note(text="x" * (MAX_VALUE_BYTES - frame + 1)))
    with pytest.raises(ValidationError, match="the limit is 1,048,576"):
        text_of(Note(text="é" * (MAX_VALUE_BYTES // 2)))


def test_metadata_come_back_as_they_were() -> None:
    """Metadata are JSON; keys are sorted."""
    text, copy = encode_metadata({"b": [1, 2.5, None, True], "a": {"é": "x"}})
    assert text == '{"a":{"é":"x"},"b":[1,2.5,null,true]}'
    assert copy == decode_metadata(text)
    assert decode_metadata(None) == {}


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"a": math.nan}, "$.a"),
        ({"a": [NOON]}, "$.a[0]"),
        ({"a": "\0"}, "$.a"),
        ({"\0": 1}, "$"),
        ({"a": {"b": "\ud800"}}, "$.a.b"),
        ({"a": (1,)}, "$.a"),
        ({"a": {1: 2}}, "$.a"),
        ({1: 2}, "$"),
        ({"a": object()}, "$.a"),
        ({"a": "x" * MAX_METADATA_BYTES}, "$"),
        (["a"], "$"),
    ],
)
def test_metadata_that_are_not_json_are_refused_with_the_path(
    metadata: Mapping[str, Any], path: str
) -> None:
    """Nothing of the metadata changes on its way to the log."""
    with pytest.raises(ValidationError) as caught:
        encode_metadata(metadata)
    assert caught.value.path == path


# Commands from outside


class Place(Command):
    total: Annotated[int, Meta(gt=0)]
    lines: list[Line] = field(default_factory=list)
    note: str | None = None
    ratio: float | None = None


class Cancel(Command):
    reason: str = field(default="", name="why")


class Open(State):
    pass


shop = Machine("shop", state=Open, command=Place | Cancel)


@shop.on
def place(state: None, command: Place) -> Open:
    return Open()


@pytest.mark.parametrize(
    "data",
    [
        '{"$type":"Place","total":1,"note":"x"}',
        b'{"note":"x","total":1,"$type":"Place"}',
        {"$type": "Place", "total": 1, "note": "x"},
    ],
)
def test_a_command_is_parsed_from_text_bytes_or_a_mapping(
    data: str | bytes | Mapping[str, Any],
) -> None:
    """The order of the fields does not matter, and what has a default may be left out."""
    assert shop.parse_command(data) == Place(total=1, note="x")


def test_a_renamed_field_is_parsed_under_its_name() -> None:
    """`field(name=…)` says what JSON calls it."""
    assert shop.parse_command({"$type": "Cancel", "why": "late"}) == Cancel(reason="late")


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ("null", "$"),
        ("[]", "$"),
        ("", "$"),
        ("{", "$"),
        ('"Place"', "$"),
        ('{"total":1}', "$"),
        ('{"$type":"Place"}', "$"),
        ('{"$type":"Open"}', "$.$type"),
        ('{"$type":"Plaice","total":1}', "$.$type"),
        ('{"$type":null,"total":1}', "$.$type"),
        ('{"$type":"Place","total":1,"totl":1}', "$"),
        ('{"$type":"Place","total":"1"}', "$.total"),
        ('{"$type":"Place","total":0}', "$.total"),
        ('{"$type":"Place","total":null}', "$.total"),
        ('{"$type":"Place","total":1.5}', "$.total"),
        ('{"$type":"Place","total":1,"lines":[{"price":2},{"price":0}]}', "$.lines[1].price"),
        ('{"$type":"Place","total":1,"lines":[{}]}', "$.lines[0]"),
        ('{"$type":"Place","total":1,"ratio":NaN}', "$"),
        ('{"$type":"Place","total":1,"note":"\\ud800"}', "$"),
        (b'{"$type":"Place","total":1,"note":"\xff"}', "$"),
        ('{"$type":"Place","total":1,"note":"\ud800"}', "$"),
        ({"$type": "Place", "total": 1, "note": "\ud800"}, "$.note"),
        ({"$type": "Place", "total": 1, "ratio": math.nan}, "$.ratio"),
        ({"$type": "Place", "total": 1, "note": object()}, "$.note"),
        ({"$type": "Place", "total": 0}, "$.total"),
        ({"$type": "Place", "total": 1, 5: 6}, "$"),
        ({}, "$"),
        (None, "$"),
        (5, "$"),
        ("[" * 100_000, "$"),
        ('{"$type":"Place","total":' + "1" * 5000 + "}", "$.total"),
    ],
)
def test_what_is_no_command_is_refused_with_the_path(data: Any, path: str) -> None:
    """Unknown and missing fields, tags and types, and what is not even JSON."""
    with pytest.raises(ValidationError) as caught:
        shop.parse_command(data)
    assert caught.value.path == path
    assert path in str(caught.value)


# What a machine refuses to be defined with


class Plain(msgspec.Struct, frozen=True):
    a: int


class Other(msgspec.Struct, frozen=True):
    b: int


class HoldsUntagged(State):
    part: Plain | Other


class HoldsNested(State):
    parts: list[dict[str, complex]]


class HoldsBoolKeys(State):
    by_flag: dict[bool, int]


class HoldsTupleKeys(State):
    by_pair: dict[tuple[int, int], int]


class HoldsObject(State):
    thing: object


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (HoldsUntagged, "State and Command classes only"),
        (HoldsNested, "HoldsNested has a field of type <class 'complex'>"),
        (HoldsObject, "HoldsObject has a field of type <class 'object'>"),
        (HoldsBoolKeys, "HoldsBoolKeys has a field with a bool as key"),
        (HoldsTupleKeys, "HoldsTupleKeys has a field with a tuple as key"),
    ],
)
def test_a_class_without_an_encoding_is_refused_before_anything_is_handled(
    state: type[State], says: str
) -> None:
    """The machine's first use finds what could never be stored, and names the class."""
    with pytest.raises(DefinitionError, match=says):
        Codec[State]("state", [Open, state])


def test_sequences_and_mappings_are_stored_as_lists_and_dicts() -> None:
    """The abstract types are what JSON makes of them."""

    class Basket(State):
        things: Sequence[int]
        names: Mapping[str, int]

    assert stored(Basket(things=[2, 1], names={"b": 1}), "things") == [2, 1]
    assert refusal(Basket(things=(2, 1), names={})).path == "$.things"
