"""Draws what clients do: few entities, keys used twice, stale versions, large payloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from types import NoneType
from typing import Any

from msgspec.structs import replace

from holdfast.machine.codec import MAX_VALUE_BYTES
from holdfast.record import Request
from holdfast.testing.simulation.actions import (
    Action,
    Asked,
    Batch,
    Coalesced,
    Consume,
    Handle,
    Purge,
    Stream,
)
from holdfast.testing.simulation.crowds import Caller, Crowd
from holdfast.testing.simulation.journal import AnyMachine, Journal
from holdfast.testing.simulation.looks import Look, LookAtAll, LookBack, Preview
from holdfast.testing.simulation.transactions import Step, Transact
from holdfast.testing.simulation.values import draw_value, encoded_size

IDS = ("a", "b", "é" * 256, "d")
"""The ids that entities have in the simulation; one is as long as may be."""
LONG_LIFE = 320
LONG_STREAM = 12
KEYS = ("k1", "k2", "k3")
Draw = Callable[[Random, str, AnyMachine], Action]
WEIGHTS = {
    "handle": 50,
    "coalesce": 6,
    "crowd": 6,
    "batch": 8,
    "atomic batch": 8,
    "transaction": 10,
    "consume": 6,
    "look": 12,
    "look at all": 6,
    "look back": 3,
    "preview": 4,
    "purge": 1,
}


class Traffic:
    """What the clients of one run do, drawn from a source of randomness of each client's own."""

    def __init__(
        self,
        random: Random,
        journal: Journal,
        machines: Sequence[AnyMachine],
        commands: Mapping[type, Callable[[Random], Any]],
        now: Callable[[], datetime],
        *,
        stages: bool,
    ) -> None:
        self.journal = journal
        self.machines = machines
        self._commands = commands
        self._now = now
        self._stages = stages
        self.ids = IDS[: random.randint(1, len(IDS))]
        self.kinds = {
            kind: weight * random.choice((0, 1, 1, 3)) for kind, weight in WEIGHTS.items()
        }
        self.kinds["handle"] = self.kinds["handle"] or 10
        self._draws: dict[str, Draw] = {
            "handle": self._handle,
            "coalesce": self._coalesce,
            "crowd": self._crowd,
            "batch": self._batch,
            "atomic batch": self._atomic_batch,
            "transaction": self._transact,
            "consume": self._consume,
            "look": self._look,
            "look at all": self._look_at_all,
            "look back": self._look_back,
            "preview": self._preview,
            "purge": self._purge,
        }
        self._large = random.random() < 0.02
        self._long = random.random() < 0.01
        self.sent: list[Asked] = []
        """Requests with keys that were sent before."""
        self.streams = [
            Stream(f"stream {n}", [self._asked(random, machine) for _ in range(LONG_STREAM)])
            for n, machine in enumerate(machines)
            if self.kinds["consume"]
        ]

    def draw(self, random: Random, client: str) -> Action:
        """Return the next thing that a client does."""
        if self._long:
            self._long = False
            return self._long_life(random, client)
        [kind] = random.choices(list(self.kinds), list(self.kinds.values()))
        machine = random.choice(self.machines)
        return self._draws[kind](random, client, machine)

    def _handle(self, random: Random, client: str, machine: AnyMachine) -> Action:
        timeout = random.choice((0.01, 1.0)) if random.random() < 0.1 else None
        asked = self._again(random) or self._asked(random, machine)
        return Handle(self.journal, client, asked, timeout)

    def _coalesce(self, random: Random, client: str, machine: AnyMachine) -> Action:
        return Coalesced(self.journal, client, self._several(random, None))

    def _crowd(self, random: Random, client: str, machine: AnyMachine) -> Action:
        callers = [self._caller(random, machine) for _ in range(random.randint(2, 6))]
        return Crowd(self.journal, client, callers)

    def _caller(self, random: Random, machine: AnyMachine) -> Caller:
        round = random.choice((0, 0, 0, 1, 2, 3))
        gives_up = round + random.randint(0, 2) if random.random() < 0.1 else None
        if random.random() < 0.2:
            return Caller(round, (machine.name, random.choice(self.ids)), gives_up)
        return Caller(round, self._asked(random, machine), gives_up)

    def _batch(self, random: Random, client: str, machine: AnyMachine) -> Action:
        return Batch(self.journal, client, self._several(random, machine), atomic=False)

    def _atomic_batch(self, random: Random, client: str, machine: AnyMachine) -> Action:
        return Batch(self.journal, client, self._several(random, machine), atomic=True)

    def _transact(self, random: Random, client: str, machine: AnyMachine) -> Action:
        steps = [self._step(random) for _ in range(random.randint(1, 4))]
        return Transact(self.journal, client, steps, abandons=random.random() < 0.1)

    def _consume(self, random: Random, client: str, machine: AnyMachine) -> Action:
        stream, size = random.choice(self.streams), random.randint(1, 4)
        answers_errors = random.random() < 0.3
        return Consume(self.journal, client, stream, size, answers_errors=answers_errors)

    def _look(self, random: Random, client: str, machine: AnyMachine) -> Action:
        verb = random.choice(("get", "get", "history"))
        return Look(self.journal, client, verb, machine.name, random.choice(self.ids))

    def _look_at_all(self, random: Random, client: str, machine: AnyMachine) -> Action:
        verb = random.choice(("get many", "find"))
        return LookAtAll(self.journal, client, verb, machine.name, self.ids)

    def _look_back(self, random: Random, client: str, machine: AnyMachine) -> Action:
        id = random.choice(self.ids)
        version = random.randint(1, self._known(machine, id)[0] + 1)
        return LookBack(self.journal, client, machine.name, id, version)

    def _preview(self, random: Random, client: str, machine: AnyMachine) -> Action:
        return Preview(self.journal, client, self._asked(random, machine))

    def _purge(self, random: Random, client: str, machine: AnyMachine) -> Action:
        return Purge(self.journal, client, machine.name, random.choice(self.ids))

    def last(self, random: Random, client: str) -> list[Action]:
        """Return a command for every entity, which nothing is in the way of."""
        return [
            Handle(self.journal, client, self._plain(random, machine, id))
            for machine in self.machines
            for id in self.ids
        ]

    def _long_life(self, random: Random, client: str) -> Action:
        """Return so many commands for one entity that its version takes more than a byte."""
        machine = random.choice(self.machines)
        self.journal.counts["long lives"] += 1
        asked = [self._plain(random, machine, self.ids[0]) for _ in range(LONG_LIFE)]
        return Batch(self.journal, client, asked, atomic=False)

    def _plain(self, random: Random, machine: AnyMachine, id: str) -> Asked:
        return machine.name, Request(id, self._command(random, machine, id))

    def _several(self, random: Random, machine: AnyMachine | None) -> list[Asked]:
        return [
            self._asked(random, machine or random.choice(self.machines))
            for _ in range(random.randint(1, 5))
        ]

    def _step(self, random: Random) -> Step:
        machine = random.choice(self.machines)
        if random.random() < 0.4:
            return "read", (machine.name, random.choice(self.ids))
        if self._stages and random.random() < 0.15:
            state = draw_value(random, random.choice(machine.states), {})
            return "stage", (machine.name, Request(random.choice(self.ids), state))
        return "prepare", self._asked(random, machine)

    def _again(self, random: Random) -> Asked | None:
        """Return a request that was sent before, at times, or the same to another entity."""
        if not self.sent or random.random() > 0.15:
            return None
        machine, request = random.choice(self.sent)
        if random.random() < 0.3:
            request = replace(request, id=random.choice(self.ids))
        return machine, request

    def _asked(self, random: Random, machine: AnyMachine) -> Asked:
        id = random.choice(self.ids)
        key = random.choice(KEYS) if random.random() < 0.2 else None
        expected = None
        if random.random() < 0.15:
            expected = self._known(machine, id)[0]
        at = None
        if random.random() < 0.03:
            at = self._now() + random.choice((-1, 0, 0, 1)) * timedelta(milliseconds=100)
        request = Request(id, self._command(random, machine, id), key, None, at, expected)
        if key is not None:
            self.sent.append((machine.name, request))
        return machine.name, request

    def _known(self, machine: AnyMachine, id: str) -> tuple[int, type]:
        return self.journal.known.get((machine.name, id), (0, NoneType))

    def _command(self, random: Random, machine: AnyMachine, id: str) -> Any:
        """Return a command, more often than not one that the entity took when last seen."""
        cls = random.choice(machine.commands)
        if machine.handler_for(self._known(machine, id)[1], cls) is None:
            cls = random.choice(machine.commands)
        command = draw_value(random, cls, self._commands)
        if self._large and hasattr(command, "note") and random.random() < 0.05:
            self._large = False
            self.journal.counts["largest payloads"] += 1
            return _enlarged(command, random.choice((0, 0, 1)))
        return command


def _enlarged(command: Any, over: int) -> Any:
    """Return a command that is as large as may be, or a byte over it."""
    room = MAX_VALUE_BYTES + over - encoded_size(command) + encoded_size(command.note) - 2
    return replace(command, note="x" * room)
