"""What happens on a version conflict: how often, how long and how spread out to try again.

Values and the breaker only; nothing here sleeps or reads a clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import copy
from inspect import iscoroutinefunction
from math import inf
from sys import float_info
from typing import Literal

from msgspec import Struct

from holdfast.errors import DefinitionError, VersionConflictError
from holdfast.stores.fork import Renewed, follow_forks


class Conflict(Struct, frozen=True):
    """One version conflict, as the monitoring hook of `Retry` receives it."""

    machine: str
    id: str
    expected: int
    """The version decided on; 0 for no live entity."""
    actual: int
    """The version found; 0 for no live entity."""
    gap: int
    """How many versions the entity had moved on; large gaps tell of slow handlers."""
    attempt: int
    """Which attempt met it, from 1."""
    delay_seconds: float | None
    """How long the call waits before the next attempt; None where there is none."""


class CircuitBreaker(Renewed):
    """Refuses calls for a while after many conflicts in a row; shared by services and threads.

    Closed, it lets every attempt through. `threshold` conflicts with no success in between open
    it for `cooldown_seconds`; then, half-open, one probe is let through, whose success closes it
    and whose conflict opens it again. Source: M. Nygard, Release It!, 2nd ed., ch. 5.
    """

    def __init__(self, *, threshold: int = 5, cooldown_seconds: float = 1.0) -> None:
        if not (_is_whole(threshold) and threshold >= 1 and is_positive(cooldown_seconds)):
            raise DefinitionError(
                "CircuitBreaker takes a whole threshold from 1 and a cooldown_seconds above 0, not "
                f"{threshold!r:.80} and {cooldown_seconds!r:.80}"
            )
        self.threshold = threshold
        self.cooldown_seconds = cooldown_seconds
        self._lock = threading.RLock()  # a signal handler may come into what its thread does
        self._failures = 0
        self._opened_at: float | None = None
        self._probe_since: float | None = None
        self._last: VersionConflictError | None = None
        follow_forks(self)

    def after_fork_in_child(self) -> None:
        """Go on as it is; a thread of the parent's may have held the lock."""
        self._lock = threading.RLock()

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """The state; an open breaker turns half-open when a call comes after the cooldown."""
        with self._lock:
            if self._opened_at is None:
                return "closed"
            return "open" if self._probe_since is None else "half-open"

    @property
    def last_conflict(self) -> VersionConflictError | None:
        """The last conflict that an attempt reported."""
        return self._last

    def admit(self, now: float) -> float:
        """Return 0 where an attempt may be made at `now` (monotonic seconds), else the wait.

        After 0 the caller reports `succeeded`, `failed` or, with this `now`, `released`. A probe
        that has not reported for a cooldown is taken for dead, and another is let through.
        """
        with self._lock:
            if self._opened_at is None:
                return 0.0
            since = self._opened_at if self._probe_since is None else self._probe_since
            wait = since + self.cooldown_seconds - now
            if wait <= 0:
                self._probe_since = now
            return max(wait, 0.0)

    def succeeded(self) -> None:
        """Report that an attempt wrote; closes the breaker."""
        with self._lock:
            self._failures = 0
            self._opened_at = self._probe_since = None

    def failed(self, conflict: VersionConflictError, now: float) -> None:
        """Report that an attempt met a conflict; opens the breaker at the threshold."""
        with self._lock:
            self._last = copy(conflict)  # without the traceback, which keeps its frames alive
            self._failures += 1
            if self._probe_since is not None or self._failures >= self.threshold:
                self._opened_at = now
                self._probe_since = None

    def released(self, admitted_at: float) -> None:
        """Report that an attempt ended with neither: refused, or failed for another reason."""
        with self._lock:
            if self._probe_since == admitted_at:
                # The cooldown is over already, so the next call becomes the probe.
                self._probe_since = None


class Retry(Struct, frozen=True, kw_only=True):
    """How a service answers version conflicts: load again, decide again, within limits.

    Waits 10, 20, 40, 80, 160 ms … up to the cap, each drawn between its half and its whole
    unless `jitter` is off. Nothing but conflicts is retried. Raises DefinitionError.
    """

    attempts: int = 10
    """How often to decide and try to write, the first time included."""
    initial_seconds: float = 0.01
    cap_seconds: float = 1.0
    jitter: bool = True
    budget_seconds: float = 45.0
    """No attempt starts later than this after the call began."""
    breaker: CircuitBreaker | None = None
    on_conflict: Callable[[Conflict], object] | None = None
    """Called with every conflict, for monitoring; what it raises answers the calls that met it."""

    def __post_init__(self) -> None:
        """Refuse limits that mean nothing."""
        if not (_is_whole(self.attempts) and self.attempts >= 1):
            raise DefinitionError(f"Retry takes whole attempts from 1, not {self.attempts!r:.80}")
        waits = self.initial_seconds, self.cap_seconds
        if not (all(map(is_positive, waits)) and waits[0] <= waits[1]):
            raise DefinitionError(
                f"Retry takes 0 < initial_seconds <= cap_seconds, not {waits!r:.80}"
            )
        if not is_positive(self.budget_seconds):
            raise DefinitionError(
                f"Retry takes a budget_seconds above 0, not {self.budget_seconds!r:.80}"
            )
        if not isinstance(self.breaker, CircuitBreaker | None):
            raise DefinitionError(f"breaker= is a CircuitBreaker, not {self.breaker!r:.80}")
        if not (self.on_conflict is None or callable(self.on_conflict)):
            raise DefinitionError(f"on_conflict= is a function, not {self.on_conflict!r:.80}")
        if iscoroutinefunction(self.on_conflict):
            raise DefinitionError(
                f"on_conflict= is a plain function; nobody awaits {self.on_conflict!r:.80}"
            )

    def delay_seconds(self, attempt: int, random: float) -> float:
        """Return the wait after an attempt, from 1; `random` is drawn from [0, 1).

        Exponential backoff with equal jitter: half of the delay is kept, so it is never 0.
        Source: M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
        """
        delay = min(self.cap_seconds, self.initial_seconds * 2.0 ** min(attempt - 1, 60))
        return delay * (0.5 + random / 2) if self.jitter else delay


def is_positive(number: object) -> bool:
    """Whether something is a number above 0 that is a float; NaN is not, and infinity is."""
    if not isinstance(number, int | float) or isinstance(number, bool):
        return False
    return 0 < number <= float_info.max or number == inf


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
