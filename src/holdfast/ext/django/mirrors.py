"""Writes the states of entities into the columns of the models that mirror them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import connections, models

from holdfast.ext.django.fields import flows_of
from holdfast.stores.contract import EntityRow


class Mirror(NamedTuple):
    """A column of a model that mirrors the state of a flow."""

    model: type[models.Model]
    key: models.Field[Any, Any]
    """The field that the id is taken from."""
    column: str
    initial: str
    """The state of a row that has no entity."""


@cache
def mirrors_of(machine: str) -> tuple[Mirror, ...]:
    """Return the columns that mirror the states of a machine's entities."""
    return tuple(
        Mirror(model, flow.field_of(model), flow.mirror, str(flow.flow.initial))
        for model in apps.get_models()
        for flow in flows_of(model).values()
        if flow.mirror is not None
        and flow.flow.machine.name == machine
        and not any(
            flow in flows_of(base).values() for base in model.__mro__[1:] if _has_rows(base)
        )
    )


def hold(entities: Iterable[tuple[str, str]], using: str) -> None:
    """Lock the rows that mirror entities, given by machine and id, in the open transaction.

    Rows come first, as for whoever locks or saves one and then transitions it; whoever took the
    entity first would wait for them in a circle.
    """
    if connections[using].features.has_select_for_update:
        for machine, id in sorted(entities):
            for each in mirrors_of(machine):
                rows = _rows(each, id, using).order_by().select_related(None)
                list(rows.select_for_update(no_key=True).values_list("pk"))


def mirror(row: EntityRow, using: str) -> None:
    """Write the state of an entity into the columns that mirror it, in the open transaction."""
    for each in mirrors_of(row.machine):
        state = each.initial if row.state_type is None else row.state_type
        _rows(each, row.id, using).update(**{each.column: state})


def _rows(mirror: Mirror, id: str, using: str) -> models.QuerySet[Any]:
    """Return the row of an entity; none for an id that no row of the model can have."""
    rows = mirror.model._base_manager.using(using)
    try:
        key = mirror.key.to_python(id)
    except ValidationError:
        return rows.none()
    return rows.filter(**{mirror.key.attname: key}) if str(key) == id else rows.none()


def _has_rows(cls: type) -> bool:
    """Tell whether a class is a model with rows of its own."""
    return issubclass(cls, models.Model) and cls is not models.Model and not cls._meta.abstract
