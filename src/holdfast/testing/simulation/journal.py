"""What a run's clients asked and were told, what happened meanwhile, and at which tick.

The story is told line by line where somebody listens, and costs nothing where nobody does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from holdfast.errors import (
    BatchError,
    CircuitOpenError,
    HoldfastError,
    InvalidTransitionError,
    KeyReusedError,
    OutcomeUnknownError,
    RejectedError,
    RetriesExhaustedError,
    VersionConflictError,
)
from holdfast.machine.definition import Machine
from holdfast.record import Page, Record, Transition
from holdfast.testing.history import Operation
from holdfast.testing.simulation.faults import StoreAwayError
from holdfast.testing.simulation.hooks import HookFailedError
from holdfast.testing.simulation.machines import HandlerFailedError

Listener = Callable[[str], object]
AnyMachine = Machine[Any, Any, Any]


class Journal:
    """Keeps the operations of a run, and counts what happened."""

    def __init__(self, machines: dict[str, AnyMachine], listener: Listener | None = None) -> None:
        self.operations: list[Operation] = []
        self.counts: Counter[str] = Counter()
        self.surprises: list[str] = []
        self.tick = 0
        self.takes_any_error = False
        """Whether handlers may raise whatever they like."""
        self.alone: set[str] = set()
        """The names of writes that were a call of their own."""
        self.known: dict[tuple[str, str], tuple[int, type]] = {}
        """The version of each entity that somebody was last told, 0 for none; its state's class."""
        self.machines = machines
        self._listener = listener
        self._named = 0

    @property
    def is_told(self) -> bool:
        """Whether somebody listens to the story."""
        return self._listener is not None

    def say(self, line: str) -> None:
        """Tell a line of the story."""
        if self._listener is not None:
            self._listener(f"{self.tick:5}  {line}")

    def draw_name(self) -> str:
        """Return a name that no other write of the run has."""
        self._named += 1
        return f"w{self._named}"

    def begin(self, operation: Operation) -> Operation:
        """Note that an operation is sent now."""
        operation.began = self.tick
        self.operations.append(operation)
        return operation

    def tell(self, operation: Operation, answer: Any, *, alone: bool = True) -> None:
        """Note an operation's answer, which is a record or an error.

        The version that a conflict met counts where the operation was alone: in a chain it may be
        one that was decided and never written.
        """
        if isinstance(answer, Exception):
            self._tell_error(operation, answer, alone=alone)
        elif (answer.machine, answer.id) != (operation.machine, operation.id):
            self.surprise(operation, f"was answered for {answer.machine} {answer.id!r}")
        else:
            self.tell_state(operation, answer.version, None if answer.deleted else answer.state)

    def tell_state(self, operation: Operation, version: int, state: Any) -> None:
        """Note that an operation was told a version, and the state at it."""
        operation.ended = self.tick
        if version < 1 and (operation.kind == "write" or state is not None):
            self.surprise(operation, f"was told version {version}")
            return
        operation.told = "done"
        operation.version = version
        operation.state = self.text(operation.machine, state)
        known = 0 if state is None else version, type(state)
        self.known[operation.machine, operation.id] = known

    def tell_refused(self, operation: Operation) -> None:
        """Note that an operation was told that nothing was written."""
        operation.ended = self.tick
        operation.told = "refused"

    def text(self, machine: str, state: Any) -> str | None:
        """Return a state as the log keeps it."""
        return None if state is None else self.machines[machine].state_codec.encode(state)[0]

    def surprise(self, operation: Operation | None, what: str) -> None:
        """Note what must not happen."""
        subject = "somebody" if operation is None else f"{operation.client}"
        self.surprises.append(f"{subject} {what}")
        self.say(f"{subject} {what}  <-- this must not happen")

    def _tell_error(self, operation: Operation, error: Exception, *, alone: bool) -> None:
        operation.ended = self.tick
        if isinstance(error, OutcomeUnknownError):
            self.counts["unresolved"] += 1
            return
        operation.told = "refused"
        if isinstance(error, InvalidTransitionError) and alone:
            # The initial state of a flow stands for no entity as well: it does not tell which.
            is_initial = error.state == self.machines[operation.machine].name_of(None)
            operation.saw = None if error.state and is_initial else error.state or ""
        if isinstance(error, VersionConflictError):
            self.counts["told of a conflict"] += 1
            if alone and (error.machine, error.id) == (operation.machine, operation.id):
                self._tell_conflict(operation, error)
        elif isinstance(error, _EXPECTED):
            self.counts[_kind_of(error)] += 1
        elif self.takes_any_error and not isinstance(error, HoldfastError):
            self.counts["failed handlers"] += 1
        else:
            self.surprise(operation, f"met {type(error).__name__}: {error}")

    def _tell_conflict(self, operation: Operation, error: VersionConflictError) -> None:
        """Note the version that was met; where attempts ran out, it may be absent once more."""
        exhausted = isinstance(error, RetriesExhaustedError)
        if not (exhausted and error.actual == operation.expected):
            operation.version = error.actual


_EXPECTED = (RejectedError, CircuitOpenError, StoreAwayError, HandlerFailedError, HookFailedError)


def _kind_of(error: Exception) -> str:
    if isinstance(error, KeyReusedError):
        return "keys reused"
    if isinstance(error, RejectedError):
        return "refusals"
    return {
        CircuitOpenError: "circuits open",
        StoreAwayError: "told that the store is away",
        HandlerFailedError: "failed handlers",
        HookFailedError: "failed hooks",
    }[type(error)]


def shown(answer: Any) -> str:  # noqa: PLR0911 (a case a type)
    """Return an answer in a few words, for the story."""
    match answer:
        case Record(deleted=True):
            return f"version {answer.version}, deleted"
        case Record():
            return f"version {answer.version}, {answer.state!r:.80}"
        case Transition():
            return f"version {answer.version}, {answer.state!r:.80}"
        case BatchError():
            parts = [f"{place}: {shown(each)}" for place, each in answer.failures.items()]
            return f"BatchError: {'; '.join(parts)}"
        case Exception():
            return f"{type(answer).__name__}: {answer!s:.120}"
        case list() | Page():
            return "; ".join(map(shown, answer)) or "nothing"
        case dict():
            return (
                "; ".join(f"{short(id)} {shown(each)}" for id, each in answer.items()) or "nothing"
            )
        case None:
            return "done"
        case _:
            return f"{answer!r:.120}"


def short(id: str) -> str:
    """Return how the story names an entity's id."""
    return repr(id) if len(id) <= 20 else f"{id[:8]!r}…"
