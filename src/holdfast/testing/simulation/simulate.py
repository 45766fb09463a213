"""Simulates services under faults, a run for each seed, and holds every run to the promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

from holdfast.errors import DefinitionError
from holdfast.machine.definition import Machine
from holdfast.testing.simulation.faults import ALL, Faults
from holdfast.testing.simulation.report import (
    EXPECTED_PER_THOUSAND,
    FEWEST_JUDGED,
    OF_ANY_MACHINE,
    Report,
    ViolationError,
)
from holdfast.testing.simulation.run import run_seed
from holdfast.testing.simulation.setup import STORES, Setup
from holdfast.testing.simulation.shrink import shortest_story

S = TypeVar("S")
C = TypeVar("C")
D = TypeVar("D")


def simulate(
    machine: Machine[S, C, D] | None = None,
    *,
    seeds: int | Iterable[int] = 500,
    deps: D | None = None,
    commands: Mapping[type[C], Callable[[Random], C]] | None = None,
    stores: Sequence[str] = STORES,
    faults: Faults = ALL,
    replays: bool = True,
    at_least: Mapping[str, int] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Report:
    """Simulate clients of a machine, or of generated ones, and return what the runs saw.

    Each seed is a run: plans of the real service, on the store in memory and on SQLite, go on in a
    drawn order, and at every request the process may end, the caller give up, the store fail or
    its acknowledgement be lost. `seeds` are numbers, or how many; `commands` draws commands where
    their annotations do not tell enough; `replays=False` is for handlers that decide otherwise
    when asked once more with the same context.

    Raises ViolationError, which tells a short story, and VacuousError where a thousand runs saw
    fewer than `at_least` of something; without it, 200 runs or more are held to what is usual.
    """
    setup = _setup(machine, deps, commands, stores, faults, replays=replays)
    counts: Counter[str] = Counter()
    runs = 0
    for seed in _checked(seeds):
        run = run_seed(seed, setup)
        if run.violations:
            raise ViolationError(seed, run.violations, shortest_story(run, setup))
        counts.update(run.counts)
        runs += 1
        if progress is not None:
            progress(runs)
    if runs == 0:
        raise DefinitionError("there is no seed to simulate; pass how many, like seeds=500")
    report = Report(runs, counts)
    if at_least is not None:
        report.expect(at_least)
    elif runs >= FEWEST_JUDGED:
        report.expect(EXPECTED_PER_THOUSAND if machine is None else OF_ANY_MACHINE)
    return report


def tell(
    machine: Machine[S, C, D] | None,
    seed: int,
    listener: Callable[[str], object],
    *,
    deps: D | None = None,
    commands: Mapping[type[C], Callable[[Random], C]] | None = None,
    stores: Sequence[str] = STORES,
    faults: Faults = ALL,
    replays: bool = True,
) -> list[str]:
    """Tell the story of one seed, line by line, and return which promises it breaks.

    The options must be those of the `simulate` that the seed is from.
    """
    setup = _setup(machine, deps, commands, stores, faults, replays=replays)
    [seed] = _checked([seed])
    return run_seed(seed, setup, listener=listener).violations


def _checked(seeds: object) -> Iterator[int]:
    """Return the seeds one by one; raises DefinitionError for what is none."""
    given = range(seeds) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
    if not isinstance(given, Iterable):
        raise DefinitionError(f"seeds= takes seeds, or how many, not {seeds!r:.80}")
    for seed in given:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise DefinitionError(f"a seed is a whole number from 0, not {seed!r:.80}")
        yield seed


def _setup(
    machine: Any, deps: Any, commands: Any, stores: Sequence[str], faults: Faults, *, replays: bool
) -> Setup:
    return Setup(
        machine=_simulated(machine, deps),
        deps=deps,
        commands=dict(commands or {}),
        stores=_known(stores),
        faults=faults,
        replays=replays,
    )


def _simulated(machine: Any, deps: Any) -> Any:
    if machine is None:
        return None
    if not isinstance(machine, Machine):
        raise DefinitionError(f"simulate takes a Machine, not {machine!r:.80}")
    machine.compile()
    if machine.is_async:
        raise DefinitionError(
            f"{machine.name} has handlers that are coroutine functions, which the simulation does "
            "not await; simulate a machine of the same chart with plain ones"
        )
    if machine.deps is not None and deps is None:
        raise DefinitionError(
            f"{machine.name} takes deps: simulate({machine.name}, deps=…), or the TARGET of a "
            "Service that has them"
        )
    return machine


def _known(stores: Sequence[str]) -> Sequence[str]:
    if not stores or not set(stores) <= set(STORES):
        raise DefinitionError(f"stores= takes some of {', '.join(STORES)}, not {stores!r:.80}")
    return stores
