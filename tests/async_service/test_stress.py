"""Many calls at once, some refused, some cancelled, some in conflict: nothing is lost or mixed up.

`HOLDFAST_STRESS_CALLS=100000` makes as many calls; `HOLDFAST_STRESS_SEED` draws others.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.async_service.support import AsyncSample, Run, outcome, service_on
from tests.async_service.test_async_handlers import Count, Counting, Tally, at_once, tally
from tests.stores.scenes import command, environment

from holdfast import (
    AsyncService,
    CommandRejectedError,
    KeyReusedError,
    Record,
    Retry,
    Service,
    VersionConflictError,
    open_store,
)
from holdfast.stores.contract import Store
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, Open, sample, undisturbed

CALLS = int(os.environ.get("HOLDFAST_STRESS_CALLS", "20000"))
SEED = int(os.environ.get("HOLDFAST_STRESS_SEED", "20261122"))
CALLERS = 100
IDS = ["hot", "warm-1", "warm-2", *(f"e-{n}" for n in range(30))]
WEIGHTS = [20, 5, 5, *([1] * 30)]
PATIENT = Retry(attempts=1_000, initial_seconds=0.001, cap_seconds=0.05, budget_seconds=120)


class Ledger:
    """What the callers of one service know: what was acknowledged, and what may have happened."""

    def __init__(self) -> None:
        self.acknowledged: dict[tuple[str, int], str] = {}
        """The name of the call that made each version."""
        self.unknown: set[str] = set()
        """The calls that were cancelled."""
        self.refused: set[str] = set()

    def acknowledge(self, name: str, record: Record[Any]) -> None:
        """Take note of a record; no two calls have made the same version."""
        assert self.acknowledged.setdefault((record.id, record.version), name) == name


class Caller:
    """Sends one command after the other, of kinds that are drawn, and judges the answers."""

    def __init__(self, handle: Any, make: Any, ledger: Ledger, seed: int) -> None:
        self.handle = handle
        self.make = make
        self.ledger = ledger
        self.draw = random.Random(seed)
        self.last: dict[str, int] = {}

    async def call(self, number: int) -> None:
        """Send a command."""
        kinds = (self.plain, self.refused, self.cancelled, self.expecting, self.twice)
        [kind] = self.draw.choices(kinds, (56, 12, 12, 10, 10))
        [id] = self.draw.choices(IDS, WEIGHTS)
        await kind(id, f"c-{number}")

    async def plain(self, id: str, name: str) -> None:
        record = await self.handle(id, self.make(1), metadata={"call": name})
        assert record.id == id
        self.ledger.acknowledge(name, record)
        self.last[id] = record.version

    async def refused(self, id: str, name: str) -> None:
        """Be refused; a number tells whose refusal it is."""
        number = 10**9 + int(name.split("-")[1])
        with pytest.raises(CommandRejectedError, match=rf"-{number}\b"):
            await self.handle(f"never-{number}", self.make(-number))
        self.ledger.refused.add(name)

    async def cancelled(self, id: str, name: str) -> None:
        """Be cancelled at some moment."""
        task = asyncio.create_task(self.handle(id, self.make(1), metadata={"call": name}))
        await asyncio.sleep(self.draw.random() * 0.004)
        task.cancel()
        try:
            self.ledger.acknowledge(name, await task)
        except asyncio.CancelledError:
            self.ledger.unknown.add(name)

    async def expecting(self, id: str, name: str) -> None:
        """Decide on a version that may be gone."""
        expected = self.last.get(id, 0)
        answer = await outcome(
            self.handle(id, self.make(1), metadata={"call": name}, expected_version=expected)
        )
        if isinstance(answer, Record):
            self.ledger.acknowledge(name, answer)
            assert answer.version == expected + 1
            self.last[id] = answer.version
        else:
            assert isinstance(answer, VersionConflictError)
            assert (answer.id, answer.expected) == (id, expected)
            self.ledger.refused.add(name)

    async def twice(self, id: str, name: str) -> None:
        """Send the same request twice at once under one key, then another command with it."""
        metadata = {"call": name}
        one, two = await asyncio.gather(
            *(self.handle(id, self.make(1), metadata=metadata, key=name) for _ in range(2))
        )
        assert one == two
        self.ledger.acknowledge(name, one)
        with pytest.raises(KeyReusedError):
            await self.handle(id, self.make(2), key=name)


async def work(handle: Any, make: Any, calls: int) -> Ledger:
    """Make so many calls from many callers at once."""
    ledger = Ledger()
    numbers = iter(range(calls))

    async def go(caller: Caller) -> None:
        for number in numbers:
            await caller.call(number)

    callers = (Caller(handle, make, ledger, SEED + place) for place in range(CALLERS))
    await asyncio.gather(*(go(caller) for caller in callers))
    return ledger


def judge(store: Store, machine: str, ledger: Ledger, others: int) -> None:
    """Hold the log to what was acknowledged; what else it holds is accounted for, once each."""
    made: dict[tuple[str, int], str] = {}
    after = 0
    rivals = 0
    while page := store.read_log(after=after, limit=1_000):
        after = page[-1].seq
        for row in page:
            if row.machine != machine:
                continue
            if row.metadata is None:
                rivals += 1
            else:
                made[row.id, row.version] = row.metadata.split('"')[3]
    missing = ledger.acknowledged.items() - made.items()
    assert not missing, f"acknowledged and not in the log: {list(missing)[:3]}"
    left = Counter(name for place, name in made.items() if place not in ledger.acknowledged)
    assert left.keys() <= ledger.unknown, "in the log, and neither acknowledged nor cancelled"
    assert all(times == 1 for times in left.values()), "applied twice"
    assert rivals == others
    assert faults(store) == []  # versions from 1 without a gap, among others


def scene_rival(path: str, calls: str, seed: str) -> None:
    """Write the same entities from a process of its own; it is another writer to the service."""
    with open_store(f"sqlite:///{path}?synchronous=NORMAL") as store:
        service = Service(sample, store, deps=undisturbed, retry=PATIENT)
        draw = random.Random(seed)
        for _ in range(int(calls)):
            service.handle(draw.choices(IDS, WEIGHTS)[0], Add(1))
    print("done")


def test_plain_handlers_under_stress(run: Run, tmp_path: Path) -> None:
    """Given another process that writes the same entities all the while."""
    path = tmp_path / "store.db"
    calls = CALLS * 2 // 5
    others = calls // 20
    with open_store(f"sqlite:///{path}?synchronous=NORMAL") as store:
        service: AsyncSample = service_on(store, retry=PATIENT)
        store.migrate()
        rival = subprocess.Popen(
            command(scene_rival, path, others, SEED),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

        async def scene() -> Ledger:
            ledger = await work(service.handle, Add, calls)
            await service.drain()
            return ledger

        try:
            ledger = run(scene())
            output, errors = rival.communicate(timeout=60)
        finally:
            rival.kill()
            rival.wait()
        assert (output, errors) == ("done\n", "")
        judge(store, "sample", ledger, others)
        assert len(ledger.acknowledged) > calls * 0.5
        assert isinstance(Service(sample, store, deps=undisturbed).get("hot").state, Open)


def test_awaited_handlers_under_stress(run: Run, tmp_path: Path) -> None:
    """Given a second service that writes the same entities all the while."""
    calls = CALLS // 10
    others = calls // 20
    with open_store(f"sqlite:///{tmp_path / 'store.db'}?synchronous=NORMAL") as store:

        async def dawdle(command: Count, context: Any) -> None:
            await asyncio.sleep(0.001 if context.id == "hot" else 0)

        service: Counting = AsyncService(tally, store, deps=dawdle, retry=PATIENT)
        rival: Counting = AsyncService(tally, store, deps=at_once, retry=PATIENT)

        async def disturb() -> None:
            draw = random.Random(SEED)
            for _ in range(others):
                await rival.handle(draw.choices(IDS, WEIGHTS)[0], Count(1))
                await asyncio.sleep(0.001)

        async def scene() -> Ledger:
            ledger, _ = await asyncio.gather(work(service.handle, Count, calls), disturb())
            await service.drain()
            return ledger

        ledger = run(scene())
        judge(store, "tally", ledger, others)
        assert len(ledger.acknowledged) > calls * 0.5
        assert isinstance(run(rival.get("hot")).state, Tally)
