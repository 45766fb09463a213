"""Generates machines: a few states and commands, and handlers that betray every mistake.

A state carries a trail: a checksum of the trail before, the command and the whole context. So a
state tells in which order, by which commands and with which contexts it came to be.
"""

from __future__ import annotations

from functools import cache, reduce
from itertools import product
from operator import or_
from random import Random
from typing import Any
from zlib import crc32

from msgspec import defstruct

from holdfast.errors import CommandRejectedError
from holdfast.machine.canonical import format_time
from holdfast.machine.definition import Machine
from holdfast.machine.model import Command, State
from holdfast.record import Context
from holdfast.testing.simulation.hooks import Sightings, declare_hooks

AnyMachine = Machine[Any, Any, Any]

VARIANTS = 24
"""How many machines there are to draw from; each is made once a process."""


class HandlerFailedError(Exception):
    """What handlers raise on their own account, as a broken one would."""


class Witness:
    """The dependency of generated handlers and hooks: it sees what they do."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        """The tokens of calls that handlers refused."""
        self.hooks = Sightings()


@cache
def generated(variant: int) -> AnyMachine:
    """Return one of the generated machines."""
    random = Random(variant)
    states = [_class(f"S{n}", State) for n in range(random.randint(1, 4))]
    commands = [_class(f"C{n}", Command) for n in range(random.randint(1, 4))]
    state, command = reduce(or_, states), reduce(or_, commands)
    machine: AnyMachine = Machine(f"generated{variant}", state=state, command=command, deps=Witness)
    for source, asked in product([None, *states], commands):
        surely = asked is commands[0] and source in (None, states[0])
        if surely or random.random() < 0.75:
            targets = random.sample(states, random.randint(1, len(states)))
            deletes = source is not None and random.random() < 0.3
            machine.on(_handler(source, asked, targets, deletes=deletes))
    if variant % 4 == 0:
        declare_hooks(machine)
    machine.compile()
    return machine


def _class(name: str, base: type) -> Any:
    fields = [("trail", int, 0), ("note", str, "")]
    return defstruct(name, fields, bases=(base,), module=__name__, frozen=True, tag=True)


def _handler(source: Any, asked: Any, targets: list[Any], *, deletes: bool) -> Any:
    results = [*targets, None] if deletes else targets

    def decide(state: Any, command: Any, deps: Witness, context: Context) -> Any:
        before = 0 if state is None else state.trail
        chance = crc32(b"%d %d" % (before, command.trail))
        if chance % 11 == 0:
            deps.refused.add(context.token)
            raise CommandRejectedError(f"the trail {before} takes no {command.trail}")
        if chance % 23 == 0:
            raise HandlerFailedError(f"the handler of {command.trail} is broken")
        target = results[chance % len(results)]
        return None if target is None else target(_trail(before, command, context), command.note)

    union = reduce(or_, targets)
    decide.__annotations__ = {
        "state": source,
        "command": asked,
        "deps": Witness,
        "context": Context,
        "return": union | None if deletes else union,
    }
    return decide


def _trail(before: int, command: Any, context: Context) -> int:
    """Return the checksum of all that a handler is told."""
    known = (
        f"{before} {command.trail} {context.id} {context.version} {context.token} "
        f"{format_time(context.now)} {context.metadata}"
    )
    return crc32(known.encode())
