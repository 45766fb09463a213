"""Runs a function in a transaction, and again in a fresh one where it meets a conflict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from holdfast.errors import DefinitionError, VersionConflictError
from holdfast.service.async_runner import AsyncWorld, run_async
from holdfast.service.attempts import Attempts
from holdfast.service.plan import Plans
from holdfast.service.requests import Begin, Notify, Plan
from holdfast.service.runner import run

if TYPE_CHECKING:
    from holdfast.service.async_service import AsyncService
    from holdfast.service.async_transaction import AsyncTransaction
    from holdfast.service.service import Service
    from holdfast.service.transaction import Transaction

S = TypeVar("S")
C = TypeVar("C")
T = TypeVar("T")


@overload
def transact(service: Service[S, C, Any], work: Callable[[Transaction[S, C]], T]) -> T: ...
@overload
def transact(
    service: AsyncService[S, C, Any], work: Callable[[AsyncTransaction[S, C]], Awaitable[T]]
) -> Awaitable[T]: ...
def transact(service: Any, work: Callable[[Any], Any]) -> Any:
    """Run `work` in a transaction and commit it; on a conflict run it again in a fresh one.

    Limits and waits are those of the service's `Retry`, so `work` may run several times: let it
    decide, not act. Returns what `work` returns; with an `AsyncService` both are awaited. Raises
    what it raises, RetriesExhaustedError, CircuitOpenError and StoreError.
    """

    def attempt(_: object) -> Any:
        with service.begin() as transaction:
            return _plain(work, work(transaction))

    async def attempt_async(_: object) -> Any:
        async with service.begin() as transaction:
            working = work(transaction)
            if not isawaitable(working):
                raise DefinitionError(
                    f"transact takes a coroutine function with AsyncService, and {work!r} is none"
                )
            return await working

    if isinstance(service.world, AsyncWorld):
        return run_async(_transact(service.plans, attempt_async), service.world)
    return run(_transact(service.plans, attempt), service.world)


def _plain(work: Callable[[Any], Any], result: Any) -> Any:
    if isinstance(result, Coroutine):
        result.close()
        raise DefinitionError(f"{work!r} is a coroutine function; use AsyncService, and await it")
    return result


def _transact(plans: Plans[Any, Any, Any], attempt: Callable[[object], Any]) -> Plan[Any]:
    started, _ = yield Begin(0)
    attempts = Attempts(plans.binding.retry, plans.machine.name, "", started)
    while True:
        if attempts.retry.breaker is not None:
            yield from attempts.ask(attempts.retry.breaker)
        try:
            try:
                result = yield Notify(attempt, None)
            except VersionConflictError as conflict:
                attempts.id = conflict.id
                failure = yield from attempts.failed(conflict)
                if failure is not None:
                    raise failure from None
            else:
                attempts.succeeded()
                return result
        finally:
            attempts.release()
