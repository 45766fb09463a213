"""A clock for tests, which stands still until it is told to move."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class ManualClock:
    """Gives the same time until it is moved; pass it as `open_store(url, clock=…)`."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the time it shows."""
        return self.now

    def advance(self, seconds: float) -> datetime:
        """Move by some seconds, backwards if they are negative, and return the new time."""
        self.now += timedelta(seconds=seconds)
        return self.now
