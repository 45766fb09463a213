"""The admin of the shop: what is asked of an order is a button on its page."""

from __future__ import annotations

from django.contrib import admin

from holdfast.examples.django_shop.shop.models import Order, Product
from holdfast.ext.django.admin import FlowAdmin, StateFilter


@admin.register(Order)
class OrderAdmin(FlowAdmin):
    list_display = ("__str__", "product", "quantity", "current_state")
    list_filter = (StateFilter,)
    list_select_related = ("product",)


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ("name", "stock")
