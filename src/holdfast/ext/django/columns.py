"""Columns that mirror the state of a flow: what they hold, and what instances tell of them."""

from __future__ import annotations

from enum import Enum
from typing import Any

from django.apps import apps
from django.db import models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.query_utils import DeferredAttribute


class _Value(Enum):
    """Stands in an instance where its column is to be read anew, each time."""

    IN_DATABASE = "in database"


def forget(instance: models.Model, name: str) -> None:
    """Have an instance read a column each time, which it neither remembers nor saves then."""
    if isinstance(getattr(type(instance), name, None), _Unremembered):
        vars(instance)[name] = _Value.IN_DATABASE


class _Unremembered(DeferredAttribute):
    """Reads a column that the instance does not hold, and does not keep what it reads."""

    field: models.Field[Any, Any]

    def __get__(self, instance: models.Model | None, cls: Any = None) -> Any:
        if instance is None:
            return self
        name = self.field.attname
        value = vars(instance).get(name, _Value.IN_DATABASE)
        if value is not _Value.IN_DATABASE:
            return value
        if instance._state.adding or instance.pk is None:  # as of one that is a copy, not saved yet
            return self.field.get_default()
        model = type(instance)
        using = router.db_for_write(model, instance=instance)  # a replica may be behind
        rows = model._base_manager.using(using).filter(pk=instance.pk)
        return rows.values_list(name, flat=True).get()

    def __set__(self, instance: models.Model, value: Any) -> None:
        """Take a value, unless it is to be read anew: then it is what some query saw, or nobody."""
        if vars(instance).get(self.field.attname) is not _Value.IN_DATABASE:
            vars(instance)[self.field.attname] = value


class StateField(models.CharField):
    """A column that mirrors the state of a flow, to be shown, ordered and filtered by.

    Transitions write it; `save()` does not. What is true is the log: after a transition the
    instance reads the column each time, so that it never tells what was rolled back.
    """

    descriptor_class = _Unremembered

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("max_length", 100)
        options.setdefault("default", "")
        options.update(editable=False, blank=True)
        super().__init__(*args, **options)

    def deconstruct(self) -> Any:
        """Return how a migration makes it."""
        name, _, args, options = super().deconstruct()
        for option in ("editable", "blank"):
            options.pop(option, None)
        return name, "holdfast.ext.django.StateField", args, options

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:  # noqa: FBT001 (Django's)
        """Return the state of a new row, and of another what it holds already.

        It is the initial one, save where the log knows the row's key from another before it.
        """
        from holdfast.ext.django.fields import flows_of

        if not add:
            return models.F(self.attname)
        model = type(model_instance)
        declared = _declared(model)
        flows = flows_of(declared).values()
        flow = next((each for each in flows if each.mirror == self.name), None)
        initial = "" if flow is None else str(flow.flow.initial)
        # A migration may come before the store's own; what it makes has no flow.
        key = flow.key_of(model_instance) if flow is not None and model is declared else None
        if flow is None or key in {None, ""}:
            setattr(model_instance, self.attname, initial)
            return initial
        forget(model_instance, self.attname)
        return _Stored(flow.flow.machine.name, str(key), initial)


class _Stored(models.Func):
    """The state of an entity; the initial one where there is none, or no table of them."""

    template = (
        "COALESCE((SELECT state FROM holdfast_entity WHERE machine = %s AND entity_id = %s), %s)"
    )

    def __init__(self, machine: str, id: str, initial: str) -> None:
        super().__init__(output_field=models.TextField())
        self._values = (machine, id, initial)

    def as_sql(
        self, compiler: Any, connection: BaseDatabaseWrapper, *args: Any, **rest: Any
    ) -> Any:
        """Return the SQL, and its parameters."""
        if not router.allow_migrate(connection.alias, "holdfast"):
            return "%s", self._values[-1:]
        return self.template, self._values


def _declared(model: type[models.Model]) -> type[models.Model]:
    """Return the model of the code for one of a migration, which has the columns alone."""
    try:
        return apps.get_model(model._meta.label)
    except LookupError:
        return model
