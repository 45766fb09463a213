"""How handlers and what is wrapped around them are called: alike by `step` and by `astep`."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast import Command, Context, DefinitionError, Machine, State

CONTEXT = Context(datetime(2024, 1, 1, tzinfo=UTC), id="b-1")


class Box(State):
    said: tuple[Any, ...]


class Put(Command):
    number: int = 1


def box() -> Machine[Box, Put, str]:
    return Machine("box", state=Box, command=Put, deps=str)


def plain(state: Box | None, command: Put, deps: str, context: Context) -> Box:
    return Box(said=(state, command.number, deps, context.id))


def mixed(context: Context, command: Put, deps: str, state: Box | None) -> Box:
    return Box(said=(state, command.number, deps, context.id))


def named(state: Box | None, *, context: Context, command: Put, deps: str) -> Box:
    return Box(said=(state, command.number, deps, context.id))


async def waiting(state: Box | None, command: Put, deps: str, context: Context) -> Box:
    await asyncio.sleep(0)
    return Box(said=(state, command.number, deps, context.id))


async def waiting_mixed(context: Context, command: Put, deps: str, state: Box | None) -> Box:
    await asyncio.sleep(0)
    return Box(said=(state, command.number, deps, context.id))


async def waiting_named(state: Box | None, *, context: Context, command: Put, deps: str) -> Box:
    await asyncio.sleep(0)
    return Box(said=(state, command.number, deps, context.id))


def bare(handler: Any) -> Any:
    return handler


def either(handler: Any) -> Any:
    @functools.wraps(handler)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return handler(*args, **kwargs)

    return wrapper


def by_order(handler: Any) -> Any:
    @functools.wraps(handler)
    def wrapper(*args: Any) -> Any:
        return handler(*args)

    return wrapper


def by_name(handler: Any) -> Any:
    @functools.wraps(handler)
    def wrapper(**kwargs: Any) -> Any:
        return handler(**kwargs)

    return wrapper


def some_by_name(handler: Any) -> Any:
    @functools.wraps(handler)
    def wrapper(command: Any, state: Any, **kwargs: Any) -> Any:
        return handler(command=command, state=state, **kwargs)

    return wrapper


def only_by_name(handler: Any) -> Any:
    @functools.wraps(handler)
    def wrapper(*, deps: Any, state: Any, context: Any, command: Any, more: Any = None) -> Any:
        return handler(command=command, state=state, deps=deps, context=context)

    return wrapper


def twice(handler: Any) -> Any:
    return by_name(either(handler))


def awaiting(handler: Any) -> Any:
    @functools.wraps(handler)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = handler(*args, **kwargs)
        return await result if asyncio.iscoroutine(result) else result

    return wrapper


def awaiting_by_order(handler: Any) -> Any:
    @functools.wraps(handler)
    async def wrapper(*args: Any) -> Any:
        result = handler(*args)
        return await result if asyncio.iscoroutine(result) else result

    return wrapper


def awaiting_by_name(handler: Any) -> Any:
    @functools.wraps(handler)
    async def wrapper(**kwargs: Any) -> Any:
        result = handler(**kwargs)
        return await result if asyncio.iscoroutine(result) else result

    return wrapper


WRAPPERS = [
    bare,
    either,
    by_order,
    by_name,
    some_by_name,
    only_by_name,
    twice,
    awaiting,
    awaiting_by_order,
    awaiting_by_name,
]
HANDLERS = [plain, mixed, named, waiting, waiting_mixed, waiting_named]


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("handler", HANDLERS)
def test_arguments_come_to_their_parameters(
    handler: Callable[..., Any], wrap: Callable[..., Any]
) -> None:
    """In any order, whatever is wrapped around, with `step` and `astep` alike."""
    machine = box()
    if wrap in (by_order, awaiting_by_order) and handler in (named, waiting_named):
        with pytest.raises(DefinitionError, match=r"the function around it takes \(\*args"):
            machine.on(wrap(handler))
        return
    machine.on(wrap(handler))
    before = Box(said=())
    expected = Box(said=(before, 7, "deps", "b-1"))

    waits = handler in HANDLERS[3:] or wrap in WRAPPERS[7:]
    assert machine.is_async == waits
    assert asyncio.run(machine.astep(before, Put(number=7), "deps", CONTEXT)) == expected
    if waits:
        with pytest.raises(DefinitionError, match="is a coroutine function"):
            machine.step(before, Put(number=7), "deps", CONTEXT)
    else:
        assert machine.step(before, Put(number=7), "deps", CONTEXT) == expected


@pytest.mark.parametrize("handler", [plain, waiting])
def test_a_wrapper_may_give_what_the_machine_does_not(handler: Callable[..., Any]) -> None:
    """What it takes itself is what it is given."""
    machine: Machine[Box, Put, None] = Machine("box", state=Box, command=Put)

    @machine.on
    @functools.wraps(handler)
    def wrapper(context: Context, state: Box | None, command: Put) -> Any:
        return handler(state, command, "own", context)

    result = asyncio.run(machine.astep(None, Put(), context=CONTEXT))

    assert result == Box(said=(None, 1, "own", "b-1"))


def test_a_wrapper_may_call_its_parameters_as_it_likes() -> None:
    """Where their names say nothing, their order counts."""
    machine = box()

    @machine.on
    @functools.wraps(mixed)
    def wrapper(a: Any, b: Any, c: Any, d: Any, /, e: int = 5) -> Any:
        return mixed(a, b, c, d)

    assert machine.step(None, Put(), "deps", CONTEXT) == Box(said=(None, 1, "deps", "b-1"))


def test_a_wrapper_that_cannot_be_called_is_refused() -> None:
    """When it is registered, with its line."""

    def passes_too_little(state: Any) -> Any:
        raise AssertionError("never called")

    def takes_too_much(state: Any, command: Any, extra: Any) -> Any:
        raise AssertionError("never called")

    def mistakes_one_for_another(command: Any, *args: Any) -> Any:
        raise AssertionError("never called")

    wrappers: list[Any] = [passes_too_little, takes_too_much, mistakes_one_for_another]
    for wrapper in wrappers:
        with pytest.raises(DefinitionError, match=r"plain \(.*the function around it takes \("):
            box().on(functools.wraps(plain)(wrapper))
