"""Classes that states are made of: what they do not know is refused, wherever they stand."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from tests.machine.parts import Keep, holder_of, one_state, refusal

from holdfast import (
    DecodeError,
    Machine,
    Meta,
    Service,
    State,
    field,
    open_store,
)
from holdfast.machine.codec import Codec

T = TypeVar("T")


@dataclass(frozen=True)
class Data:
    sku: str
    gift: bool = False


@attrs.frozen
class Attrs:
    sku: str
    gift: bool = False


Alias = NewType("Alias", Attrs)


class Model(pydantic.BaseModel, frozen=True):
    sku: str
    gift: bool = False


class Struct(msgspec.Struct, frozen=True):
    sku: str
    gift: bool = False


class Row(msgspec.Struct, frozen=True, array_like=True):
    sku: str
    gift: bool = False


class Named(TypedDict):
    sku: str
    gift: NotRequired[bool]


class Pair(NamedTuple):
    first: Data
    second: Data | None = None


@dataclass(frozen=True)
class Box(Generic[T]):
    content: T


class Inner(State):
    data: Data
    before: Inner | Other | None = None


class Other(State):
    number: int = 0


class Whole(State):
    data: Data | None = None
    attrs: Attrs | None = None
    model: Model | None = None
    struct: Struct | None = None
    row: Row | None = None
    named: Named | None = None
    pair: Pair | None = None
    datas: tuple[Data, ...] = ()
    by_name: dict[str, Annotated[list[Data], Meta(max_length=2)]] = field(default_factory=dict)
    some: frozenset[Data] = frozenset()
    box: Box[Box[int]] | None = None
    inner: Inner | Other | None = None


class Natives(State):
    """Parts that msgspec builds by itself."""

    data: Data | None = None
    struct: Struct | None = None
    row: Row | None = None
    named: Named | None = None
    pair: Pair | None = None
    datas: tuple[Data, ...] = ()
    by_name: dict[str, Annotated[list[Data], Meta(max_length=2)]] = field(default_factory=dict)
    some: frozenset[Data] = frozenset()
    box: Box[Box[int]] | None = None
    inner: Inner | Other | None = None


CODECS: dict[str, Codec[Any]] = {
    "built": Codec("state", [Whole]),
    "native": Codec("state", [Natives]),
}


def sound_parts() -> dict[str, Any]:
    return {
        "data": Data("a", gift=True),
        "struct": Struct("a"),
        "row": Row("a", gift=True),
        "named": {"sku": "a"},
        "pair": Pair(Data("a"), Data("b")),
        "datas": (Data("a"), Data("b")),
        "by_name": {"x": [Data("a")]},
        "some": frozenset([Data("a"), Data("b")]),
        "box": Box(Box(5)),
        "inner": Inner(data=Data("a"), before=Inner(data=Data("b"), before=Other(number=1))),
    }


@pytest.mark.parametrize("how", CODECS)
def test_parts_of_every_kind_come_back_as_they_were(how: str) -> None:
    """Wherever they stand, and with the text that was written before."""
    values = sound_parts()
    cls: Any = Natives if how == "native" else Whole
    if how == "built":
        values |= {"attrs": Attrs("a"), "model": Model(sku="a", gift=True)}
    value = cls(**values)

    text, copy = CODECS[how].encode(value)

    assert copy == value == CODECS[how].decode(text)
    assert CODECS[how].encode(copy)[0] == text
    stored = msgspec.json.decode(text)
    assert stored["data"] == {"sku": "a", "gift": True}
    assert stored["row"] == ["a", True]
    assert stored["named"] == {"sku": "a"}
    assert stored["pair"][1] == {"sku": "b", "gift": False}
    assert sorted(part["sku"] for part in stored["some"]) == ["a", "b"]
    assert stored["inner"]["before"]["before"] == {"$type": "Other", "number": 1}


UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"data": {"sku": "x", "gfit": True}}, "$.data"),
    ({"struct": {"sku": "x", "gfit": True}}, "$.struct"),
    ({"named": {"sku": "x", "gfit": True}}, "$.named"),
    ({"row": ["x", True, 5]}, "$"),
    ({"pair": [{"sku": "x"}, {"sku": "x", "gfit": 1}]}, "$.pair[1]"),
    ({"datas": [{"sku": "x"}, {"sku": "x", "gfit": 1}]}, "$.datas[1]"),
    ({"by_name": {"a": [{"sku": "x", "gfit": 1}]}}, "$.by_name[...][0]"),
    ({"some": [{"sku": "x", "gfit": 1}]}, "$.some[0]"),
    ({"box": {"content": {"content": 1, "gfit": 1}}}, "$.box.content"),
    (
        {
            "inner": {
                "$type": "Inner",
                "data": {"sku": ""},
                "before": {"$type": "Inner", "data": {"sku": "", "gfit": 1}},
            }
        },
        "$.inner.before.data",
    ),
    ({"attrs": {"sku": "x", "gfit": True}}, "$.attrs"),
    ({"model": {"sku": "x", "gfit": True}}, "$.model"),
]


@pytest.mark.parametrize(
    ("how", "given", "path"),
    [
        pytest.param(how, given, path, id=f"{how} {path}")
        for how in CODECS
        for given, path in UNKNOWN
        if how == "built" or not {"attrs", "model"} & given.keys()
    ],
)
def test_a_field_that_a_part_does_not_know_is_refused(how: str, given: Any, path: str) -> None:
    """In what others send, and in what is stored: it is never dropped."""
    codec = CODECS[how]
    tag = "Natives" if how == "native" else "Whole"
    message, where = refusal(codec.parse, {"$type": tag} | given)

    assert where == path
    assert "gfit" in message or "length" in message
    with pytest.raises(msgspec.ValidationError):
        codec.decode(msgspec.json.encode({"$type": tag} | given))


@pytest.mark.parametrize("how", CODECS)
def test_constraints_and_types_of_parts_are_kept(how: str) -> None:
    """With type variables filled in."""
    tag = "Natives" if how == "native" else "Whole"
    for given, path in (
        ({"by_name": {"a": [{"sku": "x"}] * 3}}, "$.by_name[...]"),
        ({"box": {"content": {"content": "5"}}}, "$.box.content.content"),
        ({"named": {"sku": "x", "gift": 1}}, "$.named.gift"),
        ({"named": {}}, "$.named"),
        ({"pair": []}, "$.pair"),
    ):
        assert refusal(CODECS[how].parse, {"$type": tag, **given})[1] == path


class Kept(State):
    data: Data


class KeptBefore(State, tag="Kept"):
    data: Struct


@dataclass(frozen=True)
class Smaller:
    sku: str


class KeptLater(State, tag="Kept"):
    data: Smaller


def test_a_field_that_was_removed_is_an_error_when_it_is_read() -> None:
    """Otherwise the next command would write the part without it."""

    with open_store("memory://") as store:
        first = KeptBefore(data=Struct("a", gift=True))
        Service(one_state(KeptBefore, first), store).handle("k-1", Keep())
        later = Service(one_state(KeptLater), store)
        for call in (later.get, later.history, lambda id: later.handle(id, Keep())):
            with pytest.raises(DecodeError, match="unknown field `gift`"):
                call("k-1")
        assert Service(one_state(Kept), store).get("k-1").state == Kept(data=Data("a", gift=True))


def test_a_mapping_with_keys_that_are_no_names_may_be_a_part() -> None:
    """A TypedDict may have any."""
    Odd = TypedDict("Odd", {"a-b": int, "class": NotRequired[int]})
    codec: Codec[Any] = Codec("state", [holder_of(Odd)])

    assert codec.parse({"$type": "Holder", "part": {"a-b": 1}}).part == {"a-b": 1}
    for wrong in ({"class": 1}, {"a-b": 1, "c": 1}, {"a-b": "1"}):
        assert refusal(codec.parse, {"$type": "Holder", "part": wrong})[1] is not None


class Sparse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A struct that leaves out what is as it is by default."""

    number: int = 0
    other: int = 0


class WithoutTime(State, tag="With"):
    sparse: Sparse = Sparse()


class WithTime(State, tag="With"):
    sparse: Sparse = Sparse()
    at: datetime | None = None


def test_a_part_has_one_text_whatever_stands_beside_it() -> None:
    """All its fields are written; what was written without them is read."""
    texts = [
        Codec[Any]("state", [cls]).encode(cls(sparse=Sparse(other=1)))[0]
        for cls in (WithoutTime, WithTime)
    ]

    assert texts[0] == '{"$type":"With","sparse":{"number":0,"other":1}}'
    assert texts[1] == texts[0][:-1] + ',"at":null}'
    assert Codec[Any]("state", [WithTime]).decode('{"$type":"With","sparse":{"other":1}}') == (
        WithTime(sparse=Sparse(other=1))
    )


@dataclass(frozen=True)
class Partial:
    number: int | msgspec.UnsetType = msgspec.UNSET


class Partials(State):
    partial: Partial
    attrs: Attrs | None = None


@pytest.mark.parametrize("number", [1, msgspec.UNSET])
def test_a_field_that_is_not_set_is_not_stored(number: Any) -> None:
    """As a member and as a part, built by msgspec or by its class."""
    as_member: Codec[Any] = Codec("state", [Partial])
    value = Partials(partial=Partial(number))
    for codec, part in ((Codec[Any]("state", [Partials]), value), (as_member, value.partial)):
        text, copy = codec.encode(part)
        assert copy == part
        assert ("number" in text) == (number == 1)


def test_containers_of_every_kind_may_hold_parts() -> None:
    """Under their abstract names, too."""

    class Shelf(State):
        several: Sequence[Attrs] = ()
        by_name: Mapping[str, Attrs] = field(default_factory=dict)
        old: typing.List[Attrs] = field(default_factory=list)  # noqa: UP006 (people write it)
        some: AbstractSet[Attrs] = frozenset()
        either: Attrs | int | None = None
        pair: tuple[int, Attrs] | None = None
        none: tuple[()] = ()
        named: Alias | None = None

    Machine("shelf", state=Shelf, command=Keep)
    codec: Codec[Any] = Codec("state", [Shelf])
    part = Attrs("a")
    value = Shelf(
        several=[part],
        by_name={"x": part},
        old=[part],
        some={part},
        either=part,
        pair=(1, part),
        named=Alias(part),
    )

    assert codec.encode(value)[1] == value
    assert codec.parse({"$type": "Shelf", "either": 5}).either == 5
    wrong: dict[str, Any] = {"sku": "a", "gfit": 1}
    for given in (
        {"several": [wrong]},
        {"by_name": {"x": wrong}},
        {"old": [wrong]},
        {"some": [wrong]},
        {"either": wrong},
        {"pair": [1, wrong]},
        {"named": wrong},
    ):
        assert "unknown field `gfit`" in refusal(codec.parse, {"$type": "Shelf", **given})[0]
