"""The simulated world that plans run in: its time, and the processes that hold the services."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random
from typing import Any

from holdfast.stores.contract import Store
from holdfast.testing.clock import START
from holdfast.testing.simulation.actions import AnyPlans


class Clock:
    """The simulated time: it moves with every request, and where all plans sleep."""

    def __init__(self, random: Random) -> None:
        self.seconds = 0.0
        self._random = random
        self._skew_seconds = 0.0

    def monotonic(self) -> float:
        """Return seconds that never fall."""
        return self.seconds

    def now(self) -> datetime:
        """Return the store's time, which is set back now and then."""
        return START + timedelta(seconds=self.seconds + self._skew_seconds)

    def tick(self) -> None:
        """Move by up to two milliseconds."""
        self.seconds += self._random.random() * 0.002

    def set_back(self) -> None:
        """Set the store's time back, as an administrator might."""
        self._skew_seconds -= 1.0


class Process:
    """A simulated process: services of its own, on the store."""

    def __init__(
        self,
        name: str,
        store: Store,
        clock: Clock,
        random: Random,
        plans: dict[str, AnyPlans],
        *,
        owns_store: bool,
    ) -> None:
        self.name = name
        self._owns_store = owns_store
        self.store = store
        self.plans = plans
        self.clock = clock.monotonic
        self.random = random.random
        self._random = random

    def tokens(self, count: int) -> list[str]:
        """Draw tokens from the seed."""
        return [f"{self._random.getrandbits(128):032x}" for _ in range(count)]

    def end(self) -> None:
        """Let go of a store of its own."""
        if self._owns_store:
            self.store.close()

    def sleep(self, seconds: float) -> Any:
        """Never asked for: the scheduler keeps those who sleep waiting."""
        raise NotImplementedError
