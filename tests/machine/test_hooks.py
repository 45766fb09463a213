"""How hooks are declared: what they may take, what they filter by, what is refused at import."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast import Change, Command, DefinitionError, Machine, Service, State
from holdfast import open_store as open_any


class Open(State):
    pass


class Closed(State):
    pass


class Stranger(State):
    pass


class Create(Command):
    pass


class Close(Command):
    pass


def made() -> Machine[Open | Closed, Create | Close]:
    """Return a machine whose hooks are still to be declared."""
    machine = Machine("door", state=Open | Closed, command=Create | Close)

    @machine.on
    def create(state: None, command: Create) -> Open:
        return Open()

    @machine.on
    def close(state: Open, command: Close) -> Closed:
        return Closed()

    return machine


def plain(change: Change) -> None: ...


async def awaited(change: Change) -> None: ...


def yielding(change: Change) -> Iterator[None]:
    yield


def stranger(state: Open) -> None: ...


def needs_deps(deps: object) -> None: ...


def takes_error(error: Exception) -> None: ...


def takes_transition(transition: object) -> None: ...


def takes_any(**more: object) -> None: ...


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda m: m.before(awaited), "a hook is a plain function"),
        (lambda m: m.before(yielding), "hooks do not yield"),
        (lambda m: m.before(stranger), "it offers deps, change, by these names"),
        (lambda m: m.before(takes_any), "it offers deps, change"),
        (lambda m: m.guard(takes_error), "nothing that guard offers"),
        (lambda m: m.before(takes_transition), "nothing that before offers"),
        (lambda m: m.after(takes_error), "it offers deps, change, transition"),
        (lambda m: m.before(needs_deps), "takes deps, and door has none"),
        (lambda m: m.before(len), "'obj' is nothing that before offers"),
        (lambda m: m.before(from_=Stranger)(plain), "from_=Stranger is nothing of door"),
        (lambda m: m.before(command=Open)(plain), "command=Open is nothing of door"),
        (lambda m: m.before(to=Create)(plain), "to=Create is nothing of door; take None, "),
        (lambda m: m.before(to="Open")(plain), "): to= takes classes of states or commands"),
        (lambda m: m.guard(reason=3)(plain), "): reason= is what a guard tells where it refuses"),
        (lambda m: m.before(to=())(plain), "to= names nothing; leave it out for any"),
    ],
)
def test_a_hook_that_is_declared_wrongly_is_refused(
    declare: Callable[[Any], object], message: str
) -> None:
    """At once, with the function and its line."""
    with pytest.raises(DefinitionError, match=re.escape(message)):
        declare(made())


@pytest.mark.parametrize(
    ("kind", "given"), [("before", (Open,)), ("after", (Open, Closed)), ("guard", (plain, Closed))]
)
def test_filters_that_are_given_by_place_are_refused(kind: str, given: tuple[Any, ...]) -> None:
    """At their line, with what to write."""
    with pytest.raises(DefinitionError) as refused:
        getattr(made(), kind)(*given)
    line = refused.traceback[0].lineno + 1
    assert str(refused.value).startswith(
        f"{__file__}:{line}: a {kind} takes its filters by names, from_=…, command=… and to=…, not"
    )


@pytest.mark.parametrize(
    "filters",
    [
        {"from_": Closed},
        {"from_": None, "command": Close},
        {"from_": Open, "to": Open},
        {"to": None},
        {"command": Create, "to": Closed},
    ],
)
def test_a_hook_that_nothing_leads_to_is_refused(filters: dict[str, Any]) -> None:
    """At the first use, when all handlers are known."""
    machine = made()
    machine.before(**filters)(plain)
    with pytest.raises(DefinitionError, match=r"plain \(.*no handler of door makes"):
        machine.compile()


def test_a_failure_hook_is_for_what_no_handler_makes() -> None:
    """A command that is refused in a state is a failure too."""
    machine = made()
    machine.on_failure(from_=Closed, command=Close)(plain)
    machine.compile()


def test_a_machine_in_use_takes_no_hook() -> None:
    """It does not change any more."""
    machine = made()
    machine.compile()
    with pytest.raises(DefinitionError, match="is in use"):
        machine.before(plain)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["Open", "Closed"]),
        ({"from_": None}, ["Open"]),
        ({"from_": Open}, ["Closed"]),
        ({"from_": (None, Open)}, ["Open", "Closed"]),
        ({"from_": Open | None}, ["Open", "Closed"]),
        ({"command": Close}, ["Closed"]),
        ({"command": Create | Close, "to": [Open]}, ["Open"]),
        ({"from_": Open, "command": Close, "to": Closed}, ["Closed"]),
    ],
)
def test_a_hook_is_called_for_what_its_filter_lets_through(
    filters: dict[str, Any], expected: list[str]
) -> None:
    """A class, a union or several of either; None is "not there"; left out is any."""
    machine = made()
    seen: list[str | None] = []

    @machine.before(**filters)
    def see(change: Change) -> None:
        seen.append(change.to_state)

    with open_any("memory://") as store:
        doors = Service(machine, store)
        doors.handle("d", Create())
        doors.handle("d", Close())
    assert seen == expected


def test_a_hook_takes_its_parameters_by_name() -> None:
    """In any order, by place or by keyword alone, or none at all."""
    machine = made()
    seen: list[object] = []

    @machine.after
    def all_of_it(transition: Any, *, change: Change) -> None:
        seen.append((transition.version, change.version))

    @machine.after
    def nothing() -> None:
        seen.append("nothing")

    with open_any("memory://") as store:
        Service(machine, store).handle("d", Create())
    assert seen == [(1, 1), "nothing"]


@pytest.mark.parametrize("answer", ["yes", 1, [], object()])
def test_a_guard_answers_true_or_false(answer: Any) -> None:
    """Anything else is a mistake, not an answer: nothing is written."""
    machine = made()

    @machine.guard
    def vague(change: Change) -> bool:
        return answer  # type: ignore[no-any-return]  # (the mistake)

    with open_any("memory://") as store:
        doors = Service(machine, store)
        with pytest.raises(DefinitionError, match="a guard returns True or False"):
            doors.handle("d", Create())
        assert doors.history("d") == []


def test_a_guard_that_returns_nothing_refuses() -> None:
    """What is forgotten lets nothing through."""
    machine = made()

    @machine.guard
    def forgetful(change: Change) -> None: ...

    with open_any("memory://") as store, pytest.raises(Exception, match="forgetful refused"):
        Service(machine, store).handle("d", Create())


def test_hooks_are_no_part_of_a_step() -> None:
    """`step` decides, and knows neither store nor clock."""
    machine = made()

    @machine.guard
    def never(change: Change) -> bool:
        return False

    assert machine.step(None, Create(), None, None) == Open()
