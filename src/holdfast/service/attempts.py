"""The attempts of one call: when to stop, how long to wait, whom to tell. A part of plans."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Context

from msgspec import Struct
from msgspec.structs import replace

from holdfast.errors import CircuitOpenError, RetriesExhaustedError, VersionConflictError
from holdfast.service.decided import Decided
from holdfast.service.requests import Clock, Commit, Notify, Plan, Random, Sleep
from holdfast.service.retry import CircuitBreaker, Conflict, Retry
from holdfast.stores.contract import LogRow, Outcome


class Trail(Struct):
    """How far calls have come whose hooks are to be called."""

    decided: Sequence[Decided | None] = ()
    """What the last attempt decided, for each call."""
    commit: Commit | None = None
    """What was committed."""
    outcomes: Sequence[Outcome] = ()
    """What became of it."""

    @property
    def row(self) -> LogRow | None:
        """The log row that a single call made, where the store told all of it."""
        seal = self.outcomes[0].seal if self.outcomes else None
        if self.commit is None or len(self.commit.writes) != 1 or seal is None:
            return None
        seq, recorded_at, digest = seal
        row = self.commit.writes[0].log[-1]
        return replace(row, seq=seq, recorded_at=recorded_at, digest=digest)


class Attempts(Struct):
    """Counts the attempts of one call and measures them against the limits of its `Retry`."""

    retry: Retry
    machine: str
    id: str | None
    """The entity; None for several, of which none has met a conflict yet."""
    started: float
    """When the call began, in monotonic seconds."""
    timeout_seconds: float | None = None
    made: int = 0
    trail: Trail | None = None
    """Where the calls' hooks are to be called."""
    elapsed: float = 0.0
    admitted_at: float | None = None
    """When the breaker let the attempt pass that is under way."""

    def ask(self, breaker: CircuitBreaker) -> Plan[None]:
        """Ask the breaker for an attempt; raises CircuitOpenError where it refuses."""
        now: float = yield Clock()
        wait = breaker.admit(now)
        if wait > 0:
            conflict = breaker.last_conflict
            assert conflict is not None
            raise CircuitOpenError(self.machine, self.id, conflict, wait)
        self.admitted_at = now

    @property
    def budget_seconds(self) -> float:
        """How long the call may take, by the `Retry` and by its caller's timeout."""
        return min(self.retry.budget_seconds, self.timeout_seconds or self.retry.budget_seconds)

    @property
    def ends_at(self) -> float:
        """When the call must have ended, in monotonic seconds."""
        return self.started + self.budget_seconds

    @property
    def left_seconds(self) -> float | None:
        """What the caller's timeout leaves for waiting on other writers."""
        return None if self.timeout_seconds is None else self.timeout_seconds - self.elapsed

    def succeeded(self, commit: Commit | None = None, outcomes: Sequence[Outcome] = ()) -> None:
        """End the attempt with a write."""
        if self.trail is not None:
            self.trail.commit, self.trail.outcomes = commit, outcomes
        self.admitted_at = None
        if self.retry.breaker is not None:
            self.retry.breaker.succeeded()

    def release(self) -> None:
        """End the attempt, unless it has ended, with neither a write nor a conflict."""
        if self.admitted_at is not None and self.retry.breaker is not None:
            self.retry.breaker.released(self.admitted_at)
            self.admitted_at = None

    def failed(
        self,
        conflict: VersionConflictError,
        *,
        pinned: bool = False,
        within: Context | None = None,
    ) -> Plan[Exception | None]:
        """End the attempt with a conflict; wait, or return the error where there is no next one.

        `pinned` calls decided on the version that they saw, so the first conflict ends them, and so
        does what the monitoring hook raises.
        """
        now: float = yield Clock()
        self.made += 1
        self.elapsed = now - self.started
        self.admitted_at = None
        if self.retry.breaker is not None:
            self.retry.breaker.failed(conflict, now)
        delay = self.retry.delay_seconds(self.made, (yield Random()))
        failure = conflict if pinned else self._failure(conflict, delay)
        wait = delay if failure is None else None
        raised = yield from self.tell(conflict, wait, self.made, within)
        if raised is not None:
            return raised
        if failure is None:
            yield Sleep(delay)
            self.elapsed += delay
        return failure

    def tell(
        self,
        conflict: VersionConflictError,
        delay_seconds: float | None,
        attempt: int,
        within: Context | None,
    ) -> Plan[Exception | None]:
        """Tell the monitoring hook of an attempt's conflict, and of the wait that follows.

        Returns what the hook raised: it answers the calls that met the conflict, and no others.
        """
        if self.retry.on_conflict is None:
            return None
        told = Conflict(
            conflict.machine,
            conflict.id,
            conflict.expected,
            conflict.actual,
            conflict.gap,
            attempt,
            delay_seconds,
        )
        try:
            yield Notify(self.retry.on_conflict, told, within)
        except Exception as error:  # noqa: BLE001 (it is an answer)
            return error
        return None

    def _failure(self, conflict: VersionConflictError, delay: float) -> VersionConflictError | None:
        """Return why there is no next attempt; None where there is one."""
        if self.made >= self.retry.attempts:
            return RetriesExhaustedError(conflict, self.made, f"{self.made} are allowed")
        if self.elapsed + delay > self.budget_seconds:
            reason = f"{self.budget_seconds:g} s are allowed"
            return RetriesExhaustedError(conflict, self.made, reason)
        return None
