"""Chooses which plan goes on at every request, and what goes wrong there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from holdfast.errors import StoreError
from holdfast.service.hooks import HookRaised
from holdfast.service.requests import Ask, Commit, Load, Read, Sleep
from holdfast.stores.contract import CommitUncertainError, Outcome, Store
from holdfast.testing.simulation.clients import Client
from holdfast.testing.simulation.faults import LATE, Fates, StoreAwayError
from holdfast.testing.simulation.journal import Journal, short, shown
from holdfast.testing.simulation.processes import Clock, Process

MAX_TICKS = 20_000
"""After so many requests a run is taken to be one that does not end."""
MAX_DELAY_TICKS = 40
"""How much later a commit may arrive that was lost on its way."""

_SCHEDULED = (Load, Commit, Read, Sleep)
"""At these another plan may go on; everything else concerns nobody but the process."""


class Scheduler:
    """Lets the clients of a run go on, one request at a time."""

    def __init__(
        self,
        random: Random,
        journal: Journal,
        clock: Clock,
        fates: Fates,
        start: Callable[[str], Process],
        *,
        processes: int,
    ) -> None:
        self._random = random
        self._journal = journal
        self._clock = clock
        self._fates = fates
        self._start = start
        self._processes = [start(f"p{n + 1}") for n in range(processes)]
        self._started = processes
        self._clients: Sequence[Client] = ()
        self._loyalty = random.choice((0.0, 0.5, 0.9))
        self._set_back = random.choice((0.0, 0.0, 0.01))
        self._late: list[tuple[int, Commit]] = []

    def run(self, clients: Sequence[Client]) -> None:
        """Let the clients go on until all have done what they do."""
        self._clients = clients
        active = list(clients)
        current: Client | None = None
        while active:
            self._journal.tick += 1
            if self._journal.tick > MAX_TICKS:
                self._journal.surprise(None, f"is not done after {MAX_TICKS} requests")
                return
            self._pass_time()
            current = self._choose(active, current)
            if current.action is not None:
                self._advance(current)
            elif not self._begin(current):
                active.remove(current)
                current = None
        self._deliver(self._journal.tick + MAX_DELAY_TICKS)

    def calm_down(self, fates: Fates) -> None:
        """Begin anew in every process, with other fates."""
        self._fates = fates
        for process in list(self._processes):
            self._crash(process)

    @property
    def store(self) -> Store:
        """The store, as one of the processes opened it."""
        return self._processes[0].store

    def close(self) -> None:
        """Let go of the stores."""
        for process in self._processes:
            process.store.close()

    def _pass_time(self) -> None:
        self._clock.tick()
        if self._set_back and self._random.random() < self._set_back:
            self._journal.say("the clock of the store is set back by a second")
            self._clock.set_back()
        if self._late:
            self._deliver(self._journal.tick)

    def _choose(self, active: Sequence[Client], current: Client | None) -> Client:
        now = self._clock.seconds
        stays = self._random.random() < self._loyalty
        if stays and current is not None and current.wakes_at <= now:
            return current
        awake = [client for client in active if client.wakes_at <= now]
        if awake:
            return self._random.choice(awake)
        first = min(active, key=lambda client: client.wakes_at)
        self._clock.seconds = first.wakes_at
        return first

    def _begin(self, client: Client) -> bool:
        """Let a client do the next thing; False where it has done all."""
        action = client.next_action()
        if action is None:
            return False
        process = self._random.choice(self._processes)
        self._journal.counts["actions"] += 1
        if self._journal.is_told:
            self._journal.say(f"{client.name} on {process.name} asks: {action}")
        plan = client.start(action, process)
        self._resume(client, plan.send, None)
        return True

    def _advance(self, client: Client) -> None:
        """Carry out what a client's plan asks for, unless something goes wrong."""
        ask = client.ask
        assert ask is not None
        fate = self._fates.draw(ask)
        if fate:
            self._meet(client, ask, fate)
        else:
            self._carry_out(client, ask)

    def _carry_out(self, client: Client, ask: Ask) -> None:
        plan, process = client.under_way
        try:
            answer = None if isinstance(ask, Sleep) else self._perform(ask, process)
        except Exception as error:  # noqa: BLE001 (raised inside the plan)
            self._tell(client, ask, f"{error!r}")
            self._resume(client, plan.throw, error)
        else:
            self._tell(client, ask, answer)
            self._resume(client, plan.send, answer)

    def _perform(self, ask: Ask, process: Process) -> Any:
        answer = ask.perform(process)
        counts = self._journal.counts
        counts["requests"] += 1
        if isinstance(ask, Commit) and not isinstance(answer, HookRaised):
            counts["conflicts"] += sum(not outcome.applied for outcome in answer)
            counts["found again"] += sum(outcome.found for outcome in answer)
        return answer

    def _resume(self, client: Client, resume: Callable[[Any], Ask], value: Any) -> None:
        """Let a plan go on to its next request of the store, to a sleep, or to its end."""
        plan, process = client.under_way
        try:
            ask = resume(value)
            while not isinstance(ask, _SCHEDULED):
                try:
                    answer = ask.perform(process)
                except Exception as error:  # noqa: BLE001 (raised inside the plan)
                    ask = plan.throw(error)
                else:
                    ask = plan.send(answer)
        except StopIteration as stop:
            self._end(client, stop.value)
        except Exception as error:  # noqa: BLE001 (it is the answer)
            self._end(client, error)
        else:
            client.ask = ask
            if isinstance(ask, Sleep):
                client.wakes_at = self._clock.seconds + ask.seconds

    def _end(self, client: Client, answer: Any) -> None:
        assert client.action is not None
        self._journal.tick += 1
        if self._journal.is_told:
            self._journal.say(f"{client.name} is told: {shown(answer)}")
        client.action.answered(answer)
        client.end(again=any(o.told == "unknown" for o in client.action.operations))

    # What goes wrong

    def _meet(self, client: Client, ask: Ask, fate: str) -> None:
        """Let a request meet its fate."""
        plan, process = client.under_way
        journal = self._journal
        journal.counts[fate] += 1
        if journal.is_told:
            journal.say(f"{client.name}: {_described(ask)}: {_TOLD[fate]}")
        if fate.endswith("_after") and not isinstance(ask, Sleep):
            self._perform_unheard(ask, process)
        if fate in LATE:
            assert isinstance(ask, Commit)
            delay = self._random.randint(1, MAX_DELAY_TICKS)
            self._late.append((journal.tick + delay, ask))
        if fate.startswith("crash"):
            self._crash(process)
        elif fate.startswith("drop"):
            client.drop()
        elif fate == "unavailable":
            refusal = StoreAwayError("the store is away; nothing was written")
            self._resume(client, plan.throw, refusal)
        else:
            lost = CommitUncertainError("the connection was lost while committing")
            self._resume(client, plan.throw, lost)

    def _perform_unheard(self, ask: Ask, process: Process) -> None:
        """Carry out a request whose answer nobody gets to know."""
        try:
            answer = self._perform(ask, process)
        except StoreError as error:
            self._journal.say(f"       which failed: {error}")
        else:
            if isinstance(ask, Commit) and self._journal.is_told:
                self._journal.say(f"       which came to {_outcomes(answer)}")

    def _crash(self, process: Process) -> None:
        """End a process: all that its callers wait for is gone. Another takes its place."""
        for client in self._clients:
            if client.process is process:
                client.drop()
        self._started += 1
        place = self._processes.index(process)
        process.end()
        self._processes[place] = self._start(f"p{self._started}")

    def _deliver(self, until: int) -> None:
        """Carry out the commits that were lost on their way and have arrived by now."""
        due = [commit for tick, commit in self._late if tick <= until]
        self._late = [late for late in self._late if late[0] > until]
        for commit in due:
            self._journal.say(f"a commit that was lost arrives: {_described(commit)}")
            self._perform_unheard(commit, self._processes[0])

    def _tell(self, client: Client, ask: Ask, answer: Any) -> None:
        if self._journal.is_told and isinstance(ask, Commit):
            came_to = answer if isinstance(answer, str) else _outcomes(answer)
            self._journal.say(f"{client.name}: {_described(ask)}: {came_to}")


def _described(ask: Ask) -> str:
    """Return a request in a few words."""
    if isinstance(ask, Commit):
        parts = [
            f"{write.entity.machine} {short(write.entity.id)} to version {write.entity.version}"
            for write in ask.writes
        ]
        parts += [f"{short(check.id)} still at {check.version}" for check in ask.checks]
        if ask.checkpoint is not None:
            parts.append(f"{ask.checkpoint.name} to {ask.checkpoint.position}")
        whole = "all or none, " if ask.atomic or ask.checks else ""
        return f"commit ({whole}{', '.join(parts)})"
    if isinstance(ask, Load):
        return f"load ({', '.join(f'{key.machine} {short(key.id)}' for key in ask.keys)})"
    return "sleep" if isinstance(ask, Sleep) else "read"


def _outcomes(outcomes: Sequence[Outcome] | HookRaised) -> str:
    if isinstance(outcomes, HookRaised):
        return f"undone by a hook: {outcomes.error!r}"
    return ", ".join(
        "found in the log" if outcome.found
        else "written" if outcome.applied
        else f"too late, it is at {outcome.version}"
        for outcome in outcomes
    )  # fmt: skip


_TOLD = {
    "crash_before": "its process ends before the request is carried out",
    "crash_after": "its process ends once the request is carried out",
    "crash_late": "its process ends while the request is under way, and will arrive later",
    "drop_before": "the caller gives up before the request is carried out",
    "drop_after": "the caller gives up once the request is carried out",
    "unavailable": "the store is away",
    "lost_before": "the connection is lost, and nothing is written",
    "lost_after": "the connection is lost, and it is written",
    "lost_late": "the connection is lost, and it will arrive later",
}
