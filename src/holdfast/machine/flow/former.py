"""Reads states and commands that a flow does not declare: its code had them once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from holdfast.machine.codec import tag_of
from holdfast.machine.definition import MAX_TAG
from holdfast.machine.flow.classes import EVENT, INITIAL, make_class
from holdfast.machine.members import TAG_FIELD
from holdfast.machine.model import Command, State

MAX_FORMER = 1_000
"""How many names of states a flow may have given up; what is stored under others is unreadable."""


class Former:
    """What a store keeps of a flow under names that the flow does not declare."""

    def __init__(self, flow: type, commands: Mapping[str, Callable[..., Any]]) -> None:
        self._flow = flow
        self._commands = commands
        self._classes: dict[tuple[type, str], Any] = {}
        self._lock = Lock()

    def read(self, role: str, text: str) -> Any:
        """Return the state or the command that a text holds; None for what no flow has written."""
        try:
            return self._state(text) if role == "state" else self._command(text)
        except msgspec.DecodeError:
            return None

    def holds(self, state: object) -> bool:
        """Whether something is a state that was read here."""
        cls = type(state)
        return issubclass(cls, State) and self._classes.get((State, tag_of(cls))) is cls

    def advice(self, name: str) -> str:
        """Return what to do with an entity in such a state."""
        return (
            f"{self._flow.__name__} declares no state {name}: keep it, with rules that lead out of "
            "it, until no entity is in it, or use the code that has it"
        )

    def class_of(self, base: type, name: str) -> Any:
        """Return the class of such states or commands; None where there are too many of them."""
        with self._lock:
            made = self._classes.get((base, name))
            if made is None and len(self._classes) < 2 * MAX_FORMER:
                fields = () if base is State else EVENT + INITIAL
                made = make_class(base, name, self._flow, fields)
                self._classes[base, name] = made
            return made

    def _state(self, text: str) -> Any:
        cls = self.class_of(State, _STATES.decode(text).name)
        return cls and cls()

    def _command(self, text: str) -> Any:
        stored = _COMMANDS.decode(text)
        if not stored.initial and stored.name in self._commands:
            return self._commands[stored.name](event=stored.event)
        cls = self.class_of(Command, stored.name)
        return cls and cls(event=stored.event, initial=stored.initial)


class _StoredState(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=MAX_TAG)] = msgspec.field(name=TAG_FIELD)


class _StoredCommand(_StoredState, frozen=True, forbid_unknown_fields=True):
    event: str | None = None
    initial: bool | None = None


_STATES = msgspec.json.Decoder(_StoredState)
_COMMANDS = msgspec.json.Decoder(_StoredCommand)
