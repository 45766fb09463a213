"""Writes the states of entities into the columns of the models that mirror them."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import models

from holdfast.ext.django.fields import ModelFlow, flows_of
from holdfast.stores.contract import EntityRow


class Mirror(NamedTuple):
    """A column of a model that mirrors the state of a flow."""

    model: type[models.Model]
    flow: ModelFlow[Any]
    column: str


@cache
def mirrors_of(machine: str) -> tuple[Mirror, ...]:
    """Return the columns that mirror the states of a machine's entities."""
    return tuple(
        Mirror(model, flow, flow.mirror)
        for model in apps.get_models()
        for flow in flows_of(model).values()
        if flow.mirror is not None
        and model._meta.get_field(flow.mirror).model is model
        and flow.flow.machine.name == machine
    )


def mirror(row: EntityRow, using: str) -> None:
    """Write the state of an entity into the columns that mirror it, in the open transaction."""
    for model, flow, column in mirrors_of(row.machine):
        state = str(flow.flow.initial) if row.state_type is None else row.state_type
        try:
            rows = model._base_manager.using(using).filter(**{flow.id: row.id})
        except (ValidationError, ValueError):  # an id that no row of the model can have
            continue
        rows.update(**{column: state})
