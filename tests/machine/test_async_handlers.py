"""Handlers that are coroutine functions: `astep` awaits them, and nothing else pretends to."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

import pytest

from holdfast import Command, DefinitionError, Machine, Service, State, open_store


class Open(State):
    total: int = 0


class Closed(State):
    pass


class Make(Command):
    total: int = 0


class Close(Command):
    pass


def new_box() -> Machine[Open | Closed, Make | Close, int]:
    box = Machine("box", state=Open | Closed, command=Make | Close, deps=int)

    @box.on
    async def make(command: Make, deps: int, state: None) -> Open:
        await asyncio.sleep(0)
        return Open(total=command.total + deps)

    @box.on
    def close(state: Open, command: Close) -> Closed:
        return Closed()

    return box


def test_astep_awaits_the_handler() -> None:
    """Its parameters are passed by name, as to a plain function."""
    assert asyncio.run(new_box().astep(None, Make(total=1), 2)) == Open(total=3)


def test_astep_takes_plain_handlers_too() -> None:
    """A machine may mix the two."""
    assert asyncio.run(new_box().astep(Open(), Close())) == Closed()


def test_step_does_not_pass_a_coroutine_off_as_a_state() -> None:
    """It says who decides such commands, and leaves nothing unawaited."""
    with pytest.raises(DefinitionError, match="coroutine function; decide with astep"):
        new_box().step(None, Make(), 1)


def test_a_plain_handler_that_returns_a_coroutine_is_told_to_await_it() -> None:
    """A forgotten await is a broken declaration."""
    machine = Machine("box", state=Open, command=Make)

    async def later() -> Open:
        return Open()

    @machine.on
    def make(state: None, command: Make) -> Open:
        return later()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    with pytest.raises(DefinitionError, match="returned a coroutine; await it"):
        machine.step(None, Make())


def test_an_async_handler_is_held_to_its_targets() -> None:
    """What it does not declare it may not return."""
    machine = Machine("box", state=Open | Closed, command=Make)

    @machine.on
    async def make(state: None, command: Make) -> Open:
        return Closed()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    with pytest.raises(DefinitionError, match="returned Closed"):
        asyncio.run(machine.astep(None, Make()))


def test_a_service_that_blocks_refuses_such_a_machine_at_once() -> None:
    """It is said where the service is made, not at the first command."""
    with open_store("memory://") as store, pytest.raises(DefinitionError, match="AsyncService"):
        Service(new_box(), store, deps=1)


def test_a_decorator_may_make_a_handler_a_coroutine_function() -> None:
    """What it wraps gives the annotations; what it returns is what is called."""
    machine = Machine("box", state=Open, command=Make)

    def traced(handler: Callable[[None, Make], Open]) -> Callable[[None, Make], Awaitable[Open]]:
        @functools.wraps(handler)
        async def trace(state: None, command: Make) -> Open:
            await asyncio.sleep(0)
            return handler(state, command)

        return trace

    @machine.on
    @traced
    def make(state: None, command: Make) -> Open:
        return Open(total=command.total)

    assert machine.is_async
    assert asyncio.run(machine.astep(None, Make(total=4))) == Open(total=4)
