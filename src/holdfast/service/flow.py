"""The flow: named states around any object, bound to a store. What its body declares lies below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any, Generic, Never, Self, cast

from msgspec.structs import replace
from typing_extensions import TypeVar

from holdfast.errors import (
    DefinitionError,
    GuardFailedError,
    InvalidTransitionError,
    RejectedError,
    ValidationError,
    VersionConflictError,
)
from holdfast.machine.flow.definition import FlowType
from holdfast.machine.flow.states import FlowEvent, FlowState
from holdfast.record import Change, Transition
from holdfast.service.call import Call, check_call, check_choice, check_id, is_count
from holdfast.service.choice import Choice
from holdfast.service.decided import Decided
from holdfast.service.flow_service import Bound, Look, Memory, seen, told, with_names
from holdfast.service.origin import is_own_conflict, is_own_refusal
from holdfast.service.retry import Retry
from holdfast.stores.contract import OnCommit, Store

Thing = TypeVar("Thing", default=Any)

ONCE = Retry(attempts=1)
BACKWARDS = 100
"""How many transitions are read at once where the last of a kind is looked for."""


class Flow(Generic[Thing], metaclass=FlowType):
    """Named states, with guards and callbacks, around an object: inherit, and declare them.

    Its state and its history are kept in a store under an id; where nothing is kept yet it is in
    the initial state, which `record_initial` writes down at once. `retry` says what happens on
    conflicts; without it they are raised.

    It remembers what it saw until it transitions, whatever comes of that, or until `reload`; from
    when it takes part in a transaction of the caller's it does not. One thread at a time uses it.
    """

    __slots__ = ("_memory", "_service", "id")

    def __init__(
        self,
        object: Thing,
        *,
        store: Store,
        id: str,
        record_initial: bool = False,
        retry: Retry = ONCE,
    ) -> None:
        self.id = check_id(id)
        self._service = Bound(type(self).machine, store, deps=object, retry=retry)
        self._memory = Memory()
        if record_initial:
            self.record_initial()

    def __init_subclass__(
        cls, *, name: str | None = None, abstract: bool = False, **options: Any
    ) -> None:
        """Take the name of the machine; an abstract flow is a template for others."""
        super().__init_subclass__(**options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} on {self._service.store.url}>"

    def __deepcopy__(self, memo: object) -> Never:
        raise TypeError(f"{self!r} is not copied: make a flow around the copy of its object")

    def on(self, connection: Any, *, on_commit: OnCommit | None = None) -> Self:
        """Return the flow inside the transaction that is open on a connection of the caller's.

        `on_commit` takes a function and calls it after the outermost commit: after-commit
        callbacks need it. Neither flow remembers anything from then on, so that a rollback leaves
        nothing behind.
        """
        joined = copy(self)
        joined._service = cast("Bound", self._service.on(connection, on_commit=on_commit))
        self._memory.look, self._memory.is_closed = None, True
        return joined

    def retry_conflicts(self, n: int = 1) -> Self:
        """Return the flow as it loads and decides again on a conflict, n times at most.

        In a transaction of the caller's nothing is tried again, for it would meet the same.
        """
        if not is_count(n):
            raise DefinitionError(f"retry_conflicts takes a number from 0, not {n!r:.80}")
        service = self._service
        if service.plans.binding.is_joined:
            return self
        again = copy(self)
        retry = replace(service.plans.binding.retry, attempts=n + 1)
        again._service = Bound(service.machine, service.store, deps=self.object, retry=retry)
        return again

    @property
    def object(self) -> Thing:
        """What guards and callbacks are given."""
        return cast("Thing", self._service.plans.binding.deps)

    @property
    def current_state(self) -> FlowState:
        """The state the entity is in."""
        return self._look().state

    @property
    def version(self) -> int:
        """The version of the entity; 0 where nothing is kept yet."""
        return self._look().version

    @property
    def history(self) -> list[Transition]:
        """Every transition, oldest first."""
        return self._service.history(self.id)

    @property
    def last_transition(self) -> Transition | None:
        """The last transition; None where there was none."""
        return next(self._backwards(), None)

    @property
    def allowed_transitions(self) -> list[FlowState]:
        """The states that the rules lead to from here; guards are not asked."""
        return type(self).chart.successors(self.current_state)

    def in_state(self, *states: str) -> bool:
        """Tell whether the entity is in one of the states."""
        return self.current_state in [self._state(state) for state in states]

    def last_transition_to(self, state: str) -> Transition | None:
        """Return the last transition to a state; None where there was none."""
        wanted = self._state(state)
        return next((each for each in self._backwards() if each.to_state == wanted), None)

    def can_transition_to(self, state: str, *, metadata: Mapping[str, Any] | None = None) -> bool:
        """Tell whether the rules lead to a state from here, and no guard refuses.

        `metadata` is what the transition would be given, for guards that look at it.
        """
        return next(self._refusals(self._state(state), metadata), None) is None

    def why_not(
        self, state: str, *, metadata: Mapping[str, Any] | None = None
    ) -> list[RejectedError]:
        """Return what refuses a transition: every guard that does, or that no rule allows it."""
        return list(self._refusals(self._state(state), metadata))

    def transition_to(
        self,
        state: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        expected_version: int | None = None,
        key: str | None = None,
    ) -> Transition:
        """Bring the entity into a state, and return the transition.

        `metadata` is JSON, kept with it; `by` and `reason` in it are shown as who and why.
        `expected_version` is the version that the caller decided on. A transition with the same
        `key` is made once, and answered with the first. On PostgreSQL the position may be 0, for it
        is readers that give them. Where the store fails between writing and reading it back, what
        the log alone knows is left empty.

        Raises InvalidTransitionError, GuardFailedError, VersionConflictError, StoreError, and what
        a callback raises; nothing is written then, save where an after-commit callback raised.
        """
        return self._apply(self._state(state), {}, metadata, expected_version, key)

    def try_transition_to(
        self,
        state: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        expected_version: int | None = None,
        key: str | None = None,
    ) -> bool:
        """Bring the entity into a state; return False where a rule or a guard of it refuses."""
        try:
            self._apply(self._state(state), {}, metadata, expected_version, key)
        except (InvalidTransitionError, GuardFailedError) as error:
            if not self._is_own(error):
                raise
            return False
        return True

    def trigger(
        self,
        event: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        expected_version: int | None = None,
        key: str | None = None,
    ) -> Transition:
        """Make the transition that an event names for the state the entity is in.

        Of several, the first whose guards pass; where none do, the refusal is that of the first.
        Takes and raises what `transition_to` does.
        """
        choice = Choice(type(self), self._event(event))
        call = check_choice(self.id, choice, expected_version, key, with_names(metadata))
        return self._settle(call, choice)

    def record_initial(self) -> Transition | None:
        """Write the initial state down where nothing is kept yet; guards are not asked."""
        if self._look().live is not None:
            return None
        try:
            return self._apply(type(self).initial, {"initial": True}, None, 0, None)
        except VersionConflictError as error:
            if not is_own_conflict(type(self).machine, self.id, error):
                raise
            return None

    def reload(self) -> Self:
        """Forget what was seen, so that the next question asks the store; return the flow."""
        self._memory.look = None
        return self

    def _apply(
        self,
        target: FlowState,
        recorded: dict[str, Any],
        metadata: Mapping[str, Any] | None,
        expected_version: int | None,
        key: str | None,
    ) -> Transition:
        compiled = type(self).compiled
        command = compiled.commands[target](**recorded)
        if metadata is not None:
            metadata = with_names(metadata)
        call = check_call(compiled.machine, self.id, command, expected_version, key, metadata)
        return self._settle(call)

    def _settle(self, call: Call, choice: Choice | None = None) -> Transition:
        service = self._service
        self._memory.look = None
        try:
            record, made = service.settle(call)
        finally:
            self._memory.look = None  # what a guard may have looked at is over
        if made is None:
            command = call.command
            if choice is not None:
                command = choice.command_to(str(service.machine.name_of(record.state)))
            made = told(record, command, call)
        return made

    def _look(self) -> Look:
        service = self._service
        memory, is_alone = self._memory, service.is_alone
        if is_alone and memory.look is not None:
            return memory.look
        look = seen(type(self), service.look(self.id))
        if is_alone and not memory.is_closed:
            memory.look = look
        return look

    def _refusals(
        self, state: FlowState, metadata: Mapping[str, Any] | None
    ) -> Iterator[RejectedError]:
        look, machine = self._look(), type(self).machine
        successors = type(self).chart.successors(look.state)
        if state not in successors:
            allowed = list(map(str, successors))
            advice = machine.advice(look.live)
            yield InvalidTransitionError(
                machine.name, str(look.state), str(state), allowed, self.id, advice
            )
            return
        decided = self._decided(look, state, metadata)
        for hook in decided.hooks["guard"]:
            refusal = decided.refusal(hook)
            if refusal is not None:
                yield refusal

    def _decided(
        self, look: Look, target: FlowState, metadata: Mapping[str, Any] | None
    ) -> Decided:
        """Return what guards are asked about."""
        compiled = type(self).compiled
        machine, after = compiled.machine, compiled.states[target]()
        command = compiled.commands[target]()
        call = check_call(machine, self.id, command, metadata=with_names(metadata))
        change: Change[Any, Any] = Change(
            machine.name,
            self.id,
            look.last + 1,
            look.live,
            call.command,
            after,
            call.metadata,
            look.at,
            str(look.state),
            str(target),
        )
        return Decided(machine, self.object, call, change)

    def _backwards(self) -> Iterator[Transition]:
        """Return the transitions, the last one first."""
        service, top = self._service, self._look().last
        size = 1
        while top:
            after = max(0, top - size)
            yield from reversed(service.history(self.id, after=after, limit=top - after))
            top, size = after, BACKWARDS

    def _state(self, name: str) -> FlowState:
        found = type(self).chart.find(name)
        if found is None:
            raise self._stranger("state", name, type(self).chart.states)
        return found

    def _event(self, name: str) -> FlowEvent:
        found = type(self).chart.find_event(name)
        if found is None:
            raise self._stranger("event", name, type(self).chart.events)
        return found

    def _stranger(self, role: str, name: str, known: Iterable[str]) -> ValidationError:
        names = ", ".join(known) or "none"
        return ValidationError(
            f"{name!r:.80} is no {role} of {type(self).__name__}; they are {names}"
        )

    def _is_own(self, error: RejectedError) -> bool:
        return is_own_refusal(type(self).machine, self.id, error)
