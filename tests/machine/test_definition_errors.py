"""Every mistake in a definition is found at import or at the first use, and named with its line."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Never, NewType, NoReturn

import msgspec
import pytest

from holdfast import (
    Command,
    DefinitionError,
    InvalidTransitionError,
    Machine,
    Service,
    State,
    open_store,
)


class Pending(State):
    pass


class Paid(State):
    pass


class Place(Command):
    pass


class Pay(Command):
    pass


class ForeignState(State):
    pass


class ForeignCommand(Command):
    pass


def new_machine(**options: Any) -> Machine[Any, Any, Any]:
    return Machine("order", state=Pending | Paid, command=Place | Pay, **options)


def refusal(function: Callable[..., Any]) -> str:
    """Register a function and return the error, which names it with its file and line."""
    with pytest.raises(DefinitionError) as caught:
        new_machine().on(function)
    code = function.__code__
    assert f"{function.__qualname__} ({__file__}:{code.co_firstlineno})" in str(caught.value)
    return str(caught.value)


def test_two_handlers_for_one_pair() -> None:
    """Both are named, and the pair."""
    machine = new_machine()

    @machine.on
    def first(state: None, command: Place) -> Pending:
        return Pending()

    def second(state: Pending | None, command: Place) -> Pending:
        return Pending()

    with pytest.raises(DefinitionError) as caught:
        machine.on(second)
    message = str(caught.value)
    assert f"{second.__qualname__} ({__file__}:{second.__code__.co_firstlineno})" in message
    assert "Place in no entity has a handler already" in message
    assert f"{first.__qualname__} ({__file__}:{first.__code__.co_firstlineno})" in message


def test_a_refused_handler_leaves_nothing_of_itself() -> None:
    """Those of its pairs that were free stay free."""
    machine = new_machine()

    @machine.on
    def place(state: Pending, command: Place) -> Pending:
        return Pending()

    def all_of_it(state: Pending | Paid | None, command: Pay | Place) -> Pending:
        raise AssertionError("never called")

    with pytest.raises(DefinitionError, match="Place in Pending has a handler already"):
        machine.on(all_of_it)
    assert machine.handlers[0].name == "place"
    assert machine.graph().handled == (("Pending", "Place"),)
    for state in (Pending(), Paid()):
        assert machine.handler_for(type(state), Pay) is None
        with pytest.raises(InvalidTransitionError):
            machine.step(state, Pay())


@pytest.mark.parametrize("name", ["state", "command"])
@pytest.mark.parametrize("nothing", [Never, NoReturn, "NoReturn | Never"])
def test_an_annotation_that_names_no_type(name: str, nothing: Any) -> None:
    """Such a handler would never be called."""

    def pay(state: Pending, command: Pay) -> Paid:
        return Paid()

    pay.__annotations__[name] = nothing

    assert f"of {name!r} names no type" in refusal(pay)


@pytest.mark.parametrize("deps", [5, (), [int], object()])
def test_dependencies_that_are_no_type(deps: Any) -> None:
    """They are declared with the machine, and given to the service."""
    with pytest.raises(DefinitionError, match="order: deps= takes a type, not"):
        new_machine(deps=deps)


Bench = NewType("Bench", int)


@pytest.mark.parametrize(
    "deps", [int, int | None, list[int], Callable[[], int], Any, Bench, "Desk"]
)
def test_dependencies_of_any_type_are_taken(deps: Any) -> None:
    """A union, a protocol, a callable: what is given is not looked at."""
    assert new_machine(deps=deps).deps is deps


def test_the_same_function_twice() -> None:
    """A handler is registered once."""
    machine = new_machine()

    def pay(state: Pending, command: Pay) -> Paid:
        return Paid()

    machine.on(pay)
    with pytest.raises(DefinitionError, match="Pay in Pending has a handler already"):
        machine.on(pay)


def test_a_source_outside_the_union() -> None:
    """The state is named, and the union."""

    def pay(state: ForeignState, command: Pay) -> Paid:
        return Paid()

    message = refusal(pay)
    assert "ForeignState is not a source state of order" in message
    assert "Pending | Paid" in message


def test_a_command_outside_the_union() -> None:
    """The command is named, and the union."""

    def pay(state: Pending, command: ForeignCommand) -> Paid:
        return Paid()

    message = refusal(pay)
    assert "ForeignCommand is not a command of order" in message
    assert "Place | Pay" in message


def test_a_target_outside_the_union() -> None:
    """One stranger in a union of targets is enough."""

    def pay(state: Pending, command: Pay) -> Paid | ForeignState:
        return Paid()

    assert "ForeignState is not a target state of order" in refusal(pay)


def test_a_state_in_the_place_of_the_command() -> None:
    """States are no commands."""

    def pay(state: Pending, command: Paid) -> Paid:
        return Paid()

    assert "Paid is not a command of order" in refusal(pay)


def test_none_in_the_place_of_the_command() -> None:
    """There is no command that is none."""

    def pay(state: Pending, command: None) -> Paid:
        return Paid()

    assert "NoneType is not a command of order" in refusal(pay)


@pytest.mark.parametrize(
    ("left_out", "says"),
    [
        ("state", "the parameter 'state' has no annotation"),
        ("command", "the parameter 'command' has no annotation"),
        ("return", "its result has no annotation"),
    ],
)
def test_a_missing_annotation(left_out: str, says: str) -> None:
    """The types are the chart, so every one of the three is needed."""

    def pay(state: Pending, command: Pay) -> Paid:
        return Paid()

    del pay.__annotations__[left_out]
    assert says in refusal(pay)


def test_a_missing_parameter() -> None:
    """State and command are always taken, used or not."""

    def without_command(state: Pending) -> Paid:
        return Paid()

    def without_state(command: Pay) -> Paid:
        return Paid()

    assert "the parameter 'command' is missing" in refusal(without_command)
    assert "the parameter 'state' is missing" in refusal(without_state)


def test_an_unknown_parameter() -> None:
    """Parameters are passed by name, and these are the names."""

    def pay(state: Pending, command: Pay, dependencies: int) -> Paid:
        return Paid()

    def defaulted(state: Pending, command: Pay, retries: int = 3) -> Paid:
        return Paid()

    assert "'dependencies' is not a handler's parameter" in refusal(pay)
    assert "'retries' is not a handler's parameter" in refusal(defaulted)


def test_a_method() -> None:
    """A function with `self` is none that could be called."""

    class Handlers:
        def pay(self, state: Pending, command: Pay) -> Paid:
            return Paid()

    assert "'self' is not a handler's parameter" in refusal(Handlers.pay)


def test_star_arguments() -> None:
    """Nothing is passed that the handler does not name."""

    def positional(state: Pending, command: Pay, *rest: object) -> Paid:
        return Paid()

    def named(state: Pending, command: Pay, **rest: object) -> Paid:
        return Paid()

    assert "* or **" in refusal(positional)
    assert "* or **" in refusal(named)


def test_positional_only_parameters() -> None:
    """They could not be passed by name."""

    def pay(command: Pay, state: Pending, /) -> Paid:
        return Paid()

    assert "leave out the '/'" in refusal(pay)


def test_a_generator() -> None:
    """A handler returns its one decision."""

    def pay(state: Pending, command: Pay) -> Iterator[Paid]:
        yield Paid()

    async def pay_later(state: Pending, command: Pay) -> AsyncIterator[Paid]:
        yield Paid()

    assert "return the state" in refusal(pay)
    assert "return the state" in refusal(pay_later)


def test_a_lambda() -> None:
    """A lambda has no annotations."""
    assert "has no annotation" in refusal(lambda state, command: Paid())


@pytest.mark.parametrize("thing", [5, "pay", None, Pay, functools.partial(len), len])
def test_what_is_no_function(thing: Any) -> None:
    """Classes, partials and built-ins have no annotations to read."""
    with pytest.raises(DefinitionError, match="a handler is a function, not"):
        new_machine().on(thing)


def test_a_name_that_does_not_exist() -> None:
    """The annotation is quoted, and what could not be found."""

    def pay(state: Pending, command: Pay) -> Paid:
        return Paid()

    pay.__annotations__["return"] = "Payed"
    assert "the annotation 'Payed' of 'return' cannot be evaluated" in refusal(pay)


@pytest.mark.parametrize("annotation", ["list[Pending]", "Any", "'text'", "5", "Pending |", "x.y"])
def test_an_annotation_that_is_no_class_or_union(annotation: str) -> None:
    """What cannot be a chart is said where it stands."""

    def pay(state: Pending, command: Pay) -> Paid:
        return Paid()

    pay.__annotations__["state"] = annotation
    refusal(pay)


def test_dependencies_that_the_machine_does_not_declare() -> None:
    """The message shows how to declare them."""

    def pay(state: Pending, command: Pay, deps: int) -> Paid:
        return Paid()

    message = refusal(pay)
    assert 'takes deps, and order has none; declare them: Machine("order", …, deps=…)' in message


def test_dependencies_that_the_service_is_not_given() -> None:
    """A machine with deps is bound to them."""
    machine = new_machine(deps=int)

    @machine.on
    def place(state: None, command: Place, deps: int) -> Pending:
        return Pending()

    with (
        open_store("memory://") as store,
        pytest.raises(DefinitionError, match=r"order takes? deps: Service\(order, store, deps=…\)"),
    ):
        Service(machine, store)


def test_a_machine_without_handlers() -> None:
    """It is found at the first use, and told what to add."""
    machine = new_machine()
    for use in (machine.compile, machine.check, lambda: machine.step(None, Place())):
        with pytest.raises(DefinitionError, match=r"order has no handler; .*@order\.on"):
            use()


@pytest.mark.parametrize(
    "name", ["", "1order", "_order", "or der", "order\n", "ö", "a" * 101, "a" * 10_000, None, 5]
)
def test_a_name_that_is_none(name: Any) -> None:
    """Names are stored and typed in shells."""
    with pytest.raises(DefinitionError, match="cannot name a machine") as caught:
        Machine(name, state=Pending, command=Place)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["o", "Order-2.a_b", "a" * 100])
def test_a_name_that_is_one(name: str) -> None:
    """A letter, then letters, digits, `_`, `.` or `-`."""
    assert Machine(name, state=Pending, command=Place).name == name


def test_two_members_under_one_tag() -> None:
    """Nobody could tell from the text which of them it was."""

    class Twin(State, tag="Pending"):
        pass

    class PayToo(Command, tag="Pay"):
        pass

    with pytest.raises(DefinitionError, match="two state classes are stored as 'Pending'"):
        Machine("order", state=Pending | Twin, command=Place)
    with pytest.raises(DefinitionError, match="two command classes are stored as 'Pay'"):
        Machine("order", state=Pending, command=Pay | PayToo)


def test_a_state_and_a_command_may_share_a_name() -> None:
    """They are stored in columns of their own."""

    class Cancel(State):
        pass

    class CancelIt(Command, tag="Cancel"):
        pass

    assert Machine("order", state=Cancel, command=CancelIt).states == (Cancel,)


@pytest.mark.parametrize("tag", ["", "a\0b", "a\nb", "x" * 201, "\ud800", 5])
def test_a_tag_that_cannot_be_stored(tag: Any) -> None:
    """A tag is text that a person can read."""

    class Odd(State, tag=tag):
        pass

    with pytest.raises(DefinitionError, match="Odd cannot be stored as"):
        Machine("order", state=Odd, command=Place)


def test_none_in_a_union() -> None:
    """Absence is no state, and no command."""
    with pytest.raises(DefinitionError, match="None is no state"):
        Machine("order", state=Pending | None, command=Place)
    with pytest.raises(DefinitionError, match="None is no command"):
        Machine("order", state=Pending, command=Place | None)


class Struct(msgspec.Struct, frozen=True, tag=True, tag_field="$type"):
    pass


@pytest.mark.parametrize("foreign", [int, str, dict, Struct, State, Command, Place, Pending | int])
def test_a_foreign_class_in_a_union(foreign: Any) -> None:
    """Members subclass State or Command, and are not those themselves."""
    with pytest.raises(DefinitionError, match="does not subclass State"):
        Machine("order", state=foreign, command=Place)


@pytest.mark.parametrize("union", ["Pending", 5, list[int], Pending(), (Pending, Paid), ...])
def test_what_is_no_union(union: Any) -> None:
    """A machine takes classes, not their names, instances or lists."""
    with pytest.raises(DefinitionError, match="state= takes a class or a union"):
        Machine("order", state=union, command=Place)
    with pytest.raises(DefinitionError, match="command= takes a class or a union"):
        Machine("order", state=Pending, command=union)


@pytest.mark.parametrize(
    "options",
    [
        {"frozen": False},
        {"eq": False},
        {"array_like": True},
        {"tag_field": "kind"},
        {"omit_defaults": True},
        {"forbid_unknown_fields": False},
    ],
)
def test_a_member_that_changes_how_its_base_is_stored(options: dict[str, Any]) -> None:
    """States are frozen values, equal by their fields, tagged by `$type`."""
    odd = msgspec.defstruct("Odd", [("a", int)], bases=(State,), **options)

    with pytest.raises(DefinitionError, match="Odd changes how its base class is stored"):
        Machine("order", state=odd, command=Place)


class HoldsCallable(State):
    call: Callable[[], int]


class A(msgspec.Struct, frozen=True):
    pass


class B(msgspec.Struct, frozen=True):
    pass


class HoldsUntagged(State):
    part: A | B


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (HoldsCallable, "order: HoldsCallable has a field of type .*Callable"),
        (
            HoldsUntagged,
            "order: HoldsUntagged.part cannot be encoded: .*State and Command classes only",
        ),
    ],
)
def test_a_field_without_an_encoding(state: type[State], says: str) -> None:
    """It is found at the first use, before anything is handled."""
    machine: Machine[Any, Any, Any] = Machine("order", state=state, command=Place)

    def place(state: None, command: Place) -> State:
        raise AssertionError("never called")

    place.__annotations__["return"] = state
    machine.on(place)

    with pytest.raises(DefinitionError, match=says):
        machine.step(None, Place())
