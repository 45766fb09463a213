"""Flows in Django's admin: the history, which nobody edits, and a button for each transition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import models, router
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse

from holdfast.errors import (
    DecodeError,
    GuardFailedError,
    QueryError,
    RejectedError,
    ValidationError,
    VersionConflictError,
)
from holdfast.ext.django.fields import ModelFlow, flow_of, flows_of
from holdfast.ext.django.history import HistoryInline
from holdfast.ext.django.queries import current_state, in_state
from holdfast.service.flow import Flow
from holdfast.service.origin import is_own_conflict

MAX_REASON = 1_000
"""The most letters of a reason that is typed in."""


MAX_DIGITS = 19
"""The most digits of a version."""


class Panel(NamedTuple):
    """What the page of a row shows of one of its flows."""

    name: str
    title: str
    """Empty where the row has no other flow."""
    state: str
    version: int
    choices: list[tuple[str, str]]
    """The states that the rules lead to, each with what its button says."""
    url: str


class FlowAdmin(admin.ModelAdmin):
    """The admin of a model with flows; a mixin where it stands before another `ModelAdmin`.

    Its pages show the state, a button for each transition that the rules allow, and the history.
    `current_state` is a column for `list_display`, and `StateFilter` one for `list_filter`.
    """

    change_form_template = "holdfast/change_form.html"
    history_limit = 100
    """How many transitions are shown, the latest ones."""

    class Media:
        css = {"all": ["holdfast/admin.css"]}  # noqa: RUF012 (Django's form)

    def has_transition_permission(
        self, request: HttpRequest, obj: models.Model, flow: Flow[Any]
    ) -> bool:
        """Tell whether a user may transition a row: who may change it may."""
        return self.has_change_permission(request, obj)

    def transition_metadata(self, request: HttpRequest, obj: models.Model) -> dict[str, Any]:
        """Return what is recorded with a transition: the user, and the reason if one was given."""
        reason = request.POST.get("reason", "").strip()[:MAX_REASON]
        by = {"by": request.user.get_username()}
        return {**by, "reason": reason} if reason else by

    def state_label(self, state: str) -> str:
        """Return what the pages call a state."""
        return state.replace("_", " ")

    @admin.display(description="state", ordering="holdfast_state")
    def current_state(self, obj: models.Model) -> str:
        """Return the state of a row, for `list_display` and `readonly_fields`; of each flow."""
        flows = flows_of(self.model)
        if len(flows) == 1:
            return self._shown_state(obj, next(iter(flows)))
        states = [f"{_title(name, flows)}: {self._shown_state(obj, name)}" for name in flows]
        return ", ".join(states)

    def get_list_display(self, request: HttpRequest) -> Any:
        """Return the columns; `current_state` is one for each flow where there are several."""
        given, flows = list(super().get_list_display(request)), flows_of(self.model)
        if "current_state" in given and len(flows) > 1:
            place = given.index("current_state")
            given[place : place + 1] = [self._column(name, _title(name, flows)) for name in flows]
        return given

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """Return the rows, with their states where the list shows them."""
        rows, flows = super().get_queryset(request), flows_of(self.model)
        if not any(_is_state(column) for column in self.get_list_display(request)):
            return rows
        return rows.annotate(
            **{_annotated(name, flows): current_state(self.model, flow=name) for name in flows}
        )

    def _shown_state(self, obj: models.Model, name: str) -> str:
        state = vars(obj).get(_annotated(name, flows_of(self.model)))
        return self.state_label(_state_of(obj, name) if state is None else state)

    def _column(self, name: str, title: str) -> Callable[[models.Model], str]:
        """Return a column of the list, with the states of one of several flows."""
        column = partial(self._shown_state, name=name)
        ordering = _annotated(name, flows_of(self.model))
        shown: Any = admin.display(description=title, ordering=ordering)(column)
        shown.__name__ = f"{name}_state"
        return cast("Callable[[models.Model], str]", shown)

    def get_inlines(self, request: HttpRequest, obj: models.Model | None) -> list[Any]:
        """Return the inlines, and after them the history of each flow."""
        inlines: list[Any] = list(super().get_inlines(request, obj))
        if obj is None:
            return inlines
        flows = flows_of(self.model)
        return inlines + [
            type(
                "HistoryOfFlow",
                (HistoryInline,),
                {
                    "owner": self,
                    "name": name,
                    "limit": self.history_limit,
                    "title": _title(name, flows),
                },
            )
            for name in _begun(obj)
        ]

    def get_urls(self) -> list[Any]:
        """Return the pages, and where the buttons post to."""
        view = self.admin_site.admin_view(self.transition_view)
        own = path("<path:object_id>/transition/", view, name=self._page_name("transition"))
        return [own, *super().get_urls()]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Return the page of a row, with a panel for each flow."""
        obj: Any = options.get("obj")
        panels: list[Panel] = []
        if obj is not None and not context.get("is_popup"):  # a button would leave the popup
            panels = self.panels(request, obj)
        context["holdfast_panels"] = panels
        return super().render_change_form(request, context, *args, **options)

    def panels(self, request: HttpRequest, obj: models.Model) -> list[Panel]:
        """Return what is shown of each flow of a row."""
        return [
            self._panel(request, obj, name, _title(name, flows_of(self.model)))
            for name in _begun(obj)
        ]

    def transition_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make the transition that a button asks for, and return to the page of the row."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        obj = self.get_object(request, unquote(object_id))
        if not self.has_view_or_change_permission(request, obj):
            raise PermissionDenied
        if obj is None:
            gone = f"{self.opts.verbose_name} “{unquote(object_id)}” is not there any more."
            self.message_user(request, gone, messages.WARNING)
            return HttpResponseRedirect(self._url(request, "changelist"))
        name, flow = _flow_asked(request, obj)
        if not self.has_transition_permission(request, obj, flow):
            raise PermissionDenied
        self._transition(request, obj, name, flow)
        return HttpResponseRedirect(self._url(request, "change", quote(obj.pk)))

    def _transition(
        self, request: HttpRequest, obj: models.Model, name: str, flow: Flow[Any]
    ) -> None:
        state, version = request.POST.get("to", ""), _version_asked(request)
        label = self.state_label(state)
        metadata = self.transition_metadata(request, obj)
        try:
            flow.transition_to(state, metadata=metadata, expected_version=version)
        except VersionConflictError as error:
            is_own = is_own_conflict(type(flow).machine, flow.id, error)
            why = self._conflict(obj, name) if is_own else _reason(error)
            self.message_user(request, f"“{label}” was not done: {why}.", messages.WARNING)
        except (RejectedError, DecodeError) as error:
            self.message_user(request, f"“{label}” was not done: {_reason(error)}.", messages.ERROR)
        else:
            self.log_change(request, obj, f"Transition to {state}.")
            self.message_user(request, f"{obj} is in the state “{label}” now.", messages.SUCCESS)

    def _conflict(self, obj: models.Model, name: str) -> str:
        now = self.state_label(_state_of(obj, name))
        return (
            f"somebody else changed {obj} meanwhile, which is in the state “{now}” now. Look at "
            "it, and decide again"
        )

    def _panel(self, request: HttpRequest, obj: models.Model, name: str, title: str) -> Panel:
        flow: Flow[Any] = getattr(obj, name)
        try:
            version = flow.version  # first, so that it is never newer than what is shown
            may = self.has_transition_permission(request, obj, flow)
            states = [str(state) for state in flow.allowed_transitions] if may else []
            state = str(flow.current_state)
        except DecodeError:  # newer code wrote it, which this page cannot go on from
            version, states, state = 0, [], _state_of(obj, name)
        url = self._url(request, "transition", quote(obj.pk))
        choices = [(state, self.state_label(state)) for state in states]
        return Panel(name, title, self.state_label(state), version, choices, url)

    def _url(self, request: HttpRequest, page: str, *args: str) -> str:
        """Return where a page is, with the filters of the list that one came from."""
        name = f"admin:{self._page_name(page)}"
        url = reverse(name, args=args, current_app=self.admin_site.name)
        filters: Any = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
        return add_preserved_filters(filters, url)

    def _page_name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"


class StateFilter(admin.SimpleListFilter):
    """Rows by the state of their flow, for `list_filter`.

    Where a model has several flows, `StateFilter.of("payment")` is that of one of them.
    """

    title = "state"
    parameter_name = "state"
    flow: str | None = None
    """The name of the flow; None for the only one."""

    @classmethod
    def of(cls, flow: str) -> type[StateFilter]:
        """Return the filter by the state of one of several flows."""
        title, parameter = flow.replace("_", " "), f"{flow}_state"
        named = {"flow": flow, "title": title, "parameter_name": parameter}
        return type(f"{cls.__name__}Of", (cls,), named)

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[Any]:
        """Return the states."""
        states = flow_of(model_admin.model, self.flow).flow.states
        label = getattr(model_admin, "state_label", str)
        return [(str(state), label(str(state))) for state in states]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        """Return the rows that are in the state asked for."""
        state = self.value()
        if not state:
            return queryset
        try:
            return queryset.filter(in_state(queryset.model, state, flow=self.flow))
        except QueryError as error:  # Django answers it with the whole list
            raise IncorrectLookupParameters(error) from error


def _begun(obj: models.Model) -> list[str]:
    """Return the names of a row's flows; one whose field is empty yet is left out."""
    flows = flows_of(type(obj))
    return [name for name, flow in flows.items() if flow.key_of(obj) not in {None, ""}]


def _state_of(obj: models.Model, name: str) -> str:
    """Return the name of a row's state, be it one that the flow does not have."""
    model = type(obj)
    using = router.db_for_write(model, instance=obj)
    rows = model._base_manager.using(using).filter(pk=obj.pk)
    state = rows.values_list(current_state(model, flow=name), flat=True).first()
    return str(flow_of(model, name).flow.initial if state is None else state)


def _flow_asked(request: HttpRequest, obj: models.Model) -> tuple[str, Flow[Any]]:
    """Return the flow that a button is of, and its name; raises BadRequest where there is none."""
    try:
        name = flow_of(type(obj), request.POST.get("flow") or None).name
        return name, getattr(obj, name)
    except ValidationError as error:
        raise BadRequest(str(error)) from error


def _version_asked(request: HttpRequest) -> int | None:
    """Return the version that a button's page showed; raises BadRequest for what is no number."""
    version = request.POST.get("version", "")
    if not version:
        return None
    if not version.isdecimal() or len(version) > MAX_DIGITS:
        raise BadRequest(f"the version of the page is a number, not {version!r:.80}")
    return int(version)


def _is_state(column: object) -> bool:
    """Tell whether a column of the list is one that shows the states of a flow, or of all."""
    ordering = str(getattr(column, "admin_order_field", ""))
    return column == "current_state" or ordering.startswith("holdfast_state")


def _annotated(name: str, flows: Mapping[str, ModelFlow[Any]]) -> str:
    """Return what rows of the list call the state of a flow: the first has the plain name."""
    return "holdfast_state" if name == next(iter(flows)) else f"holdfast_state_{name}"


def _title(name: str, flows: Mapping[str, ModelFlow[Any]]) -> str:
    return "" if len(flows) == 1 else name.replace("_", " ")


def _reason(error: RejectedError | VersionConflictError | DecodeError) -> str:
    told = error.reason if isinstance(error, GuardFailedError) and error.reason else str(error)
    return told.rstrip(".")
