"""What workers ask of their services, a call at a time, drawn from a source of randomness."""

from __future__ import annotations

import time
from itertools import count
from random import Random
from typing import Any

from msgspec import Struct
from tests.crash.machines import Add, Append, Put

from holdfast import Record, Request
from holdfast.testing import Operation

ACCOUNTS = ("a0", "a1", "a2", "a3")
KEYS_AT_ONCE = 2


class Call(Struct, frozen=True):
    """A verb of one service, what it is given, and the operations that it amounts to."""

    machine: str
    verb: str
    given: tuple[Any, ...]
    options: dict[str, Any]
    operations: list[Operation]

    @property
    def what(self) -> str:
        """The machine and the verb, by which progress is watched."""
        return f"{self.machine}.{self.verb}" + ", atomic" * bool(self.options.get("atomic"))


class Client:
    """Draws one call after the other; what it does is told apart by its name."""

    def __init__(self, name: str, random: Random) -> None:
        self.name = name
        self.random = random
        self._numbers = count(1)
        self._seen: dict[str, int] = {}
        self._unanswered: Call | None = None
        self._answered = False
        self.draws = (
            self._count, self._repeat, self._transfer, self._look_at_accounts,
            self._hold, self._hold_on, self._look, self._append, self._count_many,
        )  # fmt: skip

    def next(self) -> Call:
        """Return what it asks next: what it has a key for, once more, where it knows no answer."""
        again, self._unanswered = self._unanswered, None
        if again is not None:
            [asked] = again.operations
            return self._with_key(asked.id, again.given[1], str(asked.key))
        return self.random.choice(self.draws)()

    def take(self, call: Call, answer: Any) -> None:
        """Remember what the next calls depend on."""
        self._answered = True
        if isinstance(answer, Record):
            self._seen[answer.id] = answer.version
        elif isinstance(answer, Exception) and call.operations[0].key is not None:
            self._unanswered = call

    def _count(self) -> Call:
        return self._write("counter", f"c{self.random.randrange(3)}", Add(1))

    def _count_many(self) -> Call:
        """Count on many at once, each by itself; on few until this client was answered something.

        The supervisor takes what a worker has written down as a sign of answers.
        """
        operations, requests = [], []
        for _ in range(self.random.randint(20, 150) if self._answered else 2):
            operation = self._operation("counter", f"m{self.random.randrange(200)}", self._name())
            operations.append(operation)
            requests.append(Request(operation.id, Add(1), metadata={"name": operation.name}))
        return Call("counter", "handle_many", (requests,), {}, operations)

    def _repeat(self) -> Call:
        """Send what other clients send at the same time, under the same key."""
        key = f"{time.monotonic() // 0.2:.0f}-{self.random.randrange(KEYS_AT_ONCE)}"
        return self._with_key(f"k{key[-1]}", Add(len(key) + int(key[-1])), key)

    def _with_key(self, id: str, command: Add, key: str) -> Call:
        return self._write("keyed", id, command, key=key)

    def _append(self) -> Call:
        name = self._name()
        return self._write("names", f"n{_window(2)}", Append(name), name=name)

    def _hold(self) -> Call:
        name = self._name()
        return self._write("register", self._register(), Put(name), name=name)

    def _hold_on(self) -> Call:
        """Put a value where nobody did since this client last saw it."""
        name, id = self._name(), self._register()
        expected = self._seen.get(id, 0)
        return self._write("register", id, Put(name), name=name, expected_version=expected)

    def _look(self) -> Call:
        id = self._register()
        return Call("register", "get", (id,), {}, [self._read("register", id)])

    def _look_at_accounts(self) -> Call:
        label = f"look {self._name()}"
        reads = [self._read("account", id, label) for id in ACCOUNTS]
        return Call("account", "get_many", (ACCOUNTS,), {}, reads)

    def _transfer(self) -> Call:
        """Move an amount from one account to another, in one commit."""
        label, amount = f"transfer {self._name()}", self.random.randint(1, 9)
        moves = zip(self.random.sample(ACCOUNTS, 2), (-amount, amount), strict=True)
        operations, requests = [], []
        for id, by in moves:
            operation = self._operation("account", id, self._name(), together=label)
            operations.append(operation)
            requests.append(Request(id, Add(by), metadata={"name": operation.name}))
        return Call("account", "handle_many", (requests,), {"atomic": True}, operations)

    def _write(
        self, machine: str, id: str, command: Any, *, name: str | None = None, **options: Any
    ) -> Call:
        operation = self._operation(machine, id, name or self._name())
        operation.key = options.get("key")
        operation.expected = options.get("expected_version")
        options["metadata"] = {"name": operation.name}
        return Call(machine, "handle", (id, command), options, [operation])

    def _read(self, machine: str, id: str, label: str | None = None) -> Operation:
        return Operation(
            client=self.name, machine=machine, id=id, kind="read", began=0, together=label
        )

    def _operation(
        self, machine: str, id: str, name: str, together: str | None = None
    ) -> Operation:
        return Operation(
            client=self.name, machine=machine, id=id, name=name, began=0, together=together
        )

    def _name(self) -> str:
        return f"{self.name}.{next(self._numbers)}"

    def _register(self) -> str:
        """Return a register that is used for a short while, so that a search explains it all."""
        return f"r{_window(0.25)}"


def everything_asked() -> set[str]:
    """Return each machine with each verb that every client calls time and again."""
    return {draw().what for draw in Client("nobody", Random(0)).draws}


def _window(seconds: float) -> int:
    return int(time.monotonic() / seconds)
