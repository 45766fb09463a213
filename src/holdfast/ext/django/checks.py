"""What `manage.py check` says of the flows that models declare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from holdfast.ext.django.columns import StateField
from holdfast.ext.django.fields import FIT, ModelFlow, flows_of, is_fit, unfit


def check_flows(app_configs: Any, **options: Any) -> list[checks.CheckMessage]:
    """Return what is wrong with the flows of all models."""
    return check_models(apps.get_models())


def check_models(given: Iterable[type[models.Model]]) -> list[checks.CheckMessage]:
    """Return what is wrong with the flows of models."""
    found: list[checks.CheckMessage] = []
    owners: dict[str, tuple[type[models.Model], str]] = {}
    for model in given:
        for name, flow in flows_of(model).items():
            found += _check(model, name, flow)
            own = model._meta.concrete_model or model
            machine = flow.flow.machine.name
            other, others = owners.setdefault(machine, (own, name))
            if not (issubclass(own, other) or issubclass(other, own)):
                told = (
                    f"{own.__name__}.{name} and {other.__name__} share the flow {machine!r}: rows"
                )
                found.append(
                    _shared(model, f"{told} of both with the same key would be one entity")
                )
            elif name != others:
                told = f"{own.__name__}.{name} and .{others} share the flow {machine!r}"
                found.append(_shared(model, f"{told}, and would be one entity"))
    return found


def _shared(model: type[models.Model], told: str) -> checks.Error:
    hint = "Inherit a flow for each: class …Flow(…, name=…)"
    return checks.Error(told, hint=hint, obj=model, id="holdfast.E003")


def _check(
    model: type[models.Model], name: str, flow: ModelFlow[Any]
) -> Iterator[checks.CheckMessage]:
    key = model._meta.pk if flow.id == "pk" else _field(model, flow.id)
    if flow.id != "pk" and not getattr(key, "unique", False):
        yield checks.Error(
            f"{model.__name__}.{name} is kept under {flow.id!r}, which is no unique field",
            hint="id= names a field with unique=True, or is left out for the primary key",
            obj=model,
            id="holdfast.E001",
        )
    elif isinstance(key, models.CompositePrimaryKey):
        yield checks.Error(
            f"{model.__name__}.{name} is kept under a primary key of several columns",
            hint="id= names a field with unique=True",
            obj=model,
            id="holdfast.E001",
        )
    elif isinstance(key, models.Field) and not is_fit(key):
        hint = FIT[0].upper() + FIT[1:]
        yield checks.Error(unfit(model, flow), hint=hint, obj=model, id="holdfast.E006")
    if flow.mirror is not None:
        yield from _check_mirror(model, name, flow, _field(model, flow.mirror))


def _check_mirror(
    model: type[models.Model], name: str, flow: ModelFlow[Any], column: object
) -> Iterator[checks.CheckMessage]:
    if not isinstance(column, StateField):
        yield checks.Error(
            f"{model.__name__}.{name} is mirrored in {flow.mirror!r}, which is no StateField",
            hint=f"{flow.mirror} = StateField()",
            obj=model,
            id="holdfast.E002",
        )
        return
    owner = next(name for name, each in flows_of(model).items() if each.mirror == flow.mirror)
    if owner != name:
        yield checks.Error(
            f"{model.__name__}.{name} is mirrored in {flow.mirror!r}, as {owner} is",
            hint="Have a StateField for each",
            obj=model,
            id="holdfast.E004",
        )
    longest = max(map(str, flow.flow.states), key=len)
    if column.max_length is not None and len(longest) > column.max_length:
        yield checks.Error(
            f"{model.__name__}.{flow.mirror} holds {column.max_length} letters, and the state "
            f"{longest!r} has {len(longest)}",
            hint="Leave out max_length, or raise it",
            obj=model,
            id="holdfast.E005",
        )


def _field(model: type[models.Model], name: str) -> object:
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
