"""A worker: threads and coroutines that call services on one store until they are told to end."""

from __future__ import annotations

import asyncio
import signal
import time
from random import Random
from threading import Thread
from typing import Any

from tests.crash.journal import Journal
from tests.crash.machines import MACHINES
from tests.crash.workloads import Call, Client

from holdfast import AsyncService, HoldfastError, Retry, Service
from holdfast.stores.contract import Store

THREADS = 2
COROUTINES = 2
PAUSE_SECONDS = 0.003
RETRY = Retry(attempts=1_000, cap_seconds=0.02, budget_seconds=5.0)


class Worker:
    """Its services, its clients and its journal."""

    def __init__(self, name: str, store: Store, journal: Journal) -> None:
        self.journal = journal
        self.store = store
        self.services: dict[str, Service[Any, Any, Any]] = {
            machine.name: Service(machine, self.store, retry=RETRY) for machine in MACHINES.values()
        }
        self.async_services: dict[str, AsyncService[Any, Any, Any]] = {
            machine.name: AsyncService(machine, self.store, retry=RETRY)
            for machine in MACHINES.values()
        }
        self.clients = [
            Client(f"{name}.{place}", Random(f"{name}.{place}"))
            for place in range(THREADS + COROUTINES)
        ]
        self.failures: list[BaseException] = []
        self.ends = False

    def work(self) -> None:
        """Call until a SIGTERM, then finish what was begun; raises what must not happen."""
        signal.signal(signal.SIGTERM, lambda number, frame: self.end())
        threads = [Thread(target=self._live, args=(client,)) for client in self.clients[:THREADS]]
        for thread in threads:
            thread.start()
        try:
            asyncio.run(self._live_side_by_side())
        finally:
            self.ends = True
            for thread in threads:
                thread.join()
        self.store.close()
        if self.failures:
            raise BaseExceptionGroup("clients failed", self.failures)

    def end(self) -> None:
        """Let every client stop after its call."""
        self.ends = True

    def _live(self, client: Client) -> None:
        try:
            while not self.ends:
                call = client.next()
                lines = self.journal.asked(call.operations, call.what)
                answer = _asked(self.services[call.machine], call)
                self.journal.told(lines, answer)
                client.take(call, answer)
                time.sleep(client.random.random() * PAUSE_SECONDS)
        except BaseException as error:  # noqa: BLE001 (told by `work`)
            self.failures.append(error)
            self.ends = True

    async def _live_side_by_side(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in self.clients[THREADS:]:
                group.create_task(self._live_async(client))

    async def _live_async(self, client: Client) -> None:
        while not self.ends:
            call = client.next()
            lines = self.journal.asked(call.operations, call.what)
            try:
                verb = getattr(self.async_services[call.machine], call.verb)
                answer = await verb(*call.given, **call.options)
            except HoldfastError as error:
                answer = error
            self.journal.told(lines, answer)
            client.take(call, answer)
            await asyncio.sleep(client.random.random() * PAUSE_SECONDS)


def _asked(service: Service[Any, Any, Any], call: Call) -> Any:
    try:
        return getattr(service, call.verb)(*call.given, **call.options)
    except HoldfastError as error:
        return error
