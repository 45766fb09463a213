"""The attempts of one call: when to stop, how long to wait, whom to tell. A part of plans."""

from __future__ import annotations

from holdfast.errors import CircuitOpenError, RetriesExhaustedError, VersionConflictError
from holdfast.service.requests import Clock, Notify, Plan, Random, Sleep
from holdfast.service.retry import Conflict, Retry


class Attempts:
    """Counts the attempts of one call and measures them against the limits of its `Retry`.

    `pinned` calls decided on the version that they saw, so a conflict ends them at once.
    """

    def __init__(
        self,
        retry: Retry,
        machine: str,
        id: str,
        *,
        started: float,
        timeout_seconds: float | None,
        pinned: bool,
    ) -> None:
        self.retry = retry
        self.machine = machine
        self.id = id
        self.started = started
        self.timeout_seconds = timeout_seconds
        self.pinned = pinned
        self.made = 0
        self.elapsed = 0.0
        self.admitted_at: float | None = None

    def begin(self) -> Plan[None]:
        """Start an attempt; raises CircuitOpenError where the breaker refuses it."""
        self.made += 1
        if self.retry.breaker is None:
            return
        now: float = yield Clock()
        wait = self.retry.breaker.admit(now)
        if wait > 0:
            conflict = self.retry.breaker.last_conflict
            assert conflict is not None
            raise CircuitOpenError(self.machine, self.id, conflict, wait)
        self.admitted_at = now

    @property
    def left_seconds(self) -> float | None:
        """What the caller's timeout leaves for waiting on other writers."""
        return None if self.timeout_seconds is None else self.timeout_seconds - self.elapsed

    def succeeded(self) -> None:
        """End the attempt with a write."""
        self.admitted_at = None
        if self.retry.breaker is not None:
            self.retry.breaker.succeeded()

    def release(self) -> None:
        """End the attempt, unless it has ended, with neither a write nor a conflict."""
        if self.admitted_at is not None and self.retry.breaker is not None:
            self.retry.breaker.released(self.admitted_at)
            self.admitted_at = None

    def failed(self, conflict: VersionConflictError) -> Plan[VersionConflictError | None]:
        """End the attempt with a conflict; wait, or return the error where there is no next one."""
        now: float = yield Clock()
        self.elapsed = now - self.started
        self.admitted_at = None
        if self.retry.breaker is not None:
            self.retry.breaker.failed(conflict, now)
        delay = self.retry.delay_seconds(self.made, (yield Random()))
        failure = self._failure(conflict, delay)
        yield from self.tell(conflict, delay if failure is None else None)
        if failure is None:
            yield Sleep(delay)
            self.elapsed += delay
        return failure

    def tell(self, conflict: VersionConflictError, delay_seconds: float | None) -> Plan[None]:
        """Tell the monitoring hook of a conflict, and of the wait that follows."""
        if self.retry.on_conflict is not None:
            yield Notify(
                self.retry.on_conflict,
                Conflict(
                    conflict.machine,
                    conflict.id,
                    conflict.expected,
                    conflict.actual,
                    conflict.gap,
                    self.made,
                    delay_seconds,
                ),
            )

    def _failure(self, conflict: VersionConflictError, delay: float) -> VersionConflictError | None:
        """Return why there is no next attempt; None where there is one."""
        if self.pinned:
            return conflict
        if self.made >= self.retry.attempts:
            return RetriesExhaustedError(conflict, self.made, f"{self.made} are allowed")
        budget = min(self.retry.budget_seconds, self.timeout_seconds or self.retry.budget_seconds)
        if self.elapsed + delay > budget:
            return RetriesExhaustedError(conflict, self.made, f"{budget:g} s are allowed")
        return None
