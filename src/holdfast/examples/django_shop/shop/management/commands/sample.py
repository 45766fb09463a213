"""`manage.py sample`: some products, and orders in the midst of their lives."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from holdfast.examples.django_shop.shop.models import Order, Product

ORDERS: list[tuple[str, str, int, list[str]]] = [
    ("Ada", "anchor", 1, ["checking_out", "purchased", "shipped"]),
    ("Grace", "rope", 30, ["checking_out", "purchased"]),
    ("Edsger", "anchor", 2, ["checking_out", "cancelled"]),
    ("Barbara", "buoy", 3, []),
]


class Command(BaseCommand):
    help = "Creates some products and orders."

    def handle(self, *args: Any, **options: Any) -> None:
        stock = {"anchor": 5, "rope": 200, "buoy": 2}
        with transaction.atomic():
            products = {
                name: Product.objects.create(name=name, stock=count)
                for name, count in stock.items()
            }
            for customer, product, quantity, states in ORDERS:
                order = Order.objects.create(
                    customer=customer, product=products[product], quantity=quantity
                )
                for state in states:
                    order.flow.transition_to(state, metadata={"by": customer.lower()})
        self.stdout.write(f"{len(ORDERS)} orders were made.")
