"""Entities and transitions as rows that Django reads: views of the store's tables, never written.

What they hold is written by flows and services; typed states and commands are what these return.
"""

from __future__ import annotations

from typing import Any, ClassVar, Never

from django.db import models


class ReadOnlyError(TypeError):
    """The log and the entities are written by transitions alone."""


class _ReadOnlyRows(models.QuerySet[Any]):
    """Rows that are read; the database would refuse to write most of them."""

    def _refuse(self, *args: Any, **options: Any) -> Never:
        raise ReadOnlyError(
            f"{self.model.__name__} is read only: transitions write it, as order.flow does"
        )

    create = update = delete = bulk_create = bulk_update = _refuse
    get_or_create = update_or_create = _refuse


class _ReadOnly(models.Model):
    objects: ClassVar[models.Manager[Any]] = _ReadOnlyRows.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> Never:
        """Raise ReadOnlyError."""
        raise ReadOnlyError(
            f"{type(self).__name__} is read only: transitions write it, as order.flow does"
        )

    def delete(self, *args: Any, **options: Any) -> Never:
        """Raise ReadOnlyError."""
        self.save()


class Entity(_ReadOnly):
    """The current state of an entity; of a deleted one the row stays, and `state` is None."""

    pk = models.CompositePrimaryKey("machine", "entity_id")
    machine = models.TextField()
    entity_id = models.TextField("id")
    version = models.BigIntegerField()
    state = models.TextField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta(_ReadOnly.Meta):
        managed = False
        default_permissions = ("view",)
        db_table = "holdfast_entity"
        verbose_name_plural = "entities"

    def __str__(self) -> str:
        return f"{self.machine} {self.entity_id}"


class Transition(_ReadOnly):
    """An entry of the log, without the payloads."""

    seq = models.BigIntegerField(primary_key=True)
    machine = models.TextField()
    entity_id = models.TextField("id")
    version = models.BigIntegerField()
    kind = models.TextField()
    from_state = models.TextField("from", null=True)
    to_state = models.TextField("to", null=True)
    command_type = models.TextField("command", null=True)
    metadata = models.JSONField(null=True)
    key = models.TextField(null=True)
    at = models.DateTimeField()
    recorded_at = models.DateTimeField()

    class Meta(_ReadOnly.Meta):
        managed = False
        default_permissions = ("view",)
        db_table = "holdfast_transition"

    def __str__(self) -> str:
        return f"{self.machine} {self.entity_id} version {self.version}"

    @property
    def actor(self) -> Any:
        """Who did it: `by` in the metadata; None where that is not there."""
        return (self.metadata or {}).get("by")

    @property
    def reason(self) -> Any:
        """Why: `reason` in the metadata; None where that is not there."""
        return (self.metadata or {}).get("reason")
