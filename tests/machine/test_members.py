"""Dataclasses, attrs classes and pydantic models as members: they keep the rules of State."""

from __future__ import annotations

import subprocess
import sys
from collections import ChainMap, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, cast
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from tests.machine.kinds import CLASSES, CODECS, FOREIGN, Color, Draft, Rank, Ship
from tests.machine.kinds import Place as Site

from holdfast import (
    Command,
    DecodeError,
    DefinitionError,
    InvalidTransitionError,
    Machine,
    Meta,
    Service,
    State,
    ValidationError,
    open_store,
)
from holdfast.machine.codec import Codec

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


class Line(pydantic.BaseModel, frozen=True):
    price: int = pydantic.Field(gt=0)
    data: bytes = b""


@dataclass(frozen=True)
class Pending:
    total: Annotated[int, Meta(gt=0)]


@attrs.frozen
class Paid:
    total: int
    receipt: str
    _lines: tuple[Line, ...] = ()


class Cancelled(pydantic.BaseModel, frozen=True):
    reason: str
    lines: tuple[Line, ...] = ()


class Archived(State):
    line: Line | None = None


class Mark(State):
    before: Mark | None = None


class Place(pydantic.BaseModel, frozen=True):
    total: int = pydantic.Field(gt=0)


@dataclass(frozen=True)
class Pay:
    receipt: str


@attrs.frozen
class Cancel:
    reason: str


class Archive(Command):
    pass


order = Machine(
    "order",
    state=Pending | Paid | Cancelled | Archived,
    command=Place | Pay | Cancel | Archive,
)


@order.on
def place(state: None, command: Place) -> Pending:
    return Pending(total=command.total)


@order.on
def pay(state: Pending, command: Pay) -> Paid:
    return Paid(state.total, command.receipt, (Line(price=state.total),))


@order.on
def cancel(state: Pending | Paid, command: Cancel) -> Cancelled | None:
    return Cancelled(reason=command.reason) if command.reason else None


@order.on
def archive(state: Cancelled, command: Archive) -> Archived:
    return Archived(line=Line(price=1, data=b"\xff"))


def refusal(call: Callable[..., object], *arguments: Any) -> tuple[str, str | None]:
    """Return what a refused call says, and the path."""
    with pytest.raises(ValidationError) as raised:
        call(*arguments)
    return str(raised.value), raised.value.path


def one_state(state: Any) -> Machine[Any, Any, Any]:
    """Return a machine whose only state is of a class."""
    machine: Machine[Any, Any, Any] = Machine("one", state=state, command=Archive)

    def make(state: None, command: Archive) -> Any:
        raise AssertionError("never called")

    make.__annotations__["return"] = state
    machine.on(make)
    return machine


def test_a_life_through_members_of_every_kind_is_stored(tmp_path: Path) -> None:
    """States and commands come back from the store as the values they were."""
    with open_store(f"sqlite:///{tmp_path}/orders.db") as store:
        orders = Service(order, store)
        commands: list[Any] = [Place(total=5), Pay("r-1"), Cancel("late"), Archive()]
        for command in commands:
            orders.handle("o-1", command)

    with open_store(f"sqlite:///{tmp_path}/orders.db") as store:
        orders = Service(order, store)
        log = orders.history("o-1")
        assert orders.get("o-1").state == Archived(line=Line(price=1, data=b"\xff"))
        assert [entry.command for entry in log] == commands
        assert [entry.state for entry in log[:3]] == [
            Pending(5),
            Paid(5, "r-1", (Line(price=5),)),
            Cancelled(reason="late"),
        ]
        assert [entry.to_state for entry in log] == ["Pending", "Paid", "Cancelled", "Archived"]


def test_the_tag_stands_first_and_is_the_name_of_the_class() -> None:
    """As with State, whatever declared the class; parts that are no State have no tag."""
    encode = order.state_codec.encode

    assert encode(Pending(5))[0] == '{"$type":"Pending","total":5}'
    assert encode(Paid(5, "r", (Line(price=5),)))[0] == (
        '{"$type":"Paid","total":5,"receipt":"r","_lines":[{"price":5,"data":""}]}'
    )
    assert encode(Cancelled(reason=""))[0] == '{"$type":"Cancelled","reason":"","lines":[]}'
    assert encode(Archived(line=Line(price=5)))[0] == (
        '{"$type":"Archived","line":{"price":5,"data":""}}'
    )


def test_a_refused_command_and_the_graph_name_members_of_every_kind() -> None:
    """Names are those of the classes."""
    with pytest.raises(InvalidTransitionError) as raised:
        order.step(Cancelled(reason=""), Cancel(""))

    assert (raised.value.state, raised.value.allowed) == ("Cancelled", ("Archive",))
    assert order.graph().states == ("Pending", "Paid", "Cancelled", "Archived")
    assert order.graph().commands == ("Place", "Pay", "Cancel", "Archive")
    assert order.final == (Archived,)
    assert order.check().sound


@pytest.mark.parametrize(
    ("data", "path", "says"),
    [
        ({"$type": "Place", "total": 0}, "$.total", "greater than 0"),
        ({"$type": "Place", "total": "5"}, "$.total", "Expected `int`, got `str`"),
        ({"$type": "Place"}, "$", "missing required field `total`"),
        ({"$type": "Place", "total": 1, "x": 2}, "$", "unknown field `x`"),
        ({"$type": "Pay"}, "$", "missing required field `receipt`"),
        ({"$type": "Pay", "receipt": 3}, "$.receipt", "Expected `str`, got `int`"),
        ({"$type": "Pay", "receipt": "", "x": 2}, "$", "unknown field `x`"),
        ({"$type": "Cancel", "reason": None}, "$.reason", "Expected `str`, got `null`"),
        ({"$type": "Steal"}, "$.$type", "Invalid value 'Steal'"),
        ({"total": 5}, "$", "missing required field `$type`"),
    ],
)
def test_parsing_refuses_with_the_path(data: dict[str, Any], path: str, says: str) -> None:
    """The errors are those of a State, and pydantic's own where its constraints are broken."""
    message, where = refusal(order.parse_command, data)

    assert where == path
    assert says in message
    assert message.startswith("the command is not valid at $")


def test_parsing_returns_members_of_every_kind() -> None:
    """Defaults are those of the class."""
    assert order.parse_command('{"$type":"Place","total":5}') == Place(total=5)
    assert order.parse_command({"$type": "Pay", "receipt": "r"}) == Pay("r")
    assert order.parse_command({"$type": "Cancel", "reason": ""}) == Cancel("")
    assert order.parse_command({"$type": "Archive"}) == Archive()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Pending(0), "$.total"),
        (Pending(True), "$.total"),
        (Paid(1, "\0"), "$.receipt"),
        (Paid(1, "", (Line.model_construct(price=0, data=b""),)), "$._lines[0].price"),
        (Cancelled.model_construct(reason=5, lines=()), "$.reason"),
        (
            Cancelled.model_construct(
                reason="", lines=(Line(price=1), Line.model_construct(price=-1, data=b""))
            ),
            "$.lines[1].price",
        ),
        (Archived(line=Line.model_construct(price=0, data=b"")), "$.line.price"),
        (Archived(line=Line.model_construct(price="\ud800", data=b"")), "$.line.price"),
    ],
)
def test_what_would_not_come_back_is_refused_before_it_is_stored(value: Any, path: str) -> None:
    """Constraints of Meta and of pydantic are checked although the constructor did not."""
    assert refusal(order.state_codec.encode, value)[1] == path


@pytest.mark.parametrize("changed", ['{"$type":"Pending","total":0}', '{"$type":"Gone"}'])
def test_what_cannot_be_read_any_more_is_a_decode_error(changed: str, tmp_path: Path) -> None:
    """A service says so, as it does for a State."""
    with open_store("memory://") as store:
        Service(order, store).handle("o-1", Place(total=5))
        service = Service(narrow(changed), store)
        with pytest.raises(DecodeError, match=r"o-1"):
            service.get("o-1")


def narrow(changed: str) -> Machine[Any, Any, Any]:
    """Return a machine that reads the same rows and whose Pending is another class."""
    limit = 9 if "total" in changed else 0
    cls: Any = dataclass(frozen=True)(
        type(
            "Pending" if limit else "Later",
            (),
            {"__annotations__": {"total": Annotated[int, Meta(gt=limit)]}},
        )
    )
    machine: Machine[Any, Any, Any] = Machine("order", state=cls, command=Place)

    def make(state: None, command: Place) -> Any:
        raise AssertionError("never called")

    make.__annotations__["return"] = cls
    machine.on(make)
    return machine


def test_the_constructor_decides_what_is_read() -> None:
    """What it refuses is invalid, with its reason; converters and defaults are its own."""

    @attrs.frozen
    class Even:
        number: int = attrs.field(validator=lambda _, __, value: even(value))
        added: list[int] = attrs.field(factory=lambda: [1])

    @dataclass(frozen=True)
    class Sum:
        parts: tuple[int, ...]
        total: int = dataclass_field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", even(sum(self.parts)))

    def even(number: int) -> int:
        if number % 2:
            raise ValueError("odd numbers are not taken")
        return number

    codec: Codec[Any] = Codec("state", [Even, Sum])

    assert codec.parse({"$type": "Even", "number": 2}) == Even(2, [1])
    assert codec.encode(Sum((1, 3))) == ('{"$type":"Sum","parts":[1,3]}', Sum((1, 3)))
    for data in ({"$type": "Even", "number": 1}, {"$type": "Sum", "parts": [1]}):
        assert refusal(codec.parse, data) == (
            "the state is not valid at $: odd numbers are not taken",
            "$",
        )


def test_a_model_keeps_its_aliases_validators_and_types() -> None:
    """Fields are stored under their aliases; types that pydantic alone knows, as it writes them."""

    class Link(pydantic.BaseModel, frozen=True, strict=True):
        site: pydantic.HttpUrl
        since: datetime = pydantic.Field(alias="from")
        names: frozenset[str] = frozenset()

        @pydantic.field_validator("names")
        @classmethod
        def _lower(cls, names: frozenset[str]) -> frozenset[str]:
            return frozenset(name.lower() for name in names)

    codec: Codec[Any] = Codec("state", [Link])
    link = Link.model_validate(
        {"site": pydantic.HttpUrl("https://a.example/"), "from": NOON, "names": frozenset("AB")}
    )

    text, copy = codec.encode(link)

    assert copy == link
    assert text == (
        '{"$type":"Link","site":"https://a.example/","from":"2024-05-06T12:00:00.000000Z",'
        '"names":["a","b"]}'
    )
    assert refusal(codec.parse, text.replace("https:", "x:"))[1] == "$.site"


def test_what_a_model_would_lose_is_refused() -> None:
    """Extra values are no fields, so they are not stored."""

    class Open(pydantic.BaseModel, frozen=True, extra="allow"):
        known: int

    message, _ = refusal(
        Codec[Any]("state", [Open]).encode, Open.model_validate({"known": 1, "x": 2})
    )

    assert "would not survive being stored" in message


@dataclass
class MutableData:
    total: int


@attrs.define
class MutableAttrs:
    total: int


class MutableModel(pydantic.BaseModel):
    total: int


@dataclass(frozen=True, eq=False)
class Identity:
    total: int


class Undecorated(Pending):
    more: int


Root = pydantic.RootModel[int]


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (MutableData, r"order: MutableData is mutable; .*@dataclass\(frozen=True\)"),
        (MutableAttrs, r"order: MutableAttrs is mutable; .*@attrs\.frozen"),
        (MutableModel, r"order: MutableModel is mutable; .*\(BaseModel, frozen=True\)"),
        (Identity, "order: Identity is not compared by value"),
        (Undecorated, "order: Undecorated inherits from .* is not decorated"),
        (Root, "is a RootModel"),
        (int, "order: int does not subclass State, nor is it a dataclass"),
        (Archive, "order: Archive does not subclass State"),
    ],
)
def test_what_is_no_frozen_value_is_refused_at_import(cls: Any, says: str) -> None:
    """The message names the class and the remedy."""
    with pytest.raises(DefinitionError, match=says):
        Machine("order", state=cls, command=Place)
    with pytest.raises(DefinitionError, match=says):
        Machine("order", state=cast("Any", cls | Pending), command=Place)


class MixedPart(State):
    part: Archived | Pending


@dataclass(frozen=True)
class DataPart:
    part: Pending | Paid


@attrs.frozen
class AttrsPart:
    part: list[Pending | Archived]


class ModelPart(pydantic.BaseModel, frozen=True):
    part: Line | Cancelled


class DeepPart(State):
    model: ModelPart


@pytest.mark.parametrize("cls", [MixedPart, DataPart, AttrsPart, ModelPart, DeepPart])
def test_a_field_that_unites_foreign_classes_is_refused_at_first_use(cls: type) -> None:
    """Only State and Command carry what tells them apart wherever they stand."""
    owner = "ModelPart" if cls is DeepPart else cls.__name__
    with pytest.raises(DefinitionError, match=rf"one: {owner}\.part .*State and Command classes"):
        one_state(cls).compile()


def test_a_name_that_never_exists_is_refused_at_first_use() -> None:
    """Whatever declared the class, the name is told."""
    for cls in (_LostData, _LostAttrs, _LostModel):
        with pytest.raises(DefinitionError, match="Missing"):
            one_state(cls).compile()


@dataclass(frozen=True)
class _LostData:
    part: Missing  # type: ignore[name-defined]  # noqa: F821 (it never exists)  # pyright: ignore[reportUndefinedVariable]


@attrs.frozen
class _LostAttrs:
    part: Missing  # type: ignore[name-defined]  # noqa: F821 (it never exists)  # pyright: ignore[reportUndefinedVariable]


class _LostModel(pydantic.BaseModel, frozen=True):
    part: Missing  # type: ignore[name-defined]  # noqa: F821 (it never exists)  # pyright: ignore[reportUndefinedVariable]


def test_classes_of_a_function_may_name_what_stands_below_them() -> None:
    """Forward references are followed in dataclasses, attrs classes and models alike."""

    @dataclass(frozen=True)
    class Data:
        part: Part
        before: Data | None = None

    @attrs.frozen
    class Attrs:
        part: Part

    class Model(pydantic.BaseModel, frozen=True):
        part: Part
        before: Model | None = None

    @dataclass(frozen=True)
    class Inner:
        part: Part

    class Outer(pydantic.BaseModel, frozen=True):
        inner: Inner

    class Held(State):
        model: Model
        outer: Outer

    class Part(State):
        number: int

    class Make(Command):
        pass

    machine = Machine("local", state=Data | Attrs | Model | Held, command=Make)

    @machine.on
    def make(state: None, command: Make) -> Data:
        return Data(Part(number=1))

    part = Part(number=1)
    for value in (
        Data(part, Data(part)),
        Attrs(part),
        Model(part=part, before=Model(part=part)),
        Held(model=Model(part=part), outer=Outer(inner=Inner(part))),
    ):
        assert machine.state_codec.encode(value)[1] == value


class BaseState(State):
    number: int


class DerivedState(BaseState):
    pass


@dataclass(frozen=True)
class BaseData:
    number: int


@dataclass(frozen=True)
class DerivedData(BaseData):
    pass


@attrs.frozen
class BaseAttrs:
    number: int


@attrs.frozen
class DerivedAttrs(BaseAttrs):
    pass


class BaseModel(pydantic.BaseModel, frozen=True):
    number: int


class DerivedModel(BaseModel, frozen=True):
    pass


@pytest.mark.parametrize(
    ("base", "derived"),
    [
        (BaseState, DerivedState),
        (BaseData, DerivedData),
        (BaseAttrs, DerivedAttrs),
        (BaseModel, DerivedModel),
    ],
)
def test_members_are_told_apart_by_exact_type(base: Any, derived: Any) -> None:
    """A subclass is another member, for every kind."""
    machine: Machine[Any, Any, Any] = Machine("pair", state=base, command=Archive)

    def make(state: None, command: Archive) -> Any:
        return derived(number=1)

    make.__annotations__["return"] = base
    machine.on(make)

    with pytest.raises(DefinitionError, match="returned Derived"):
        machine.step(None, Archive())
    with pytest.raises(ValidationError, match=r"a Derived.* is not a state of pair"):
        machine.expect_state(derived(number=1))


def test_a_union_of_states_alone_is_decoded_by_msgspec_alone() -> None:
    """Members of other kinds cost those nothing who do without."""
    plain: Any = Codec("state", [Mark])
    mixed: Any = Codec("state", [Mark, Pending])

    assert type(plain._decode).__name__ == "builtin_function_or_method"
    assert type(mixed._decode).__name__ == "function"


def test_pydantic_and_attrs_are_not_imported() -> None:
    """Machines of dataclasses and States do without either."""
    script = """
import sys
from dataclasses import dataclass
from holdfast import Command, Machine, State
@dataclass(frozen=True)
class A: pass
class B(State): pass
class C(Command): pass
machine = Machine("m", state=A | B, command=C)
@machine.on
def make(state: None, command: C) -> A: return A()
machine.state_codec.encode(A())
print(*{"attr", "attrs", "pydantic", "pydantic_core"} & sys.modules.keys())
"""
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() == []


def test_foreign_members_of_one_name_are_refused() -> None:
    """The name is the tag, and a tag stands for one class."""
    other: Any = pydantic.create_model("Pending", __config__=pydantic.ConfigDict(frozen=True))
    with pytest.raises(DefinitionError, match="two state classes are stored as 'Pending'"):
        Machine("order", state=cast("Any", Pending | other), command=Place)


@dataclass(frozen=True)
class GrownData:
    new: int = dataclass_field(default=7, kw_only=True)
    old: int = 0


@attrs.frozen
class GrownAttrs:
    old: int
    new: int = 7


class GrownModel(pydantic.BaseModel, frozen=True):
    new: int = 7
    old: int


@pytest.mark.parametrize("cls", [GrownData, GrownAttrs, GrownModel])
def test_a_field_with_a_default_may_be_added(cls: Any) -> None:
    """What was stored before it came is read with the default."""
    codec: Codec[Any] = Codec("state", [cls])

    assert codec.decode(f'{{"$type":"{cls.__name__}","old":1}}') == cls(old=1, new=7)


@pytest.mark.parametrize("make", [MappingProxyType, OrderedDict, lambda data: ChainMap({}, data)])
def test_a_mapping_of_any_kind_is_parsed(make: Callable[[Any], Any]) -> None:
    """Bodies come as other classes than dict, too."""
    assert order.parse_command(make({"$type": "Pay", "receipt": "r"})) == Pay("r")


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_class_with_fields_of_every_kind_is_stored_alike_as_member_and_as_part(kind: str) -> None:
    """But for the tag, and it comes back."""
    values = msgspec.structs.asdict(sample_of_every_kind())
    cls = CLASSES[kind]
    value = cls(**values)
    holder = msgspec.defstruct("Holder", [("part", cls)], bases=(State,), frozen=True, tag=True)
    codec: Codec[Any] = Codec("state", [holder])

    text, copy = codec.encode(holder(part=value))

    assert copy == holder(part=value)
    member = CODECS[kind].encode(value)[0]
    assert text == member.replace('{"$type":"Rich",', '{"$type":"Holder","part":{', 1) + "}"


def sample_of_every_kind() -> Any:
    return CLASSES["state"](
        text="é",
        number=5,
        ratio=0.5,
        data=b"a",
        at=NOON,
        times=frozenset([NOON]),
        by_time={NOON: Color.RED},
        by_number={10: UUID(int=1), 9: UUID(int=2)},
        by_color={Color.BLUE: frozenset(Rank)},
        amounts=(Decimal("1.10"),),
        pair=(NOON.date(), NOON.time()),
        span=timedelta(1),
        size="m",
        positive=1,
        anything={"a": [1]},
        place=Site("x", NOON),
        command=Ship(to="y", at=NOON),
        either=Draft(text="z"),
        tags={"a": NOON},
    )
