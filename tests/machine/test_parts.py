"""Classes that states are made of: what they do not know is refused, and they build themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from dataclasses import field as dataclass_field
from datetime import datetime
from types import ModuleType
from typing import Annotated, Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from holdfast import (
    Command,
    DecodeError,
    DefinitionError,
    Machine,
    Meta,
    Service,
    State,
    ValidationError,
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


def holder_of(cls: Any) -> Any:
    """Return a state with a part of a class."""
    return msgspec.defstruct("Holder", [("part", cls)], bases=(State,), frozen=True, tag=True)


def refusal(call: Callable[..., object], *arguments: Any) -> tuple[str, str | None]:
    """Return what a refused call says, and the path."""
    with pytest.raises(ValidationError) as raised:
        call(*arguments)
    return str(raised.value), raised.value.path


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


class Keep(Command):
    pass


class Kept(State):
    data: Data


class KeptBefore(State, tag="Kept"):
    data: Struct


@dataclass(frozen=True)
class Smaller:
    sku: str


class KeptLater(State, tag="Kept"):
    data: Smaller


def one_state(cls: type) -> Machine[Any, Any, Any]:
    """Return a machine of one state, which every command keeps."""
    machine: Machine[Any, Any, Any] = Machine("kept", state=cls, command=Keep)

    def keep(state: Any, command: Keep) -> Any:
        return state or cls(data=Struct("a", gift=True))

    keep.__annotations__ |= {"state": cls | None, "return": cls}
    machine.on(keep)
    return machine


def test_a_field_that_was_removed_is_an_error_when_it_is_read() -> None:
    """Otherwise the next command would write the part without it."""

    with open_store("memory://") as store:
        Service(one_state(KeptBefore), store).handle("k-1", Keep())
        later = Service(one_state(KeptLater), store)
        for call in (later.get, later.history, lambda id: later.handle(id, Keep())):
            with pytest.raises(DecodeError, match="unknown field `gift`"):
                call("k-1")
        assert Service(one_state(Kept), store).get("k-1").state == Kept(data=Data("a", gift=True))


class RefusedError(Exception):
    pass


def lower(text: str) -> str:
    return text.lower()


@pydantic.dataclasses.dataclass(frozen=True)
class PydanticData:
    code: str = pydantic.Field(pattern="^[a-z]*$")


@attrs.frozen
class Converted:
    code: str = attrs.field(converter=lower)


@dataclass(frozen=True)
class OwnInit:
    code: str

    def __init__(self, code: str) -> None:
        if not code.islower():
            raise RefusedError
        object.__setattr__(self, "code", code)


@dataclass(frozen=True)
class Derived:
    code: str
    size: int = dataclass_field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.code))


@dataclass(frozen=True)
class Private:
    _code: str


class Held(State):
    pydantic: PydanticData | None = None
    converted: Converted | None = None
    own: OwnInit | None = None
    derived: Derived | None = None
    private: Private | None = None


HELD: Codec[Any] = Codec("state", [Held])


@pytest.mark.parametrize("cls", [PydanticData, Converted, OwnInit, Derived, Private])
def test_a_class_reads_and_writes_alike_as_member_and_as_part(cls: Any) -> None:
    """Its constructor builds it, and what it takes is what is stored."""
    holder = holder_of(cls)
    as_member: Codec[Any] = Codec("state", [cls])
    as_part: Codec[Any] = Codec("state", [holder])
    value = cls("ab")
    name = "_code" if cls is Private else "code"

    text, copy = as_member.encode(value)
    assert copy == value
    assert text == f'{{"$type":"{cls.__name__}","{name}":"ab"}}'
    text, copy = as_part.encode(holder(part=value))
    assert copy == holder(part=value)
    assert text == f'{{"$type":"Holder","part":{{"{name}":"ab"}}}}'

    read = [
        outcome(as_member, {"$type": cls.__name__, name: "AB"}, ""),
        outcome(as_part, {"$type": "Holder", "part": {name: "AB"}}, ".part"),
    ]
    assert read[0] == read[1]


def outcome(codec: Codec[Any], data: dict[str, Any], step: str) -> Any:
    """Return the part that is read, or what is said and where within the part."""
    try:
        value = codec.parse(data)
    except ValidationError as error:
        return str(error).partition(": ")[2], str(error.path).removeprefix(f"${step}")
    return value.part if step else value


@dataclass(frozen=True)
class OwnNew:
    code: str

    def __new__(cls, code: str) -> OwnNew:
        if not code.islower():
            raise RefusedError
        return object.__new__(cls)


class Guarded(type):
    def __call__(cls, code: str) -> Any:
        if not code.islower():
            raise RefusedError
        return super().__call__(code)


@dataclass(frozen=True)
class OwnCall(metaclass=Guarded):
    code: str


@dataclass
class OwnSet:
    code: str

    def __setattr__(self, name: str, value: str) -> None:
        if not value.islower():
            raise RefusedError
        super().__setattr__(name, value)


@pytest.mark.parametrize("cls", [OwnInit, OwnNew, OwnCall, OwnSet])
def test_however_a_class_intervenes_where_it_is_built_it_does_so_as_a_part(cls: Any) -> None:
    """As msgspec would not, which calls nothing of this."""
    codec: Codec[Any] = Codec("state", [holder_of(cls)])

    assert codec.parse({"$type": "Holder", "part": {"code": "a"}}).part == cls("a")
    assert refusal(codec.parse, {"$type": "Holder", "part": {"code": "A"}}) == (
        "the state is not valid at $.part: RefusedError",
        "$.part",
    )


@dataclass(frozen=True)
class Base(Generic[T]):
    first: T
    rest: tuple[T, ...] = ()


U = TypeVar("U")


@dataclass(frozen=True)
class Narrowed(Base[int], Generic[U]):
    other: U | None = None


@dataclass(frozen=True)
class Passed(Base[list[T]]):
    pass


@pytest.mark.parametrize(
    ("kind", "given", "path"),
    [
        (Base[int], {"first": "a"}, "$.part.first"),
        (Base[int], {"first": 1, "rest": ["a"]}, "$.part.rest[0]"),
        (Narrowed[str], {"first": "a"}, "$.part.first"),
        (Narrowed[str], {"first": 1, "rest": ["a"]}, "$.part.rest[0]"),
        (Narrowed[str], {"first": 1, "other": 1}, "$.part.other"),
        (Passed[str], {"first": "a"}, "$.part.first"),
        (Passed[str], {"first": [1]}, "$.part.first[0]"),
    ],
    ids=range(7),
)
@pytest.mark.parametrize("built", [False, True])
def test_the_variables_of_a_generic_part_are_filled_in(
    built: bool, kind: Any, given: dict[str, Any], path: str
) -> None:
    """Those of the classes that it inherits from, too; whether or not msgspec builds it."""
    fields: Any = [("part", kind), ("more", Attrs | None if built else int, None)]
    holder = msgspec.defstruct("Holder", fields, bases=(State,), frozen=True, tag=True)
    codec: Codec[Any] = Codec("state", [holder])
    sound: dict[str, Any] = {"first": [] if kind is Passed[str] else 1}

    assert codec.parse({"$type": "Holder", "part": sound}).part == kind(**sound)
    assert refusal(codec.parse, {"$type": "Holder", "part": given})[1] == path


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 brings class X[T]")
def test_a_class_may_declare_its_variables_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """`class Box[T]`, and aliases with variables, with annotations that are evaluated late."""
    module = ModuleType("declared_parts")
    monkeypatch.setitem(sys.modules, "declared_parts", module)
    source = """
from __future__ import annotations
from dataclasses import dataclass
from holdfast import State
type Several[T] = tuple[T, ...]
type Name = str
@dataclass(frozen=True)
class Crate[T]:
    @dataclass(frozen=True)
    class Label:
        text: Name
    content: T
    label: Label
    more: Several[Crate[T]] = ()
class Holder(State):
    part: Crate[int]
"""
    exec(source, vars(module))
    codec: Codec[Any] = Codec("state", [module.Holder])
    part = {"content": 1, "label": {"text": "a"}, "more": []}

    value = codec.parse({"$type": "Holder", "part": {**part, "more": [part]}})

    assert value.part.more[0].label == module.Crate.Label("a")
    assert codec.encode(value)[1] == value
    for wrong, path in (
        ({"content": "1"}, "$.part.content"),
        ({"label": {"text": "a", "x": 1}}, "$.part.label"),
        ({"more": [{**part, "content": "1"}]}, "$.part.more[0].content"),
    ):
        assert refusal(codec.parse, {"$type": "Holder", "part": part | wrong})[1] == path


@pytest.mark.parametrize(
    ("given", "path", "says"),
    [
        ({"pydantic": {"code": "A"}}, "$.pydantic.code", "should match pattern"),
        ({"own": {"code": "A"}}, "$.own", "RefusedError"),
        ({"derived": {"code": "A", "size": 1}}, "$.derived", "unknown field `size`"),
    ],
)
def test_what_the_constructor_of_a_part_refuses_is_refused(
    given: Any, path: str, says: str
) -> None:
    """With the path to the part, whatever it raises."""
    message, where = refusal(HELD.parse, {"$type": "Held"} | given)

    assert where == path
    assert says in message


def test_converters_of_a_part_run() -> None:
    """As where it is built by hand."""
    assert HELD.parse({"$type": "Held", "converted": {"code": "A"}}).converted == Converted("a")


class Positive(State):
    number: int

    def __post_init__(self) -> None:
        if self.number < 1:
            raise AssertionError("it is positive")


class Strict(Command):
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise RefusedError("it is negative")


strict = Machine("strict", state=Positive, command=Strict)


@strict.on
def make(state: Positive | None, command: Strict) -> Positive:
    return Positive(number=command.number or 1)


def test_whatever_a_constructor_raises_is_a_validation_error_where_others_send() -> None:
    """Assertions and errors of one's own, too."""
    assert refusal(strict.parse_command, {"$type": "Strict", "number": -1}) == (
        "the command is not valid at $: it is negative",
        "$",
    )
    assert refusal(strict.state_codec.parse, '{"$type":"Positive","number":0}') == (
        "the state is not valid at $: it is positive",
        "$",
    )


def test_whatever_a_constructor_raises_is_a_decode_error_where_it_is_stored() -> None:
    """The entity is named."""

    class Stricter(State, tag="Positive"):
        number: int

        def __post_init__(self) -> None:
            if self.number < 5:
                raise AssertionError

    machine = Machine("strict", state=Stricter, command=Strict)

    @machine.on
    def make(state: Stricter, command: Strict) -> Stricter:
        raise AssertionError("never called")

    with open_store("memory://") as store:
        Service(strict, store).handle("s-1", Strict(number=3))
        later = Service(machine, store)
        for call in (later.get, later.history, lambda id: later.handle(id, Strict(number=1))):
            with pytest.raises(DecodeError, match=r"s-1.*AssertionError"):
                call("s-1")


@dataclass(frozen=True)
class WithInitVar:
    number: int
    seed: InitVar[int]


@dataclass(frozen=True)
class OtherInit:
    number: int
    size: int

    def __init__(self, number: int) -> None:
        object.__setattr__(self, "number", number)
        object.__setattr__(self, "size", 1)


@dataclass(frozen=True)
class SecretData:
    code: str = field(secret=True)


@attrs.frozen
class SecretAttrs:
    code: str = field(secret=True)


class SecretModel(pydantic.BaseModel, frozen=True):
    code: str = field(secret=True)


@dataclass(frozen=True)
class RenamedData:
    code: str = field(name="Code")


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (WithInitVar, r"WithInitVar has a constructor that takes 'seed', which is no field"),
        (OtherInit, r"OtherInit has a constructor that does not take 'size', which is one of"),
    ],
)
def test_a_class_that_cannot_be_built_from_its_fields_is_refused_at_first_use(
    cls: Any, says: str
) -> None:
    """As member and as part."""
    for state in (cls, holder_of(cls)):
        with pytest.raises(DefinitionError, match=rf"kept: {says}"):
            one_state(state).compile()


@pytest.mark.parametrize("cls", [SecretData, SecretAttrs, SecretModel, RenamedData])
def test_a_field_that_is_declared_as_that_of_a_state_is_refused(cls: Any) -> None:
    """In another class it would hide nothing: as member at import, as part at first use."""
    says = rf"kept: {cls.__name__} declares a field with holdfast\.field"
    with pytest.raises(DefinitionError, match=says):
        Machine("kept", state=cls, command=Keep)
    with pytest.raises(DefinitionError, match=says):
        one_state(holder_of(cls)).compile()


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
