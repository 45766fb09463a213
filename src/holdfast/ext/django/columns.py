"""Columns that mirror the state of a flow: what they hold, and what instances tell of them."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.query_utils import DeferredAttribute

if TYPE_CHECKING:
    from holdfast.ext.django.fields import ModelFlow


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
        setattr(model_instance, self.attname, initial)
        # A migration may come before the store's own; what it makes has no flow.
        if flow is None or model is not declared or not flow.text_of(model_instance):
            return initial
        return _Known(flow, model_instance)

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        """Return what a row is saved with, which its instance is told."""
        if isinstance(value, _Known):
            instance, value = value.instance, value.state(connection)
            setattr(instance, self.attname, value)
        return super().get_db_prep_save(value, connection)


class _Known:
    """Stands for the state of a new row that brings its key, which the log may know.

    Django asks what is no value yet for what it is in a query. Rows that are made in one query are
    looked up together.
    """

    contains_aggregate = contains_column_references = contains_over_clause = False

    def __init__(self, flow: ModelFlow[Any], instance: models.Model) -> None:
        self.instance = instance
        self._flow = flow
        self._rows = [instance]
        self._known: dict[str, dict[str, str]] = {}

    def resolve_expression(self, query: Any, *args: Any, **options: Any) -> _Known:
        """Take what there is in the query that makes the row."""
        self._rows = query.objs
        self._known = vars(query).setdefault("holdfast_known", {})
        return self

    def state(self, connection: BaseDatabaseWrapper) -> str:
        """Return the state; the initial one where there is none, or no table of them."""
        from holdfast.ext.django.mirrors import known_states

        machine, known = self._flow.flow.machine.name, self._known
        if machine not in known:
            ids = [self._flow.text_of(row) for row in self._rows]
            known[machine] = known_states(machine, [id for id in ids if id], connection)
        id = self._flow.text_of(self.instance)
        return str(known[machine].get(id, self._flow.flow.initial))


def _declared(model: type[models.Model]) -> type[models.Model]:
    """Return the model of the code for one of a migration, which has the columns alone."""
    try:
        return apps.get_model(model._meta.label)
    except LookupError:
        return model
