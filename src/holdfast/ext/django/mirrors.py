"""The rows of models that have flows: locks them, and writes states into columns that mirror."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import connections, models

from holdfast.ext.django.fields import flows_of
from holdfast.stores.contract import EntityRow


class Table(NamedTuple):
    """A model whose rows have a flow."""

    model: type[models.Model]
    key: models.Field[Any, Any]
    """The field that the id is taken from."""
    column: str | None
    """Mirrors the state, if any does."""
    initial: str
    """The state of a row that has no entity."""


@cache
def tables_of(machine: str) -> tuple[Table, ...]:
    """Return the models whose rows are the entities of a machine."""
    return tuple(
        Table(model, flow.field_of(model), flow.mirror, str(flow.flow.initial))
        for model in apps.get_models()
        for flow in flows_of(model).values()
        if flow.flow.machine.name == machine
        and not any(
            flow in flows_of(base).values() for base in model.__mro__[1:] if _has_rows(base)
        )
    )


def is_mirrored(machine: str) -> bool:
    """Tell whether a column mirrors the states of a machine's entities."""
    return any(table.column is not None for table in tables_of(machine))


def hold(entities: Iterable[tuple[str, str]], using: str) -> None:
    """Lock the rows of entities, given by machine and id, in the open transaction.

    Rows come first, as for whoever locks or saves one and then transitions it; whoever took the
    entity first would wait for them in a circle.
    """
    if connections[using].features.has_select_for_update:
        for machine, id in sorted(entities):
            for table in tables_of(machine):
                rows = _rows(table, id, using).order_by().select_related(None)
                list(rows.select_for_update(no_key=True).values_list("pk"))


def mirror(row: EntityRow, using: str) -> None:
    """Write the state of an entity into the columns that mirror it, in the open transaction."""
    for table in tables_of(row.machine):
        if table.column is not None:
            state = table.initial if row.state_type is None else row.state_type
            _rows(table, row.id, using).update(**{table.column: state})


def _rows(table: Table, id: str, using: str) -> models.QuerySet[Any]:
    """Return the row of an entity; none for an id that no row of the model can have."""
    rows = table.model._base_manager.using(using)
    try:
        key = table.key.to_python(id)
    except ValidationError:
        return rows.none()
    return rows.filter(**{table.key.attname: key}) if str(key) == id else rows.none()


def _has_rows(cls: type) -> bool:
    """Tell whether a class is a model with rows of its own."""
    return issubclass(cls, models.Model) and cls is not models.Model and not cls._meta.abstract
