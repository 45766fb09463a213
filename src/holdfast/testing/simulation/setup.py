"""What runs have in common, and what a shorter run leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from msgspec import Struct

from holdfast.testing.simulation.faults import ALL, Faults
from holdfast.testing.simulation.journal import AnyMachine

MEMORY, SQLITE, FILE = "memory://", "sqlite:///:memory:", "sqlite:///"
STORES = (MEMORY, SQLITE, FILE)
"""The stores that runs draw from; the last is a file of the run's own."""


class Setup(Struct, frozen=True, kw_only=True):
    """What runs have in common."""

    machine: AnyMachine | None = None
    """None for generated ones."""
    deps: Any = None
    commands: Mapping[type, Callable[[Random], Any]] = {}
    """What draws commands of a class, where its annotations do not tell enough."""
    stores: Sequence[str] = STORES
    faults: Faults = ALL
    """How often each thing goes wrong; runs draw from never to five times as often."""
    replays: bool = True
    """Whether handlers decide the same once more, when given what the log recorded."""


class Cut(Struct, frozen=True, kw_only=True):
    """What a run leaves out of what its seed draws, and in which other order it goes."""

    actions: frozenset[tuple[str, int]] = frozenset()
    """Clients, and which of the things that they do."""
    faults: frozenset[str] = frozenset()
    calm: bool = False
    """Whether it ends before the last part, in which nothing goes wrong."""
    order: int = 0


NOTHING = Cut()


class Run(Struct, frozen=True, kw_only=True):
    """What became of a run."""

    seed: int
    violations: list[str]
    counts: Counter[str]
    done: list[tuple[str, int]]
    """Clients, and which of the things that they do."""
