"""What a service keeps for all threads of a process goes on in a child that was forked."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.stores.scenes import play

from holdfast import CircuitBreaker, VersionConflictError
from holdfast.service.contention import GUARD, Contention

CONFLICT = VersionConflictError("sample", "e", 1, 2)


def scene_contention() -> None:
    contention = Contention()
    contention.record("e")
    expect_in_child(GUARD.lock, lambda: contention.record("e"))
    assert contention.hottest(1)[0].conflicts == 1


def scene_breaker() -> None:
    breaker = CircuitBreaker(threshold=1)
    breaker.failed(CONFLICT, 0.0)
    expect_in_child(breaker._lock, breaker.succeeded)  # pyright: ignore[reportPrivateUsage]
    assert breaker.state == "open"


def expect_in_child(lock: Any, use: Callable[[], object]) -> None:
    """Fork while another thread holds the lock of something, and use that in the child."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            go_on.wait(20)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)
        use()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    go_on.set()
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("scene", [scene_contention, scene_breaker])
def test_a_fork_while_a_thread_uses_it(scene: Callable[[], None]) -> None:
    """The child does not wait for a thread that stayed in its parent."""
    play(scene)


def scene_followers() -> None:
    """Things that come to follow forks while a process forks do not get in its way."""
    done = threading.Event()
    made: list[CircuitBreaker] = []

    def make() -> None:
        while not done.is_set():
            made.append(CircuitBreaker(threshold=1))
            del made[:-100]

    threads = [threading.Thread(target=make, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        pid = os.fork()
        if pid == 0:
            signal.alarm(5)
            for breaker in made:
                breaker.failed(CONFLICT, 0.0)
            thread = threading.Thread(target=CircuitBreaker, kwargs={"threshold": 1})
            thread.start()
            thread.join()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    done.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forks_while_services_are_made() -> None:
    """Each child can use what was made before."""
    play(scene_followers)
