"""Commits whose acknowledgement is lost: the call finds out what became of them, or says so."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tests.stores.scenes import play

from holdfast import (
    Checkpoint,
    Context,
    OutcomeUnknownError,
    Record,
    Request,
    Retry,
    Service,
    StoreError,
    VersionConflictError,
    open_store,
)
from holdfast.stores.contract import CommitUncertainError, Outcome, Store
from holdfast.testing.conformance.base import SampleService, service_on
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, Create, Open, Remove, sample

ATTEMPTS = 4
SEQUENCES = [fate for times in (1, 2, 3) for fate in product(["before", "after"], repeat=times)]


@pytest.fixture(params=["memory://", "sqlite:///{}/store.db"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Give a store; whatever became of its commits, it must agree with itself."""
    with open_store(request.param.format(tmp_path)) as store:
        yield store
        assert faults(store) == []


@pytest.fixture
def fate(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str | Callable[[], object]]:
    """Return what will happen to the next commits, one after the other; then all is well.

    `before`: the connection is lost before anything is stored, `after`: once it is, `down`: the
    store cannot be reached at all. A function is called before the next of them.
    """
    coming: list[str | Callable[[], object]] = []
    commit = store.commit

    def uncertain_commit(*args: Any, **options: Any) -> list[Outcome]:
        while coming and not isinstance(coming[0], str):
            act = coming.pop(0)
            assert callable(act)
            act()
        now = coming.pop(0) if coming else "well"
        if now == "down":
            raise StoreError("nobody answers")
        outcomes = [] if now == "before" else commit(*args, **options)
        if now in ("before", "after"):
            raise CommitUncertainError("the connection was lost while committing")
        return outcomes

    monkeypatch.setattr(store, "commit", uncertain_commit)
    return coming


@pytest.fixture
def tokens() -> list[str]:
    """Return the tokens with which handlers were called."""
    return []


@pytest.fixture
def service(store: Store, fate: list[Any], tokens: list[str]) -> SampleService:
    """Return a service on the store, which asks four times."""

    def note(context: Context) -> None:
        tokens.append(context.token)

    retry = Retry(attempts=ATTEMPTS, initial_seconds=0.001, cap_seconds=0.001)
    return Service(sample, store, deps=note, retry=retry)


@pytest.mark.parametrize("sequence", SEQUENCES, ids="-".join)
def test_a_command_is_applied_once(
    service: SampleService, fate: list[Any], tokens: list[str], sequence: tuple[str, ...]
) -> None:
    """However often the connection is lost, and whether it was stored by then or not."""
    service.handle("e", Add())
    fate += sequence
    record = service.handle("e", Add(10))
    assert (record.version, record.state) == (2, Open(11))
    assert service.get("e") == record
    assert [t.version for t in service.history("e")] == [1, 2]
    assert len(tokens) == 2
    assert fate == [] or sequence[0] == "after"


@pytest.mark.parametrize("sequence", SEQUENCES, ids="-".join)
@pytest.mark.parametrize(
    "options",
    [{}, {"atomic": True}, {"checkpoint": Checkpoint("reader", 3)}],
    ids=["each for itself", "all or none", "with a checkpoint"],
)
def test_a_batch_is_applied_once(
    store: Store,
    service: SampleService,
    fate: list[Any],
    sequence: tuple[str, ...],
    options: dict[str, Any],
) -> None:
    """Every command of it, those that create, that follow each other, and that delete."""
    service.handle("gone", Add())
    fate += sequence
    answers = service.handle_many(
        [("a", Add(1)), ("a", Add(2)), ("gone", Remove()), ("b", Create())], **options
    )
    assert [a.version for a in answers if isinstance(a, Record)] == [1, 2, 2, 1]
    assert service.get_many(["a", "b"]) == {"a": answers[1], "b": answers[3]}
    log = sorted((row.id, row.version) for row in store.read_log(limit=9))
    assert log == [("a", 1), ("a", 2), ("b", 1), ("gone", 1), ("gone", 2)]
    if "checkpoint" in options:
        assert store.checkpoint("reader") == 3


@pytest.mark.parametrize("sequence", SEQUENCES, ids="-".join)
def test_a_purge_is_done_once(
    service: SampleService, fate: list[Any], sequence: tuple[str, ...]
) -> None:
    """The deletion that it records stands in the log once."""
    service.handle("e", Add())
    fate += sequence
    service.purge("e")
    assert [t.kind for t in service.history("e")] == ["purged", "deletion"]


def test_the_store_may_be_away_for_a_while(service: SampleService, fate: list[Any]) -> None:
    """Once it is back, it is asked what became of the commit."""
    fate += ["after", "down", "down"]
    assert service.handle("e", Add()).version == 1
    fate += ["before", "down", "before", "down"]
    assert service.handle("e", Add()).version == 2
    assert len(service.history("e")) == 2


def test_what_came_after_it_does_not_hide_it(
    store: Store, service: SampleService, fate: list[Any]
) -> None:
    """It was stored, and others went on from there before it was asked for."""
    other = service_on(store)
    fate += ["after", lambda: other.handle("e", Add(10)), "well", "before"]
    record = service.handle("e", Add(1))
    assert (record.version, record.state) == (1, Open(1))
    assert service.get("e").state == Open(11)
    assert len(service.history("e")) == 2


def test_what_took_its_place_is_a_conflict(
    store: Store, service: SampleService, fate: list[Any], tokens: list[str]
) -> None:
    """It was not stored, and somebody else made the version: it is decided again."""
    other = service_on(store)
    fate += ["before", lambda: other.handle("e", Add(10))]
    record = service.handle("e", Add(1))
    assert (record.version, record.state) == (2, Open(11))
    assert len(set(tokens)) == 1
    assert len(tokens) == 2


def test_it_is_never_taken_for_a_success_of_the_caller_who_knew_its_version(
    store: Store, service: SampleService, fate: list[Any]
) -> None:
    """Lost for certain is a conflict; stored is no conflict."""
    other = service_on(store)
    fate += ["before", lambda: other.handle("e", Add(10))]
    with pytest.raises(VersionConflictError) as caught:
        service.handle("e", Add(1), expected_version=0)
    assert (caught.value.expected, caught.value.actual) == (0, 1)
    fate += ["after", lambda: other.handle("e", Add(10))]
    assert service.handle("e", Add(1), expected_version=1).version == 2
    assert service.get("e").state == Open(21)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("then", ["before", "down"])
def test_what_is_never_answered_is_unknown(
    service: SampleService,
    fate: list[Any],
    stored: bool,
    then: str,
) -> None:
    """Neither success nor failure is claimed; the same key finds out later."""
    fate += ["after" if stored else "before", *[then] * ATTEMPTS]
    with pytest.raises(OutcomeUnknownError, match=r"sample 'e'.*same key"):
        service.handle("e", Add(1), key="k")
    assert fate == []
    assert len(service.history("e")) == stored
    assert service.handle("e", Add(1), key="k").version == 1
    assert len(service.history("e")) == 1


def test_what_was_purged_before_its_outcome_was_known_does_not_come_back(
    store: Store, service: SampleService, fate: list[Any]
) -> None:
    """The call finds that it was stored; it does not create the entity anew."""
    officer = service_on(store)
    fate += ["after", lambda: officer.purge("e")]
    assert service.handle("e", Add(5)).version == 1
    assert [entry.kind for entry in service.history("e")] == ["purged", "deletion"]


def test_a_store_that_is_down_from_the_start_is_no_unknown_outcome(
    service: SampleService, fate: list[Any]
) -> None:
    """Nothing was sent, so nothing was stored; and it is not asked again."""
    fate += ["down"]
    with pytest.raises(StoreError, match="nobody answers") as caught:
        service.handle("e", Add())
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert service.history("e") == []


def test_an_unknown_outcome_in_a_batch_is_told_to_each(
    service: SampleService, fate: list[Any]
) -> None:
    """Those whose commit went unanswered; refusals are refusals."""
    fate += ["before"] * (2 * (1 + ATTEMPTS))
    requests = [Request("a", Add(1)), Request("b", Add(-1)), Request("c", Add(1))]
    first, second, third = service.handle_many(requests)
    assert isinstance(first, OutcomeUnknownError)
    assert not isinstance(second, Record | StoreError)
    assert isinstance(third, OutcomeUnknownError)


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond a size; SQLite gets an error for it when writing."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def scene_commits_fail(path: str) -> None:
    """SQLite itself fails to write the end of a transaction, a while or for good."""
    with open_store(f"sqlite:///{path}") as store:
        retry = Retry(attempts=3, initial_seconds=0.001, cap_seconds=0.001)
        service = Service(sample, store, deps=lambda context: None, retry=retry)
        service.handle("e", Add())
        for timeout in (None, 30):
            limit_files(100)
            with pytest.raises(OutcomeUnknownError) as caught:
                service.handle("e", Add(), timeout=timeout)
            assert "failed while committing: disk I/O error" in str(caught.value)
            limit_files(resource.RLIM_INFINITY)
            assert service.get("e").version == 1
        patient = Retry(attempts=1_000, initial_seconds=0.01, cap_seconds=0.01)
        service = Service(sample, store, deps=lambda context: None, retry=patient)
        limit_files(100)
        threading.Timer(0.1, limit_files, [resource.RLIM_INFINITY]).start()
        began = time.monotonic()
        assert service.handle("e", Add()).version == 2
        assert time.monotonic() - began > 0.05, "the commit did not fail at all"
        assert len(service.history("e")) == 2
        assert faults(store) == []
    with open_store(f"sqlite:///{path}") as store:
        assert faults(store) == []
        assert store.count("sample") == {"Open": 1}
    print("played")


def test_a_commit_that_sqlite_cannot_finish_is_uncertain(tmp_path: Path) -> None:
    """It is sent again on a new connection, until it is known."""
    assert play(scene_commits_fail, tmp_path / "store.db") == "played\n"
