"""What a flow asks of its store: an entity as it is, and the transition that was just made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from holdfast.errors import StoreError
from holdfast.machine.codec import tag_of
from holdfast.machine.definition import Machine
from holdfast.machine.flow.definition import FlowType
from holdfast.machine.flow.states import FlowState, Name
from holdfast.record import Record, Transition
from holdfast.service.attempts import Trail
from holdfast.service.call import Call
from holdfast.service.records import decode_state, decode_transition
from holdfast.service.retry import Retry
from holdfast.service.runner import run
from holdfast.service.service import Service
from holdfast.service.within import innermost
from holdfast.stores.contract import Key, Loaded, Store


class Look(Struct, frozen=True):
    """The entity as a flow saw it."""

    state: FlowState
    version: int
    """0 where there is no entity."""
    live: Any
    """The state of the machine; None where there is no entity."""
    at: datetime
    last: int
    """The last version there was, though its entity may be gone."""


class Memory(Struct):
    """What flows on one object and id saw last; those that try again share it with the first."""

    look: Look | None = None
    is_closed: bool = False
    """Whether a transaction of the caller's takes part, which may undo what was seen."""


class Bound(Service[Any, Any, Any]):
    """The service of a flow, which looks at an entity together with what keys made of it."""

    def __init__(
        self, machine: Machine[Any, Any, Any], store: Store, *, deps: Any, retry: Retry
    ) -> None:
        super().__init__(machine, store, deps=deps, retry=retry)
        self.plans.takes_commands = True  # its object may be None

    @property
    def is_alone(self) -> bool:
        """Whether no transaction is open around its caller that it would take part in."""
        is_joined = self.plans.binding.is_joined or innermost() is not None
        return not is_joined and self.store.around() is None

    def settle(self, call: Call) -> tuple[Record[Any], Transition | None]:
        """Apply a call as `handle` applies a command; add the transition, where it can be read."""
        here, trail = self.here(), Trail()
        [answer] = run(here.plans.handle(call, None, trail), here.world)
        if isinstance(answer, Exception):
            raise answer
        return answer, self._made(answer, trail)

    def look(self, id: str, *keys: str) -> Loaded:
        """Return the entity as it is loaded."""
        [loaded] = self.here().store.load([Key(self.machine.name, id, keys)])
        return loaded

    def _made(self, record: Record[Any], trail: Trail) -> Transition | None:
        row = trail.row
        try:
            if row is None:
                row = self.here().store.written(record.machine, record.id, record.version)
        except StoreError:  # it was written all the same, and its caller has to be told so
            return None
        if row is None or row.kind == "purged":
            return None
        return decode_transition(self.machine, row)


def with_names(value: Any) -> Any:
    """Return metadata in which states and events are plain text, wherever they stand."""
    try:
        return _with_names(value)
    except RecursionError:  # who encodes them tells how deep they may be
        return value


def _with_names(value: Any) -> Any:
    if isinstance(value, str):
        return str(value) if isinstance(value, Name) else value
    if type(value) is dict or isinstance(value, Mapping):
        return {_with_names(name): _with_names(each) for name, each in value.items()}
    return [_with_names(each) for each in value] if isinstance(value, list | tuple) else value


def told(record: Record[Any], command: Any, call: Call) -> Transition:
    """Return a transition of which nothing is known but what was asked for and answered."""
    name = tag_of(type(command))
    at = record.updated_at
    return Transition(
        0,
        record.machine,
        record.id,
        record.version,
        "command",
        None,
        name,
        name,
        command,
        record.state,
        call.metadata,
        call.key,
        None,
        at,
        at,
        "",
    )


def seen(flow: FlowType, loaded: Loaded) -> Look:
    """Return an entity as its flow shows it."""
    row = loaded.entity
    if row is None or row.state_type is None:
        return Look(flow.initial, 0, None, loaded.now, 0 if row is None else row.version)
    live = decode_state(flow.machine, row)
    name = flow.chart.states.get(row.state_type) or FlowState(row.state_type, flow.chart)
    return Look(name, row.version, live, loaded.now, row.version)
