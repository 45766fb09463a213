"""Starts workers on one store, and lets them come to grief as a seed draws it."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from random import Random
from types import MappingProxyType

from msgspec import Struct
from tests.crash.forks import fork
from tests.crash.journal import Journal, lines_in
from tests.crash.outcomes import observed
from tests.crash.place import DISTURBED_SECONDS, End, Place
from tests.crash.traps import NO_TRAP, Trap
from tests.crash.worker import Worker
from tests.crash.workloads import everything_asked

WORKERS = 2
PROGRESS_SECONDS = 15.0
"""How long it may take until everything goes on once nothing goes wrong any more."""
TICK_SECONDS = 0.003
PATIENCE_SECONDS = 2.0
"""How long a worker is left to its trap before it may be killed elsewhere."""
MAX_SECONDS = 60.0
"""How long to wait until everything went wrong."""
KILLS_PER_DISTURBANCE = 4
FATES = ("kill", "kill", "kill", "kill", "kill", "stop", "", "", "", "early")
"""What becomes of a worker: a trap kills or stops it, or it has none, and may be killed early."""
FEW_BYTES = 2_000
"""How much a worker writes down until it was surely answered something."""


class Deck:
    """Draws each of some cards before it draws one again."""

    def __init__(self, random: Random, cards: Sequence[str]) -> None:
        self._random = random
        self._cards = cards
        self._left: list[str] = []

    def draw(self) -> str:
        """Return the next card."""
        if not self._left:
            self._left = self._random.sample(self._cards, len(self._cards))
        return self._left.pop()


class Running(Struct):
    """A worker process."""

    pid: int
    name: str
    trap: Trap
    early: bool
    began: float
    killed: bool = False
    stopped: bool = False


class Supervisor:
    """Keeps workers running on a store, and disturbs them."""

    def __init__(self, place: Place, journals: Path, seed: int) -> None:
        self.place = place
        self.journals = journals
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self._random = Random(seed)
        self._disturbances = {"stopped at random": self._stop_some, **place.disturbances()}
        kills = ["kill"] * (KILLS_PER_DISTURBANCE * len(self._disturbances))
        self._faults = Deck(self._random, [*kills, *self._disturbances])
        self._fates = Deck(self._random, FATES)
        self._points = {fate: Deck(self._random, place.points) for fate in ("kill", "stop")}
        self._workers: list[Running] = []
        self._due: list[tuple[float, End]] = []
        self._started = 0
        self._often: Mapping[str, int] = {}

    def disturb(
        self,
        kills: int,
        max_seconds: float = MAX_SECONDS,
        often: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Let so many workers be killed, and more go wrong meanwhile; then expect progress.

        Everything else goes wrong at least once, or as `often` as is said.
        """
        self._often = often
        try:
            self._disturb(kills, time.monotonic() + max_seconds)
            self._expect_progress()
            self._expect_ends()
        finally:
            self._end()

    def _disturb(self, kills: int, until: float) -> None:
        next_at = 0.0
        while not (self._has_seen(kills) or self.violations or time.monotonic() > until):
            self._look_after()
            if time.monotonic() >= next_at:
                self._cause(self._faults.draw())
                next_at = time.monotonic() + self._random.uniform(0.005, 0.06)
            time.sleep(TICK_SECONDS)
        for moment, end in sorted(self._due, key=itemgetter(0)):
            time.sleep(max(0.0, min(moment, until) - time.monotonic()))
            end()
        self._due = []

    def _has_seen(self, kills: int) -> bool:
        """Whether so many workers were killed, at every point some, and all else went wrong."""
        seen = not self._missing_disturbances() and not self._missing_points()
        return seen and self.counts["kills"] >= kills

    def _missing_disturbances(self) -> list[str]:
        """Return what has not gone wrong often enough yet."""
        return [name for name in self._disturbances if self.counts[name] < self._often.get(name, 1)]

    def _missing_points(self) -> list[str]:
        """Return the points at which nobody was killed yet."""
        points = filter(self.place.will_pass, self.place.points)
        return [point for point in points if f"killed at {point}" not in self.counts]

    def _look_after(self) -> None:
        """End what has lasted long enough, and start workers where some are gone."""
        now = time.monotonic()
        for due in [due for due in self._due if due[0] <= now]:
            self._due.remove(due)
            due[1]()
        for worker in list(self._workers):
            self._notice(worker)
        while len(self._workers) < WORKERS:
            trap, early = self._draw_fate()
            self._workers.append(self._start(trap, early=early))

    def _notice(self, worker: Running) -> None:
        """Notice that a worker has stopped, or come to its end."""
        pid, status = os.waitpid(worker.pid, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return
        if os.WIFSTOPPED(status):
            if not worker.stopped:
                self.counts[f"stopped at {worker.trap.point}"] += 1
                self._later(self._stopped(worker))
            return
        self._workers.remove(worker)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            self.violations.append(f"{worker.name} ended by itself, with status {status}")
            return
        self.counts["kills"] += 1
        self.counts["kills at random" if worker.killed else f"killed at {worker.trap.point}"] += 1

    # What goes wrong

    def _draw_fate(self) -> tuple[Trap, bool]:
        fate = self._fates.draw()
        if fate not in self._points:
            return NO_TRAP, fate == "early"
        missing = self._missing_points() if fate == "kill" else []
        point = self._random.choice(missing) if missing else self._points[fate].draw()
        if not self.place.will_pass(point):
            point = self.place.points[0]
        number = signal.SIGKILL if fate == "kill" else signal.SIGSTOP
        return Trap(point, self._random.randint(1, 8), number), False

    def _cause(self, fault: str) -> None:
        """Let something go wrong, one thing at a time beside the kills."""
        if fault == "kill":
            free = [worker for worker in self._workers if self._may_be_killed(worker)]
            if free:
                self._kill(self._random.choice(free))
        elif not self._due:
            missing = self._missing_disturbances()
            fault = self._random.choice(missing) if missing else fault
            self._later(self._disturbances[fault](), self.place.lasting(fault))
            self.counts[fault] += 1

    def _may_be_killed(self, worker: Running) -> bool:
        """Whether a worker has no trap to fall into, and has been told something."""
        if worker.trap.passing:
            return time.monotonic() - worker.began > PATIENCE_SECONDS
        return worker.early or self._has_begun(worker)

    def _has_begun(self, worker: Running) -> bool:
        return (self.journals / worker.name).stat().st_size > FEW_BYTES

    def _kill(self, worker: Running) -> None:
        if not worker.killed:
            worker.killed = True
            os.kill(worker.pid, signal.SIGKILL)

    def _stop_some(self) -> End:
        worker = self._random.choice(self._workers)
        os.kill(worker.pid, signal.SIGSTOP)
        return self._stopped(worker)

    def _stopped(self, worker: Running) -> End:
        """Return what lets a worker that was stopped go on."""
        worker.stopped = True

        def go_on() -> None:
            worker.stopped = False
            if worker in self._workers:
                os.kill(worker.pid, signal.SIGCONT)

        return go_on

    def _later(self, end: End, lasting: tuple[float, float] = DISTURBED_SECONDS) -> None:
        seconds = self._random.uniform(*lasting)
        self._due.append((time.monotonic() + seconds, end))

    # What must hold

    def _expect_progress(self) -> None:
        """Expect that every verb of every machine is answered anew, and every worker has begun."""
        calm = time.monotonic()
        waiting = everything_asked()
        while (waiting or not all(map(self._is_at_work, self._workers))) and not self.violations:
            self._replace_trapped()
            waiting -= self._answered_since(calm)
            if time.monotonic() > calm + PROGRESS_SECONDS:
                self.violations.append(f"no progress of {sorted(waiting)} in {PROGRESS_SECONDS} s")
            time.sleep(0.05)

    def _is_at_work(self, worker: Running) -> bool:
        """Whether a worker has been told something, and is neither trapped nor killed."""
        return self._has_begun(worker) and not worker.trap.passing and not worker.killed

    def _replace_trapped(self) -> None:
        """Start workers without a trap where those with one have gone."""
        for worker in list(self._workers):
            if worker.trap.passing and not worker.killed:
                self._kill(worker)
            self._notice(worker)
        while len(self._workers) < WORKERS:
            self._workers.append(self._start(NO_TRAP))

    def _answered_since(self, moment: float) -> set[str]:
        return {
            line.what
            for worker in self._workers
            for line in lines_in(self.journals / worker.name)
            if line.operation.told == "done" and (line.operation.ended or 0.0) > moment
        }

    def _expect_ends(self) -> None:
        """Expect that the workers end when they are told to."""
        for worker in self._workers:
            os.kill(worker.pid, signal.SIGTERM)
        until = time.monotonic() + PROGRESS_SECONDS
        while self._workers and time.monotonic() < until:
            for worker in list(self._workers):
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    self._workers.remove(worker)
                    if status:
                        self.violations.append(f"{worker.name} ended with status {status}")
            time.sleep(TICK_SECONDS)
        self.violations += [f"{worker.name} does not end" for worker in self._workers]

    def _end(self) -> None:
        """Kill the workers that are left."""
        for worker in self._workers:
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)
        self._workers = []

    def _start(self, trap: Trap, *, early: bool = False) -> Running:
        self._started += 1
        name = f"w{self._started}"
        journal = self.journals / name
        journal.touch()

        def work() -> None:
            written_down = Journal(journal)
            store = observed(self.place.open(trap), written_down.note)
            Worker(name, store, written_down).work()

        pid = fork(work)
        return Running(pid, name, trap, early, time.monotonic())
