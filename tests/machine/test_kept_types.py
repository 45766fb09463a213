"""A TypeVar in a handler's annotations says that the state comes back as the type it was."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TypeVar

import msgspec
import pytest

from holdfast import Command, DefinitionError, Machine, Service, State, open_store


class Open(State):
    notes: tuple[str, ...] = ()


class Waiting(State):
    notes: tuple[str, ...] = ()


class Closed(State):
    notes: tuple[str, ...] = ()


class Create(Command):
    pass


class Pause(Command):
    pass


class Note(Command):
    text: str


class Close(Command):
    pass


Live = TypeVar("Live", Open, Waiting)
Bound = TypeVar("Bound", bound=Open | Waiting)
Whatever = TypeVar("Whatever")

TicketMachine = Machine[Open | Waiting | Closed, Create | Pause | Note | Close, None]


def new_machine() -> TicketMachine:
    ticket = Machine("ticket", state=Open | Waiting | Closed, command=Create | Pause | Note | Close)

    @ticket.on
    def create(state: None, command: Create) -> Open:
        return Open()

    @ticket.on
    def pause(state: Open, command: Pause) -> Waiting:
        return Waiting(notes=state.notes)

    @ticket.on
    def note(state: Live, command: Note) -> Live:
        return msgspec.structs.replace(state, notes=(*state.notes, command.text))

    return ticket


def edges(ticket: TicketMachine) -> set[tuple[str | None, str, str | None]]:
    return {(edge.source, edge.command, edge.target) for edge in ticket.graph().edges}


def test_each_type_leads_to_itself_and_to_no_other() -> None:
    found = edges(new_machine())
    assert {edge for edge in found if edge[1] == "Note"} == {
        ("Open", "Note", "Open"),
        ("Waiting", "Note", "Waiting"),
    }


def test_the_state_comes_back_as_its_type() -> None:
    with open_store("memory://") as store:
        tickets = Service(new_machine(), store)
        tickets.handle("t", Create())
        assert tickets.handle("t", Note(text="a")).state == Open(notes=("a",))
        tickets.handle("t", Pause())
        assert tickets.handle("t", Note(text="b")).state == Waiting(notes=("a", "b"))


def test_another_type_is_refused_at_run_time() -> None:
    ticket = Machine("ticket", state=Open | Waiting, command=Create | Note)

    @ticket.on
    def create(state: None, command: Create) -> Open:
        return Open()

    @ticket.on
    def note(state: Live, command: Note) -> Live:
        return Waiting() if isinstance(state, Open) else state  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    with pytest.raises(DefinitionError, match="returned Waiting, and its annotation says Open"):
        ticket.step(Open(), Note(text="a"))


def test_a_bound_and_other_targets_count_as_well() -> None:
    ticket = new_machine()

    @ticket.on
    def close(state: Bound, command: Close) -> Bound | Closed:
        return Closed() if state.notes else state

    assert {edge for edge in edges(ticket) if edge[1] == "Close"} == {
        ("Open", "Close", "Open"),
        ("Open", "Close", "Closed"),
        ("Waiting", "Close", "Waiting"),
        ("Waiting", "Close", "Closed"),
    }
    assert ticket.step(Open(), Close()) == Open()
    assert ticket.step(Waiting(notes=("a",)), Close()) == Closed()


def test_a_variable_that_may_be_anything_is_no_state() -> None:
    ticket = new_machine()
    with pytest.raises(DefinitionError, match=r"close.*~Whatever is not a class"):

        @ticket.on
        def close(state: Whatever, command: Close) -> Whatever:
            return state


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 brings def f[T]()")
@pytest.mark.parametrize("future", ["", "from __future__ import annotations"])
def test_a_variable_may_be_declared_with_the_handler(
    future: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`def note[Live: (Open, Waiting)]`, with annotations that are evaluated late or at once."""
    module = ModuleType("declared")
    monkeypatch.setitem(sys.modules, "declared", module)
    source = f"""
{future}
from tests.machine.test_kept_types import *
ticket = Machine("ticket", state=Open | Waiting | Closed, command=Create | Note | Close)
@ticket.on
def create(state: None, command: Create) -> Open:
    return Open()
@ticket.on
def note[Live: (Open, Waiting)](state: Live, command: Note) -> Live:
    return state
def define():
    @ticket.on
    def close[Bound: Open | Waiting](state: Bound, command: Close) -> Bound | Closed:
        return state
define()
"""
    exec(source, vars(module))

    assert {edge for edge in edges(module.ticket) if edge[1] != "Create"} == {
        ("Open", "Note", "Open"),
        ("Waiting", "Note", "Waiting"),
        ("Open", "Close", "Open"),
        ("Open", "Close", "Closed"),
        ("Waiting", "Close", "Waiting"),
        ("Waiting", "Close", "Closed"),
    }
    assert module.ticket.step(Waiting(), Note(text="")) == Waiting()
