"""The type variables of parts are filled in: their own, and those of what they inherit from."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

import attrs
import msgspec
import pytest
from tests.machine.parts import refusal

from holdfast import (
    State,
)
from holdfast.machine.codec import Codec

T = TypeVar("T")


@attrs.frozen
class Attrs:
    sku: str


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
    sound: dict[str, Any] = {"first": [] if kind == Passed[str] else 1}

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
