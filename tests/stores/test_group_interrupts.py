"""A thread that shares its commits is interrupted, at every place where that can happen to it.

CPython looks for signals at the start of a function, after a call and at the end of a loop's turn.
"""

from __future__ import annotations

import dis
import inspect
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import get_ident
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest
from tests.stores.scenes import play

import holdfast.stores.group as group_module
from holdfast import Service, StoreError, open_store
from holdfast.stores.contract import CommitUncertainError, Outcome, Write
from holdfast.stores.group import GroupCommit
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, sample, undisturbed

DONE = [Outcome(True, 1)]
WRITES: Any = ["a write"]
BEFORE_IT_IS_KNOWN = {"commit", "_lead", "_write_group", "_write_all", "<listcomp>"}
"""The functions in which the outcome of the others is not known yet."""
REFUSAL = (
    "in the midst of a call of the same thread, by a hook or by a signal handler; nothing was "
    "written: a hook calls services, which join its transaction, and a signal handler calls it "
    "when that call is over"
)


class Interrupt(BaseException):
    """What comes into a thread."""


class Interrupts:
    """Raises an interrupt in the thread that it follows, at one of the places where one can come.

    The places are counted from 1.
    """

    def __init__(self, place: int) -> None:
        self.left = place
        self.came_into: str | None = None
        """The name of the function that it came into."""
        self._looks: dict[FrameType, bool] = {}
        self._thread: int | None = None

    @contextmanager
    def follow(self) -> Generator[None]:
        """Follow what this thread does in the module of the group commit."""
        if sys.version_info >= (3, 12):
            self._thread = get_ident()
            monitoring, tool = sys.monitoring, 4
            monitoring.use_tool_id(tool, "interrupts")
            try:
                monitoring.register_callback(tool, monitoring.events.INSTRUCTION, self._step)
                for code in codes_of(group_module):
                    monitoring.set_local_events(tool, code, monitoring.events.INSTRUCTION)
                yield
            finally:
                for code in codes_of(group_module):
                    monitoring.set_local_events(tool, code, 0)
                monitoring.free_tool_id(tool)
        else:
            sys.settrace(self._trace)
            try:
                yield
            finally:
                sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != group_module.__file__:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self._come(frame, frame.f_lasti, is_entered=False)
        return self._trace

    def _step(self, code: CodeType, offset: int) -> None:
        if get_ident() == self._thread:  # RESUME, which looks for signals, is not told
            frame = inspect.currentframe()
            assert frame is not None
            assert frame.f_back is not None
            self._come(frame.f_back, offset, is_entered=True)

    def _come(self, frame: FrameType, offset: int, *, is_entered: bool) -> None:
        looked = self._looks.get(frame, is_entered)
        name = dis.opname[frame.f_code.co_code[offset]]
        self._looks[frame] = name.startswith(("CALL", "RESUME", "JUMP_BACKWARD"))
        if looked:
            self.left -= 1
            if self.left == 0:
                self.came_into = frame.f_code.co_name
                raise Interrupt


def codes_of(module: ModuleType) -> Iterator[CodeType]:
    """Yield the code of all functions of a module."""
    found = [
        member.__code__
        for owner in (module, *filter(inspect.isclass, vars(module).values()))
        for member in vars(owner).values()
        if inspect.isfunction(member) and member.__module__ == module.__name__
    ]
    while found:
        code = found.pop()
        yield code
        found += [each for each in code.co_consts if isinstance(each, CodeType)]


class Scene:
    """Some threads that commit in an order of their own, the first of which, one in each lane, are
    held while the others queue up.
    """

    def __init__(self, interrupts: Interrupts, lanes: int = 1) -> None:
        self.interrupts = interrupts
        self.lanes = lanes
        self.writing = 0
        self.go_on = threading.Event()
        self.group = GroupCommit("the store", self.write, bool, lanes=lanes)
        self.answers: dict[str, object] = {}
        self.threads: list[threading.Thread] = []

    def write(self, writes: Sequence[Write], since: float | None) -> list[Outcome]:
        if self.writing < self.lanes:
            self.writing += 1
            assert self.go_on.wait(20)
        return DONE * len(writes)

    def start(self, name: str) -> None:
        """Have a thread commit, and wait until it writes, waits or has ended."""
        thread = threading.Thread(target=self._commit, args=(name,), daemon=True)
        before = self._state()
        self.threads.append(thread)
        thread.start()
        while name not in self.answers and self._state() == before:
            time.sleep(0.0002)

    def _state(self) -> tuple[int, list[object]]:
        """Return who writes and waits: one may leave, interrupted, as the next one comes."""
        return self.writing, [*self.group._waiting]  # pyright: ignore[reportPrivateUsage]

    def _commit(self, name: str) -> None:
        try:
            with self.interrupts.follow() if name == "victim" else nullcontext():
                self.answers[name] = self.group.commit(WRITES)
        except BaseException as error:  # noqa: BLE001 (the answer)
            self.answers[name] = error

    def end(self) -> None:
        """Let the first thread go on, and wait for all of them."""
        self.go_on.set()
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive(), f"a thread waits for ever; the others have {self.answers}"


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize(
    "order",
    [
        ("victim", "a", "b", "c"),
        ("a", "victim", "b", "c"),
        ("a", "b", "victim", "c"),
        ("victim",),
        ("a", "victim"),
    ],
    ids="-".join,
)
def test_an_interrupt_ends_the_call_that_it_comes_into_only(
    order: Sequence[str], lanes: int
) -> None:
    """The other threads are written, or told that it is not known; the next call is served."""
    places = 0
    while True:
        interrupts = Interrupts(places + 1)
        scene = Scene(interrupts, lanes)
        for name in order:
            scene.start(name)
        scene.end()
        if interrupts.came_into is None:
            break
        places += 1
        assert isinstance(scene.answers.pop("victim"), Interrupt)
        for answer in scene.answers.values():
            unknown = isinstance(answer, CommitUncertainError)
            assert answer == DONE or (unknown and interrupts.came_into in BEFORE_IT_IS_KNOWN)
        scene.threads.clear()
        scene.start("later")
        scene.end()
        assert scene.answers["later"] == DONE
    assert places > 5


def test_a_signal_handler_that_commits_is_answered_or_refused(tmp_path: Path) -> None:
    """It never waits for the call that it came into, given other threads that write meanwhile."""
    assert play(scene_signals, tmp_path / "store.db") == "played\n"


def scene_signals(path: str) -> None:
    store = open_store(f"sqlite:///{path}?synchronous=NORMAL")
    service = Service(sample, store, deps=undisturbed)
    service.handle("e", Add())
    going_on = threading.Event()
    answers: list[int] = []
    refusals: set[str] = set()

    def answer(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        try:
            answers.append(service.handle("from the handler", Add()).version)
        except StoreError as error:
            refusals.add(str(error).partition(" was called ")[2])
        finally:
            signal.signal(signal.SIGALRM, answer)

    def work(name: int) -> None:
        while not going_on.is_set():
            service.handle(f"e-{name}", Add())
            time.sleep(0.0005)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(2)]
    for thread in threads:
        thread.start()
    signal.signal(signal.SIGALRM, answer)
    end = time.monotonic() + 1.5
    made = 1
    while time.monotonic() < end:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))
        made = service.handle("e", Add()).version
        time.sleep(0.0005)  # else it would nearly always be in a commit
    signal.setitimer(signal.ITIMER_REAL, 0)
    going_on.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert service.get("e").version == made
    assert len(answers) > 5, answers
    assert refusals == {REFUSAL}
    assert faults(store) == []
    store.close()
    print("played")


@pytest.mark.parametrize("size", [1, 400, 500, 1000])
def test_a_group_is_no_larger_than_a_commit_may_be(size: int) -> None:
    """Those beyond a thousand writes form the next one."""
    sizes: list[int] = []
    writing, go_on = threading.Event(), threading.Event()

    def write(writes: Sequence[Write], since: float | None) -> list[Outcome]:
        sizes.append(len(writes))
        writing.set()
        assert go_on.wait(20)
        return DONE * len(writes)

    group = GroupCommit("the store", write, bool)
    wanted = [1, *[size] * 7]
    answers: list[int] = []
    commits: list[Callable[[], object]] = [
        lambda n=n: answers.append(len(group.commit(WRITES * n)))  # type: ignore[misc]
        for n in wanted
    ]
    threads = [threading.Thread(target=commit, daemon=True) for commit in commits]
    threads[0].start()
    assert writing.wait(5)
    for thread in threads[1:]:
        thread.start()
    while len(group._waiting) < 7:  # pyright: ignore[reportPrivateUsage]
        time.sleep(0.001)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert sorted(answers) == wanted
    assert (
        sizes
        == {
            1: [1, 7],
            400: [1, 800, 800, 800, 400],
            500: [1, 1000, 1000, 1000, 500],
            1000: [1, *[1000] * 7],
        }[size]
    )
