"""States as parts of pydantic models, such as bodies of requests; and how models name fields."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Annotated, Any

import pydantic
import pytest

from holdfast import Command, DefinitionError, Meta, State, ValidationError
from holdfast.machine.codec import Codec

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


class Line(pydantic.BaseModel, frozen=True):
    price: int = pydantic.Field(gt=0)
    data: bytes = b""


class Archived(State):
    line: Line | None = None


class Archive(Command):
    pass


def refusal(call: Callable[..., object], *arguments: Any) -> str | None:
    """Return the path of a refused call."""
    with pytest.raises(ValidationError) as raised:
        call(*arguments)
    return raised.value.path


def lists(levels: int) -> Any:
    """Return a list within so many others."""
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


class Body(pydantic.BaseModel):
    state: Archived | Ready
    commands: list[Archive] = []


class Described(State):
    at: datetime
    by_number: dict[int, tuple[Line, ...]]
    data: bytes


class Ready(State):
    number: Annotated[int, Meta(gt=0)]
    at: datetime
    before: Ready | Archived | None = None


def test_a_state_may_be_a_field_of_a_pydantic_model() -> None:
    """It is read from values, from what describes them, and from JSON; and written as stored."""
    ready = Ready(number=1, at=NOON, before=Archived(line=Line(price=2)))
    body = Body(state=ready, commands=[Archive()])
    text = (
        '{"state":{"$type":"Ready","number":1,"at":"2024-05-06T12:00:00.000000Z",'
        '"before":{"$type":"Archived","line":{"price":2,"data":""}}},'
        '"commands":[{"$type":"Archive"}]}'
    )

    assert body.state is ready
    assert body.model_dump()["state"] is ready
    assert body.model_dump(mode="json") == json.loads(text)
    assert body.model_dump_json() == text
    assert Body.model_validate_json(text) == body
    assert Body.model_validate(json.loads(text)) == body
    assert Body.model_validate(body.model_dump()) == body


def test_a_pydantic_model_takes_what_describes_a_state_in_values() -> None:
    """Times, tuples, keys that are numbers, and parts that are there already."""
    data = {"$type": "Described", "at": NOON, "by_number": {5: (Line(price=2),)}, "data": b"a"}

    described = pydantic.create_model("Holder", state=(Described, ...)).model_validate(
        {"state": data}
    )

    assert described.model_dump()["state"] == Described(
        at=NOON, by_number={5: (Line(price=2),)}, data=b"a"
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"at": object()}, r"JSON cannot hold the value - at `\$\.at`"),
        ({"at": NOON.replace(tzinfo=None)}, r"JSON cannot hold the value - at `\$\.at`"),
        ({"data": lists(5000)}, "nested too deep"),
        ({"number": 1}, "unknown field `number`"),
    ],
    ids=range(4),
)
def test_pydantic_tells_of_values_that_are_no_state(wrong: dict[str, Any], says: str) -> None:
    """Whatever they are, the error is its own."""
    with pytest.raises(pydantic.ValidationError, match=says):
        pydantic.TypeAdapter(Described).validate_python({"$type": "Described", **wrong})


@pytest.mark.parametrize("untagged", [{}, {"line": None}])
def test_what_has_no_tag_is_not_guessed(untagged: dict[str, Any]) -> None:
    """Though a class would take it: the schema that is published requires the tag."""
    assert pydantic.TypeAdapter(Archived).json_schema()["required"] == ["$type"]
    for body in ({"state": untagged}, {"state": Archived(), "commands": [untagged]}):
        with pytest.raises(pydantic.ValidationError, match=r"missing required field `\$type`"):
            Body.model_validate(body)


def test_pydantic_tells_where_a_state_is_wrong() -> None:
    """Its error holds our message, with the path within the state."""
    bad = {"$type": "Ready", "number": 0, "at": NOON}
    with pytest.raises(pydantic.ValidationError, match=r"Expected `int` >= 1 - at `\$\.number`"):
        Body.model_validate({"state": bad})


def test_the_json_schema_of_a_state_stands_by_itself() -> None:
    """It has no references, so that it is right wherever it is put in, and an end."""
    for mode in ("validation", "serialization"):
        schema = Body.model_json_schema(mode=mode)
        archived, ready = schema["properties"]["state"]["anyOf"]
        assert archived["properties"]["$type"] == {"enum": ["Archived"]}
        [line] = [part for part in archived["properties"]["line"]["anyOf"] if "title" in part]
        assert line["properties"]["price"]["exclusiveMinimum"] == 0
        assert ready["properties"]["number"] == {"exclusiveMinimum": 0, "type": "integer"}
        assert ready["required"] == ["$type", "number", "at"]
        assert "$ref" not in json.dumps(schema)
        assert '{"title": "Ready", "type": "object"}' in json.dumps(ready["properties"]["before"])


def test_the_json_schema_of_states_that_hold_each_other_stays_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of each within another the fields are told; of those within that one, the name."""
    module = ModuleType("circle")
    monkeypatch.setitem(sys.modules, "circle", module)
    names = [f"State{number}" for number in range(10)]
    lines = [f"class {name}(State):\n    previous: {' | '.join(names)} | None" for name in names]
    source = "\n".join(["from __future__ import annotations", "from holdfast import State", *lines])
    exec(source, vars(module))

    schema = pydantic.TypeAdapter(vars(module)["State3"]).json_schema()

    assert len(json.dumps(schema)) < 40_000
    text = json.dumps(schema["properties"]["previous"])
    assert text.count('{"title": "State3", "type": "object"}') == 10
    assert text.count('{"title": "State7", "type": "object"}') == 9
    assert text.count('"required": ["$type", "previous"]') == 9


class Chosen(pydantic.BaseModel, frozen=True):
    number: int = pydantic.Field(
        validation_alias=pydantic.AliasChoices(pydantic.AliasPath("a", 0), "n", "m")
    )


class Named(pydantic.BaseModel, frozen=True, validate_by_alias=False, validate_by_name=True):
    number: int = pydantic.Field(alias="n")


class Unnamed(pydantic.BaseModel, frozen=True):
    numbers: tuple[pydantic.PositiveInt, ...]


class Tagged(pydantic.BaseModel, frozen=True):
    kind: str = pydantic.Field(alias="$type")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Chosen.model_validate({"n": 1}), '{"$type":"Chosen","n":1}'),
        (Named.model_validate({"number": 1}), '{"$type":"Named","number":1}'),
    ],
)
def test_a_field_of_a_model_is_stored_under_the_name_that_the_model_takes(
    value: Any, text: str
) -> None:
    """Of several the first that is a name; the field's own where the model takes no other."""
    codec: Codec[Any] = Codec("state", [type(value)])

    assert codec.encode(value) == (text, value)


def test_an_alias_that_is_the_tag_is_refused_at_first_use() -> None:
    """It could not be told from it."""
    with pytest.raises(DefinitionError, match=r"Tagged cannot be stored: .*\$type"):
        Codec[Any]("state", [Tagged])


def test_the_path_of_a_model_s_own_refusal_has_the_place_in_a_list() -> None:
    """As all paths have."""
    codec: Codec[Any] = Codec("state", [Unnamed])

    assert refusal(codec.parse, {"$type": "Unnamed", "numbers": [1, 0]}) == "$.numbers[1]"
