"""Values that are nested too deep are refused before they are stored, so that all can be read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import attrs
import pytest

from holdfast import Command, Machine, Meta, Service, State, ValidationError, open_store
from holdfast.machine.codec import Codec, encode_metadata

MOST = 100
"""How many levels may be nested, that of the value itself counted."""


class Note(State):
    body: Any = None
    text: str = ""


class Tree(State):
    number: Annotated[int, Meta(ge=0)] = 0
    at: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    before: Tree | None = None
    mapping: dict[str, Any] | None = None


class Write(Command):
    body: Any = None


note = Machine("note", state=Note, command=Write)


@note.on
def write(state: Note | None, command: Write) -> Note:
    return Note(body=command.body)


def lists(levels: int, inmost: Any = None) -> Any:
    """Return a value within so many lists."""
    for _ in range(levels):
        inmost = [inmost]
    return inmost


def trees(levels: int, **inmost: Any) -> Tree:
    """Return so many states, each within the next."""
    tree = Tree(**inmost)
    for _ in range(levels - 1):
        tree = Tree(before=tree)
    return tree


def refusal(call: Callable[..., object], *arguments: Any) -> str | None:
    """Return the path of a call that is refused for what is nested too deep."""
    with pytest.raises(ValidationError, match=rf"nested deeper than {MOST} levels") as raised:
        call(*arguments)
    return raised.value.path


def from_deeper(frames: int, call: Callable[[], Any]) -> Any:
    """Call a function from further down the stack."""
    return call() if frames == 0 else from_deeper(frames - 1, call)


def test_as_many_levels_as_are_allowed_are_stored_and_read_from_deep_down_the_stack() -> None:
    """A caller may be a few hundred frames deep itself."""
    with open_store("memory://") as store:
        notes = Service(note, store)
        body = lists(MOST - 1)
        for _ in range(2):
            from_deeper(150, lambda: notes.handle("n", Write(body=body), metadata={"a": body[0]}))
        assert from_deeper(150, lambda: notes.get("n")).state == Note(body=body)
        assert from_deeper(150, lambda: notes.history("n"))[1].metadata == {"a": body[0]}


@pytest.mark.parametrize("levels", [MOST, MOST + 1, 450, 900, 20_000])
@pytest.mark.parametrize("inmost", [None, math.nan, "\0"])
def test_a_value_with_more_levels_is_refused_with_the_path(levels: int, inmost: Any) -> None:
    """Whatever else is wrong with it, and nothing is written."""
    with open_store("memory://") as store:
        notes = Service(note, store)
        command = Write(body=lists(levels, inmost))

        for call in (notes.handle, notes.preview):
            assert refusal(call, "n", command) == "$.body" + (MOST - 1) * "[0]"
        assert notes.count_by_state() == {}


def test_what_has_no_encoding_is_refused_at_any_depth() -> None:
    """With the path to it where there are not too many levels to get there."""
    codec: Codec[Note] = Codec("state", [Note])
    for levels in (5, 450, 20_000):
        with pytest.raises(ValidationError) as raised:
            codec.encode(Note(body=lists(levels, object())))
        assert raised.value.path == "$.body" + (levels if levels < 9_999 else MOST - 1) * "[0]"


def test_a_state_within_states_counts_as_a_level() -> None:
    """A class that contains itself, and times that are written by other means."""
    codec: Codec[Tree] = Codec("state", [Tree])

    assert codec.encode(trees(MOST))[1] == trees(MOST)
    assert refusal(codec.encode, trees(MOST + 1)) == "$" + MOST * ".before"
    assert refusal(codec.encode, trees(200, number=-1)) == "$" + MOST * ".before"
    assert refusal(codec.encode, trees(MOST, mapping={"a": {}})) == (
        "$" + (MOST - 1) * ".before" + ".mapping"
    )


@pytest.mark.parametrize("encode", [json.dumps, lambda data: json.dumps(data).encode()])
def test_what_others_send_is_refused_with_the_path(encode: Callable[[Any], Any]) -> None:
    """As JSON of either kind."""

    def parse(levels: int) -> Any:
        return note.parse_command(encode({"$type": "Write", "body": lists(levels - 1)}))

    assert parse(MOST) == Write(body=lists(MOST - 1))
    assert refusal(parse, MOST + 1) == "$.body" + (MOST - 1) * "[0]"
    text = encode({"$type": "Write", "body": 0})
    many = text[:-2] + (b"[" * 99_999 if isinstance(text, bytes) else "[" * 99_999)
    assert refusal(note.parse_command, many) == "$"


def test_a_mapping_that_others_send_is_refused_with_the_path() -> None:
    """It is encoded first."""
    data = {"$type": "Write", "body": lists(MOST)}

    assert refusal(note.parse_command, data) == "$.body" + (MOST - 1) * "[0]"


def test_metadata_are_refused_with_the_path() -> None:
    """A history could not be read otherwise."""
    sound = {"a": lists(MOST - 1)}

    assert encode_metadata(sound)[1] == sound
    assert refusal(encode_metadata, {"a": lists(MOST)}) == "$.a" + (MOST - 1) * "[0]"
    assert refusal(encode_metadata, {"a": lists(5_000)}) == "$.a" + (MOST - 1) * "[0]"


@pytest.mark.parametrize(
    "body",
    [
        ["[" * 200],
        ["]" * 5, *([[]] * 200)],
        ['"[{', "\\", '\\"[', "[" * 150, *([{}] * 200)],
        [{"[{" * 40: [{}] * 100}] * 2,
        lists(MOST - 3, ["\\[" * 200]),
    ],
    ids=range(5),
)
def test_brackets_that_nest_nothing_are_no_levels(body: Any) -> None:
    """Those in texts and keys, and those that stand side by side."""
    codec: Codec[Note] = Codec("state", [Note])

    assert codec.encode(Note(body=body))[1] == Note(body=body)
    assert codec.parse(codec.encode(Note(body=body))[0]) == Note(body=body)


@pytest.mark.parametrize("text", ["]", "]" * 300, '"]', "\\", '\\"]', '\\\\"]]'])
def test_brackets_in_texts_hide_no_levels(text: str) -> None:
    """However they are escaped."""
    codec: Codec[Note] = Codec("state", [Note])
    body: Any = 1
    for _ in range(MOST):
        body = [text, body, {text: text}]

    assert refusal(codec.encode, Note(body=body)) is not None


def taken_deep_down(lines: Any) -> Any:
    return from_deeper(80, lambda: lines)


@attrs.frozen
class Page:
    """A part that its constructor builds, and takes many frames for."""

    lines: Any = attrs.field(default=0, converter=taken_deep_down)


class Book(State):
    body: Any = None
    page: Page = Page()
    text: str = ""


@pytest.mark.parametrize("cls", [Note, Book])
def test_a_stack_that_the_caller_has_used_up_is_not_the_values_fault(cls: Any) -> None:
    """Nothing is said of the entity, nor of classes that were renamed."""
    books: Machine[Any, Any, Any] = Machine("book", state=cls, command=Write)

    def write(state: None, command: Write) -> Any:
        return cls(body=command.body)

    write.__annotations__["return"] = cls
    books.on(write)
    with open_store("memory://") as store:
        notes = Service(books, store)
        notes.handle("n", Write(body=lists(50)))

        def deeper() -> None:
            notes.get("n")
            deeper()

        with pytest.raises(RecursionError):
            deeper()
        assert notes.get("n").version == 1
