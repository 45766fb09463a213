"""The chart of one flow: its states, rules, events and callbacks, until its first use closes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from holdfast.errors import DefinitionError
from holdfast.machine.definition import MAX_TAG
from holdfast.machine.flow.callbacks import Callback
from holdfast.machine.flow.states import Declaration, FlowEvent, FlowState, Name, Pair, Transitions

States = str | Iterable[str]
"""One state or several, each by its name or as the attribute of the flow."""


class Chart:
    """What a flow declares. A flow that inherits has a chart of its own."""

    def __init__(self, flow: str, bases: Sequence[Chart] = ()) -> None:
        self.flow = flow
        self.states: dict[str, FlowState] = {}
        self.events: dict[str, FlowEvent] = {}
        self.initial: FlowState | None = None
        self.pairs: dict[Pair, None] = {}
        self.pairs_of: dict[str, tuple[Pair, ...]] = {}
        """The transitions of each event, in the order of their definition."""
        self.callbacks: list[Callback] = []
        self.attributes: dict[str, str] = {}
        """The attribute of the flow under which each state and event stands."""
        self.removed: dict[str, str] = {}
        """Where states were taken out."""
        self.lineage: list[Chart] = [self, *(each for base in bases for each in base.lineage)]
        self.closed = ""
        """Why nothing can be changed any more."""
        self._declared_at: dict[str, str] = {}
        self._from_any = ""
        """Where the body allowed a transition from any state; no state may come after that."""
        for base in bases:
            base.close(f"{flow} inherits from it")
            self._inherit(base)

    def declare(self, attribute: str, declaration: Declaration) -> FlowState | FlowEvent:
        """Take a state or an event that the body of the flow declares."""
        location = declaration.location
        name = attribute if declaration.name is None else declaration.name
        if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= MAX_TAG):
            raise DefinitionError(
                f"{location}: {name!r:.80} cannot be a name; take from 1 to {MAX_TAG} printable "
                "characters"
            )
        if declaration.transitions is None and name in self.removed:
            raise DefinitionError(
                f"{location}: {name} was removed at {self.removed[name]}, and what guarded it with "
                "it; give this state another name"
            )
        for taken in (self.states, self.events):
            if name in taken:
                raise DefinitionError(
                    f"{location}: {self.flow} has {name} already, declared at "
                    f"{self._declared_at[name]}; give this one another name"
                )
        self._declared_at[name] = location
        self.attributes[name] = attribute
        if declaration.transitions is None:
            return self._add_state(name, location, initial=declaration.initial)
        return self._add_event(name, declaration.transitions, location)

    def allow(self, sources: States | None, targets: States, location: str) -> Transitions:
        """Allow the transitions from each source, None for any, to each target."""
        self.expect_open(location)
        targets = self.named(targets, location)
        if not targets:
            raise DefinitionError(f"{location}: the rule names no state to lead to (to=)")
        if sources is None:
            self._from_any = location
            pairs = tuple((own, to) for own in map(str, self.states) for to in targets if own != to)
        else:
            pairs = tuple((own, to) for own in self.named(sources, location) for to in targets)
        self.pairs.update(dict.fromkeys(pairs))
        return Transitions(self, pairs)

    def add(self, callback: Callback) -> None:
        """Take a callback; raises DefinitionError where it would never be called."""
        self.expect_open(callback.hook.location)
        callback.expect_possible(self.pairs, self.initial)
        self.callbacks.append(callback)

    def remove_state(self, state: str, location: str) -> list[str]:
        """Take a state out, with its transitions; callbacks stay for what is left to them.

        Returns the attributes of the flow that are to go with it.
        """
        self.expect_open(location)
        [name] = self.named(state, location)
        if name == self.initial:
            raise DefinitionError(
                f"{location}: {name} is the initial state of {self.flow}, which cannot do without; "
                "define a flow that begins elsewhere on its own"
            )
        del self.states[name]
        self.removed[name] = location
        left = [callback.without(name) for callback in self.callbacks]
        self.callbacks = [callback for callback in left if callback is not None]
        events = self._drop([pair for pair in self.pairs if name in pair])
        return [self.attributes.pop(each) for each in (name, *events)]

    def remove_transitions(
        self, sources: States | None, targets: States | None, location: str
    ) -> list[str]:
        """Forbid the transitions from each source to each target, None for any.

        Callbacks stay, and are called again where such a transition is allowed again. Returns the
        attributes of the flow that are to go: those of events that are left without a transition.
        """
        self.expect_open(location)
        from_ = self.states if sources is None else self.named(sources, location)
        to = self.states if targets is None else self.named(targets, location)
        removed = [pair for pair in self.pairs if pair[0] in from_ and pair[1] in to]
        if not removed or (sources is None and targets is None):
            raise DefinitionError(
                f"{location}: no such transition of {self.flow} to remove; name the states that it "
                "leads from and to"
            )
        return [self.attributes.pop(event) for event in self._drop(removed)]

    def named(self, states: States, location: str) -> tuple[str, ...]:
        """Return the names of states; raises DefinitionError for what is none of this flow."""
        if not isinstance(states, Iterable):
            raise DefinitionError(
                f"{location}: {states!r:.80} is no state of {self.flow}; pass one by its name or "
                "as its attribute, or a list of them"
            )
        given = [states] if isinstance(states, str) else list(states)
        return tuple(dict.fromkeys(str(self._known(each, location)) for each in given))

    def find(self, state: object) -> FlowState | None:
        """Return the state that a name, or the attribute of this flow or a base of it, means."""
        return self.states.get(state) if self._is_own(state) else None

    def find_event(self, event: object) -> FlowEvent | None:
        """Return the event that a name, or the attribute of this flow or a base of it, means."""
        return self.events.get(event) if self._is_own(event) else None

    def successors(self, state: str) -> list[FlowState]:
        """Return the states that a state leads to, in the order of the rules."""
        return [self.states[target] for source, target in self.pairs if source == state]

    def close(self, reason: str) -> None:
        """Let nothing be changed any more."""
        self.closed = self.closed or reason

    def expect_open(self, location: str) -> None:
        """Raise DefinitionError where it is too late for a change."""
        if self.closed:
            raise DefinitionError(
                f"{location}: {self.flow} cannot be changed any more: {self.closed}; complete the "
                "definition where it begins"
            )

    def _add_state(self, name: str, location: str, *, initial: bool) -> FlowState:
        state = FlowState(name, self)
        if self._from_any:
            raise DefinitionError(
                f"{location}: the rule at {self._from_any} leads from any state, and would miss "
                f"{name}; declare states before it"
            )
        if initial and self.initial is not None:
            raise DefinitionError(
                f"{location}: {self.flow} has an initial state already, {self.initial}, declared "
                f"at {self._declared_at[self.initial]}"
            )
        self.states[name] = state
        if initial:
            self.initial = state
        return state

    def _add_event(self, name: str, transitions: Sequence[Transitions], location: str) -> FlowEvent:
        for each in transitions:
            if not isinstance(each, Transitions):
                raise DefinitionError(
                    f"{location}: the event {name} is given {each!r:.80}, which is no transition; "
                    f"write {name} = Flow.event(source.to(target), …)"
                )
        pairs = tuple(dict.fromkeys(pair for each in transitions for pair in each.pairs))
        unknown = [pair for pair in pairs if pair not in self.pairs]
        if unknown or not pairs:
            raise DefinitionError(
                f"{location}: the event {name} names no transition of {self.flow}; write "
                f"{name} = Flow.event(source.to(target), …) in the body of the flow"
            )
        self.events[name] = FlowEvent(name, self)
        self.pairs_of[name] = pairs
        return self.events[name]

    def _is_own(self, name: object) -> TypeGuard[str]:
        """Whether something is text, and no name of another flow."""
        return isinstance(name, str) and (not isinstance(name, Name) or name.chart in self.lineage)

    def _known(self, state: Any, location: str) -> FlowState:
        found = self.find(state)
        if found is None:
            other = f" of {state.chart.flow}" if isinstance(state, FlowState) else ""
            raise DefinitionError(
                f"{location}: {state!s:.80}{other} is no state of {self.flow}; they are "
                f"{', '.join(self.states) or 'none yet'}"
            )
        return found

    def _drop(self, pairs: Iterable[Pair]) -> list[str]:
        """Take transitions out; return the events that have none left."""
        for pair in pairs:
            self.pairs.pop(pair, None)
        for event, named in list(self.pairs_of.items()):
            self.pairs_of[event] = tuple(pair for pair in named if pair in self.pairs)
        empty = [event for event, named in self.pairs_of.items() if not named]
        for event in empty:
            del self.pairs_of[event], self.events[event]
        return empty

    def place_of(self, attribute: str) -> str:
        """Return where the state or the event that stands under an attribute was declared."""
        names = [name for name, own in self.attributes.items() if own == attribute]
        return self._declared_at[names[0]]

    def _inherit(self, base: Chart) -> None:
        """Take over what a base declares; what comes by two ways comes once."""
        self.removed.update(base.removed)
        for name in (*base.states, *base.events):
            known = self._declared_at.setdefault(name, base._declared_at[name])
            if known != base._declared_at[name]:
                raise DefinitionError(
                    f"{self.flow} inherits two that are named {name}, declared at {known} and at "
                    f"{base._declared_at[name]}; give one of them another name"
                )
            self.attributes[name] = base.attributes[name]
        for name in base.states:
            self.states.setdefault(name, FlowState(name, self))
        if base.initial is not None:
            if self.initial not in (None, base.initial):
                raise DefinitionError(
                    f"{self.flow} inherits two initial states, {self.initial} and {base.initial}"
                )
            self.initial = self.states[base.initial]
        self.pairs.update(base.pairs)
        for name in base.events:
            self.events.setdefault(name, FlowEvent(name, self))
            self.pairs_of[name] = tuple(
                dict.fromkeys((*self.pairs_of.get(name, ()), *base.pairs_of[name]))
            )
        self._inherit_callbacks(base.callbacks)

    def _inherit_callbacks(self, callbacks: Iterable[Callback]) -> None:
        for callback in callbacks:
            for place, own in enumerate(self.callbacks):
                if own.hook is callback.hook:
                    self.callbacks[place] = own.united(callback)
                    break
            else:
                self.callbacks.append(callback)
