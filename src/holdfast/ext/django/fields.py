"""What a model declares: its flows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Generic, TypeVar, cast, overload

from django.db import models, router

from holdfast.errors import DefinitionError, StoreError, ValidationError
from holdfast.ext.django.columns import forget
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
            forget(instance, self.mirror)
        store = store_of(router.db_for_write(type(instance), instance=instance))
        return self.flow(instance, store=store.of_row(partial(self._expect, instance, id)), id=id)

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
        id = self.text_of(instance)
        if not id:
            raise ValidationError(
                f"this {model.__name__} has no {self.id}, which its flow is kept under: save() it "
                "with one first"
            )
        return id

    def text_of(self, instance: models.Model) -> str:
        """Return the id that an instance has, or will have once it is saved; "" for none yet."""
        key = self.key_of(instance)
        return "" if key is None else str(key)

    def _expect(self, instance: models.Model, id: str) -> None:
        """Raise StoreError where an instance is another row by now, as one that was copied is."""
        key = self.key_of(instance)
        if instance._state.adding or str(key) != id:
            is_now = "no row" if key is None or instance._state.adding else f"{str(key)!r:.80}"
            raise StoreError(
                f"this {type(instance).__name__} is {is_now} now, and its flow was taken when it "
                f"was {id!r:.80}; nothing was written: take .{self.name} anew"
            )

    def key_of(self, instance: models.Model) -> Any:
        """Return what the id is the text of, as it is read from the row; None for none yet."""
        field = self.field_of(type(instance))
        key = getattr(instance, field.attname)
        # What the database is to compute is not known yet, as a default of its own.
        return None if hasattr(key, "resolve_expression") else field.to_python(key)

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
