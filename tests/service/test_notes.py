"""What a handler raises goes on as it is, with a note that tells whose it was."""

from __future__ import annotations

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


def test_one_exception_raised_twice_has_one_note() -> None:
    with open_store("memory://") as store:
        tickets = Service(ticket, store)
        tickets.handle("t-1", Create())
        answers = tickets.handle_many([("t-1", Crash()), ("t-1", Crash())])
    assert answers == [CRASH, CRASH]
    assert CRASH.__notes__ == ["Crash on ticket 't-1': nothing written"]
