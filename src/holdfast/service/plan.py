"""What a service does, written once as plans; runners make them blocking, async or batched."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping, Sequence
from copy import copy
from itertools import chain
from typing import Any, TypeVar, cast

from holdfast.errors import (
    BatchError,
    DefinitionError,
    QueryError,
    ValidationError,
)
from holdfast.machine.definition import Machine
from holdfast.record import Change, Record, Request
from holdfast.service.attempts import Trail
from holdfast.service.batch import Batch, batches, draw_whole, expect_requests
from holdfast.service.call import (
    Call,
    check_checkpoint,
    check_commandless,
    check_request,
    check_timeout,
    is_count,
)
from holdfast.service.contention import HotSpot
from holdfast.service.decide import (
    Answer,
    Binding,
    Group,
    change,
    decide,
    decide_awaiting,
)
from holdfast.service.decided import Decided
from holdfast.service.hooks import StoppedError, Undone, after_failure, tried_blindly
from holdfast.service.reads import Reads
from holdfast.service.requests import Begin, Load, Plan
from holdfast.service.retry import Retry
from holdfast.service.settle import USUAL, Terms, settle
from holdfast.service.settle_each import settle_each
from holdfast.service.settle_one import settle_one
from holdfast.stores.contract import Checkpoint, Key, OnCommit, Shield, Store

S = TypeVar("S")
C = TypeVar("C")
D = TypeVar("D")

BeforeCommit = Callable[[list[Any]], object]


class Plans(Reads[S, C, D]):
    """The verbs of a service as plans. What they do is said at `Service`."""

    def __init__(self, machine: Machine[S, C, D], deps: D, retry: Retry) -> None:
        if not isinstance(retry, Retry):
            raise DefinitionError(f"retry= is a Retry(attempts=…), not {retry!r:.80}")
        machine.compile()
        if machine.deps is not None and deps is None:
            raise DefinitionError(
                f"{machine.name} takes deps: Service({machine.name}, store, deps=…)"
            )
        if isinstance(deps, Coroutine):
            raise DefinitionError(f"{machine.name}: deps= is a coroutine; await it, and pass that")
        super().__init__(machine)
        self.binding = Binding(machine, deps, retry)
        self.takes_commands = deps is not None or not _takes_object(machine)
        """Whether there is what guards and callbacks of a flow are around."""

    def joined(
        self,
        on_commit: OnCommit | None,
        busy: Container[tuple[str, str]] = (),
        shield: Shield | None = None,
    ) -> Plans[S, C, D]:
        """Return the same verbs for a transaction of the caller's."""
        plans = copy(self)
        plans.binding = self.binding.joined(on_commit, busy, shield)
        return plans

    def expect_object(self) -> None:
        """Raise DefinitionError where guards and callbacks of a flow would be given no object."""
        if not self.takes_commands:
            raise DefinitionError(
                f"guards and callbacks of {self.machine.name} take the object of its flow, and "
                f"this service has none: send commands through the flow, or pass the object as "
                "deps=; nothing was written"
            )

    def handle(
        self, call: Call, timeout_seconds: float | None, trail: Trail | None = None
    ) -> Plan[list[Answer]]:
        """Return the plan that applies one command; answers with the record or the error, alone.

        A plan could not raise the error unchanged: a StopIteration that a handler lets slip would
        become a RuntimeError in it.
        """
        if self.binding.is_plain and timeout_seconds is None and trail is None:
            return settle_one(self.binding, call)
        self.expect_object()
        terms = USUAL
        if timeout_seconds is not None:
            terms = Terms(timeout_seconds=check_timeout(timeout_seconds))
        return settle(self.binding, (Group(call.id, (call,)),), terms, trail=trail)

    def handle_many(
        self,
        requests: Iterable[tuple[str, C] | Request[C]],
        *,
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        answer_errors: bool = False,
        before_commit: BeforeCommit | None = None,
        within: contextvars.Context | None = None,
    ) -> Plan[list[Record[S] | Exception] | Exception]:
        """Return the plan that applies many commands; those of one commit are drawn here.

        It answers with the StopIteration that `before_commit` let slip, if it did.
        """
        self.expect_object()
        whole = atomic or checkpoint is not None
        if before_commit is not None and not whole:
            raise ValidationError("before_commit= goes with atomic or a checkpoint")
        if answer_errors and (atomic or checkpoint is None):
            raise ValidationError("answer_errors= goes with a checkpoint, and not with atomic")
        if checkpoint is not None:
            checkpoint = check_checkpoint(checkpoint)
        requests = expect_requests(requests)
        if not whole:
            return self._handle_in_batches(batches(self.machine, requests, within))
        batch = Batch(self.machine, draw_whole(requests), within)
        tell = None if before_commit is None else _telling(batch, before_commit, within)
        terms = Terms(atomic, checkpoint, answer_errors, before_commit=tell)
        return self._handle_at_once(batch, terms)

    def preview(self, request: Request[C]) -> Plan[Change[S, C] | Exception]:
        """Decide one command and write nothing; answers with its error."""
        self.expect_object()
        call = check_request(self.machine, request)
        _, tokens = yield Begin(1)
        loaded = yield Load([Key(self.machine.name, call.id)])
        groups = (Group(call.id, (call,)),)
        if self.machine.is_async:
            [decision] = yield from decide_awaiting(self.binding, groups, loaded, tokens)
        else:
            [decision] = decide(self.binding, groups, loaded, tokens)
        return change(self.machine, loaded[0], call, decision)

    def purge(
        self,
        id: str,
        metadata: Mapping[str, Any] | None,
        within: contextvars.Context | None = None,
    ) -> Plan[None]:
        """Erase an entity."""
        call = check_commandless(id, metadata, within)
        group = Group(call.id, (call,))
        answers = yield from settle(self.binding, (group,))
        if isinstance(answers[0], Exception):
            raise answers[0]

    def contention(self, limit: int) -> list[HotSpot]:
        """Return the entities that met the most conflicts; raises QueryError."""
        if not is_count(limit):
            raise QueryError(f"contention takes a limit from 0, not {limit!r:.80}")
        return self.binding.contention.hottest(limit)

    def _handle_in_batches(
        self, cut: Iterable[Batch]
    ) -> Plan[list[Record[S] | Exception] | Exception]:
        answers: list[Answer | None] = []
        for batch in cut:
            settled = yield from settle_each(self.binding, batch.groups)
            batch.take(chain.from_iterable(settled))
            answers += batch.answers
        return cast("list[Record[S] | Exception]", answers)

    def _handle_at_once(
        self, batch: Batch, terms: Terms
    ) -> Plan[list[Record[S] | Exception] | Exception]:
        undone, trail = None, Trail()
        if not (terms.atomic and batch.errors):
            try:
                settled = yield from settle(self.binding, batch.groups, terms, trail=trail)
            except StoppedError as stopped:
                return stopped.error
            undone = settled.error if isinstance(settled, Undone) else None
            batch.take(settled)
        machine = self.binding.machine
        failures = {
            place: error
            for place, error in batch.errors.items()
            if error is undone or not terms.tolerates(machine, error)
        }
        if failures:
            failed = BatchError(
                f"{len(failures)} of {len(batch.answers)} commands failed; nothing was written",
                failures,
            )
            yield from self._tell_the_others(batch, trail.decided, failed)
            raise failed
        return cast("list[Record[S] | Exception]", batch.answers)

    def _tell_the_others(
        self, batch: Batch, decided: Sequence[Decided | None], failed: BatchError
    ) -> Plan[None]:
        """Call the failure hooks of what was sound and is not written all the same."""
        if self.machine.hooks is None:
            return
        if not decided:  # it was refused before anything was loaded
            calls = [call for group in batch.groups for call in group.calls]
            decided = [tried_blindly(self.binding, call) for call in calls]
        others = [
            None if isinstance(answer, Exception) else each
            for each, answer in zip(decided, batch.taken, strict=True)
        ]
        yield from after_failure(self.binding, others, [failed] * len(others))


def _takes_object(machine: Machine[Any, Any, Any]) -> bool:
    """Whether hooks take what no service of the machine has to have: the object of a flow."""
    return machine.deps is None and any("deps" in hook.parameters for hook in machine.hooks or ())


def check_fit(machine: object, store: object) -> None:
    """Raise DefinitionError for what is no machine or no store."""
    if not isinstance(machine, Machine):
        raise DefinitionError(f"a service binds a Machine, not {machine!r:.80}")
    if not isinstance(store, Store):
        advice = f"; open it: open_store({store!r:.80})" if isinstance(store, str) else ""
        raise DefinitionError(
            f"{machine.name}: the store is what open_store returns, not {store!r:.80}{advice}"
        )


def _telling(
    batch: Batch, before_commit: BeforeCommit, within: contextvars.Context | None
) -> Callable[[list[Answer]], object]:
    """Return the hook for the answers of a batch, those of refused requests among them."""

    def tell(settled: list[Answer]) -> object:
        batch.take(settled)
        try:
            if within is None:
                return before_commit(batch.answers.copy())
            return within.run(before_commit, batch.answers.copy())
        except StopIteration as error:
            raise StoppedError(error) from error

    return tell
