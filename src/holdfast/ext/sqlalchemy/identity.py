"""How the instances of a model and the entities of a machine belong together."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Column, String, Uuid, inspect
from sqlalchemy.orm import Mapper

from holdfast import Flow, Machine
from holdfast.errors import DefinitionError, StoreError
from holdfast.machine.flow.definition import FlowType

AnyMachine = Machine[Any, Any, Any]
Governor = type[Flow[Any]] | AnyMachine
"""What governs a lifecycle: a flow, or a machine whose states are types."""

Kind = Literal["integer", "text", "uuid"]


class Terms(Struct, frozen=True):
    """Which machine governs a model, and which attributes of it tell id and state."""

    machine: AnyMachine
    model: type
    id_attribute: str
    state_attribute: str | None
    """Where the state is mirrored; None for nowhere."""
    schema: str
    """The schema of the store on PostgreSQL."""

    @property
    def id_column(self) -> Column[Any]:
        """The column of the ids."""
        column: Column[Any] = mapper_of(self.model).columns[self.id_attribute]
        return column

    @property
    def is_key(self) -> bool:
        """Whether ids are the primary key."""
        mapper = mapper_of(self.model)
        keys = [mapper.get_property_by_column(each).key for each in mapper.primary_key]
        return keys == [self.id_attribute]

    @property
    def kind(self) -> Kind:
        """What ids are in the database; raises DefinitionError for what has no one text."""
        return _kind_of(self.id_column, self.model)

    def text_of(self, instance: object) -> str:
        """Return the id of an instance, as the store keeps it; raises StoreError without one."""
        key: tuple[Any, ...] | None = inspect(instance).identity
        value = key[0] if key and self.is_key else getattr(instance, self.id_attribute)  # no SQL
        if value is None:
            raise StoreError(
                f"{instance!r:.80} has no {self.id_attribute}, which is the id of its entity; "
                "nothing was written: set it before"
            )
        return str(UUID(str(value))) if self.kind == "uuid" else str(value)

    def value_of(self, id: str) -> object:
        """Return an id as the database keeps it; None where no instance can have it."""
        try:
            value: object = {"integer": int, "text": str, "uuid": UUID}[self.kind](id)
        except ValueError:
            return None
        if self.kind == "uuid" and not _is_uuid(self.id_column):
            return id
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return None
        return value if str(value) == id else None

    def mirrored(self, state_type: str | None) -> str | None:
        """Return what the column says of a state; an entity that is gone is as it was initially."""
        initial = self.machine.initial
        if state_type is not None or initial is None:
            return state_type
        return self.machine.state_codec.names[initial]


def terms_of(
    model: type,
    governor: Governor | None = None,
    *,
    id: str | None = None,
    state: str | None = None,
) -> Terms:
    """Read the terms that a model declares; what is given here goes before.

    Raises DefinitionError where it lacks what it must have.
    """
    own: Governor | None = getattr(model, "__machine__", None)
    chosen = own if governor is None else governor
    if not isinstance(chosen, Machine | FlowType):
        raise DefinitionError(
            f"{model.__name__} names no flow and no machine, but {chosen!r:.80}: "
            "__machine__ = OrderFlow, or whatever governs it"
        )
    if state is None and chosen is own:
        state = getattr(model, "__machine_state__", None)
    if id is None:
        id = getattr(model, "__machine_id__", None)
    mapper = mapper_of(model)
    for name in (id, state):
        if name is not None and name not in mapper.columns:
            raise DefinitionError(f"{model.__name__} maps no column under the name {name!r:.80}")
    return Terms(
        chosen if isinstance(chosen, Machine) else chosen.machine,
        model,
        id or _primary_key(mapper),
        state,
        getattr(model, "__machine_schema__", "holdfast"),
    )


def mapper_of(model: type) -> Mapper[Any]:
    """Return how a model is mapped; raises DefinitionError for what is none."""
    found: object = inspect(model, raiseerr=False)
    if not isinstance(found, Mapper):
        raise not_mapped(model)
    return found


def not_mapped(model: object) -> DefinitionError:
    """Return what to raise for what is no model."""
    return DefinitionError(f"{model!r:.80} is no mapped class of SQLAlchemy")


def _primary_key(mapper: Mapper[Any]) -> str:
    if len(mapper.primary_key) != 1:
        raise DefinitionError(
            f"{mapper.class_.__name__} has a primary key of several columns: name one that "
            'identifies its instances, __machine_id__ = "number"'
        )
    return mapper.get_property_by_column(mapper.primary_key[0]).key


def _kind_of(column: Column[Any], model: type) -> Kind:
    if isinstance(column.type, Uuid):
        return "uuid"
    try:
        kind = column.type.python_type
    except NotImplementedError:
        kind = object
    if kind is int:
        return "integer"
    if kind is str and isinstance(column.type, String):
        return "text"
    raise DefinitionError(
        f"{model.__name__}.{column.key} is a {column.type!r:.80}, which has no text of its own "
        "that queries could compare: ids are integers, strings or UUIDs, or another column's, "
        '__machine_id__ = "number"'
    )


def _is_uuid(column: Column[Any]) -> bool:
    """Whether values are UUIDs in Python, and not texts."""
    return isinstance(column.type, Uuid) and column.type.as_uuid
