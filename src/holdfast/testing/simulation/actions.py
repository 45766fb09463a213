"""What a client can do at a time: an action is a plan of the real service, and takes its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.errors import BatchError, NotFoundError
from holdfast.record import Record, Request
from holdfast.service.call import check_request
from holdfast.service.lockstep import together
from holdfast.service.plan import Plans
from holdfast.service.requests import Plan, Read
from holdfast.stores.contract import Checkpoint, Store
from holdfast.testing.history import Operation
from holdfast.testing.simulation.journal import Journal, short

AnyPlans = Plans[Any, Any, Any]
Asked = tuple[str, Request[Any]]
"""A machine's name and a request to one of its entities."""


class Action:
    """Something that a client does; what it does is told by `str`."""

    def __init__(self, journal: Journal, client: str) -> None:
        self.journal = journal
        self.client = client
        self.operations: list[Operation] = []

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Return the plan that does it."""
        raise NotImplementedError

    def answered(self, answer: Any) -> None:
        """Take what the plan returned, or the error that it raised."""
        raise NotImplementedError

    def drop(self, plan: Plan[Any]) -> None:
        """Drop the plan: its process ended, or its caller gave up."""
        plan.close()

    def again(self) -> Action | None:
        """Return what the client does where it was told nothing, or that nothing is known."""
        return None

    def begin_write(self, asked: Asked, together: str | None = None) -> Request[Any]:
        """Note a write that is sent, and return its request with its name in the metadata."""
        machine, request = asked
        operation = Operation(
            client=self.client,
            machine=machine,
            id=request.id,
            name=self.journal.draw_name(),
            key=request.key,
            began=0,
            expected=request.expected_version,
            together=together,
        )
        self.operations.append(self.journal.begin(operation))
        metadata = {**(request.metadata or {}), "name": operation.name}
        return Request(
            request.id,
            request.command,
            request.key,
            metadata,
            request.at,
            request.expected_version,
        )

    def begin_read(self, machine: str, id: str, together: str | None = None) -> Operation:
        """Note a read that is sent."""
        operation = Operation(
            client=self.client, machine=machine, id=id, kind="read", began=0, together=together
        )
        self.operations.append(self.journal.begin(operation))
        return operation


class Handle(Action):
    """One command."""

    def __init__(
        self, journal: Journal, client: str, asked: Asked, timeout: float | None = None
    ) -> None:
        super().__init__(journal, client)
        self.asked = asked
        self.timeout = timeout

    def __str__(self) -> str:
        return described(self.asked) + (f" within {self.timeout} s" if self.timeout else "")

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Handle it."""
        request = self.begin_write(self.asked)
        self.journal.alone.add(self.journal.operations[-1].name or "")
        return _handle(plans[self.asked[0]], request, self.timeout)

    def answered(self, answer: Any) -> None:
        """Take the record or the error."""
        self.journal.tell(self.operations[0], answer)

    def again(self) -> Action | None:
        """With a key it is safe to ask again."""
        if self.asked[1].key is None:
            return None
        return Handle(self.journal, self.client, self.asked)


class Coalesced(Action):
    """Commands of several callers whose requests to the store are merged."""

    def __init__(self, journal: Journal, client: str, asked: Sequence[Asked]) -> None:
        super().__init__(journal, client)
        self.asked = asked

    def __str__(self) -> str:
        return "at once, for several callers: " + "; ".join(map(described, self.asked))

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Handle them in lockstep."""
        requests = [(machine, self.begin_write((machine, asked))) for machine, asked in self.asked]
        return together([_handle(plans[machine], request) for machine, request in requests])

    def answered(self, answer: Any) -> None:
        """Take an answer for each caller."""
        if isinstance(answer, Exception):
            self.journal.surprise(self.operations[0], f"met {answer!r}, as all in its lockstep")
            return
        self.journal.counts["coalesced"] += 1
        for operation, each in zip(self.operations, answer, strict=True):
            self.journal.tell(operation, each)


class Batch(Action):
    """Many commands in few commits, or in one."""

    def __init__(
        self, journal: Journal, client: str, asked: Sequence[Asked], *, atomic: bool
    ) -> None:
        super().__init__(journal, client)
        self.asked = asked
        self.atomic = atomic
        ids = [request.id for _, request in asked]
        self.repeats = len(set(ids)) < len(ids)
        self.answer_errors = False
        self.moves_checkpoint = False
        self.about_to_commit: list[Any] | None = None

    def __str__(self) -> str:
        kind = "an atomic batch" if self.atomic else "a batch"
        return f"{kind}: " + "; ".join(map(described, self.asked))

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Handle them together."""
        return self.handle_many(plans, None)

    def handle_many(
        self, plans: dict[str, AnyPlans], checkpoint: Checkpoint | None
    ) -> Plan[list[Record[Any] | Exception] | Exception]:
        """Handle them together, and move a checkpoint if there is one."""
        self.moves_checkpoint = checkpoint is not None
        label = f"batch {self.journal.draw_name()}" if self.atomic else None
        requests = [self.begin_write(asked, label) for asked in self.asked]
        self.journal.counts["batches"] += 1
        self.journal.counts["batches with a repeated entity"] += self.repeats
        self.journal.counts["atomic batches"] += self.atomic
        return plans[self.asked[0][0]].handle_many(
            requests,
            atomic=self.atomic,
            checkpoint=checkpoint,
            answer_errors=self.answer_errors,
            before_commit=self._note if self.atomic or checkpoint else None,
        )

    @property
    def _has_committed(self) -> bool:
        """Whether an answer tells of a commit that a hook saw: keys may answer without any."""
        is_new = any(operation.key is None for operation in self.operations)
        return self.moves_checkpoint or (self.atomic and is_new)

    def _note(self, answers: list[Any]) -> None:
        """Keep what is about to be committed."""
        self.about_to_commit = answers

    def answered(self, answer: Any) -> None:
        """Take the answers, or the error of all."""
        if isinstance(answer, list):
            if self._has_committed and self.about_to_commit != answer:
                self.journal.surprise(self.operations[0], "committed what its hook was not shown")
            for operation, each in zip(self.operations, answer, strict=True):
                self.journal.tell(operation, each, alone=not self.repeats)
        elif isinstance(answer, BatchError):
            self.journal.counts["batches given up"] += 1
            for place, operation in enumerate(self.operations):
                if place in answer.failures:
                    error = answer.failures[place]
                    self.journal.tell(operation, error, alone=not self.repeats)
                else:
                    self.journal.tell_refused(operation)
        else:
            for operation in self.operations:
                self.journal.tell(operation, answer, alone=not self.repeats)


class Stream:
    """Commands that several readers apply in order, each exactly once, by a checkpoint."""

    def __init__(self, name: str, items: Sequence[Asked]) -> None:
        self.name = name
        self.items = items
        self.places: dict[str, int] = {}
        """Which command each write stands for, by its name."""


class Consume(Batch):
    """The next commands of a stream, committed with the reader's position."""

    def __init__(
        self, journal: Journal, client: str, stream: Stream, size: int, *, answers_errors: bool
    ) -> None:
        super().__init__(journal, client, (), atomic=False)
        self.stream = stream
        self.size = size
        self.answer_errors = answers_errors

    def __str__(self) -> str:
        return f"the next {self.size} commands of the stream {self.stream.name}"

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Read the position, then handle what follows it."""
        name = self.stream.name
        after = yield Read(lambda store: store.checkpoint(name))
        start = after or 0
        self.asked = self.stream.items[start : start + self.size]
        if not self.asked:
            return []
        ids = [request.id for _, request in self.asked]
        self.repeats = len(set(ids)) < len(ids)
        moved = Checkpoint(name, start + len(self.asked), after)
        answering = self.handle_many(plans, moved)
        for place, operation in enumerate(self.operations, start):
            assert operation.name is not None
            self.stream.places[operation.name] = place
        answers = yield from answering
        self.journal.counts["checkpoints"] += 1
        return answers

    def answered(self, answer: Any) -> None:
        """Take the answers, none where the stream is at its end or the position was not read."""
        if self.operations:
            super().answered(answer)


class Purge(Action):
    """An entity's erasure."""

    def __init__(self, journal: Journal, client: str, machine: str, id: str) -> None:
        super().__init__(journal, client)
        self.machine = machine
        self.id = id

    def __str__(self) -> str:
        return f"purge {self.machine} {short(self.id)}"

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Purge it."""
        request = self.begin_write((self.machine, Request(self.id, None)))
        return plans[self.machine].purge(self.id, request.metadata)

    def answered(self, answer: Any) -> None:
        """Take the error, if any; that it is done tells no version."""
        [operation] = self.operations
        if answer is None:
            self.journal.counts["purges"] += 1
            operation.ended, operation.told = self.journal.tick, "done"
        elif isinstance(answer, NotFoundError):
            self.journal.tell_refused(operation)
        else:
            self.journal.tell(operation, answer)


def described(asked: Asked) -> str:
    """Return how the story tells a request."""
    machine, request = asked
    parts = [f"{machine} {short(request.id)} {request.command!r:.100}"]
    if request.key is not None:
        parts.append(f"key {request.key!r}")
    if request.expected_version is not None:
        parts.append(f"expecting {request.expected_version}")
    if request.at is not None:
        parts.append(f"at {request.at}")
    return ", ".join(parts)


def _handle(plans: AnyPlans, request: Request[Any], timeout: float | None = None) -> Plan[Any]:
    """Return the plan of a `handle` call, which raises where the request is refused unseen."""
    call = check_request(plans.machine, request)
    [answer] = yield from plans.handle(call, timeout)
    return answer
