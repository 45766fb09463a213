"""States and commands are values: frozen, equal by their fields, readable, stored as JSON."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import msgspec
import pytest

from holdfast import Command, Machine, State


class Pending(State):
    total: int
    note: str = ""


class Paid(State):
    total: int
    note: str = ""


class Declined(State):
    reason: str
    command: OrderCommand
    previous: OrderState


class Place(Command):
    total: int


class Pay(Command):
    card: str


OrderState = Pending | Paid | Declined
OrderCommand = Place | Pay

order = Machine("order", state=OrderState, command=OrderCommand)


@order.on
def place(state: None, command: Place) -> Pending:
    return Pending(total=command.total)


@pytest.mark.parametrize("value", [Pending(total=1), Pay(card="4")])
def test_a_value_cannot_be_changed(value: Any) -> None:
    """Neither assignment nor deletion gets through."""
    name = value.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(value, name, 2)
    with pytest.raises(AttributeError):
        delattr(value, name)
    with pytest.raises(AttributeError):
        value.other = 1


def test_values_are_equal_by_type_and_fields() -> None:
    """Two classes with the same fields are two things."""
    assert Pending(total=1) == Pending(total=1)
    assert Pending(total=1) != Pending(total=2)
    others: list[State] = [Paid(total=1)]
    assert Pending(total=1) not in others


def test_values_are_hashable() -> None:
    """Equal values have one hash, so they may be keys."""
    seen = {Pending(total=1): "a", Paid(total=1): "b", Place(total=1): "c"}
    assert seen[Pending(total=1)] == "a"
    assert len({Pending(total=1), Pending(total=1), Pending(total=2)}) == 2
    nested = Declined(reason="", command=Pay(card="4"), previous=Pending(total=1))
    assert hash(nested) == hash(copy.deepcopy(nested))


def test_the_repr_reads_as_the_call_that_makes_it() -> None:
    """Logs and test failures show the fields by name."""
    value = Declined(reason="no", command=Pay(card="4"), previous=Pending(total=1))
    assert repr(value) == (
        "Declined(reason='no', command=Pay(card='4'), previous=Pending(total=1, note=''))"
    )
    assert eval(repr(value)) == value


def test_values_match_patterns() -> None:
    """`match` takes their fields by name."""
    match OrderStateOf(Pending(total=3)):
        case Pending(total=total):
            assert total == 3
        case _:
            pytest.fail("no match")


def test_a_missing_or_unknown_field_cannot_be_given() -> None:
    """The constructor knows its fields."""
    make: Any = Pending
    with pytest.raises(TypeError):
        make()
    with pytest.raises(TypeError):
        make(total=1, totl=2)


def test_text_is_tagged_by_type() -> None:
    """The tag is the class's name, first in the text."""
    assert order.state_codec.encode(Pending(total=1))[0] == (
        '{"$type":"Pending","total":1,"note":""}'
    )
    assert order.command_codec.encode(Pay(card="4"))[0] == '{"$type":"Pay","card":"4"}'


def test_a_tag_may_be_chosen() -> None:
    """A class that is renamed keeps its old name in the store."""

    class Settled(State, tag="Paid"):
        pass

    machine = Machine("order", state=Settled, command=Place)

    @machine.on
    def settle(state: None, command: Place) -> Settled:
        return Settled()

    assert machine.state_codec.encode(Settled())[0] == '{"$type":"Paid"}'
    assert machine.graph().states == ("Paid",)


def test_unions_may_nest_each_other() -> None:
    """A state may hold the command that failed and the state that it failed in, at any depth."""
    value: Pending | Paid | Declined = Pending(total=1)
    for reason in ("a", "b", "c"):
        value = Declined(reason=reason, command=Pay(card=reason), previous=value)

    text, read = order.state_codec.encode(value)

    assert read == value
    assert order.state_codec.decode(text) == value
    assert text.count('"$type":"Declined"') == 3


def test_a_value_survives_pickling_and_copying() -> None:
    """Processes may pass values to each other."""
    value = Declined(reason="no", command=Pay(card="4"), previous=Pending(total=1))
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.copy(value) == value


def test_a_changed_value_is_another_value() -> None:
    """`msgspec.structs.replace` makes one with other fields."""
    before = Pending(total=1, note="a")
    after = msgspec.structs.replace(before, total=2)
    assert (before.total, after) == (1, Pending(total=2, note="a"))


def OrderStateOf(value: Pending | Paid | Declined) -> Pending | Paid | Declined:  # noqa: N802
    """Return a state as a member of the whole union, as far as a type checker knows."""
    return value
