"""How a machine reads a handler's annotations, where they are text (`from __future__`)."""

from __future__ import annotations

import functools
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, NoneType
from typing import TYPE_CHECKING, Annotated, Any, Never, NoReturn, Optional, Protocol, TypeVar

import pytest
from typing_extensions import TypeAliasType

from holdfast import Command, CommandRejectedError, Context, Machine, State

if TYPE_CHECKING:
    from collections.abc import Mapping


class Pending(State):
    total: int = 0


class Paid(State):
    receipt: str = ""


class Declined(State):
    command: OrderCommand
    previous: OrderState


class Place(Command):
    pass


class Pay(Command):
    pass


class Cancel(Command):
    pass


class Clock(Protocol):
    def now(self) -> int: ...


OrderState = Pending | Paid | Declined
OrderCommand = Place | Pay | Cancel
Alias = TypeAliasType("Alias", Pending | Paid)
OldUnion = typing.Union[Pending, Paid]  # noqa: UP007 (the old spelling is still in use)
OldOptional = Optional[Pending]  # noqa: UP045 (the old spelling is still in use)

H = TypeVar("H", bound=Callable[..., object])


def new_machine() -> Machine[Pending | Paid | Declined, Place | Pay | Cancel]:
    return Machine("order", state=OrderState, command=OrderCommand)


def pairs_of(machine: Machine[Any, Any, Any]) -> set[tuple[str | None, str]]:
    return set(machine.graph().handled)


def targets_of(machine: Machine[Any, Any, Any]) -> set[str | None]:
    return {edge.target for edge in machine.graph().edges}


def test_the_decorated_function_stays_what_it_was() -> None:
    """A handler can be called and tested like any function."""
    machine = new_machine()

    @machine.on
    def place(state: None, command: Place) -> Pending:
        return Pending(total=1)

    assert place(None, Place()) == Pending(total=1)
    assert place.__name__ == "place"


def test_none_as_the_source_means_that_there_is_no_entity() -> None:
    """`state: None` declares a command that creates."""
    machine = new_machine()

    @machine.on
    def place(state: None, command: Place) -> Pending:
        return Pending()

    assert pairs_of(machine) == {(None, "Place")}


def test_a_union_of_states_and_of_commands_declares_every_pair() -> None:
    """One handler may serve several states and several commands."""
    machine = new_machine()

    @machine.on
    def touch(state: Pending | Paid, command: Pay | Cancel) -> Paid:
        return Paid()

    assert pairs_of(machine) == {
        (state, command) for state in ("Pending", "Paid") for command in ("Pay", "Cancel")
    }


def test_a_union_with_none_creates_or_changes() -> None:
    """`Pending | None` as source serves an entity that is there and one that is not."""
    machine = new_machine()

    @machine.on
    def place(state: Pending | None, command: Place) -> Pending:
        return Pending(total=state.total + 1 if state else 0)

    assert pairs_of(machine) == {(None, "Place"), ("Pending", "Place")}
    assert machine.step(machine.step(None, Place()), Place()) == Pending(total=1)


def test_targets_are_all_that_the_result_unites() -> None:
    """The result's annotation names every state that the handler may lead to."""
    machine = new_machine()

    @machine.on
    def pay(state: Pending, command: Pay) -> Paid | Declined | None:
        return None

    assert targets_of(machine) == {"Paid", "Declined", None}


@pytest.mark.parametrize("annotation", ["Alias", "OldUnion", "Annotated[Pending | Paid, 'why']"])
def test_every_spelling_of_a_union_declares_its_members(annotation: str) -> None:
    """Type aliases, `typing.Union` and `Annotated` mean what they unite."""
    machine = new_machine()

    def touch(state: Pending, command: Pay) -> Any:
        return Paid()

    touch.__annotations__ |= {"state": annotation, "return": annotation}
    machine.on(touch)

    assert pairs_of(machine) == {("Pending", "Pay"), ("Paid", "Pay")}
    assert targets_of(machine) == {"Pending", "Paid"}


def test_optional_means_with_none() -> None:
    """`Optional[Pending]` is `Pending | None`."""
    machine = new_machine()

    @machine.on
    def place(state: OldOptional, command: Place) -> Pending:
        return Pending()

    assert pairs_of(machine) == {(None, "Place"), ("Pending", "Place")}


def test_a_whole_union_may_be_an_alias_of_its_own() -> None:
    """A machine takes an alias for its unions too."""
    machine = Machine("order", state=Alias, command=Annotated[Place | Pay, "commands"])
    assert machine.states == (Pending, Paid)
    assert machine.commands == (Place, Pay)


def test_a_single_class_is_a_union_of_one() -> None:
    """A machine may have one state and one command."""
    machine = Machine("order", state=Pending, command=Place)
    assert (machine.states, machine.commands) == ((Pending,), (Place,))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 brings the type statement")
def test_the_type_statement_names_a_union_before_its_members_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`type OrderState = Pending | Paid` may stand above the classes."""
    module = ModuleType("statement")
    monkeypatch.setitem(sys.modules, "statement", module)
    exec(
        """
from holdfast import Command, Machine, State
type Ours = Pending | Paid
class Pending(State): pass
class Paid(State):
    previous: Ours
class Pay(Command): pass
machine = Machine("order", state=Ours, command=Pay)
@machine.on
def pay(state: Ours | None, command: Pay) -> Ours:
    return Paid(previous=state or Pending())
""",
        vars(module),
    )
    assert pairs_of(module.machine) == {(s, "Pay") for s in (None, "Pending", "Paid")}
    assert targets_of(module.machine) == {"Pending", "Paid"}
    state = module.machine.step(None, module.Pay())
    assert module.machine.state_codec.encode(state)[1] == state


@pytest.mark.parametrize("never", [Never, NoReturn])
def test_a_handler_that_always_refuses_leads_nowhere(never: object) -> None:
    """`NoReturn` declares a pair that is handled with a refusal."""
    machine = new_machine()

    def refuse(state: Paid, command: Cancel) -> NoReturn:
        raise CommandRejectedError("paid orders are not cancelled")

    refuse.__annotations__["return"] = never
    machine.on(refuse)

    assert targets_of(machine) == set()
    assert machine.allowed(Paid()) == (Cancel,)
    with pytest.raises(CommandRejectedError, match="paid orders"):
        machine.step(Paid(), Cancel())


def test_parameters_are_passed_by_name_in_any_order() -> None:
    """A handler lists what it takes in the order that it likes."""
    machine = Machine("order", state=OrderState, command=OrderCommand, deps=Clock)
    seen: list[object] = []

    @machine.on
    def place(context: Context, deps: Clock, command: Place, state: None) -> Pending:
        seen.extend((context, deps, command, state))
        return Pending()

    deps, context = FixedClock(), a_context()
    machine.step(None, Place(), deps, context)

    assert seen == [context, deps, Place(), None]


def test_parameters_may_be_keyword_only() -> None:
    """`*` in front of the parameters changes nothing."""
    machine = Machine("order", state=OrderState, command=OrderCommand, deps=Clock)

    @machine.on
    def place(*, state: None, command: Place, deps: Clock, context: Context) -> Pending:
        return Pending(total=deps.now() + context.version)

    @machine.on
    def pay(state: Pending, *, command: Pay, context: Context) -> Paid:
        return Paid(receipt=context.id)

    assert machine.step(None, Place(), FixedClock(), a_context()) == Pending(total=45)
    assert machine.step(Pending(), Pay(), FixedClock(), a_context()) == Paid(receipt="o-1")


@pytest.mark.parametrize("wanted", ["", "deps", "context", "deps, context"])
def test_dependencies_and_context_are_passed_only_if_wanted(wanted: str) -> None:
    """What a handler does not name it does not get."""
    machine = Machine("order", state=OrderState, command=OrderCommand, deps=Clock)
    seen: dict[str, object] = {}
    names = [name for name in wanted.split(", ") if name]
    scope: dict[str, Any] = {"seen": seen, "Pending": Pending, "Place": Place}
    takes = ", ".join(["state: None", "command: Place", *names])
    exec(
        f"def place({takes}) -> Pending:\n"
        f"    seen.update({', '.join(f'{name}={name}' for name in names)})\n"
        "    return Pending()\n",
        scope,
    )
    machine.on(scope["place"])
    deps, context = FixedClock(), a_context()

    machine.step(None, Place(), deps, context)

    assert seen == {name: {"deps": deps, "context": context}[name] for name in names}


def test_a_dependency_imported_for_type_checking_alone_breaks_nothing() -> None:
    """Only the annotations of the state, the command and the result are evaluated."""
    machine = Machine("order", state=OrderState, command=OrderCommand, deps=Any)

    @machine.on
    def place(state: None, command: Place, deps: Mapping[str, int]) -> Pending:
        return Pending(total=deps["total"])

    assert "Mapping" not in globals()
    assert machine.step(None, Place(), {"total": 7}) == Pending(total=7)


def test_a_decorated_handler_is_read_through_its_decorators() -> None:
    """`functools.wraps` keeps the annotations that count, and the decorator still runs."""
    machine = new_machine()
    calls: list[str] = []

    def logged(handler: H) -> H:
        @functools.wraps(handler)
        def wrapper(*arguments: Any, **named: Any) -> object:
            calls.append(handler.__name__)
            return handler(*arguments, **named)

        return typing.cast("H", wrapper)

    @machine.on
    @logged
    def place(state: None, command: Place) -> Pending:
        return Pending(total=1)

    assert machine.step(None, Place()) == Pending(total=1)
    assert calls == ["place"]
    location = machine.handlers[0].location
    assert location.startswith(place.__qualname__)
    line = int(location.removesuffix(")").rpartition(":")[2])
    assert "def place" in "".join(
        Path(__file__).read_text("utf-8").splitlines()[line - 1 : line + 2]
    )


def test_a_function_may_be_a_handler_of_two_machines() -> None:
    """Registering changes the machine, not the function."""
    first, second = new_machine(), new_machine()

    @first.on
    @second.on
    def place(state: None, command: Place) -> Pending:
        return Pending()

    assert first.step(None, Place()) == second.step(None, Place()) == Pending()


def test_the_machine_lists_its_handlers_in_order() -> None:
    """What was declared can be looked up: sources, commands, targets, name and place."""
    machine = new_machine()

    @machine.on
    def place(state: None, command: Place) -> Pending:
        return Pending()

    @machine.on
    def cancel(state: Pending | Paid, command: Cancel) -> None:
        return None

    assert [handler.name for handler in machine.handlers] == ["place", "cancel"]
    assert machine.handlers[1].sources == (Pending, Paid)
    assert machine.handlers[1].commands == (Cancel,)
    assert machine.handlers[1].targets == (NoneType,)
    assert machine.handler_for(Paid, Cancel) is machine.handlers[1]
    assert machine.handler_for(NoneType, Place) is machine.handlers[0]
    assert machine.handler_for(NoneType, Cancel) is None
    line = cancel.__code__.co_firstlineno
    assert machine.handlers[1].location.endswith(f"cancel ({__file__}:{line})")


def test_annotations_may_be_quoted_once_more() -> None:
    """What was quoted before the future import came is quoted twice, whole or in parts."""
    machine = new_machine()

    @machine.on
    def place(state: "None", command: "Place") -> "Pending | None":  # noqa: UP037 (the point)
        return Pending()

    @machine.on
    def cancel(
        state: "Pending | Paid",  # noqa: UP037
        command: "Cancel",  # noqa: UP037
    ) -> Optional["Pending"]:  # noqa: UP037, UP045
        return None

    assert machine.handlers[0].sources == (NoneType,)
    assert machine.handlers[1].sources == (Pending, Paid)
    assert machine.handlers[0].commands == (Place,)
    assert machine.handlers[0].targets == (Pending, NoneType)
    assert machine.handlers[1].commands == (Cancel,)
    assert machine.handlers[1].targets == (Pending, NoneType)


def test_a_machine_says_its_name() -> None:
    """The repr is short, for logs and debuggers."""
    assert repr(new_machine()) == "<Machine order>"


class FixedClock:
    def now(self) -> int:
        return 42


def a_context() -> Context:
    from datetime import UTC, datetime

    return Context(datetime(2024, 1, 1, tzinfo=UTC), token="t", id="o-1", version=3)
