"""How a machine reads a handler's annotations, where Python evaluates them when defining it."""

from types import NoneType
from typing import List, TypeAlias  # noqa: UP035 (the old spelling is still in use)

from holdfast import Command, Machine, State


class Pending(State):
    total: int = 0


class Declined(State):
    command: "OrderCommand"
    previous: "OrderState"
    earlier: List["OrderState"] = []  # noqa: UP006, RUF012 (as above; msgspec copies it)


class Place(Command):
    pass


class Decline(Command):
    pass


OrderState = Pending | Declined
OrderCommand = Place | Decline


def new_machine() -> Machine[Pending | Declined, Place | Decline]:
    return Machine("order", state=OrderState, command=OrderCommand)


def test_annotations_may_be_objects() -> None:
    """Without the future import the annotation is the class itself."""
    machine = new_machine()

    @machine.on
    def place(state: None, command: Place) -> Pending | None:
        return Pending()

    assert machine.handlers[0].sources == (NoneType,)
    assert machine.handlers[0].targets == (Pending, NoneType)


def test_single_annotations_may_be_text() -> None:
    """A quoted annotation is evaluated where the handler is defined."""
    machine = new_machine()

    @machine.on
    def decline(state: "Pending", command: "Decline") -> "Declined":
        return Declined(command=command, previous=state)

    assert machine.step(Pending(), Decline()) == Declined(command=Decline(), previous=Pending())


def test_a_state_that_names_the_unions_before_they_exist_is_stored_and_read() -> None:
    """Quoted fields are evaluated at the first use."""
    machine = new_machine()

    @machine.on
    def place(state: None, command: Place) -> Pending:
        return Pending()

    value = Declined(
        command=Decline(),
        previous=Declined(command=Place(), previous=Pending(total=1)),
        earlier=[Pending()],
    )
    text, copy = machine.state_codec.encode(value)
    assert copy == value
    assert machine.state_codec.decode(text) == value


def test_classes_of_a_function_may_quote_each_other() -> None:
    """Quoted names are found in the function that defines the classes."""

    class Open(State):
        earlier: "list[Ticket]"
        others: list["Ticket"]

    class Closed(State):
        previous: "Ticket"

    class Touch(Command):
        pass

    Ticket: TypeAlias = Open | Closed  # pyright: ignore[reportGeneralTypeIssues]
    machine = Machine("ticket", state=Ticket, command=Touch)

    @machine.on
    def touch(state: "Ticket | None", command: Touch) -> "Closed":
        return Closed(previous=state or Open(earlier=[], others=[]))

    first = machine.step(None, Touch())
    second = machine.step(first, Touch())
    assert second == Closed(previous=Closed(previous=Open(earlier=[], others=[])))
    assert second is not None
    assert machine.state_codec.encode(second)[1] == second
