"""The simulation itself: what a seed draws is always the same, and what is too little is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Annotated, Any

import pytest
from msgspec.structs import asdict
from tests.simulation.bugs import BUGS
from tests.simulation.planting import planted
from tests.stores.scenes import play

from holdfast import Command, DefinitionError, Machine, Meta, State
from holdfast.examples.order.machine import order
from holdfast.examples.order.stand_in import StandIn
from holdfast.testing import Faults, VacuousError, ViolationError, simulate
from holdfast.testing.sample import sample, undisturbed
from holdfast.testing.simulation import tell
from holdfast.testing.simulation.faults import KINDS


def story_of(seed: int) -> list[str]:
    """Return the story of a seed."""
    lines: list[str] = []
    assert tell(None, seed, lines.append) == []
    return lines


def write_stories(path: str, *seeds: str) -> None:
    """Write the stories of seeds to a file; a scene."""
    lines = [line for seed in seeds for line in story_of(int(seed))]
    Path(path).write_text("\n".join(lines), "utf-8")


def test_a_seed_tells_the_same_story_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process with other hashes, and once more in this one."""
    seeds = range(20, 40)
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    play(write_stories, tmp_path / "stories", *seeds)
    here = "\n".join(line for seed in seeds for line in story_of(seed))
    assert here == (tmp_path / "stories").read_text("utf-8")
    assert here == "\n".join(line for seed in seeds for line in story_of(seed))


def test_a_story_tells_who_asked_what_and_what_went_wrong() -> None:
    """Line by line, with the time at the left."""
    stories = "\n".join(line for seed in range(100) for line in story_of(seed))
    for words in (
        "on p1 asks: generated",
        "an atomic batch: ",
        "a transaction: prepare",
        "at once, for several callers: ",
        "its process ends once the request is carried out",
        "the caller gives up before the request is carried out",
        "the connection is lost, and nothing is written",
        "a commit that was lost arrives: commit (",
        "too late, it is at 2",
        "found in the log",
        "is told: version 2, S",
        "from here on nothing goes wrong",
    ):
        assert words in stories


def test_a_violation_tells_the_seed_and_a_short_story() -> None:
    """The seed breaks the promise again, and the story holds no more than it needs."""
    changes = BUGS["no token in memory"].changes
    with planted(*changes), pytest.raises(ViolationError) as caught:
        simulate(seeds=2_000, stores=["memory://"])
    error = caught.value
    whole: list[str] = []
    with planted(*changes):
        assert tell(None, error.seed, whole.append, stores=["memory://"]) == error.violations
    assert len(error.story) < 25 < len(whole)
    assert f"seed {error.seed} breaks a promise" in str(error)
    assert error.story[-1] in str(error)


def test_what_saw_too_little_fails() -> None:
    """Without faults there is nothing to show."""
    with pytest.raises(VacuousError) as caught:
        simulate(seeds=200, faults=Faults(**dict.fromkeys(KINDS, 0)))
    assert {"crash_before", "lost_after", "unresolved, written"} <= caught.value.missing.keys()
    assert "crash_before 0 of 30" in str(caught.value)


def test_the_caller_says_what_is_enough() -> None:
    """Anything that is counted can be asked for."""
    report = simulate(seeds=20, at_least={"reads": 100})
    assert report.counts["reads"] > 2
    with pytest.raises(VacuousError, match="reads"):
        simulate(seeds=20, at_least={"reads": 100_000})


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_can_be_had_alone(kind: str) -> None:
    """And breaks no promise."""
    faults = Faults(**{**dict.fromkeys(KINDS, 0), kind: 100})
    report = simulate(seeds=60, faults=faults, at_least={kind: 500})
    assert [other for other in KINDS if report.counts[other]] == [kind]


@pytest.mark.parametrize("store", ["memory://", "sqlite:///:memory:", "sqlite:///"])
def test_each_store_can_be_had_alone(store: str) -> None:
    """The last is a file of the run's own."""
    assert simulate(seeds=10, stores=[store]).counts[store] == 10


def test_users_simulate_their_own_machines() -> None:
    """Commands are drawn from their annotations, dependencies are given."""
    assert simulate(order, seeds=200, deps=StandIn()).counts["transitions"] > 200
    assert simulate(sample, seeds=100, deps=undisturbed).counts["transitions"] > 200


class On(State):
    times: int


class Press(Command):
    force: Annotated[int, Meta(ge=1, le=10)]


def switch(decide: Callable[[int, int], int]) -> Machine[On, Press]:
    """Return a machine whose handler counts in some way."""
    machine = Machine("switch", state=On, command=Press)

    @machine.on
    def press(state: On | None, command: Press) -> On:
        return On(decide(0 if state is None else state.times, command.force))

    return machine


def test_a_handler_that_remembers_is_found_out() -> None:
    """Asked once more with the same context it decides otherwise."""
    seen: list[int] = []

    def remember(times: int, force: int) -> int:
        seen.append(force)
        return len(seen)

    with pytest.raises(ViolationError, match="its command leads to"):
        simulate(switch(remember), seeds=20)
    simulate(switch(remember), seeds=20, replays=False)


def test_commands_can_be_drawn_by_hand() -> None:
    """Where annotations do not tell enough."""
    forces: set[int] = set()

    def add(times: int, force: int) -> int:
        forces.add(force)
        return times + force

    def draw(random: Random) -> Press:
        return Press(random.choice((3, 4)))

    simulate(switch(add), seeds=20, commands={Press: draw})
    assert forces == {3, 4}


class Odd(Command):
    what: Any = None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"machine": "order"}, "takes a Machine, not 'order'"),
        ({"machine": order}, "order takes deps"),
        ({"stores": ["postgresql://"]}, "stores= takes some of memory://"),
        ({"stores": []}, "stores= takes some of"),
        ({"seeds": 0}, "there is no seed"),
        ({"seeds": []}, "there is no seed"),
        ({"seeds": True}, "seeds= takes seeds, or how many, not True"),
        ({"seeds": 1.5}, "seeds= takes seeds, or how many, not 1.5"),
        ({"seeds": "12"}, "a seed is a whole number from 0, not '1'"),
        ({"seeds": [1, -1]}, "a seed is a whole number from 0, not -1"),
    ],
)
def test_what_cannot_be_simulated_is_refused(options: dict[str, Any], words: str) -> None:
    """The message says what to pass."""
    with pytest.raises(DefinitionError, match=words):
        simulate(**options)


def test_asynchronous_handlers_are_refused() -> None:
    """Nobody would await them."""
    machine = Machine("switch", state=On, command=Press)

    @machine.on
    async def press(state: On | None, command: Press) -> On:
        return On(1)

    with pytest.raises(DefinitionError, match="coroutine functions"):
        simulate(machine)


def test_the_faults_are_told_by_name() -> None:
    """Each has a sentence in the story."""
    assert set(KINDS) == set(asdict(Faults()))
