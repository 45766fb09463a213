"""Holdfast in a Django project: an app with migrations, flows of models, queries by state."""

from holdfast.ext.django.columns import StateField
from holdfast.ext.django.fields import ModelFlow
from holdfast.ext.django.queries import (
    FlowManager,
    FlowQuerySet,
    current_state,
    in_state,
    most_recent_transition,
    not_in_state,
)
from holdfast.ext.django.store import DjangoStore, store_of

__all__ = [
    "DjangoStore",
    "FlowManager",
    "FlowQuerySet",
    "ModelFlow",
    "StateField",
    "current_state",
    "in_state",
    "most_recent_transition",
    "not_in_state",
    "store_of",
]
