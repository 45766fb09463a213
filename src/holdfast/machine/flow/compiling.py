"""Makes a machine of a chart: a state class and a command class for each name, and its hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from operator import or_
from types import NoneType
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from holdfast.errors import InvalidTransitionError
from holdfast.machine.definition import Machine
from holdfast.machine.flow.callbacks import Callback
from holdfast.machine.flow.chart import Chart
from holdfast.machine.flow.classes import EVENT, INITIAL, make_class
from holdfast.machine.flow.former import Former
from holdfast.machine.model import Command, State

if TYPE_CHECKING:
    from holdfast.machine.hooks import Hook


class Compiled(Struct, frozen=True):
    """The machine of a flow, and its classes by the names of the states."""

    machine: Machine[Any, Any, Any]
    states: dict[str, type]
    commands: dict[str, Callable[..., Any]]


def compile_flow(chart: Chart, name: str, flow: type) -> Compiled:
    """Build the machine; an entity that does not exist counts as in the initial state."""
    assert chart.initial is not None
    states = {str(each): make_class(State, each, flow) for each in chart.states}
    commands = {each: make_class(Command, each, flow, EVENT) for each in states}
    commands[chart.initial] = make_class(Command, chart.initial, flow, EVENT + INITIAL)
    machine: Machine[Any, Any, Any] = Machine(
        name, state=reduce(or_, states.values()), command=reduce(or_, commands.values())
    )
    for target, command in commands.items():
        sources = [states[source] for source, to in chart.pairs if to == target]
        if target == chart.initial or (chart.initial, target) in chart.pairs:
            sources.append(NoneType)
        if sources:
            expect = _expect_recording(chart, name) if target == chart.initial else None
            machine.on(_handler(chart.flow, sources, command, states[target], expect))
    machine.initial = states[chart.initial]
    machine.former = Former(flow, commands)
    for callback in chart.callbacks:
        for hook in _hooks(chart, callback, states, commands):
            machine.add_hook(hook)
    machine.compile()
    return Compiled(machine, states, commands)


def _handler(
    flow: str,
    sources: Iterable[type],
    command: type,
    target: type,
    expect: Callable[[object, Any], None] | None,
) -> Any:
    """Return the function that leads from each source to the target."""
    made = target()

    def enter(state: object, command: object) -> object:
        if expect is not None:
            expect(state, command)
        return made

    enter.__name__ = target.__name__
    enter.__qualname__ = f"{flow}.{target.__name__}"
    enter.__annotations__ = {"state": reduce(or_, sources), "command": command, "return": target}
    return enter


def _expect_recording(chart: Chart, machine: str) -> Callable[[object, Any], None] | None:
    """Return what refuses the initial state where there is no entity, but to write it down."""
    initial = str(chart.initial)
    successors = [str(each) for each in chart.successors(initial)]
    if initial in successors:
        return None

    def expect(state: object, command: Any) -> None:
        if state is None and not command.initial:
            raise InvalidTransitionError(machine, initial, initial, successors)

    return expect


def _hooks(
    chart: Chart, callback: Callback, states: dict[str, type], commands: dict[str, Any]
) -> Iterator[Hook]:
    """Return the hooks that are called where the callback is: of one transition at most one is.

    What leads from the initial state leads from there too where there is no entity yet.
    """
    hook = callback.hook
    covered = [pair for pair in chart.pairs if callback.covers(*pair)]
    taken = None if callback.to is None else frozenset(commands[name] for name in callback.to)
    if hook.kind == "on_failure":
        yield replace(hook, sources=_before(chart, callback.from_, states), commands=taken)
        return
    if callback.from_ is None and taken is None and hook.kind != "guard":
        yield hook
        return
    names = states if callback.from_ is None else callback.from_
    if covered:
        yield replace(hook, sources=frozenset(states[name] for name in names), commands=taken)
    first = frozenset(commands[target] for source, target in covered if source == chart.initial)
    if first:
        yield replace(hook, sources=frozenset((NoneType,)), commands=first, spares=_records)


def _before(
    chart: Chart, names: frozenset[str] | None, states: dict[str, type]
) -> frozenset[type] | None:
    """Return what a failure may come from: any state, by its name, and no entity if it begins so.

    One hook is for both: where it is not known what there was, it is called once.
    """
    if names is None:
        return None
    sources = {states[name] for name in names}
    return frozenset(sources | {NoneType} if chart.initial in names else sources)


def _records(command: Any) -> bool:
    """Whether a command writes the initial state down, which is no transition to it."""
    return getattr(command, "initial", None) is True
