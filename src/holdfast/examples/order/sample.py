"""A generated day's orders: who buys what, and what is to become of it. The seed decides."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

from holdfast.examples.order.model import Line, Order

CUSTOMERS = ("Asta", "Bo", "Chidi", "Dina", "Emre", "Fay", "Goran", "Hoa", "Iris", "Jun")
PRICES_CENTS = {"ANCHOR": 12900, "BUOY": 4550, "CLEAT": 890, "LANTERN": 3200, "ROPE-20M": 2475}
REASONS = ("ordered twice", "too expensive after all", "found it in the cellar")

Fate = Literal["complete", "cancel", "wait", "process"]
"""What happens to an order today: `wait` leaves it pending, `process` leaves it half done."""
_FATES: dict[Fate, int] = {"complete": 86, "cancel": 8, "wait": 3, "process": 3}
_HOT_SHARE = 0.04


class Placed(NamedTuple):
    id: str
    order: Order
    fate: Fate
    hot: bool
    """Whether several people work on it at the same moment."""


def sample(count: int, seed: int) -> list[Placed]:
    """Return the orders in the sequence in which they are placed; equal for an equal seed."""
    draw = random.Random(seed)
    fates, weights = list(_FATES), list(_FATES.values())
    return [
        Placed(
            f"order-{number:05}",
            Order(draw.choice(CUSTOMERS), _lines(draw)),
            draw.choices(fates, weights)[0],
            draw.random() < _HOT_SHARE,
        )
        for number in range(1, count + 1)
    ]


def _lines(draw: random.Random) -> tuple[Line, ...]:
    skus = draw.sample(sorted(PRICES_CENTS), draw.randint(1, 3))
    return tuple(Line(sku, draw.randint(1, 5), PRICES_CENTS[sku]) for sku in skus)
