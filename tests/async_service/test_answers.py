"""What reaches a caller: its own result or error, whatever the others of its commit came to."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from traceback import extract_tb

import pytest
from tests.async_service.support import (
    AsyncSample,
    Run,
    WatchedStore,
    label,
    outcome,
    rival_on,
    service_on,
    unanswered,
    until,
)

from holdfast import (
    CircuitBreaker,
    CircuitOpenError,
    CommandRejectedError,
    Context,
    InvalidTransitionError,
    KeyReusedError,
    Record,
    RetriesExhaustedError,
    Retry,
    StoreError,
    VersionConflictError,
)
from holdfast.service.lockstep import Lockstep
from holdfast.stores.contract import Key, Write, WriteRefusedError
from holdfast.stores.sqlite import SqliteStore
from holdfast.testing.sample import Add, Close, Closed, Create, Open


def test_each_caller_gets_its_own_answer(run: Run, store: WatchedStore) -> None:
    """Given results and refusals side by side, on many entities, nobody gets another's."""
    service = service_on(store)

    async def call(number: int) -> None:
        id = f"e-{number % 20}"
        if number % 3 == 0:
            with pytest.raises(CommandRejectedError, match=f"cannot become -{1_000_000 + number}"):
                await service.handle(f"none-{number}", Add(-1_000_000 - number))
        else:
            record = await service.handle(id, Add(number), metadata={"call": number})
            [made] = await service.history(id, after=record.version - 1, limit=1)
            assert (record.id, made.metadata) == (id, {"call": number})
            assert record == await service.at(id, version=record.version)

    async def scene() -> None:
        await asyncio.gather(*(call(number) for number in range(200)))

    run(scene())
    assert sum(len(rival_on(store).history(f"e-{n}")) for n in range(20)) == 133


def test_commands_for_one_entity_form_a_chain(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """What arrives while a commit is under way is written by the next, in the order it arrived."""

    async def scene() -> list[Record[Open | Closed]]:
        store.hold()
        first = asyncio.create_task(service.handle("hot", Add()))
        await until(lambda: store.commits)
        others = [asyncio.create_task(service.handle("hot", Add())) for _ in range(100)]
        await asyncio.sleep(0.01)
        store.release()
        return await asyncio.gather(first, *others)

    records = run(scene())

    assert [record.version for record in records] == list(range(1, 102))
    assert store.commits == [{"hot": 1}, {"hot": 100}]


def test_calls_for_many_entities_share_loads_and_commits(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    async def scene() -> None:
        store.hold()
        first = asyncio.create_task(service.handle("first", Add()))
        await until(lambda: store.commits)
        others = asyncio.gather(*(service.handle(f"e-{n}", Add()) for n in range(50)))
        await asyncio.sleep(0.01)
        store.release()
        await asyncio.gather(first, others)

    run(scene())

    assert [len(commit) for commit in store.commits] == [1, 50]
    assert [len(load) for load in store.loads] == [1, 50]


def test_reads_share_loads_and_wait_for_no_commit(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """What arrives while one load is under way is read by the next."""

    async def scene() -> None:
        await service.handle("e", Add())
        store.hold()
        written = asyncio.create_task(service.handle("e", Add()))
        await until(lambda: len(store.commits) == 2)
        reading, go_on = threading.Event(), threading.Event()

        def wait(keys: Sequence[Key]) -> None:
            reading.set()
            assert go_on.wait(20)

        store.before_load = wait
        first = asyncio.create_task(service.get("e"))
        await until(reading.is_set)
        others = asyncio.gather(*(service.get("e") for _ in range(50)))
        await asyncio.sleep(0.01)
        go_on.set()
        assert {record.version for record in (await first, *await others)} == {1}
        assert not written.done()
        store.release()
        await written

    run(scene())

    assert [len(load) for load in store.loads] == [1, 1, 1, 50]


def test_a_lone_call_waits_for_nobody(
    run: Run, store: WatchedStore, service: AsyncSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one load and one commit, in one round: there is no timer."""
    rounds: list[int] = []
    original = Lockstep.round

    def counted(lockstep: Lockstep) -> object:
        rounds.append(len(lockstep.lanes))
        return original(lockstep)

    monkeypatch.setattr(Lockstep, "round", counted)

    run(service.handle("e", Add()))

    assert (store.loads, store.commits, rounds) == ([["e"]], [{"e": 1}], [1])


def test_a_broken_write_fails_alone(run: Run, store: WatchedStore, service: AsyncSample) -> None:
    """Given a store that refuses some entities, those written with them are written."""

    def refuse(writes: Sequence[Write]) -> None:
        if any(write.entity.id.startswith("bad") for write in writes):
            raise WriteRefusedError("a bad one")

    async def scene() -> list[object]:
        store.hold()
        first = asyncio.create_task(service.handle("first", Add()))
        await until(lambda: store.commits)
        store.before_commit = refuse
        ids = ["a", "bad", "worse", "bad-2", "b", "bad-3", "c"]
        others = asyncio.gather(*(outcome(service.handle(id, Add())) for id in ids))
        await asyncio.sleep(0.01)
        store.release()
        await first
        return [type(answer) for answer in await others]

    refused = WriteRefusedError
    assert run(scene()) == [Record, refused, Record, refused, Record, refused, Record]


def test_a_store_that_is_down_is_everybodys_error(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """Each gets an error object of its own, and the next call finds the store back."""

    cause = OSError("no disk")

    def refuse(writes: Sequence[Write]) -> None:
        raise StoreError("down") from cause

    async def scene() -> None:
        store.before_commit = refuse
        calls = [service.handle("e", Add()) for _ in range(9)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {str(answer) for answer in answers} == {"down"}
        assert len({id(answer) for answer in answers}) == 9
        for answer in answers:
            assert isinstance(answer, StoreError)
            assert answer.__cause__ is cause
            assert "refuse" in [frame.name for frame in extract_tb(answer.__traceback__)]
        store.before_commit = lambda writes: None
        assert (await service.handle("e", Add())).version == 1

    run(scene())


def test_what_ends_a_program_ends_its_callers_wait_only(run: Run, store: WatchedStore) -> None:
    """A handler that raises SystemExit harms neither its chain nor the thread."""

    def leave(context: Context) -> None:
        if label(context) == "leaves":
            raise SystemExit(3)

    service = service_on(store, leave)

    async def leaving() -> str:
        try:
            await service.handle("e", Add(), metadata={"call": "leaves"})
        except SystemExit as exit:
            return f"left with {exit.code}"
        return "stayed"

    async def scene() -> None:
        store.hold()
        first = asyncio.create_task(service.handle("first", Add()))
        await until(lambda: store.commits)
        chain = [service.handle("e", Add()), leaving(), service.handle("e", Add())]
        others = asyncio.gather(*chain, service.handle("other", Add()))
        await asyncio.sleep(0.01)
        store.release()
        await first
        before, left, after, other = await others
        assert isinstance(before, Record)
        assert isinstance(after, Record)
        assert isinstance(other, Record)
        assert (before.version, left, after.version, other.version) == (1, "left with 3", 2, 1)

    run(scene())


def test_what_may_have_been_written_is_not_begun_again(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """Given a store that ends with SystemExit once it has written, each caller is told so."""

    def write_and_leave(writes: Sequence[Write]) -> None:
        if writes[0].entity.id == "a":
            store.before_commit = lambda writes: None
            SqliteStore.commit(store, writes)
            raise SystemExit(3)

    async def leaving(id: str) -> str:
        try:
            return f"version {(await service.handle(id, Add())).version}"
        except SystemExit as exit:
            return f"left with {exit.code}"

    async def scene() -> None:
        store.before_commit = write_and_leave
        store.hold()
        first = asyncio.create_task(service.handle("first", Add()))
        await until(lambda: store.commits)
        both = asyncio.gather(leaving("a"), leaving("a"))
        await asyncio.sleep(0.01)
        store.release()
        await first
        assert list(await both) == ["left with 3"] * 2
        assert await leaving("a") == "version 3"

    run(scene())


def test_a_call_keeps_its_token_whatever_befalls_those_begun_with_it(
    run: Run, store: WatchedStore
) -> None:
    """Given a handler that raises SystemExit, those that are decided again see what they saw."""
    seen: dict[str, list[tuple[str, object]]] = {"a": [], "b": [], "c": []}

    def leave(context: Context) -> None:
        if context.id in seen:
            seen[context.id].append((context.token, dict(context.metadata)))
            context.metadata["tampered"] = True  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
        if label(context) == "leaves" and len(seen["b"]) == 1:
            raise SystemExit(3)

    service = service_on(store, leave)

    async def scene() -> None:
        store.hold()
        first = asyncio.create_task(service.handle("first", Add()))
        await until(lambda: store.commits)
        calls = [("a", "stays"), ("b", "leaves"), ("c", "stays")]
        others = asyncio.gather(
            *(service.handle(id, Add(), metadata={"call": call}) for id, call in calls)
        )
        await asyncio.sleep(0.01)
        store.release()
        assert [record.version for record in await others] == [1, 1, 1]
        await first

    run(scene())
    assert [len(own) for own in seen.values()] == [2, 2, 1]
    tokens = [own[0][0] for own in seen.values()]
    assert len(set(tokens)) == 3
    for id, own in seen.items():
        assert own == own[:1] * len(own)
        [logged] = store.history("sample", id, limit=9)
        assert logged.token == own[0][0]


def test_a_conflict_on_one_entity_does_not_hold_up_others(run: Run, store: WatchedStore) -> None:
    """While one chain waits for its next attempt, the others go on; its own followers wait."""
    rival = rival_on(store)
    pending = [lambda: rival.handle("slow", Add(10))]

    def disturb(context: Context) -> None:
        if context.id == "slow" and pending:
            pending.pop()()

    service = service_on(store, disturb, retry=Retry(initial_seconds=0.3, jitter=False))

    async def scene() -> None:
        store.hold()
        first = asyncio.create_task(service.handle("first", Add()))
        await until(lambda: store.commits)
        slow = asyncio.create_task(service.handle("slow", Add(100)))
        beside = asyncio.create_task(service.handle("beside", Add()))  # begins with it
        await asyncio.sleep(0.01)
        store.release()
        await first
        await until(lambda: not pending)
        assert (await beside).version == 1
        assert not slow.done()
        follower = asyncio.create_task(service.handle("slow", Add(1000)))
        for number in range(20):
            assert (await service.handle("quick", Add())).version == number + 1
        assert not slow.done()
        assert (await slow).state == Open(110)
        assert (await follower).state == Open(1110)

    run(scene())


def test_what_waited_for_a_sleeping_chain_begins_when_that_ends(
    run: Run, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else has to happen first: the thread does not go idle with calls waiting."""
    monkeypatch.setattr("holdfast.service.coalescer.IDLE_SECONDS", 60)
    rival = rival_on(store)
    pending = [lambda: rival.handle("e", Add(10))]

    def disturb(context: Context) -> None:
        if pending:
            pending.pop()()

    service = service_on(store, disturb, retry=Retry(initial_seconds=0.1, jitter=False))

    async def scene() -> None:
        first = asyncio.create_task(service.handle("e", Add()))
        await until(lambda: not pending)
        await asyncio.sleep(0.02)
        second = asyncio.create_task(service.handle("e", Add()))
        async with asyncio.timeout(10):
            assert [r.version for r in await asyncio.gather(first, second)] == [2, 3]

    run(scene())


def test_more_plans_than_go_at_once_all_go(
    run: Run, service: AsyncSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those beyond the limit begin as soon as there is room."""
    monkeypatch.setattr("holdfast.service.coalescer.IDLE_SECONDS", 60)
    monkeypatch.setattr("holdfast.service.coalescer.MAX_BEGUN", 3)
    monkeypatch.setattr("holdfast.service.intake.MAX_CHAIN", 4)

    async def scene() -> None:
        async with asyncio.timeout(10):
            counts = await asyncio.gather(*(service.count_by_state() for _ in range(20)))
            assert counts == [{}] * 20
            records = await asyncio.gather(
                *(service.handle(f"e-{n % 7}", Add()) for n in range(70))
            )
        assert sorted(r.version for r in records) == sorted([*range(1, 11)] * 7)

    run(scene())


def test_a_timeout_in_a_chain_is_its_callers_alone(run: Run, store: WatchedStore) -> None:
    """Who allows no time for a second attempt gives up alone."""
    rival = rival_on(store)
    disturbed = {"hasty": 3, "patient": 1}

    def disturb(context: Context) -> None:
        if disturbed.get(label(context), 0):
            disturbed[label(context)] -= 1
            rival.handle("e", Add(10))

    service = service_on(store, disturb, retry=Retry(initial_seconds=0.05, jitter=False))

    async def scene() -> None:
        patient, hasty, later = await asyncio.gather(
            service.handle("e", Add(), metadata={"call": "patient"}),
            outcome(service.handle("e", Add(), metadata={"call": "hasty"}, timeout=0.01)),
            service.handle("e", Add(), metadata={"call": "later"}),
        )
        assert (patient.version, later.version) == (2, 4)
        assert isinstance(hasty, RetriesExhaustedError)
        assert (hasty.attempts, hasty.reason) == (1, "0.01 s are allowed")

    run(scene())


def test_a_short_timeout_fails_its_own_call_only(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """Given another process that holds the file for longer than some allow for."""

    async def scene() -> None:
        await service.handle("warm", Add())
        path = store.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            hasty = asyncio.gather(*(outcome(service.handle(i, Add(), timeout=0.03)) for i in "ab"))
            patient = asyncio.gather(*(service.handle(id, Add()) for id in "cd"))
            assert [type(answer) for answer in await hasty] == [StoreError] * 2
            other.execute("ROLLBACK")
        assert [record.version for record in await patient] == [1, 1]

    run(scene())
    assert rival_on(store).count_by_state() == {"Open": 3}


def test_each_call_of_a_chain_is_held_to_the_version_it_expects(
    run: Run, store: WatchedStore, service: AsyncSample
) -> None:
    """The versions of a chain are those that its earlier calls make."""

    async def scene() -> None:
        store.hold()
        first = asyncio.create_task(service.handle("e", Add()))
        await until(lambda: store.commits)
        expected = (1, 2, 1, 3)
        calls = [outcome(service.handle("e", Add(), expected_version=v)) for v in expected]
        others = asyncio.gather(*calls)
        await asyncio.sleep(0.01)
        store.release()
        await first
        second, third, late, fourth = await others
        assert [getattr(r, "version", None) for r in (second, third, fourth)] == [2, 3, 4]
        assert isinstance(late, VersionConflictError)
        assert (late.expected, late.actual) == (1, 3)

    run(scene())


def test_a_conflict_tells_each_call_of_a_chain_what_it_expected(
    run: Run, store: WatchedStore
) -> None:
    """Given a writer from outside, who expected what came true is written."""
    rival = rival_on(store)
    pending = [lambda: rival.handle("e", Add(10))]

    def disturb(context: Context) -> None:
        if label(context) == 1 and pending:
            pending.pop()()

    service = service_on(store, disturb)

    async def scene() -> None:
        store.hold()
        first = asyncio.create_task(service.handle("e", Add()))
        await until(lambda: store.commits)
        calls = [
            outcome(service.handle("e", Add(), expected_version=v, metadata={"call": v}))
            for v in (1, 2)
        ]
        others = asyncio.gather(*calls)
        await asyncio.sleep(0.01)
        store.release()
        await first
        late, right = await others
        assert isinstance(late, VersionConflictError)
        assert (late.expected, late.actual) == (1, 2)
        assert isinstance(right, Record)
        assert (right.version, right.state) == (3, Open(12))

    run(scene())


def test_a_key_counts_once_in_a_chain(run: Run, store: WatchedStore, service: AsyncSample) -> None:
    """The same request sent twice at once is applied once; another command with its key is told."""

    async def scene() -> None:
        store.hold()
        first = asyncio.create_task(service.handle("e", Create()))
        await until(lambda: store.commits)
        chain = asyncio.gather(
            service.handle("e", Add(5), key="k"),
            service.handle("e", Add(5), key="k"),
            outcome(service.handle("e", Add(6), key="k")),
            service.handle("e", Close()),
            outcome(service.handle("e", Add(7))),
        )
        await asyncio.sleep(0.01)
        store.release()
        await first
        one, again, other, closed, late = await chain
        assert one == again
        assert isinstance(other, KeyReusedError)
        assert (closed.version, closed.state) == (3, Closed(5))
        assert isinstance(late, InvalidTransitionError)
        assert await service.handle("e", Add(5), key="k") == one

    run(scene())


def test_an_open_breaker_refuses_calls(run: Run, store: WatchedStore) -> None:
    """Before their handlers are asked, and until a probe has written."""
    seen: list[str] = []
    breaker = CircuitBreaker(threshold=1, cooldown_seconds=0.1)
    service = service_on(store, lambda c: seen.append(c.id), retry=Retry(breaker=breaker))

    async def scene() -> None:
        breaker.failed(VersionConflictError("sample", "e", 1, 2), time.monotonic())
        calls = (outcome(service.handle(id, Add())) for id in "abb")
        assert [type(answer) for answer in await asyncio.gather(*calls)] == [CircuitOpenError] * 3
        assert seen == []
        await asyncio.sleep(0.15)
        assert (await service.handle("a", Add())).version == 1
        assert breaker.state == "closed"

    run(scene())


def test_a_thread_that_fails_tells_everybody(
    run: Run, service: AsyncSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a defect in the machinery, callers get its error, and the next ones are served."""
    monkeypatch.setattr("threading.excepthook", lambda *_: None)

    def defect(lockstep: Lockstep) -> object:
        raise ZeroDivisionError

    async def scene() -> None:
        with monkeypatch.context() as planted:
            planted.setattr(Lockstep, "round", defect)
            calls = [service.handle(f"e-{n % 2}", Add()) for n in range(6)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {ZeroDivisionError}
        assert (await service.handle("e-1", Add())).version == 1

    run(scene())


def test_a_thread_that_cannot_be_started_fails_one_call(
    run: Run, service: AsyncSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a system that has no thread left for a while, the next call is served."""

    def refuse(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    async def scene() -> None:
        with monkeypatch.context() as planted:
            planted.setattr("threading.Thread.start", refuse)
            for work in (service.handle("e", Add()), service.count_by_state()):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    await work
        assert unanswered(service) == 0
        assert (await service.handle("e", Add())).version == 1
        assert await service.count_by_state() == {"Open": 1}

    run(scene())


def test_a_start_that_is_interrupted_leaves_one_thread(
    run: Run, service: AsyncSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an interrupt as the thread begins, that one ends at once, and another serves."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    async def scene() -> None:
        before = set(threading.enumerate())
        with monkeypatch.context() as planted:
            planted.setattr("threading.Thread.start", interrupted)
            try:
                await service.handle("e", Add())
            except KeyboardInterrupt:
                pass
            else:
                pytest.fail("the interrupt is lost")
        assert (await service.handle("e", Add())).version == 1
        await until(lambda: len(set(threading.enumerate()) - before) == 1)

    run(scene())


@dataclass(frozen=True)
class FrozenError(Exception):
    """Takes no attributes, as errors that are frozen dataclasses do not."""


class UncopiableError(Exception):
    def __copy__(self) -> object:
        raise ZeroDivisionError


@pytest.mark.parametrize("error", [FrozenError(), UncopiableError()])
def test_an_error_that_cannot_be_copied_is_shared(
    run: Run, store: WatchedStore, error: Exception
) -> None:
    """Given a hook that raises it for many, each is answered, and so is the next call."""

    def hook(conflict: object) -> None:
        raise error

    service = service_on(store, retry=Retry(on_conflict=hook))

    async def scene() -> None:
        calls = [outcome(service.handle(id, Add(), expected_version=9)) for id in "abc"]
        assert await asyncio.gather(*calls) == [error] * 3
        assert (await service.handle("d", Add())).version == 1
        assert unanswered(service) == 0

    run(scene())
