"""Members and parts of other kinds are built by their own constructors, and by nothing else."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from dataclasses import field as dataclass_field
from typing import Any

import attrs
import pydantic
import pydantic.dataclasses
import pytest
from tests.machine.parts import Keep, holder_of, one_state, refusal

from holdfast import (
    Command,
    DecodeError,
    DefinitionError,
    Machine,
    Service,
    State,
    ValidationError,
    field,
    open_store,
)
from holdfast.machine.codec import Codec


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
