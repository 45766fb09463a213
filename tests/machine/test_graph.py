"""The chart that the annotations make: edges, Mermaid text, and what looks forgotten."""

from __future__ import annotations

import re
import time
from typing import NoReturn

import pytest

from holdfast import Command, CommandRejectedError, Machine, State
from holdfast.machine.check import check
from holdfast.machine.graph import Edge, Graph


class Pending(State):
    pass


class Paid(State):
    pass


class Declined(State):
    pass


class Place(Command):
    pass


class Pay(Command):
    pass


class Retry(Command):
    pass


class Forget(Command):
    pass


order = Machine("order", state=Pending | Paid | Declined, command=Place | Pay | Retry | Forget)


@order.on
def place(state: None, command: Place) -> Pending:
    return Pending()


@order.on
def pay(state: Pending | Declined, command: Pay) -> Paid | Declined:
    return Paid()


@order.on
def retry(state: Declined, command: Retry) -> Pending | Declined:
    return Pending()


@order.on
def forget(state: Pending | Declined, command: Forget) -> None:
    return None


def test_the_graph_lists_states_commands_and_edges() -> None:
    """Names come in the order of their definition, edges in that of the handlers."""
    graph = order.graph()
    assert graph.machine == "order"
    assert graph.states == ("Pending", "Paid", "Declined")
    assert graph.commands == ("Place", "Pay", "Retry", "Forget")
    assert graph.final == ("Paid",)
    assert [(e.source, e.command, e.target, e.handler) for e in graph.edges] == [
        (None, "Place", "Pending", "place"),
        ("Pending", "Pay", "Paid", "pay"),
        ("Pending", "Pay", "Declined", "pay"),
        ("Declined", "Pay", "Paid", "pay"),
        ("Declined", "Pay", "Declined", "pay"),
        ("Declined", "Retry", "Pending", "retry"),
        ("Declined", "Retry", "Declined", "retry"),
        ("Pending", "Forget", None, "forget"),
        ("Declined", "Forget", None, "forget"),
    ]


def test_the_graph_draws_itself_as_mermaid_text() -> None:
    """One line for each state, one for each pair of states, all commands between them on it."""
    assert order.graph().mermaid() == (
        """stateDiagram-v2
    Pending
    Paid
    Declined
    [*] --> Pending : Place
    Pending --> Paid : Pay
    Pending --> Declined : Pay
    Declined --> Paid : Pay
    Declined --> Declined : Pay, Retry
    Declined --> Pending : Retry
    Pending --> [*] : Forget
    Declined --> [*] : Forget
    Paid --> [*]
"""
    )


@pytest.mark.parametrize(
    "name",
    [
        "note",
        "Note",
        "State",
        "end",
        "Default",
        "Class",
        "classDef",
        "direction",
        "scale",
        "stateDiagram",
        "in progress",
        "on-hold",
        'the "best"',
        "a:b;c",
        "50%% #off",
        "[*]",
        "-->",
        "s_61",
        "1st",
        "{x}",
        "<<fork>>",
    ],
)
def test_a_name_that_mermaid_would_trip_over_is_given_an_alias(name: str) -> None:
    """Keywords and signs stay out of the diagram's grammar; the name is shown all the same."""

    class Odd(State, tag=name):
        pass

    class Go(Command, tag=name):
        pass

    machine = Machine("odd", state=Odd, command=Go)

    @machine.on
    def go(state: Odd | None, command: Go) -> Odd:
        return Odd()

    first, declared, kept, created = machine.graph().mermaid().splitlines()

    assert first == "stateDiagram-v2"
    alias, shown = declared_alias(declared), declared_text(declared)
    assert shown == name
    label = created.removeprefix(f"    [*] --> {alias} : ")
    assert unescaped(label) == name
    assert not re.search(r'[:"{}<>%]', re.sub(r"#\d+;", "", label))
    assert kept == f"    {alias} --> {alias} : {label}"


def test_names_of_any_script_stay_readable() -> None:
    """Letters of any alphabet are names to Mermaid too."""

    class Odd(State, tag="Überfällig"):
        pass

    machine = Machine("odd", state=Odd, command=Place)

    @machine.on
    def place(state: None, command: Place) -> Odd:
        return Odd()

    assert "    [*] --> Überfällig : Place\n" in machine.graph().mermaid()


def declared_alias(line: str) -> str:
    found = re.fullmatch(r'    state "[^"]*" as (s_[0-9a-f]+)', line)
    assert found, line
    return found[1]


def declared_text(line: str) -> str:
    return unescaped(line.split('"')[1])


def unescaped(text: str) -> str:
    return re.sub(r"#(\d+);", lambda entity: chr(int(entity[1])), text)


def test_check_finds_nothing_wrong_with_a_sound_machine() -> None:
    """Pairs without a handler may be meant; they are listed, and unsound is only the rest."""
    found = order.check()
    assert found.sound
    assert (found.machine, found.unreachable, found.unused) == ("order", (), ())


def test_check_lists_pairs_without_a_handler() -> None:
    """Final states are left out: there nothing is forgotten."""
    assert order.check().unhandled == (
        (None, "Pay"),
        (None, "Retry"),
        (None, "Forget"),
        ("Pending", "Place"),
        ("Pending", "Retry"),
        ("Declined", "Place"),
    )


def test_check_lists_states_that_nothing_leads_to() -> None:
    """A state that only unreachable states lead to is unreachable too; loops do not help."""
    machine = Machine("order", state=Pending | Paid | Declined, command=Place | Pay | Retry)

    @machine.on
    def place(state: None, command: Place) -> Pending:
        return Pending()

    @machine.on
    def pay(state: Declined, command: Pay) -> Paid:
        return Paid()

    @machine.on
    def retry(state: Paid | Declined, command: Retry) -> Declined:
        return Declined()

    found = machine.check()
    assert found.unreachable == ("Paid", "Declined")
    assert not found.sound


def test_a_machine_that_creates_nothing_reaches_nothing() -> None:
    """Without a handler for `None` no entity comes to be."""
    machine = Machine("order", state=Pending | Paid, command=Pay)

    @machine.on
    def pay(state: Pending, command: Pay) -> Paid:
        return Paid()

    assert machine.check().unreachable == ("Pending", "Paid")


def test_check_lists_commands_that_nobody_takes() -> None:
    """A command without any handler was forgotten, or should go."""
    machine = Machine("order", state=Pending, command=Place | Pay)

    @machine.on
    def place(state: None, command: Place) -> Pending:
        return Pending()

    found = machine.check()
    assert found.unused == ("Pay",)
    assert not found.sound


def test_a_refusing_handler_handles_its_pair_and_leads_nowhere() -> None:
    """`NoReturn` says that the refusal is meant."""
    machine = Machine("order", state=Pending, command=Place | Pay)

    @machine.on
    def place(state: None, command: Place) -> Pending:
        return Pending()

    @machine.on
    def refuse(state: Pending, command: Pay) -> NoReturn:
        raise CommandRejectedError("never")

    found = machine.check()
    assert (found.unhandled, found.unused) == (((None, "Pay"), ("Pending", "Place")), ())
    assert found.sound
    assert machine.graph().final == ()
    assert "Pay" not in machine.graph().mermaid()


def test_a_large_machine_is_checked_at_once() -> None:
    """In a time that grows as its pairs do."""
    names = [f"s{number}" for number in range(300)]
    edges = tuple(Edge(a, "go", b, "go") for a, b in zip([None, *names], names, strict=False))
    commands = tuple(f"c{number}" for number in range(300))
    pairs = tuple((name, command) for name in names for command in commands)
    begun = time.perf_counter()

    found = check(Graph("large", tuple(names), commands, pairs, edges))

    assert time.perf_counter() - begun < 5  # looking through tuples took minutes
    assert found.sound
    assert found.unhandled == tuple((None, command) for command in commands)
