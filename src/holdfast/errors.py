"""Every error the library raises; the branch says what a caller can do about it.

    HoldfastError
    ├── DefinitionError             the program is wrong; change the definition
    ├── RejectedError               nothing written; the same again will not help
    │   ├── InvalidTransitionError  no handler for this command in this state
    │   ├── GuardFailedError        a guard refused, with its reason
    │   ├── CommandRejectedError    a handler refused, with its reason
    │   ├── ValidationError         a value that cannot be stored and read back
    │   └── KeyReusedError          an idempotency key that names another command
    ├── VersionConflictError        nothing written; somebody else was first, decide again
    │   ├── RetriesExhaustedError   … and so it was at every attempt that the retry allows
    │   └── CheckpointConflictError another reader of the stream was first; read from there
    ├── CircuitOpenError            not tried: conflicts were too many of late
    ├── HandlerCancelledError       nothing written; what the handler awaited was cancelled
    ├── NotFoundError               no such entity
    ├── TransactionClosedError      a transaction that was committed or abandoned is over
    ├── BatchError                  an exception group: the failures of an all-or-nothing batch
    ├── DecodeError                 stored bytes that this code cannot read
    ├── QueryError                  a question that cannot be asked
    └── StoreError                  the store could not do it; nothing written
        └── OutcomeUnknownError     the store died while committing; it may have been written

A handler's, guard's or hook's own exception is none of these: it arrives as it was raised.
"""

from __future__ import annotations

from collections.abc import Sequence


class HoldfastError(Exception):
    """The root of every error that the library raises."""


class DefinitionError(HoldfastError):
    """A machine is declared wrongly, or a handler broke its own declaration."""


class RejectedError(HoldfastError):
    """A command was refused: nothing was written, and sending it again will not help."""


class InvalidTransitionError(RejectedError):
    """The machine has no handler for the command in the state the entity is in.

    `state` and `command` are names (`state` is None where there is no entity), `allowed` the
    names of the commands that the state takes, `advice` what to do where a flow does not declare
    the state.
    """

    def __init__(  # noqa: PLR0917 (an error is pickled by places)
        self,
        machine: str,
        state: str | None,
        command: str,
        allowed: Sequence[str],
        id: str | None = None,
        advice: str = "",
    ) -> None:
        self.machine = machine
        self.id = id
        self.state = state
        self.command = command
        self.allowed = tuple(allowed)
        self.advice = advice
        super().__init__(machine, state, command, self.allowed, id, advice)

    def on(self, id: str) -> InvalidTransitionError:
        """Return the same error for an entity with an id."""
        return InvalidTransitionError(
            self.machine, self.state, self.command, self.allowed, id, self.advice
        )

    def __str__(self) -> str:
        entity = entity_name(self.machine, self.id)
        where = f"in state {self.state}" if self.state else "which does not exist"
        allowed = ", ".join(self.allowed) or "no command at all"
        refused = f"{self.command} cannot be applied to {entity}, {where}; allowed: {allowed}"
        return refused + (f"; {self.advice}" if self.advice else "")


class GuardFailedError(RejectedError):
    """A guard refused the transition of an entity; nothing was written.

    `guard` is its name, `reason` what it gave as the reason, None where it gave none.
    """

    def __init__(self, machine: str, id: str, guard: str, reason: str | None = None) -> None:
        self.machine = machine
        self.id = id
        self.guard = guard
        self.reason = reason
        super().__init__(machine, id, guard, reason)

    def __str__(self) -> str:
        refused = f"guard {self.guard} refused {entity_name(self.machine, self.id)}"
        return refused + (f": {self.reason}" if self.reason else "")


class CommandRejectedError(RejectedError):
    """For handlers to raise: the command is refused for the reason given."""


class ValidationError(RejectedError):
    """A value breaks its declared constraints, a size limit, or would not survive being stored.

    `path` leads to the offending part (`$.lines[2].price`), where there is one.
    """

    def __init__(self, message: str, path: str | None = None) -> None:
        self.path = path
        super().__init__(message)


class KeyReusedError(RejectedError):
    """An idempotency key was used before, for another command.

    `version` is the version that the first command with this key made.
    """

    def __init__(self, machine: str, id: str, key: str, version: int, reason: str) -> None:
        self.machine = machine
        self.id = id
        self.key = key
        self.version = version
        self.reason = reason
        super().__init__(machine, id, key, version, reason)

    def __str__(self) -> str:
        return (
            f"key {self.key!r} was used for {entity_name(self.machine, self.id)} at version "
            f"{self.version} {self.reason}; nothing was written, use a new key for a new request"
        )


class NotFoundError(HoldfastError):
    """There is no such entity, or it had no such version."""

    def __init__(self, machine: str, id: str, detail: str = "does not exist") -> None:
        self.machine = machine
        self.id = id
        self.detail = detail
        super().__init__(machine, id, detail)

    def __str__(self) -> str:
        return f"{entity_name(self.machine, self.id)} {self.detail}"


class VersionConflictError(HoldfastError):
    """The entity was not at the version the decision was made on; nothing was written.

    `expected` is that version and `actual` the one found; 0 means that there was no live entity.
    """

    def __init__(
        self, machine: str, id: str, expected: int, actual: int, gap: int | None = None
    ) -> None:
        self.machine = machine
        self.id = id
        self.expected = expected
        self.actual = actual
        self._gap = actual - expected if gap is None else gap
        super().__init__(machine, id, expected, actual)

    @property
    def gap(self) -> int:
        """How many versions the entity was ahead of the decision, deletions included."""
        return self._gap

    def __str__(self) -> str:
        entity = entity_name(self.machine, self.id)
        if not self.actual:
            found = f"does not exist, and was expected at version {self.expected}"
        elif not self.expected:
            found = f"is at version {self.actual}, and was expected not to exist"
        else:
            found = f"is at version {self.actual}, not {self.expected}"
        return f"{entity} {found}; nothing was written, load it and decide again"


class RetriesExhaustedError(VersionConflictError):
    """Every attempt that the `Retry` allows met a conflict; nothing was written.

    `attempts` counts them; `conflict` is the last one, and gives `expected` and `actual`.
    """

    def __init__(self, conflict: VersionConflictError, attempts: int, reason: str) -> None:
        super().__init__(
            conflict.machine, conflict.id, conflict.expected, conflict.actual, conflict.gap
        )
        self.args = (conflict, attempts, reason)
        self.conflict = conflict
        self.attempts = attempts
        self.reason = reason

    def __str__(self) -> str:
        entity = entity_name(self.machine, self.id)
        return (
            f"{entity} changed under every one of {self.attempts} attempts ({self.reason}); the "
            f"last expected version {self.expected} and found {self.actual}; nothing was written, "
            "try later or raise the limits of Retry"
        )


class CheckpointConflictError(VersionConflictError):
    """A checkpoint is not where the reader started from; nothing was written.

    `machine` is that of the batch, `id` the name of the checkpoint, `expected` the position that
    the reader started from and `actual` the one found.
    """

    def __str__(self) -> str:
        return (
            f"the checkpoint {self.id[:80]!r} is at {self.actual}, not at {self.expected} where "
            "this reader started (Checkpoint.after): it was moved meanwhile, by another reader "
            "perhaps; nothing was written, go on from where it is now"
        )


class CircuitOpenError(HoldfastError):
    """The circuit breaker is open after many conflicts; the command was not tried.

    `conflict` is the last one that the breaker saw, on this entity or on another;
    `retry_in_seconds` tells when it will let a probe through. `id` is None for a transaction,
    whose entities are not known before it is tried.
    """

    def __init__(
        self, machine: str, id: str | None, conflict: VersionConflictError, retry_in_seconds: float
    ) -> None:
        self.machine = machine
        self.id = id
        self.conflict = conflict
        self.retry_in_seconds = retry_in_seconds
        super().__init__(machine, id, conflict, retry_in_seconds)

    def __str__(self) -> str:
        return (
            f"{self._what} was not tried: the circuit breaker is open, "
            f"last because {self.conflict}; try again in {self.retry_in_seconds:.3f} s"
        )

    @property
    def _what(self) -> str:
        if self.id is None:
            return f"a transaction of {self.machine}"
        return entity_name(self.machine, self.id)


class HandlerCancelledError(HoldfastError):
    """A handler was cancelled, and not by its caller: by what it awaited. Nothing was written."""


class TransactionClosedError(HoldfastError):
    """The transaction was committed or abandoned before; begin a new one."""


class BatchError(ExceptionGroup[Exception], HoldfastError):
    """A batch that is all or nothing failed; nothing was written.

    `failures` maps the index of a request to its error; requests that are not in it were sound,
    as far as they were decided.
    """

    failures: dict[int, Exception]

    def __new__(cls, message: str, failures: dict[int, Exception]) -> BatchError:
        """Build the group of the failures."""
        group = super().__new__(cls, message, list(failures.values()))
        group.failures = failures
        return group

    def __init__(self, message: str, failures: dict[int, Exception]) -> None:
        super().__init__(message, list(failures.values()))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the indexes, and with notes."""
        return BatchError, (self.message, self.failures), vars(self)


class DecodeError(HoldfastError):
    """What is stored cannot be read by this code: a type or a field it does not know."""


class QueryError(HoldfastError):
    """The question asked of the store is malformed."""


class StoreError(HoldfastError):
    """The store could not do what was asked; nothing was written."""


class OutcomeUnknownError(StoreError):
    """The store failed while committing and could not be asked again.

    The transition is stored whole or not at all, and which of the two is not known. Send the
    command again with the same `key` once the store is back: it is applied at most once.
    """


def entity_name(machine: str, id: str | None) -> str:
    """Return how messages name an entity: `order 'o-1'`, shortened where the id is long."""
    if id is None:
        return f"a {machine}"
    return f"{machine} {id!r}" if len(id) <= 80 else f"{machine} {id[:77]!r}…"
