"""The admin of the tests' models."""

from __future__ import annotations

from django.contrib import admin
from tests.ext.django.shop.models import Order, Parcel, Registered

from holdfast.ext.django.admin import FlowAdmin, StateFilter


@admin.register(Order)
class OrderAdmin(FlowAdmin):
    list_display = ("__str__", "current_state")
    list_filter = (StateFilter,)
    history_limit = 3


@admin.register(Parcel)
class ParcelAdmin(FlowAdmin):
    list_display = ("number", "current_state", "grams")
    list_filter = (StateFilter.of("parcel"), StateFilter.of("payment"))
    readonly_fields = ("current_state",)


@admin.register(Registered)
class RegisteredAdmin(FlowAdmin):
    readonly_fields = ("current_state",)
