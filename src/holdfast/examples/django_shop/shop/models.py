"""Products, and orders whose state is kept by their flow."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F

from holdfast.examples.django_shop.shop.flow import OrderFlow
from holdfast.ext.django import FlowManager, ModelFlow, StateField


class Product(models.Model):
    name = models.CharField(max_length=100)
    stock = models.IntegerField(default=0)

    def __str__(self) -> str:
        return str(self.name)

    def take(self, quantity: int) -> None:
        """Take some out of stock, in the transaction that is open."""
        Product.objects.filter(pk=self.pk).update(stock=F("stock") - quantity)
        self.refresh_from_db(fields=["stock"])


class Order(models.Model):
    customer = models.CharField(max_length=100)
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField(default=1)
    state = StateField(db_index=True)

    flow = ModelFlow(OrderFlow, mirror="state")
    objects: ClassVar[FlowManager[Order]] = FlowManager()

    def __str__(self) -> str:
        return f"order {self.pk} of {self.customer}"
