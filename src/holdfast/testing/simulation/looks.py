"""The reads that clients do: of an entity as it is, was, or would be, and of several at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.errors import NotFoundError
from holdfast.record import Change, Record, Request
from holdfast.service.requests import Plan
from holdfast.stores.contract import Store
from holdfast.testing.history import Operation
from holdfast.testing.simulation.actions import Action, AnyPlans, Asked, described
from holdfast.testing.simulation.journal import Journal, short


class Look(Action):
    """A read of one entity."""

    def __init__(self, journal: Journal, client: str, verb: str, machine: str, id: str) -> None:
        super().__init__(journal, client)
        self.verb = verb
        self.machine = machine
        self.id = id

    def __str__(self) -> str:
        return f"{self.verb} {self.machine} {short(self.id)}"

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Read it."""
        self.begin_read(self.machine, self.id)
        mine = plans[self.machine]
        if self.verb == "get":
            return mine.get(self.id)
        return mine.history(self.id, after=0, limit=None)

    def answered(self, answer: Any) -> None:
        """Take the record, the history, or that there is nothing."""
        [operation] = self.operations
        self.journal.counts["reads"] += 1
        if isinstance(answer, NotFoundError):
            self.journal.tell_state(operation, 0, None)
        elif isinstance(answer, list):
            self._take_history(operation, answer)
        else:
            self.journal.tell(operation, answer)

    def _take_history(self, operation: Operation, history: list[Any]) -> None:
        versions = [transition.version for transition in history]
        if versions != list(range(1, len(versions) + 1)):
            self.journal.surprise(operation, f"was shown the versions {versions}")
        last = history[-1].state if history else None
        self.journal.tell_state(operation, len(history), last)


class LookAtAll(Action):
    """A read of several entities as of one moment."""

    def __init__(
        self, journal: Journal, client: str, verb: str, machine: str, ids: Sequence[str]
    ) -> None:
        super().__init__(journal, client)
        self.verb = verb
        self.machine = machine
        self.ids = ids

    def __str__(self) -> str:
        return f"{self.verb} {self.machine} {', '.join(map(short, self.ids))}"

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Read them."""
        label = f"read {self.journal.draw_name()}"
        for id in self.ids:
            self.begin_read(self.machine, id, label)
        mine = plans[self.machine]
        if self.verb == "get many":
            return mine.get_many(self.ids)
        return mine.find(None, limit=1_000, after=None)

    def answered(self, answer: Any) -> None:
        """Take the records; what is not among them is not there."""
        self.journal.counts["reads"] += 1
        if isinstance(answer, Exception):
            for operation in self.operations:
                self.journal.tell(operation, answer)
            return
        records = answer if isinstance(answer, dict) else {one.id: one for one in answer.records}
        for operation in self.operations:
            record = records.get(operation.id)
            if record is None:
                self.journal.tell_state(operation, 0, None)
            else:
                self.journal.tell(operation, record)


class LookBack(Look):
    """A read of one version of an entity, which may be an old one."""

    def __init__(self, journal: Journal, client: str, machine: str, id: str, version: int) -> None:
        super().__init__(journal, client, f"version {version} of", machine, id)
        self.version = version

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Read it."""
        self.begin_read(self.machine, self.id).kind = "past"
        return plans[self.machine].at(self.id, self.version, None)

    def answered(self, answer: Any) -> None:
        """Take the record; that there was none tells nothing about now."""
        [operation] = self.operations
        if isinstance(answer, Record):
            operation.ended, operation.told = self.journal.tick, "done"
            operation.version = answer.version
            operation.state = self.journal.text(self.machine, answer.state)
        elif isinstance(answer, NotFoundError):
            self.journal.tell_refused(operation)
        else:
            self.journal.tell(operation, answer)


class Preview(Action):
    """A command that is decided, and not written."""

    def __init__(self, journal: Journal, client: str, asked: Asked) -> None:
        super().__init__(journal, client)
        machine, request = asked
        self.asked = machine, Request(request.id, request.command)

    def __str__(self) -> str:
        return f"preview {described(self.asked)}"

    def plan(self, plans: dict[str, AnyPlans], store: Store) -> Plan[Any]:
        """Decide it."""
        machine, request = self.asked
        self.begin_read(machine, request.id)
        return plans[machine].preview(request)

    def answered(self, answer: Any) -> None:
        """Take what it would change, which tells what is there."""
        [operation] = self.operations
        if isinstance(answer, Change):
            self.journal.tell_state(operation, answer.version - 1, answer.before)
        else:
            self.journal.tell(operation, answer)
