"""Runs plans for callers that block: does what they ask, and sends them the answers."""

from __future__ import annotations

import os
import time
from threading import get_ident
from typing import TypeVar

from holdfast.service.requests import Plan, World
from holdfast.stores.contract import Store

T = TypeVar("T")


class SyncWorld:
    """The real world, for callers that block."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = time.monotonic
        self.random = draw_fraction
        self.tokens = draw_tokens

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(seconds)


def run(plan: Plan[T], world: World) -> T:
    """Run one plan to its end; what a request raises is raised inside the plan."""
    under_way = world.store.under_way
    try:
        under_way[plan] = get_ident()
        ask = plan.send(None)
        while True:
            try:
                answer = ask.perform(world)
            except BaseException as error:  # noqa: BLE001 (raised inside the plan)
                ask = plan.throw(error)
            else:
                ask = plan.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # (what a plan returns)
    finally:
        under_way.pop(plan, None)


def draw_fraction() -> float:
    """Draw a number from [0, 1); few calls ever need one."""
    from random import random

    return random()


def draw_tokens(count: int) -> list[str]:
    """Draw tokens of 32 hexadecimal digits from the system's randomness."""
    if count == 1:
        return [os.urandom(16).hex()]
    digits = os.urandom(16 * count).hex()
    return [digits[start : start + 32] for start in range(0, len(digits), 32)]
