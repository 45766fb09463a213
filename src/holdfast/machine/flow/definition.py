"""What a flow class offers: the declarations in its body, and callbacks that are added to it."""

from __future__ import annotations

import re
from threading import RLock
from typing import Any, Never, cast

from holdfast.errors import DefinitionError
from holdfast.machine.annotations import caller
from holdfast.machine.definition import Machine, expect_name
from holdfast.machine.flow.chart import Chart, States
from holdfast.machine.flow.compiling import Compiled, compile_flow
from holdfast.machine.flow.declaring import Calling, Guarding
from holdfast.machine.flow.states import (
    Declaration,
    FlowEvent,
    FlowState,
    Transitions,
    body_around,
    expect_named,
    expect_options,
)
from holdfast.machine.graph import Graph

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_COMPILING = RLock()


class FlowType(type):
    """The class of flows: collects what their bodies declare."""

    _chart: Chart | None
    _compiled: Compiled | None
    _machine_name: str | None

    @classmethod
    def __prepare__(cls, name: str, bases: tuple[type, ...], /, **options: Any) -> Body:
        """Return the namespace of a flow's body."""
        charts = [base._chart for base in bases if isinstance(base, FlowType)]
        roots = [root for base in bases if isinstance(base, FlowType) for root in base._roots()]
        return Body(name, [chart for chart in charts if chart is not None], (cls, *roots))

    def __new__(
        mcs,
        cls_name: str,
        bases: tuple[type, ...],
        given: dict[str, Any],
        /,
        *,
        name: str | None = None,
        abstract: bool = False,
        **misspelt: Never,
    ) -> FlowType:
        """Make the flow of its body; an abstract one is a template, and has no machine."""
        expect_options("a flow", misspelt, ("name", "abstract"), cls_name)
        stored_name = _machine_name(cls_name) if name is None else name
        if name is not None or not abstract:
            expect_name(stored_name)
        body = given if isinstance(given, Body) else mcs.__prepare__(cls_name, bases).taking(given)
        made = super().__new__(mcs, cls_name, bases, dict(body))
        is_root = not any(isinstance(base, FlowType) for base in bases)
        made._chart = None if is_root else body.chart
        made._compiled = None
        made._machine_name = None if abstract else stored_name
        if not is_root:
            _expect_nothing_declared(made)
            _complete(made, body.chart, abstract=abstract)
        return made

    @property
    def machine(cls) -> Machine[Any, Any, Any]:
        """The machine that the flow is compiled to; the first use closes the definition."""
        return cls.compiled.machine

    @property
    def compiled(cls) -> Compiled:
        """The machine and its classes by the names of the states."""
        if cls._compiled is None:
            with _COMPILING:
                cls._compiled = cls._compiled or cls._compile()
        return cls._compiled

    @property
    def states(cls) -> list[FlowState]:
        """The states, in the order of their definition."""
        return list(cls.chart.states.values())

    @property
    def events(cls) -> list[FlowEvent]:
        """The events, in the order of their definition."""
        return list(cls.chart.events.values())

    @property
    def initial(cls) -> FlowState:
        """The state that an entity is in before its first transition."""
        if cls.chart.initial is None:
            raise DefinitionError(f"{cls.__name__} has no initial state: Flow.state(initial=True)")
        return cls.chart.initial

    @property
    def successors(cls) -> dict[str, list[FlowState]]:
        """Which states each state leads to; final ones are left out."""
        led: dict[str, list[FlowState]] = {
            state: cls.chart.successors(state) for state in cls.states
        }
        return {state: targets for state, targets in led.items() if targets}

    def graph(cls) -> Graph:
        """Return which states lead to which."""
        return cls.machine.graph()

    def state(
        cls,
        *unnamed: Never,
        initial: bool = False,
        name: str | None = None,
        **misspelt: Never,
    ) -> FlowState:
        """Declare a state in the body of a flow; `name` where it is not that of the attribute."""
        location = caller()
        expect_options("state", misspelt, ("initial", "name"), location)
        if unnamed:
            raise DefinitionError(
                f"{location}: a state has the name of its attribute; another is given as name=, "
                f"not {unnamed[0]!r:.80}"
            )
        return cast("FlowState", Declaration(location, name, initial))

    def event(cls, *transitions: Transitions, **misspelt: Never) -> FlowEvent:
        """Declare an event in the body of a flow: a name for transitions.

        Of several that lead from one state, the first whose guards pass is taken.
        """
        location = caller()
        expect_options("event", misspelt, (), location)
        return cast("FlowEvent", Declaration(location, transitions=transitions))

    def transition(
        cls,
        *unnamed: Never,
        from_: States | None = None,
        to: States | None = None,
        **misspelt: Never,
    ) -> Transitions:
        """Allow the transitions from each state to each other.

        Without `from_` they are from every state that is declared by then, but to itself.
        """
        location = caller()
        expect_named("a transition", unnamed, location)
        expect_options("transition", misspelt, ("from_", "to"), location)
        if to is None:
            raise DefinitionError(f"{location}: the rule names no state to lead to (to=)")
        return (body_around() or cls.chart).allow(from_, to, location)

    @property
    def guard(cls) -> Guarding:
        """Have a function say whether a transition may be: True, or False to refuse.

        It is called with the flow's object and, by its name where it is wanted, the `change`. It
        may be called at any time, also when a page asks what could be done; so it only looks.
        `reason` is told where it refuses; it may raise CommandRejectedError with its own.
        """
        return Guarding(cls.__name__, cls._chart)

    @property
    def before(cls) -> Calling:
        """Have a function called in the transaction, before the transition is written."""
        return Calling(cls.__name__, cls._chart, "before")

    @property
    def after(cls) -> Calling:
        """Have a function called in the transaction, after the transition is written."""
        return Calling(cls.__name__, cls._chart, "after")

    @property
    def after_commit(cls) -> Calling:
        """Have a function called once the outermost transaction is committed."""
        return Calling(cls.__name__, cls._chart, "after_commit")

    @property
    def on_failure(cls) -> Calling:
        """Have a function called outside the transaction where a transition failed, however."""
        return Calling(cls.__name__, cls._chart, "on_failure")

    @property
    def on_guard_failure(cls) -> Calling:
        """Have a function called where a guard refused."""
        return Calling(cls.__name__, cls._chart, "on_guard_failure")

    def remove_state(cls, state: str) -> None:
        """Take a state out of a flow that inherits it, with all that leads there or away."""
        cls._remove_attributes(cls.chart.remove_state(state, caller()))

    def remove_transitions(cls, from_: States | None = None, to: States | None = None) -> None:
        """Forbid transitions that a flow inherits; without `from_` or `to` those of any state."""
        cls._remove_attributes(cls.chart.remove_transitions(from_, to, caller()))

    @property
    def chart(cls) -> Chart:
        """What the flow declares."""
        if cls._chart is None:
            raise DefinitionError(f"{cls.__name__} itself has no states; inherit from it")
        return cls._chart

    def _compile(cls) -> Compiled:
        if cls._machine_name is None:
            raise DefinitionError(
                f"{cls.__name__} is abstract: a template; inherit from it, and use that flow"
            )
        cls.chart.close("it is in use")
        return compile_flow(cls.chart, cls._machine_name, cls)

    def _roots(cls) -> list[type]:
        """Return the flow that has no states, which all others inherit from."""
        return [each for each in cls.__mro__ if isinstance(each, FlowType) and each._chart is None]

    def _remove_attributes(cls, names: list[str]) -> None:
        for name in names:
            setattr(cls, name, _Removed(cls.__name__, name))


class Body(dict[str, Any]):
    """The namespace of a flow's body: gives states and events their names."""

    def __init__(self, flow: str, charts: list[Chart], reserving: tuple[type, ...]) -> None:
        super().__init__()
        self.chart = Chart(flow, charts)
        self._reserved = {
            name for cls in reserving for name in dir(cls) if not name.startswith("__")
        }
        self._declared: set[Declaration] = set()

    def __setitem__(self, name: str, value: Any) -> None:
        """Take a name; raises DefinitionError for a state or an event that cannot have it."""
        declared = isinstance(value, Declaration)
        if name in self.chart.attributes.values() or (declared and name in self):
            raise DefinitionError(
                f"{value.location if declared else caller()}: {self.chart.flow} has {name} "
                f"already{self._place(name)}; give this another name"
            )
        if declared:
            value = self._declare(name, value)
        super().__setitem__(name, value)

    def taking(self, given: dict[str, Any]) -> Body:
        """Take the names of a flow that is made by a call: `type("OrderFlow", (Flow,), {…})`."""
        for name, value in given.items():
            self[name] = value
        return self

    def _place(self, name: str) -> str:
        own = self.chart.attributes.values()
        return f", declared at {self.chart.place_of(name)}" if name in own else ""

    def _declare(self, name: str, declaration: Declaration) -> FlowState | FlowEvent:
        if name in self._reserved:
            raise DefinitionError(
                f"{declaration.location}: {name} is what every flow has; name the attribute "
                f'otherwise: {name}_ = Flow.state(name="{name}")'
            )
        if declaration in self._declared:
            raise DefinitionError(
                f"{declaration.location}: two attributes of {self.chart.flow} would be one state; "
                "declare each on its own"
            )
        self._declared.add(declaration)
        return self.chart.declare(name, declaration)


class _Removed:
    """Stands where an inherited state or event is not there any more."""

    def __init__(self, flow: str, name: str) -> None:
        self.message = f"{name} was removed from {flow}"

    def __get__(self, instance: object, owner: type) -> Never:
        raise AttributeError(self.message)


def _expect_nothing_declared(cls: FlowType) -> None:
    """Raise DefinitionError where a flow would inherit states or events of what is no flow."""
    for base in cls.__mro__:
        if isinstance(base, FlowType):
            continue
        for name, value in vars(base).items():
            if isinstance(value, Declaration):
                raise DefinitionError(
                    f"{value.location}: {base.__name__} declares {name}, and is no flow; write "
                    f"class {base.__name__}(Flow, abstract=True)"
                )


def _complete(cls: FlowType, chart: Chart, *, abstract: bool) -> None:
    """Give the flow the attributes that it inherits, as its own; raises DefinitionError."""
    for names in (chart.states, chart.events):
        for name, value in names.items():
            setattr(cls, chart.attributes[name], value)
    if not abstract and chart.initial is None:
        raise DefinitionError(
            f"{cls.__name__} has no initial state: declare one with Flow.state(initial=True), or "
            f"class {cls.__name__}(…, abstract=True) for a template"
        )


def _machine_name(cls_name: str) -> str:
    return _WORDS.sub("_", cls_name.removesuffix("Flow") or cls_name).lower()
