"""Secret fields: stored as they are, and kept out of repr, error texts and what is shown."""

from __future__ import annotations

import copy
import io
import json
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from rich.console import Console

from holdfast import (
    Command,
    DecodeError,
    DefinitionError,
    HoldfastError,
    KeyReusedError,
    Machine,
    Meta,
    Service,
    State,
    ValidationError,
    field,
    open_store,
)
from holdfast.machine.codec import Codec

SECRET = "4111-1111"
NOW = datetime(2024, 5, 6, tzinfo=UTC)


class Network(Enum):
    VISA = "visa"


class Card(State):
    number: str = field(secret=True)
    network: Network = field(name="net", secret=True)
    owner: str = "al"


class Gold(Card, kw_only=True):
    pin: Annotated[int, Meta(gt=999)] = field(default=1234, secret=True)
    limit: int = 5


class Retold(Gold, kw_only=True):
    number: str
    pin: Annotated[int, Meta(gt=999)] = 4321


class Open(State):
    card: Card | Gold
    cards: tuple[Card, ...] = ()
    by_name: dict[str, Card | Gold] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list, secret=True)
    amount: Any = None


class Use(Command):
    code: str = field(secret=True)
    codes: dict[str, Network] = field(default_factory=dict, secret=True)


class Hoard(State):
    by_pin: dict[str, str] = field(secret=True)
    more: Any = field(default=None, secret=True)


class Plain(State):
    number: int


wallet = Machine("wallet", state=Card | Gold | Open | Hoard, command=Use)


@wallet.on
def use(state: Card | None, command: Use) -> Open:
    card = Card(number=command.code, network=Network.VISA)
    return Open(card=card, cards=(card,), by_name={"a": card}, tokens=[command.code])


def card(number: Any = SECRET) -> Card:
    return Card(number=number, network=Network.VISA)


def test_repr_masks_secrets_and_nothing_else() -> None:
    """With a default and without, renamed, inherited, and positional as before."""
    assert repr(card()) == "Card(number=***, network=***, owner='al')"
    assert repr(Gold(number=SECRET, network=Network.VISA)) == (
        "Gold(number=***, network=***, owner='al', pin=***, limit=5)"
    )
    assert f"{Use(code=SECRET)}" == "Use(code=***, codes=***)"
    assert repr(Plain(number=5)) == "Plain(number=5)"
    assert Card(SECRET, Network.VISA).number == SECRET


def test_a_secret_field_stays_secret_where_it_is_declared_again() -> None:
    """A subclass that gives it a type or a default cannot lay it open by oversight."""
    value = Retold(number=SECRET, network=Network.VISA)

    assert repr(value) == "Retold(network=***, owner='al', number=***, pin=***, limit=5)"


def test_secrets_are_masked_within_other_values() -> None:
    """In states, tuples, mappings, records, transitions, and in what rich prints."""
    store = open_store("memory://", clock=lambda: NOW)
    service = Service(wallet, store)
    record = service.handle("w-1", Use(code=SECRET))
    out = io.StringIO()
    Console(file=out, width=500).print(record, [record.state], {"state": record.state})
    shown = (repr(record), repr(service.history("w-1")), repr([record.state]), out.getvalue())
    store.close()

    assert isinstance(record.state, Open)
    assert record.state.cards[0].number == SECRET
    for text in shown:
        assert SECRET not in text
        assert "number=***" in text


def test_defaults_and_what_is_required_are_kept() -> None:
    """A secret field is declared as any other."""
    assert Gold(number="1", network=Network.VISA).pin == 1234
    assert Open(card=card()).tokens == []
    assert Open(card=card()).tokens is not Open(card=card()).tokens
    with pytest.raises(TypeError, match="Missing required argument 'number'"):
        Card(network=Network.VISA)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="Cannot set both"):
        field(default=1, default_factory=int)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def test_secret_fields_are_values_like_others() -> None:
    """They are compared, hashed, copied, pickled and replaced."""
    assert card() == card()
    assert card() != card("5")
    assert hash(card()) == hash(card())
    assert copy.deepcopy(card()) == card() == pickle.loads(pickle.dumps(card()))
    assert msgspec.structs.replace(card(), number="5") == card("5")


def test_a_secret_is_stored_as_it_is_under_its_name() -> None:
    """Encryption at rest is the database's business."""
    text, decoded = wallet.state_codec.encode(card())

    assert text == f'{{"$type":"Card","number":"{SECRET}","net":"visa","owner":"al"}}'
    assert decoded == card()


def test_redact_masks_secrets_in_stored_text() -> None:
    """At any depth, whatever their type; the order and the rest stay."""
    value = Open(card=card(), cards=(card(),), by_name={"a": card()}, tokens=[SECRET], amount=0.1)
    masked = '{"$type":"Card","number":"***","net":"***","owner":"al"}'

    assert wallet.state_codec.redact(wallet.state_codec.encode(value)[0]) == (
        f'{{"$type":"Open","card":{masked},"cards":[{masked}],"by_name":{{"a":{masked}}},'
        '"tokens":"***","amount":0.1}'
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"$type":"Card","number":"1","net":"visa","old":2}', "Card number net old"),
        ('{"$type":"OldCard","number":"1","net":{"a":"1"}}', "OldCard number net"),
        ('{"$type":"Open","card":{"$type":"OldCard","number":"1"}}', "Open card"),
        ('{"$type":{"Card":1},"number":"1"}', "*** number"),
        ('{"kard":{"4111":1}}', " kard"),
    ],
)
def test_redact_masks_all_values_of_what_the_code_of_today_cannot_read(
    text: str, shown: str
) -> None:
    """Under an older tag or name any of them may be a secret; the names of the fields are told."""
    tag, *names = shown.split(" ")
    expected = ({"$type": tag} if tag else {}) | dict.fromkeys(names, "***")

    assert json.loads(wallet.state_codec.redact(text)) == expected


@pytest.mark.parametrize(
    "text", [f'{{"number":"{SECRET}', f'["{SECRET}"]', f'"{SECRET}"', "[" * 9999]
)
def test_redact_masks_what_is_no_value_of_a_member_whole(text: str) -> None:
    """Damaged text may hold a secret as well."""
    assert wallet.state_codec.redact(text) == '"***"'


def test_redact_leaves_text_without_secrets_untouched() -> None:
    """Byte for byte, damaged text too."""
    codec: Codec[Plain] = Codec("state", [Plain])

    assert codec.redact('{"number" : 1e400') == '{"number" : 1e400'


def told_by(call: Callable[[], object], error: type[Exception] = HoldfastError) -> str:
    """Return all that a refused call says, with the errors behind it."""
    with pytest.raises(error) as raised:
        call()
    return "".join(traceback.format_exception(raised.value)[-1:]) + "".join(
        str(cause) for cause in chain(raised.value)
    )


def chain(error: BaseException | None) -> list[BaseException]:
    """Return an error and those that a traceback shows before it."""
    found: list[BaseException] = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def deep(levels: int) -> Any:
    """Return an empty list within lists."""
    found: list[Any] = []
    for _ in range(levels - 1):
        found = [found]
    return found


def encode(value: Any) -> Callable[[], object]:
    return lambda: wallet.state_codec.encode(value)


def parse(data: Any) -> Callable[[], object]:
    return lambda: wallet.parse_command(data)


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (encode(card(SECRET + "\0")), "$.number"),
        (encode(card(SECRET + "\ud800")), "$.number"),
        (encode(card(float("nan"))), "$.number"),
        (encode(card([SECRET])), "$.number"),
        (encode(Card(number="", network=SECRET)), "$.net"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        (encode(Open(card=card(), tokens=[SECRET, 5])), "$.tokens[1]"),  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
        (encode(Open(card=card(), tokens=(SECRET,))), "$.tokens"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        (encode(Open(card=card(), cards=(card(SECRET + "\0"),))), "$.cards[0].number"),
        (encode(Open(card=card(), amount=(card(),))), "$.amount"),
        (encode(Open(card=card(), amount=card())), "$.amount"),
        (parse({"$type": "Use", "code": [SECRET]}), "$.code"),
        (parse({"$type": "Use", "code": "", "codes": {"a": SECRET}}), "$.codes[...]"),
        (parse({"$type": "Use", "code": "", "codes": SECRET}), "$.codes"),
        (parse({"$type": "Use", "code": (SECRET,)}), "$.code"),
        (parse({"$type": "Use", "code": SECRET.encode()}), "$.code"),
        (parse({"$type": "Use", "code": "", "codes": {SECRET: "visa\0"}}), "$.codes"),
        (parse({"$type": "Use", "code": "", "codes": {SECRET + "\0": "visa"}}), "$.codes"),
        (parse({"$type": "Use", "code": "", "codes": {SECRET: deep(120)}}), "$.codes"),
        (
            parse(json.dumps({"$type": "Use", "code": "", "codes": {SECRET: deep(120)}})),
            "$.codes[...]",
        ),
        (encode(Hoard({SECRET: "\0"})), "$.by_pin"),
        (encode(Hoard({SECRET: "\ud800"})), "$.by_pin"),
        (encode(Hoard({}, {SECRET: deep(120)})), "$.more"),
        (encode(Hoard({}, {SECRET: deep(5000)})), "$.more"),
        (encode(Hoard({SECRET: 5})), "$.by_pin[...]"),  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    ],
    ids=[f"case {number}" for number in range(1, 25)],
)
def test_a_refusal_gives_the_path_and_not_the_secret(call: Callable[[], object], path: str) -> None:
    """Nor do the errors that its traceback shows."""
    assert SECRET not in told_by(call, ValidationError)
    with pytest.raises(ValidationError, match=r"\$") as raised:
        call()
    assert raised.value.path == path


def test_what_is_not_secret_is_still_told() -> None:
    """A message says the value where nobody asked to hide it."""
    said = told_by(encode(Open(card=card(), amount=Network.VISA)), ValidationError)

    assert "$.amount is <Network.VISA" in said


def test_a_stored_secret_that_cannot_be_read_is_not_told() -> None:
    """The error names entity and path."""
    with open_store("memory://") as store:
        Service(wallet, store).handle("w-1", Use(code=SECRET))
        said = told_by(lambda: Service(stricter(), store).get("w-1"), DecodeError)

    assert "w-1" in said
    assert "tokens" in said
    assert SECRET not in said


def stricter() -> Machine[Any, Any, Any]:
    """Return a machine whose Open takes networks as tokens: errors about these tell the value."""

    class Open(State):
        tokens: list[Network] = field(default_factory=list, secret=True)
        card: Any = None
        cards: Any = None
        by_name: Any = None
        amount: Any = None

    machine = Machine("wallet", state=Open, command=Use)

    @machine.on
    def use(state: None, command: Use) -> Open:
        raise AssertionError("never called")

    return machine


def test_a_reused_key_does_not_tell_the_commands() -> None:
    """The error is about the key."""
    with open_store("memory://") as store:
        service = Service(wallet, store)
        service.handle("w-1", Use(code=SECRET), key="k")
        said = told_by(
            lambda: service.handle("w-1", Use(code=SECRET + "2"), key="k"), KeyReusedError
        )

    assert SECRET not in said


def test_a_secret_field_is_declared_in_the_body_of_its_class() -> None:
    """Elsewhere its name could not be found, so that it would not be secret."""
    with pytest.raises(DefinitionError, match=r"field\(secret=True\) in the body"):
        field(secret=True)


def test_a_secret_of_a_class_that_would_show_it_is_refused() -> None:
    """A plain struct as part has its own repr."""
    with pytest.raises(DefinitionError, match="Part: only State and Command"):
        Codec[Any]("state", [HoldsStruct])


class Part(msgspec.Struct, frozen=True):
    number: str = field(secret=True)


class HoldsStruct(State):
    part: Part


@dataclass(frozen=True)
class DataUse:
    code: str = dataclass_field(repr=False)
    other: int = 0


@attrs.frozen
class AttrsUse:
    code: str = attrs.field(repr=False)
    other: int = 0


class ModelUse(pydantic.BaseModel, frozen=True):
    other: int = pydantic.Field(default=0, ge=0)
    code: str = pydantic.Field(repr=False, max_length=20)
    password: pydantic.SecretStr = pydantic.SecretStr("")


@dataclass(frozen=True)
class Bag:
    pin: str = dataclass_field(repr=False)


class Parts(State):
    bag: Bag | None = None
    data: DataUse | None = None
    model: ModelUse | None = None


FOREIGN: Codec[Any] = Codec("state", [DataUse, AttrsUse, ModelUse, Parts])


@pytest.mark.parametrize("cls", [DataUse, AttrsUse, ModelUse])
def test_what_another_kind_leaves_out_of_its_repr_is_secret(cls: Any) -> None:
    """As are pydantic's own secrets."""
    given: dict[str, Any] = {"code": SECRET} | ({"password": SECRET} if cls is ModelUse else {})
    value = cls(**given)
    text, decoded = FOREIGN.encode(value)

    assert decoded == value
    assert text.count(SECRET) == len(given)
    assert SECRET not in FOREIGN.redact(text)
    assert SECRET not in repr(value)
    assert '"other":0' in FOREIGN.redact(text)
    for wrong in ([SECRET], SECRET * 5 + "\0"):
        data = {"$type": cls.__name__, "code": wrong}
        assert SECRET not in told_by(lambda data=data: FOREIGN.encode(FOREIGN.parse(data)))  # type: ignore[misc]


def test_a_model_with_several_faults_tells_no_secret() -> None:
    """The first is told; pydantic's own error, which quotes all of them, is not shown."""
    data = {"$type": "ModelUse", "other": -1, "code": SECRET * 5}
    said = told_by(lambda: FOREIGN.parse(data), ValidationError)

    assert "$.other: Input should be greater than or equal to 0" in said
    assert SECRET not in said


def test_a_secret_of_a_part_without_a_tag_is_masked() -> None:
    """Parts of other kinds hide theirs within a State."""
    text, _ = FOREIGN.encode(
        Parts(bag=Bag(SECRET), data=DataUse(SECRET), model=ModelUse(code=SECRET))
    )

    assert FOREIGN.redact(text) == (
        '{"$type":"Parts","bag":{"pin":"***"},"data":{"code":"***","other":0},'
        '"model":{"other":0,"code":"***","password":"***"}}'
    )


@attrs.frozen
class Matched:
    code: str = attrs.field(repr=False, validator=attrs.validators.matches_re("[a-z]*"))


@attrs.frozen
class Shown:
    code: str = attrs.field(validator=attrs.validators.matches_re("[a-z]*"))


@pydantic.dataclasses.dataclass(frozen=True)
class Digits:
    code: str = pydantic.Field(pattern="^[a-z]*$", repr=False)
    other: int = 0


@dataclass(frozen=True)
class Telltale:
    code: str = dataclass_field(repr=False)

    def __post_init__(self) -> None:
        if not self.code.islower():
            raise ValueError(f"{self.code} is not written small")


class TelltaleModel(pydantic.BaseModel, frozen=True):
    code: str = pydantic.Field(repr=False)

    @pydantic.model_validator(mode="after")
    def check(self) -> TelltaleModel:
        if not self.code.islower():
            raise ValueError(f"{self.code} is not written small")
        return self


class Holder(State):
    matched: Matched | None = None
    digits: Digits | None = None
    telltale: Telltale | None = None
    model: TelltaleModel | None = None


class PlainHolder(State):
    telltale: Telltale


TELLTALES: dict[str, type] = {
    "matched": Matched,
    "digits": Digits,
    "telltale": Telltale,
    "model": TelltaleModel,
}


@pytest.mark.parametrize("name", TELLTALES)
def test_what_a_class_says_of_its_secret_is_not_told(name: str) -> None:
    """Only that it refused, as member and as part."""
    cls = TELLTALES[name]
    for codec, data in (
        (Codec[Any]("state", [cls]), {"$type": cls.__name__, "code": SECRET}),
        (Codec[Any]("state", [Holder]), {"$type": "Holder", name: {"code": SECRET}}),
        (
            Codec[Any]("state", [PlainHolder]),
            {"$type": "PlainHolder", "telltale": {"code": SECRET}},
        ),
    ):
        said = told_by(lambda codec=codec, data=data: codec.parse(data), ValidationError)  # type: ignore[misc]
        assert SECRET not in said
        assert "the state is not valid at $" in said


def test_a_class_without_secrets_says_why_it_refuses() -> None:
    """Of what a validator passes on besides, nothing is told."""
    with pytest.raises(ValidationError) as raised:
        Codec[Any]("state", [Shown]).parse({"$type": "Shown", "code": "A"})

    assert str(raised.value) == (
        "the state is not valid at $: 'code' must match regex '[a-z]*' ('A' doesn't)"
    )


class Body(pydantic.BaseModel, hide_input_in_errors=True):
    command: Use | None = None
    holder: Holder | None = None


@pytest.mark.parametrize(
    "data",
    [
        {"command": {"$type": "Use", "code": [SECRET]}},
        {"command": {"$type": "Use", "code": "", "codes": {SECRET: SECRET}}},
        {"command": {"$type": "Use", "code": "", "codes": {"a": SECRET}}},
        {"holder": {"$type": "Holder", "matched": {"code": SECRET}}},
        {"holder": {"$type": "Holder", "model": {"code": SECRET}}},
    ],
    ids=range(5),
)
def test_a_state_in_a_pydantic_model_tells_no_secret(data: Any) -> None:
    """What pydantic quotes of its own accord, the model can hide."""
    with pytest.raises(pydantic.ValidationError) as raised:
        Body.model_validate(data)

    assert SECRET not in str(raised.value)
    assert "$." in str(raised.value)


class Deepest(pydantic.BaseModel, frozen=True):
    pin: str = pydantic.Field(repr=False)
    other: int = 0


class Deeper(pydantic.BaseModel, frozen=True):
    deepest: list[Deepest]
    opaque: tuple[Deepest, pydantic.HttpUrl] | None = None


@attrs.frozen
class Beside:
    code: str = attrs.field(repr=False)


class First(State):
    deeper: Deeper | None = None
    beside: Beside | None = None


class Second(State):
    bag: Bag | None = None


def test_secrets_of_all_parts_are_masked_in_all_states() -> None:
    """Of a model within a model, and of several classes without a tag, in whichever order."""
    url = pydantic.HttpUrl("https://a.example/")
    deepest = Deepest(pin=SECRET)
    values: list[State] = [
        First(deeper=Deeper(deepest=[deepest], opaque=(deepest, url)), beside=Beside(code=SECRET)),
        Second(bag=Bag(pin=SECRET)),
    ]
    for members in ([First, Second], [Second, First]):
        codec: Codec[Any] = Codec("state", members)
        for value in values:
            text, copy = codec.encode(value)
            assert copy == value
            assert SECRET in text
            assert SECRET not in codec.redact(text)
