"""Commands are drawn from their annotations: whatever is drawn is one, and fits its constraints."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from random import Random
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest

from holdfast import Command, DefinitionError, Machine, Meta, State
from holdfast.machine.codec import MAX_VALUE_BYTES, Codec
from holdfast.testing.simulation.machines import VARIANTS, generated
from holdfast.testing.simulation.patterns import text_of
from holdfast.testing.simulation.values import draw_value, encoded_size

DRAWS = 300


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(State):
    street: Annotated[str, Meta(min_length=3, max_length=5)]
    number: int | None = None


class Everything(Command):
    flag: bool
    whole: int
    bounded: Annotated[int, Meta(ge=3, le=5)]
    above: Annotated[int, Meta(gt=0)]
    below: Annotated[int, Meta(lt=0)]
    even: Annotated[int, Meta(multiple_of=2, ge=-7, le=7)]
    share: Annotated[float, Meta(ge=0, le=1)]
    text: str
    short: Annotated[str, Meta(max_length=2)]
    long: Annotated[str, Meta(min_length=10)]
    sku: Annotated[str, Meta(pattern="^[A-Z]{2}-[0-9]{3,5}$")]
    raw: bytes
    at: datetime
    day: date
    lasts: timedelta
    price: Decimal
    token: UUID
    colour: Colour
    size: Literal["s", "m", 1]
    either: int | str | None
    address: Address
    items: Annotated[list[Address], Meta(min_length=1)]
    tags: frozenset[str]
    pair: tuple[int, str]
    several: tuple[int, ...]
    counts: dict[str, int]
    anything: Any
    note: str = ""


class Nested(Command):
    """Holds itself."""

    inner: Nested | None = None


def test_what_is_drawn_is_a_command() -> None:
    """It can be stored, its constraints are kept, and draws differ."""
    codec = Codec[Any]("command", (Everything,))
    random = Random(1)
    drawn = [draw_value(random, Everything, {}) for _ in range(DRAWS)]
    texts = {codec.encode(command)[0] for command in drawn}
    assert len(texts) == DRAWS
    assert {command.bounded for command in drawn} == {3, 4, 5}
    assert {command.colour for command in drawn} == set(Colour)
    assert "" in {command.text for command in drawn}
    assert any(len(command.text) > 1_000 for command in drawn)


def test_the_same_seed_draws_the_same() -> None:
    """Sets and all."""
    first, second = (draw_value(Random(7), Everything, {}) for _ in range(2))
    assert first == second


def test_a_command_may_hold_itself() -> None:
    """It ends somewhere."""
    random = Random(1)
    drawn = [draw_value(random, Nested, {}) for _ in range(50)]
    assert {command.inner is None for command in drawn} == {True, False}


class Odd(Command):
    word: Annotated[str, Meta(pattern="^(?=a)a$")]


class Spared(Command):
    word: Annotated[str, Meta(pattern="^(?=a)a$")] = "a"


def test_what_cannot_be_drawn_is_told_by_its_field() -> None:
    """And left out where it has a default."""
    with pytest.raises(DefinitionError, match=r"no value can be drawn for Odd\.word"):
        draw_value(Random(1), Odd, {})
    assert draw_value(Random(1), Spared, {}) == Spared()
    assert draw_value(Random(1), Odd, {Odd: lambda random: Odd("a")}) == Odd("a")


@pytest.mark.parametrize(
    "pattern",
    [
        "^[A-Z][A-Z0-9-]*$",
        r"^\d{4}-\d{2}$",
        "a+b?c*",
        r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$",
        "^(?:red|green|blue)$",
        r"^\w+(?: \w+)*$",
        "^.{3}$",
        "x",
        r"^[^\d\W]\S\D$",
    ],
)
def test_text_is_drawn_for_patterns(pattern: str) -> None:
    """As the standard library understands them."""
    draw = text_of(pattern, 0, None)
    assert draw is not None
    random = Random(1)
    assert all(re.search(pattern, draw(random)) for _ in range(100))


@pytest.mark.parametrize(("low", "high"), [(0, 3), (5, 5), (4, None)])
def test_text_for_a_pattern_keeps_to_its_length(low: int, high: int | None) -> None:
    """Where the pattern allows any."""
    draw = text_of("^[ab]*$", low, high)
    assert draw is None or all(low <= len(draw(Random(n))) <= (high or 99) for n in range(50))


@pytest.mark.parametrize("pattern", ["^(?=a)a$", r"^(a)\1$"])
def test_patterns_that_are_not_understood_are_told(pattern: str) -> None:
    """Nothing is drawn that might not match."""
    assert text_of(pattern, 0, None) is None


@pytest.mark.parametrize("variant", range(VARIANTS))
def test_generated_machines_live(variant: int) -> None:
    """Each is a sound machine whose entities can come into being."""
    machine = generated(variant)
    assert isinstance(machine, Machine)
    assert machine.allowed(None)
    command = draw_value(Random(variant), machine.commands[0], {})
    assert 0 < encoded_size(command) < MAX_VALUE_BYTES
