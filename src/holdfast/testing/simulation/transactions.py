"""The transactions that clients do: several entities read, commands staged, all or none written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.errors import HoldfastError, NotFoundError
from holdfast.record import Request
from holdfast.service.requests import Plan
from holdfast.service.transaction import Stage
from holdfast.stores.contract import Store
from holdfast.testing.history import Operation
from holdfast.testing.simulation.actions import Action, AnyPlans, Asked, described
from holdfast.testing.simulation.journal import Journal, short

Step = tuple[str, Asked | tuple[str, str]]
"""What is done in a transaction, and to what: `prepare` or `stage` a request, `read` an entity."""


class Transact(Action):
    """A transaction over several entities: its steps, then the commit."""

    def __init__(
        self, journal: Journal, client: str, steps: Sequence[Step], *, abandons: bool
    ) -> None:
        super().__init__(journal, client)
        self.steps = steps
        self.abandons = abandons
        self.staged: list[Operation] = []
        self.reads: list[Operation] = []
        self.touched: set[tuple[str, str]] = set()
        self.label: str | None = None

    def __str__(self) -> str:
        steps = [f"{verb} {_described(what)}" for verb, what in self.steps]
        return f"a transaction: {'; '.join(steps)}" + (", abandoned" if self.abandons else "")

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Take the steps, whatever is refused, then commit."""
        stage = Stage(store)
        for verb, what in self.steps:
            machine, subject = what
            if isinstance(subject, Request):
                begin = self._prepare if verb == "prepare" else self._stage
                yield from self._write(begin(stage, plans, (machine, subject)))
            else:
                yield from self._read(stage, plans, machine, subject)
        if self.abandons:
            return None
        self.label = f"transaction {self.journal.draw_name()}"
        for operation in self.staged:
            operation.together = self.label
        return (yield from stage.commit(plans[self.steps[0][1][0]]))

    def _prepare(self, stage: Stage, plans: dict[str, AnyPlans], asked: Asked) -> Plan[Any]:
        """Return the plan that decides a command and stages it."""
        return stage.prepare(plans[asked[0]], self.begin_write(asked))

    def _stage(self, stage: Stage, plans: dict[str, AnyPlans], asked: Asked) -> Plan[Any]:
        """Return the plan that stages a state, whatever the handlers would say."""
        request = self.begin_write(asked)
        return stage.prepare_only(plans[asked[0]], request.id, request.command, request.metadata)

    def _write(self, plan: Plan[Any]) -> Plan[None]:
        operation = self.operations[-1]
        try:
            answer = yield from plan
        except HoldfastError as error:
            answer = error
        if isinstance(answer, Exception):
            self.journal.tell(operation, answer, alone=False)
        else:
            self.staged.append(operation)
        self.touched.add((operation.machine, operation.id))

    def _read(self, stage: Stage, plans: dict[str, AnyPlans], machine: str, id: str) -> Plan[None]:
        first = (machine, id) not in self.touched
        self.touched.add((machine, id))
        operation = self.begin_read(machine, id) if first else None
        try:
            record = yield from stage.read(plans[machine], id)
        except NotFoundError:
            if operation is not None:
                self.journal.tell_state(operation, 0, None)
        except HoldfastError as error:
            if operation is not None:
                self.journal.tell(operation, error)
            self.touched.discard((machine, id))
            return
        else:
            if operation is not None:
                self.journal.tell(operation, record)
        if operation is not None:
            self.reads.append(operation)

    def answered(self, answer: Any) -> None:
        """Take what the commit led to."""
        if answer is None:
            for operation in self.staged:
                self.journal.tell_refused(operation)
        elif isinstance(answer, Exception):
            for operation in self.staged:
                self.journal.tell(operation, answer, alone=False)
        else:
            self.journal.counts["transactions"] += 1
            for operation, record in zip(self.staged, answer, strict=True):
                self.journal.tell(operation, record)
            for operation in self.reads:
                operation.together = self.label


def _described(what: Asked | tuple[str, str]) -> str:
    machine, subject = what
    if isinstance(subject, Request):
        return described((machine, subject))
    return f"{machine} {short(subject)}"
