"""The pure semantics of a machine: which handler decides, and what it may decide."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, assert_never

import pytest

from holdfast import (
    Command,
    DefinitionError,
    InvalidTransitionError,
    Machine,
    State,
    ValidationError,
)


class Pending(State):
    total: int = 0


class Paid(State):
    total: int = 0


class Closed(State):
    pass


class Place(Command):
    total: int = 0


class Pay(Command):
    pass


class Note(Command):
    pass


class Remove(Command):
    pass


OrderState = Pending | Paid | Closed
OrderCommand = Place | Pay | Note | Remove


def new_order() -> Machine[Pending | Paid | Closed, Place | Pay | Note | Remove]:
    order = Machine("order", state=OrderState, command=OrderCommand)

    @order.on
    def place(state: None, command: Place) -> Pending:
        return Pending(total=command.total)

    @order.on
    def pay(state: Pending, command: Pay) -> Paid | Closed:
        return Paid(total=state.total) if state.total else Closed()

    @order.on
    def note(state: Pending | Paid, command: Note) -> OrderState:
        return state

    @order.on
    def remove(state: Paid, command: Remove) -> None:
        return None

    return order


order = new_order()


def test_a_step_is_what_the_handler_of_the_pair_returns() -> None:
    """Dispatch is by the types of the state and of the command."""
    assert order.step(None, Place(total=3)) == Pending(total=3)
    assert order.step(Pending(total=3), Pay()) == Paid(total=3)
    assert order.step(Pending(total=0), Pay()) == Closed()


def test_an_equal_state_is_a_state_decided() -> None:
    """A handler may return the state it was given."""
    assert order.step(Paid(total=3), Note()) == Paid(total=3)


def test_none_deletes_where_it_is_declared() -> None:
    """`-> None` is a result like any other."""
    assert order.step(Paid(), Remove()) is None


def test_a_pair_without_a_handler_is_refused_with_what_is_allowed() -> None:
    """The error tells the machine, the state, the command and the commands that the state takes."""
    with pytest.raises(InvalidTransitionError) as caught:
        order.step(Paid(), Pay())
    error = caught.value
    assert (error.machine, error.state, error.command) == ("order", "Paid", "Pay")
    assert error.allowed == ("Note", "Remove")
    assert str(error) == "Pay cannot be applied to a order, in state Paid; allowed: Note, Remove"


def test_a_command_for_what_does_not_exist_is_refused_with_those_that_create() -> None:
    """Without an entity the state is None."""
    with pytest.raises(InvalidTransitionError) as caught:
        order.step(None, Pay())
    assert caught.value.state is None
    assert caught.value.allowed == ("Place",)


def test_a_final_state_allows_nothing() -> None:
    """What no command leads out of says so."""
    with pytest.raises(InvalidTransitionError, match="allowed: no command at all"):
        order.step(Closed(), Note())


@pytest.mark.parametrize(
    ("state", "command", "says"),
    [
        (Pending(), None, "None is not a command of order"),
        (Pending(), Paid(), "a Paid is not a command of order"),
        (Pending(), Pay, r"the class Pay itself \(build one: Pay\(…\)\) is not a command"),
        (Pending(), "Pay", "a str is not a command of order"),
        (Place(), Pay(), "a Place is not a state of order"),
        ("Pending", Pay(), "a str is not a state of order"),
    ],
)
def test_what_is_no_member_is_refused_by_name(state: Any, command: Any, says: str) -> None:
    """Strangers are told from members without a handler."""
    with pytest.raises(ValidationError, match=says):
        order.step(state, command)


def test_dispatch_is_by_exact_type() -> None:
    """A subclass of a state is another state, which the machine does not know."""

    class Reserved(Pending):
        pass

    with pytest.raises(ValidationError, match="a Reserved is not a state of order"):
        order.step(Reserved(), Pay())


def test_a_result_outside_the_annotation_is_an_error() -> None:
    """A handler that breaks its own declaration is named with its line."""
    machine = Machine("order", state=OrderState, command=OrderCommand)

    @machine.on
    def place(state: None, command: Place) -> Pending:
        return Paid()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    with pytest.raises(DefinitionError) as caught:
        machine.step(None, Place())
    line = place.__code__.co_firstlineno
    assert f"place ({__file__}:{line}) returned Paid" in str(caught.value)
    assert "its annotation says Pending" in str(caught.value)


@pytest.mark.parametrize("result", [None, "paid", Paid, Place(), 5])
def test_a_result_that_is_no_declared_state_is_an_error(result: object) -> None:
    """Neither None, nor a class, nor a command, nor anything else passes for a state."""
    machine = Machine("order", state=OrderState, command=OrderCommand)

    @machine.on
    def place(state: None, command: Place) -> Pending | Paid:
        return result  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    with pytest.raises(DefinitionError, match=r"its annotation says Pending \| Paid"):
        machine.step(None, Place())


def test_a_handler_that_declares_to_refuse_may_not_return() -> None:
    """`NoReturn` is held to."""
    from typing import NoReturn

    machine = Machine("order", state=OrderState, command=OrderCommand)

    @machine.on
    def place(state: None, command: Place) -> NoReturn:
        return Pending()  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]

    with pytest.raises(DefinitionError, match="says that it never returns"):
        machine.step(None, Place())


def test_what_a_handler_raises_arrives_as_it_was_raised() -> None:
    """Neither wrapped nor swallowed, with the handler in its traceback."""

    class OutOfStockError(Exception):
        pass

    machine = Machine("order", state=OrderState, command=OrderCommand)
    error = OutOfStockError("nothing left")

    @machine.on
    def place(state: None, command: Place) -> Pending:
        raise error

    with pytest.raises(OutOfStockError) as caught:
        machine.step(None, Place())
    assert caught.value is error
    assert caught.value.__cause__ is None
    assert caught.traceback[-1].name == "place"


def test_a_key_error_of_a_handler_is_its_own() -> None:
    """The machine's own look-up is not mistaken for the handler's, nor the other way round."""
    machine = Machine("order", state=OrderState, command=OrderCommand)

    @machine.on
    def place(state: None, command: Place) -> Pending:
        raise KeyError("price")

    with pytest.raises(KeyError, match="price") as caught:
        machine.step(None, Place())
    assert caught.traceback[-1].name == "place"


def test_the_free_form_is_one_handler_over_whole_unions() -> None:
    """A nested match that both type checkers can prove exhaustive."""
    machine = Machine("order", state=OrderState, command=OrderCommand)

    @machine.on
    def decide(state: OrderState | None, command: OrderCommand) -> OrderState | None:
        match command:
            case Place(total=total):
                return Pending(total=total)
            case Pay():
                match state:
                    case Pending(total=total):
                        return Paid(total=total)
                    case None | Paid() | Closed():
                        return state
                    case _:
                        assert_never(state)
            case Note():
                return state
            case Remove():
                return None
            case _:
                assert_never(command)

    assert machine.step(None, Place(total=2)) == Pending(total=2)
    assert machine.step(Pending(total=2), Pay()) == Paid(total=2)
    assert machine.step(Closed(), Remove()) is None
    assert len(machine.graph().handled) == 16
    assert machine.final == ()


def test_a_step_has_no_clock_and_no_store() -> None:
    """A handler that wants a context is given the one that was passed, or none."""
    from holdfast import Context

    machine = Machine("order", state=OrderState, command=OrderCommand)
    seen: list[object] = []

    @machine.on
    def place(state: None, command: Place, context: Context) -> Pending:
        seen.append(context)
        return Pending()

    machine.step(None, Place())
    assert seen == [None]


def test_allowed_lists_the_commands_with_a_handler_in_the_order_of_the_union() -> None:
    """None asks for the commands that create."""
    assert order.allowed(None) == (Place,)
    assert order.allowed(Pending()) == (Pay, Note)
    assert order.allowed(Paid()) == (Note, Remove)
    assert order.allowed(Closed()) == ()


def test_allowed_refuses_what_is_no_state() -> None:
    """A stranger has no commands, and is told so."""
    with pytest.raises(ValidationError, match="a Place is not a state"):
        order.allowed(Place())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_final_states_are_those_that_nothing_leads_out_of() -> None:
    """They are derived; a state that can be deleted, or stays itself, is not final."""
    assert order.final == (Closed,)


def test_a_machine_does_not_change_after_its_first_use() -> None:
    """The first step closes the definition."""
    machine = new_order()
    machine.step(None, Place())

    with pytest.raises(DefinitionError, match="order is in use") as caught:

        @machine.on
        def reopen(state: Closed, command: Place) -> Pending:
            return Pending()

    assert f"reopen ({__file__}:" in str(caught.value)
    assert machine.final == (Closed,)


USES: dict[str, Callable[[Machine[Any, Any]], object]] = {
    "allowed": lambda machine: machine.allowed(None),
    "final": lambda machine: machine.final,
    "graph": lambda machine: machine.graph(),
    "check": lambda machine: machine.check(),
    "parse_command": lambda machine: machine.parse_command('{"$type":"Pay"}'),
    "compile": lambda machine: machine.compile(),
}


@pytest.mark.parametrize("use", USES)
def test_every_use_closes_the_definition(use: str) -> None:
    """Whatever was asked of a machine stays true."""
    machine = new_order()
    USES[use](machine)

    with pytest.raises(DefinitionError, match="in use"):

        @machine.on
        def reopen(state: Closed, command: Place) -> Pending:
            return Pending()


def test_the_first_use_may_come_from_many_threads_at_once() -> None:
    """Whichever thread compiles, every one finds the handler."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            assert steps_at_once(new_order(), 8) == [Pending(total=1)] * 8
    finally:
        sys.setswitchinterval(interval)


def test_a_step_that_began_before_another_thread_compiled_finds_the_handler() -> None:
    """The look-up that failed before the first use is made again after it."""
    machine = new_order()

    class UsedMeanwhile(dict[Any, Any]):
        def __missing__(self, pair: object) -> None:
            machine.compile()
            raise KeyError(pair)

    machine._table = UsedMeanwhile()  # pyright: ignore[reportPrivateUsage]

    assert machine.step(None, Place(total=1)) == Pending(total=1)


def steps_at_once(machine: Machine[Any, Any], threads: int) -> list[object]:
    """Take a machine's first step in many threads at the same time."""
    barrier = threading.Barrier(threads)
    results: list[object] = []

    def step() -> None:
        barrier.wait()
        try:
            results.append(machine.step(None, Place(total=1)))
        except Exception as error:  # noqa: BLE001 (it is what the test shows)
            results.append(error)

    workers = [threading.Thread(target=step) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results
