"""The rows of models that have flows: locks them, and writes states into columns that mirror."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper

from holdfast.ext.django.fields import flows_of, target_of
from holdfast.stores.contract import EntityRow

MOST = 500
"""How many rows one query names at most; SQLite may take no more than 999 parameters."""


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
        for machine, ids in _by_machine(entities).items():
            for table in tables_of(machine):
                # In one query, however many: the database takes them in an order of its own.
                rows = _rows(table, _keys(table, ids, using), using).order_by(table.key.attname)
                rows = rows.select_related(None).select_for_update(no_key=True)
                list(rows.values_list("pk"))


def mirror(rows: Iterable[EntityRow], using: str) -> None:
    """Write the states of entities into the columns that mirror them, in the open transaction."""
    states = {(row.machine, row.id): row.state_type for row in rows}
    for machine, ids in _by_machine(states).items():
        for table in tables_of(machine):
            if table.column is None:
                continue
            alike: dict[str, list[str]] = {}
            for id in ids:
                state = states[machine, id]
                alike.setdefault(table.initial if state is None else state, []).append(id)
            for state in sorted(alike):
                keys = _keys(table, alike[state], using)
                for start in range(0, len(keys), MOST):
                    some = _rows(table, keys[start : start + MOST], using)
                    some.update(**{table.column: state})


def known_states(
    machine: str, ids: Sequence[str], connection: BaseDatabaseWrapper
) -> dict[str, str]:
    """Return the states of those entities that are there, by their ids, before rows are made."""
    from holdfast.ext.django.models import Entity

    known: dict[str, str] = {}
    if router.allow_migrate(connection.alias, "holdfast"):
        _take_turn(connection)
        rows = Entity.objects.using(connection.alias).filter(machine=machine, state__isnull=False)
        for start in range(0, len(ids), MOST):
            some = rows.filter(entity_id__in=ids[start : start + MOST])
            known.update(some.values_list("entity_id", "state"))
    return known


def _take_turn(connection: BaseDatabaseWrapper) -> None:
    """Wait, in a transaction on SQLite, until one may write; who has read before cannot wait."""
    if connection.vendor == "sqlite" and connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM entity WHERE 0")


def _by_machine(entities: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return ids by their machines, both in their order: all that lock take turns alike."""
    found: dict[str, list[str]] = {}
    for machine, id in sorted(set(entities)):
        found.setdefault(machine, []).append(id)
    return found


def _keys(table: Table, ids: Iterable[str], using: str) -> list[Any]:
    """Return the keys of rows, without ids that no row of the model can have."""
    keys = []
    for id in ids:
        with suppress(ValidationError):
            key = table.key.to_python(id)
            if str(key) == id:
                keys.append(key)
    field = target_of(table.key)
    if isinstance(field, models.IntegerField):
        least, most = connections[using].ops.integer_field_range(field.get_internal_type())
        return [key for key in keys if least <= key <= most]
    return keys


def _rows(table: Table, keys: Sequence[Any], using: str) -> models.QuerySet[Any]:
    rows = table.model._base_manager.using(using)
    return rows.filter(**{f"{table.key.attname}__in": keys})


def _has_rows(cls: type) -> bool:
    """Tell whether a class is a model with rows of its own."""
    return issubclass(cls, models.Model) and cls is not models.Model and not cls._meta.abstract
