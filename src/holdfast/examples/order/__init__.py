"""An order from basket to receipt: two workers, a warehouse, a payment that may fail."""

from holdfast.examples.order.machine import order
from holdfast.examples.order.stand_in import service

__all__ = ["order", "service"]
