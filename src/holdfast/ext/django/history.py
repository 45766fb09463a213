"""The history of a row's flow as an inline of Django's admin: shown, and never written."""

from __future__ import annotations

from typing import Any, Protocol

from django.contrib import admin
from django.db import models, router
from django.forms.models import BaseModelFormSet, modelformset_factory
from django.http import HttpRequest

from holdfast.ext.django.fields import flow_of
from holdfast.ext.django.models import Transition


class Labels(Protocol):
    """Tells what the pages of a model call a state."""

    def state_label(self, state: str) -> str:
        """Return what they call it."""
        ...


class HistoryFormSet(BaseModelFormSet):
    """The transitions of a row, whatever is posted."""

    def __init__(
        self, *posted: object, queryset: Any, prefix: str | None = None, **options: object
    ) -> None:
        super().__init__(queryset=queryset, prefix=prefix)
        self.new_objects = self.changed_objects = self.deleted_objects = []

    def get_queryset(self) -> Any:
        """Return the transitions as they were asked for, in their order."""
        return self.queryset

    @classmethod
    def get_default_prefix(cls) -> str:
        """Return what its parts of the page are named with."""
        return "holdfast-history"

    def is_valid(self) -> bool:
        """Return True: there is nothing to judge."""
        return True

    def save(self, commit: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 (Django's)
        """Write nothing."""
        return []


class HistoryInline(admin.TabularInline):
    """The history of a row's flow, latest first."""

    model = Transition
    template = "holdfast/history.html"
    fields = ("version", "at", "before", "after", "who", "why")
    readonly_fields = fields
    extra = 0
    owner: Labels
    name: str
    """Of the flow."""
    limit: int
    title: str
    row: models.Model | None = None

    def get_formset(
        self, request: HttpRequest, obj: models.Model | None = None, **options: Any
    ) -> Any:
        """Return the form set for a row, whose transitions `get_queryset` then returns."""
        self.row = obj
        return modelformset_factory(
            Transition, formset=HistoryFormSet, fields=[], extra=0, can_delete=False
        )

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """Return the latest transitions of the row."""
        assert self.row is not None, "what is not saved has no history"
        using = router.db_for_write(type(self.row), instance=self.row)
        log: models.QuerySet[Any] = Transition.objects.using(using)
        flow = flow_of(type(self.row), self.name)
        own = log.filter(machine=flow.flow.machine.name, entity_id=flow.id_of(self.row))
        return own.order_by("-version")[: self.limit]

    @admin.display(description="from")
    def before(self, transition: Transition) -> str:
        """Return the state before; a row that has no entity yet is in the initial one."""
        initial = flow_of(self.parent_model, self.name).flow.initial
        is_first = transition.from_state is None and transition.kind == "command"
        return self.label(str(initial) if is_first else transition.from_state)

    @admin.display(description="to")
    def after(self, transition: Transition) -> str:
        """Return the state after."""
        return self.label(transition.to_state)

    def label(self, state: str | None) -> str:
        """Return what the pages of the model call a state."""
        return "" if state is None else self.owner.state_label(state)

    @admin.display(description="by")
    def who(self, transition: Transition) -> str:
        """Return who did it."""
        return _shown(transition.actor)

    @admin.display(description="reason")
    def why(self, transition: Transition) -> str:
        """Return why."""
        return _shown(transition.reason)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return True: who may view the row may view its history."""
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: transitions add to it."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: nothing changes it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: nothing deletes from it."""
        return False


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
