"""What a handler raises goes on as it is, with a note that tells whose it was."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from holdfast import Command, CommandRejectedError, Machine, Service, State, open_store


class Open(State):
    pass


class Create(Command):
    pass


class Refuse(Command):
    pass


class Crash(Command):
    pass


ticket = Machine("ticket", state=Open, command=Create | Refuse | Crash)
CRASH = ZeroDivisionError("one object, raised again and again")


@ticket.on
def create(state: None, command: Create) -> Open:
    return Open()


@ticket.on
def refuse(state: Open, command: Refuse) -> Open:
    raise CommandRejectedError("it is late")


@ticket.on
def crash(state: Open, command: Crash) -> Open:
    raise CRASH


def test_a_refusal_tells_which_entity_it_was() -> None:
    with open_store("memory://") as store:
        tickets = Service(ticket, store)
        tickets.handle("t-1", Create())
        with pytest.raises(CommandRejectedError, match="it is late") as caught:
            tickets.handle("t-1", Refuse())
    assert caught.value.__notes__ == ["Refuse on ticket 't-1': nothing written"]


def test_one_exception_raised_for_many_entities_keeps_the_last_note() -> None:
    """However long a program runs, an error that lives as long does not grow."""
    with open_store("memory://") as store:
        tickets = Service(ticket, store)
        for number in range(50):
            tickets.handle(f"t-{number}", Create())
            with pytest.raises(ZeroDivisionError):
                tickets.handle(f"t-{number}", Crash())
    assert CRASH.__notes__ == ["Crash on ticket 't-49': nothing written"]


def test_an_exception_keeps_the_notes_of_others() -> None:
    """Only the library's own is replaced."""
    error = KeyError("drawer")
    error.add_note("the second from above")
    with open_store("memory://") as store:
        tickets = Service(raising(error), store)
        for number in range(2):
            with pytest.raises(KeyError):
                tickets.handle(f"t-{number}", Create())
    assert error.__notes__ == ["the second from above", "Create on ticket 't-1': nothing written"]


@dataclass(frozen=True)
class FrozenError(Exception):
    """An error that takes no note, nor anything else."""

    why: str


def test_an_exception_that_takes_no_note_goes_on_as_it_is() -> None:
    """It is not replaced by what refused the note."""
    with open_store("memory://") as store:
        answers = Service(raising(FrozenError("jam")), store).handle_many([("t-1", Create())])
    assert answers == [FrozenError("jam")]


def raising(error: Exception) -> Machine[Open, Create, None]:
    """Return a machine whose handler raises one exception."""
    machine = Machine("ticket", state=Open, command=Create)

    @machine.on
    def create(state: Open | None, command: Create) -> Open:
        raise error

    return machine


def test_one_exception_raised_twice_has_one_note() -> None:
    with open_store("memory://") as store:
        tickets = Service(ticket, store)
        tickets.handle("t-1", Create())
        answers = tickets.handle_many([("t-1", Crash()), ("t-1", Crash())])
    assert answers == [CRASH, CRASH]
    assert CRASH.__notes__ == ["Crash on ticket 't-1': nothing written"]
