"""The app: put `holdfast.ext.django` in INSTALLED_APPS, and run `manage.py migrate`."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class HoldfastConfig(AppConfig):
    """The app whose migrations make the tables, under the label `holdfast`."""

    name = "holdfast.ext.django"
    label = "holdfast"
    verbose_name = "Holdfast"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have `manage.py check` look at the flows of the models."""
        from holdfast.ext.django.checks import check_flows

        checks.register(check_flows, checks.Tags.models)
