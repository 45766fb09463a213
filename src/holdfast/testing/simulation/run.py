"""One run: all that its seed draws, lived through and then held to the invariants."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from msgspec.structs import replace

from holdfast.service.plan import Plans
from holdfast.service.retry import CircuitBreaker, Retry
from holdfast.stores import open_store
from holdfast.stores.contract import Store
from holdfast.testing.simulation.actions import Action
from holdfast.testing.simulation.clients import Client
from holdfast.testing.simulation.faults import CALM, Fates, drawn_faults
from holdfast.testing.simulation.invariants import violations
from holdfast.testing.simulation.journal import AnyMachine, Journal, Listener
from holdfast.testing.simulation.machines import VARIANTS, Witness, generated
from holdfast.testing.simulation.processes import Clock, Process
from holdfast.testing.simulation.scheduler import Scheduler
from holdfast.testing.simulation.setup import FILE, MEMORY, NOTHING, SQLITE, Cut, Run, Setup
from holdfast.testing.simulation.traffic import Traffic

_SHARES = {MEMORY: 75, SQLITE: 23, FILE: 2}


def run_seed(
    seed: int, setup: Setup, *, cut: Cut = NOTHING, listener: Listener | None = None
) -> Run:
    """Live through what a seed draws, but for what is cut; tell it to a listener, line by line."""
    return _Run(seed, setup, cut, listener).live()


class _Run:
    """What a seed draws. Its parts draw from sources of their own, so that a cut shifts none."""

    def __init__(self, seed: int, setup: Setup, cut: Cut, listener: Listener | None) -> None:
        random = Random(seed)
        self.seed = seed
        self.setup = setup
        self.cut = cut
        machines = _machines(random, setup)
        self.deps = Witness() if setup.machine is None else setup.deps
        self.machines = {machine.name: machine for machine in machines}
        self.journal = Journal(self.machines, listener)
        self.journal.takes_any_error = setup.machine is not None
        self.clock = Clock(_split(random))
        self.url = _url(random, setup)
        self.faults = drawn_faults(random, setup.faults)
        self.faults = replace(self.faults, **dict.fromkeys(cut.faults, 0))
        self.retry = _retry(random)
        self.traffic = Traffic(
            _split(random),
            self.journal,
            machines,
            setup.commands,
            self.clock.now,
            stages=setup.machine is None,
        )
        self.clients = [self._client(random, n) for n in range(random.randint(2, 5))]
        self.processes = random.randint(1, 3)
        self.random = Random(f"{seed} {cut.order}") if cut.order else random

    def live(self) -> Run:
        """Let the clients do what they do, then look at what came of it."""
        journal = self.journal
        journal.counts[self.url] += 1
        journal.say(f"seed {self.seed}: {', '.join(self.machines)} on {self.url}, {self.faults}")
        with _opened(self.url, self.clock) as open_again, _logged(journal):
            fates = Fates(_split(self.random), self.faults)
            random = _split(self.random)
            scheduler = Scheduler(
                random,
                journal,
                self.clock,
                fates,
                self._starting(open_again),
                processes=self.processes,
            )
            scheduler.run(self.clients)
            if not self.cut.calm:
                self._expect_progress(scheduler)
            streams, replays = self.traffic.streams, self.setup.replays
            found = violations(scheduler.store, journal, streams, self.deps, replays=replays)
            scheduler.close()
        for violation in found:
            journal.say(f"VIOLATION: {violation}")
        done = [place for client in self.clients for place in client.done]
        return Run(seed=self.seed, violations=found, counts=journal.counts, done=done)

    def _expect_progress(self, scheduler: Scheduler) -> None:
        """Once nothing goes wrong any more, every entity takes or refuses a command."""
        journal = self.journal
        stuck = journal.counts["told of a conflict"] + journal.counts["unresolved"]
        journal.say("from here on nothing goes wrong")
        scheduler.calm_down(Fates(_split(self.random), CALM))
        actions = self.traffic.last(_split(self.random), "c0")
        drawn = iter(actions)
        scheduler.run([Client("c0", lambda: next(drawn), len(actions), frozenset())])
        if stuck != journal.counts["told of a conflict"] + journal.counts["unresolved"]:
            journal.surprise(None, "makes no progress though nothing goes wrong any more")

    def _client(self, random: Random, place: int) -> Client:
        name, own = f"c{place + 1}", _split(random)

        def draw() -> Action:
            return self.traffic.draw(own, name)

        left_out = frozenset(n for client, n in self.cut.actions if client == name)
        return Client(name, draw, random.randint(2, 7), left_out)

    def _starting(self, open_again: Callable[[], Store]) -> Callable[[str], Process]:
        own = _split(self.random)

        def start(name: str) -> Process:
            retry = self.retry()
            plans = {
                name: Plans(machine, self.deps, retry) for name, machine in self.machines.items()
            }
            owns_store = self.url == FILE
            return Process(
                name, open_again(), self.clock, _split(own), plans, owns_store=owns_store
            )

        return start


def _split(random: Random) -> Random:
    """Return a source of randomness for a part."""
    return Random(random.getrandbits(64))


def _machines(random: Random, setup: Setup) -> list[AnyMachine]:
    variants = random.sample(range(VARIANTS), random.choice((1, 1, 2)))
    if setup.machine is not None:
        return [setup.machine]
    return [generated(variant) for variant in variants]


def _url(random: Random, setup: Setup) -> str:
    shares = [_SHARES[url] for url in setup.stores]
    return random.choices(list(setup.stores), shares)[0]


class _Story(logging.Handler):
    """Tells what is logged as a part of the story."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it in a line."""
        self._journal.say(f"logged: {record.getMessage()}")


@contextmanager
def _logged(journal: Journal) -> Generator[None]:
    """Take what the library logs, as of hooks that were not called, into the story alone."""
    logger, story = logging.getLogger("holdfast"), _Story(journal)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(story)
    try:
        yield
    finally:
        logger.removeHandler(story)
        logger.propagate = propagates


@contextmanager
def _opened(url: str, clock: Clock) -> Generator[Callable[[], Store]]:
    """Yield what opens the store: anew for every process where it is a file, else the same."""
    if url == FILE:
        with TemporaryDirectory(prefix="holdfast-") as folder:
            path = f"{FILE}{Path(folder) / 'store.db'}?synchronous=NORMAL&busy_timeout_seconds=0"
            yield lambda: open_store(path, clock=clock.now)
    else:
        with open_store(url, clock=clock.now) as store:
            yield lambda: store


def _retry(random: Random) -> Callable[[], Retry]:
    """Return what makes the retry of a process; processes do not share a breaker."""
    limits: dict[str, Any] = {
        "attempts": random.choice((1, 2, 4, 10)),
        "cap_seconds": random.choice((0.01, 0.1, 1.0)),
        "budget_seconds": random.choice((0.05, 45.0, 45.0)),
    }
    breaks = random.random() < 0.2

    def make() -> Retry:
        breaker = CircuitBreaker(threshold=3, cooldown_seconds=0.05) if breaks else None
        return Retry(**limits, breaker=breaker)

    return make
