"""The ways to call a service that the suite holds to one text: blocking, awaited, batched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, ClassVar, TypeVar

from holdfast.machine.definition import Machine
from holdfast.record import Request
from holdfast.service.async_service import AsyncService
from holdfast.service.service import Service
from holdfast.testing.sample import Add, Close, Closed, Create, Interrupt, Open, Remove, sample

T = TypeVar("T")
SampleMachine = Machine[Open | Closed, Create | Add | Close | Remove, Interrupt]
SampleService = Service[Open | Closed, Create | Add | Close | Remove, Interrupt]


class Blocking(SampleService):
    """Calls a `Service`."""


class Batched(SampleService):
    """Hands every command in as a batch of one."""

    def handle(self, id: str, command: Any, **options: Any) -> Any:
        """See `Service.handle`."""
        [answer] = self.handle_many([Request(id, command, **options)])
        if isinstance(answer, Exception):
            raise answer
        return answer


class Awaited(SampleService):
    """Calls an `AsyncService`, each time in an event loop of its own."""

    bound: ClassVar[SampleMachine] = sample

    def __init__(self, machine: Any, store: Any, **options: Any) -> None:
        super().__init__(machine, store, **options)
        self._awaited = AsyncService(self.bound, store, **options)
        for verb in VERBS:
            setattr(self, verb, _blocking(getattr(self._awaited, verb)))
        self.contention = self._awaited.contention  # type: ignore[method-assign]  # (it awaits nothing)


class AwaitedHandlers(Awaited):
    """Calls an `AsyncService` whose handlers are coroutine functions."""


DRIVERS: tuple[type[SampleService], ...] = (Blocking, Batched, Awaited, AwaitedHandlers)
VERBS = (
    *("handle", "handle_many", "preview", "get", "get_many", "history", "at", "find"),
    *("count_by_state", "allowed", "purge"),
)


def _blocking(verb: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., T]:
    def call(*args: Any, **options: Any) -> T:
        with ThreadPoolExecutor(1) as pool:  # a handler may call while its own event loop runs
            return pool.submit(lambda: asyncio.run(verb(*args, **options))).result()

    return call


def _awaited(handler: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    @wraps(handler)
    async def handle(*arguments: Any, **given: Any) -> T:
        await asyncio.sleep(0)
        return handler(*arguments, **given)

    return handle


def _with_awaited_handlers() -> SampleMachine:
    machine: SampleMachine = Machine(
        "sample", state=Open | Closed, command=Create | Add | Close | Remove, deps=Interrupt
    )
    for signature in sample.handlers:
        machine.on(_awaited(signature.function))
    return machine


AwaitedHandlers.bound = _with_awaited_handlers()
