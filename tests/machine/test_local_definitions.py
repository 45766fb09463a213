"""States, commands and machines defined inside functions, as tests do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, TypeAlias

import msgspec
import pytest

from holdfast import Command, DefinitionError, Machine, Meta, State


def survives(machine: Machine[Any, Any, Any], value: object) -> bool:
    """Tell whether the machine's codec stores and reads a state."""
    text, copy = machine.state_codec.encode(value)
    return bool(copy == value and machine.state_codec.decode(text) == value)


def test_classes_of_a_function_make_a_machine() -> None:
    """Annotations are evaluated where the machine is defined."""

    class Pending(State):
        total: int

    class Place(Command):
        total: Annotated[int, Meta(gt=0)]

    machine = Machine("order", state=Pending, command=Place)

    @machine.on
    def place(state: None, command: Place) -> Pending:
        return Pending(total=command.total)

    assert machine.step(None, Place(total=1)) == Pending(total=1)
    assert machine.parse_command({"$type": "Place", "total": 2}) == Place(total=2)
    assert survives(machine, Pending(total=1))


def test_unions_may_be_named_before_they_exist() -> None:
    """A state of a function may hold a command and a state of unions defined further down."""

    class Pending(State):
        pass

    class Declined(State):
        command: OrderCommand
        previous: OrderState
        earlier: dict[str, list[OrderState]]

    class Place(Command):
        pass

    class Recover(Command):
        pass

    OrderState: TypeAlias = Pending | Declined  # pyright: ignore[reportGeneralTypeIssues]
    OrderCommand: TypeAlias = Place | Recover  # pyright: ignore[reportGeneralTypeIssues]
    machine = Machine("order", state=OrderState, command=OrderCommand)

    @machine.on
    def place(state: None, command: Place) -> OrderState:
        return Declined(command=command, previous=Pending(), earlier={"a": [Pending()]})

    state = machine.step(None, Place())
    assert isinstance(state, Declined)
    assert survives(machine, state)
    assert survives(machine, Declined(command=Recover(), previous=state, earlier={}))


def test_parts_of_a_function_are_found_through_bases_dataclasses_and_enums() -> None:
    """Structs, dataclasses, enums and base classes of the same function may name each other."""

    class Color(Enum):
        RED = "red"

    class Size(msgspec.Struct, frozen=True):
        width: Width

    Width: TypeAlias = Annotated[int, Meta(gt=0)]  # pyright: ignore[reportGeneralTypeIssues]

    @dataclass(frozen=True)
    class Line:
        size: Size
        color: Color

    class Base(State):
        lines: list[Line]

    class Open(Base):
        opened: date
        closed: date

    class Make(Command):
        pass

    machine = Machine("box", state=Open, command=Make)

    @machine.on
    def make(state: None, command: Make) -> Open:
        return Open(
            lines=[Line(Size(1), Color.RED)], opened=date(2024, 1, 1), closed=date(2024, 1, 2)
        )

    assert survives(machine, machine.step(None, Make()))


def test_a_handler_of_an_inner_function_finds_the_names_of_the_outer_ones() -> None:
    """Names of every enclosing function that still runs are seen, innermost first."""

    class Shadowed(State):
        pass

    class Make(Command):
        pass

    outermost = Shadowed

    def outer() -> Machine[Any, Any]:
        class Shadowed(State):
            note: str = "inner"

        machine: Machine[Any, Any] = Machine("box", state=Shadowed, command=Make)
        made = Shadowed()

        def inner() -> None:
            @machine.on
            def make(state: None, command: Make) -> Shadowed:
                return made

        inner()
        return machine

    machine = outer()
    assert machine.states != (outermost,)
    assert machine.handlers[0].targets == machine.states
    assert machine.handlers[0].commands == (Make,)


def test_a_handler_may_use_closures() -> None:
    """What the handler closes over is the function's, at the time of the call."""

    class Counted(State):
        total: int

    class Add(Command):
        pass

    amount = 1
    machine = Machine("counter", state=Counted, command=Add)

    @machine.on
    def add(state: Counted | None, command: Add) -> Counted:
        return Counted(total=(state.total if state else 0) + amount)

    amount = 5
    assert machine.step(Counted(total=1), Add()) == Counted(total=6)


def test_a_factory_makes_machines_that_do_not_share_anything() -> None:
    """Each call of the function has classes and a machine of its own."""

    def build(step: int) -> tuple[Machine[Any, Any], Callable[[], Any]]:
        class Counted(State):
            total: int

        class Add(Command):
            pass

        machine: Machine[Any, Any] = Machine("counter", state=Counted, command=Add)

        @machine.on
        def add(state: Counted | None, command: Add) -> Counted:
            return Counted(total=(state.total if state else 0) + step)

        return machine, Add

    (ones, add_one), (tens, add_ten) = build(1), build(10)
    assert "total=1)" in repr(ones.step(None, add_one()))
    assert "total=10)" in repr(tens.step(None, add_ten()))
    assert ones.states != tens.states


def test_a_name_that_has_no_value_yet_is_said_at_once() -> None:
    """A result class defined below the handler is not mistaken for `None`, a deletion."""

    class Make(Command):
        pass

    class Other(State):
        pass

    machine = Machine("box", state=Other, command=Make)

    def define() -> None:
        @machine.on
        def make(state: None, command: Make) -> Late:
            return Late()

        class Late(State):
            pass

    with pytest.raises(DefinitionError, match=r"'Late' of 'return' cannot be evaluated"):
        define()


def test_a_field_that_names_nothing_is_said_where_the_machine_is_made() -> None:
    """The class is named, and what could not be found."""

    class Open(State):
        part: int

    Open.__annotations__["part"] = "Missing"

    class Make(Command):
        pass

    with pytest.raises(DefinitionError, match=r"Open: .*name 'Missing' is not defined"):
        Machine("box", state=Open, command=Make)
