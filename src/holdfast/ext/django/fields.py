"""What a model declares: its flows, and the columns that mirror their states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast, overload

from django.apps import apps
from django.db import models, router
from django.db.models.query_utils import DeferredAttribute

from holdfast.errors import DefinitionError, ValidationError
from holdfast.ext.django.store import store_of
from holdfast.service.flow import Flow

F = TypeVar("F", bound=Flow[Any])

FIT = "let id= name a unique field of whole numbers, text or UUIDs"
"""What to do where a flow is kept under another one."""


class ModelFlow(Generic[F]):
    """A flow around the instances of a model: `flow = ModelFlow(OrderFlow)` in its body.

    `order.flow` is the flow, in the database that the instance is written to. Its id is the
    primary key as text, or the value of the unique field that `id` names. `mirror` names a
    `StateField` that is given the state's name in the same transaction.
    """

    name: str

    def __init__(self, flow: type[F], *, id: str = "pk", mirror: str | None = None) -> None:
        if not (isinstance(flow, type) and issubclass(flow, Flow)):
            raise DefinitionError(f"ModelFlow takes a Flow, the class itself, not {flow!r:.80}")
        self.flow = flow
        self.id = id
        self.mirror = mirror

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> ModelFlow[F]: ...
    @overload
    def __get__(self, instance: models.Model, owner: type) -> F: ...
    def __get__(self, instance: models.Model | None, owner: type) -> ModelFlow[F] | F:
        """Return the flow of an instance; raises ValidationError for one that is not saved."""
        if instance is None:
            return self
        id = self.id_of(instance)
        if self.mirror is not None:
            vars(instance).pop(self.mirror, None)  # read anew from here on, and never saved
        store = store_of(router.db_for_write(type(instance), instance=instance))
        return self.flow(instance, store=store, id=id)

    def id_of(self, instance: models.Model) -> str:
        """Return the id of the entity that belongs to an instance."""
        model = type(instance)
        if not is_fit(self.field_of(model)):
            raise DefinitionError(f"{unfit(model, self)}: {FIT}")
        if instance._state.adding or instance.pk is None:
            raise ValidationError(
                f"this {model.__name__} is not saved yet, and its flow begins with its row: "
                "save() it first"
            )
        value = self.key_of(instance)
        if value is None or value == "":
            raise ValidationError(
                f"this {model.__name__} has no {self.id}, which its flow is kept under: save() it "
                "with one first"
            )
        return str(value)

    def key_of(self, instance: models.Model) -> Any:
        """Return what the id is the text of, as it is read from the row."""
        field = self.field_of(type(instance))
        return field.to_python(getattr(instance, field.attname))

    def field_of(self, model: type[models.Model]) -> models.Field[Any, Any]:
        """Return the field that the id is taken from."""
        field: Any = model._meta.pk if self.id == "pk" else model._meta.get_field(self.id)
        return cast("models.Field[Any, Any]", field)


def target_of(field: models.Field[Any, Any]) -> models.Field[Any, Any]:
    """Return the field that holds the values of a field; of a foreign key, where it points to."""
    found: Any = field
    while found.remote_field is not None:
        found = found.target_field
    return cast("models.Field[Any, Any]", found)


def is_fit(field: models.Field[Any, Any]) -> bool:
    """Tell whether each value of a field has one text, which queries can compare as well."""
    fit = models.IntegerField | models.CharField | models.TextField | models.UUIDField
    return isinstance(target_of(field), fit)


def unfit(model: type[models.Model], flow: ModelFlow[Any]) -> str:
    """Say why the field that a flow is kept under will not do."""
    kind = type(target_of(flow.field_of(model))).__name__
    return (
        f"{model.__name__}.{flow.name} is kept under a {kind}, whose values have no one text that "
        "queries could compare"
    )


class _Unremembered(DeferredAttribute):
    """Reads a column that the instance does not hold, and does not keep what it reads."""

    field: models.Field[Any, Any]

    def __get__(self, instance: models.Model | None, cls: Any = None) -> Any:
        if instance is None:
            return self
        name = self.field.attname
        if name in instance.__dict__:
            return instance.__dict__[name]
        model = type(instance)
        using = router.db_for_write(model, instance=instance)  # a replica may be behind
        rows = model._base_manager.using(using).filter(pk=instance.pk)
        return rows.values_list(name, flat=True).get()


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
        """Return the initial state of a new row, and of another what it holds already."""
        if not add:
            return models.F(self.attname)
        flows = flows_of(_declared(type(model_instance))).values()
        value = next((str(each.flow.initial) for each in flows if each.mirror == self.name), "")
        setattr(model_instance, self.attname, value)
        return value


def flows_of(model: type[models.Model]) -> dict[str, ModelFlow[Any]]:
    """Return the flows of a model by the names of their attributes, inherited ones first."""
    found: dict[str, ModelFlow[Any]] = {}
    for cls in reversed(model.__mro__):
        for name, value in vars(cls).items():
            if isinstance(value, ModelFlow):
                found[name] = value
            else:
                found.pop(name, None)
    return found


def _declared(model: type[models.Model]) -> type[models.Model]:
    """Return the model of the code for one of a migration, which has the columns alone."""
    try:
        return apps.get_model(model._meta.label)
    except LookupError:
        return model


def flow_of(model: type[models.Model], name: str | None = None) -> ModelFlow[Any]:
    """Return the flow of a model: the only one, or that under a name."""
    flows = flows_of(model)
    if name is None and len(flows) == 1:
        return next(iter(flows.values()))
    found = flows.get(name or "")
    if found is None:
        raise ValidationError(_unclear(model, name, flows))
    return found


def _unclear(model: type[models.Model], name: str | None, flows: Mapping[str, object]) -> str:
    known = ", ".join(flows)
    if not flows:
        return f"{model.__name__} has no flow: declare one in its body, flow = ModelFlow(…)"
    if name is None:
        return (
            f"{model.__name__} has several flows, {known}: say which, as flow={next(iter(flows))!r}"
        )
    return f"{name!r:.80} is no flow of {model.__name__}; its flows are {known}"
