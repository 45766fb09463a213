"""Runs a function in a transaction, and again in a fresh one where it meets a conflict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from holdfast.errors import DefinitionError, VersionConflictError
from holdfast.service.async_runner import AsyncWorld, run_async
from holdfast.service.async_transaction import AsyncTransaction
from holdfast.service.attempts import Attempts
from holdfast.service.plan import Plans
from holdfast.service.requests import Begin, Plan, Work
from holdfast.service.runner import run
from holdfast.service.transaction import Stage, Transaction

if TYPE_CHECKING:
    from holdfast.service.async_service import AsyncService
    from holdfast.service.service import Service

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
    what it raises, RetriesExhaustedError, CircuitOpenError and StoreError. Only a conflict that
    this transaction's own commit meets is answered with another run; one that `work` meets
    otherwise, an `expected_version` that is stale for example, goes on to the caller.
    """

    service.plans.expect_object()

    async def attempt_async() -> Tried:
        stage = Stage(service.store, is_joined=service.plans.binding.is_joined)
        try:
            async with AsyncTransaction(service.plans, stage, service.world) as transaction:
                working = work(transaction)
                if not isawaitable(working):
                    raise DefinitionError(
                        f"transact takes a coroutine function with AsyncService, not {work!r}"
                    )
                return Tried(await working)
        except Exception as error:  # noqa: BLE001 (judged by the plan)
            return Tried(error=error, conflicts=error is stage.conflict)

    async def transact_async() -> Any:
        return _result(await run_async(_transact(service.plans, attempt_async), service.world))

    def attempt() -> Tried:
        stage = Stage(service.store, is_joined=service.plans.binding.is_joined)
        try:
            with Transaction(service.plans, stage, service.world) as transaction:
                return Tried(_plain(work, work(transaction)))
        except Exception as error:  # noqa: BLE001 (judged by the plan)
            return Tried(error=error, conflicts=error is stage.conflict)

    if isinstance(service.world, AsyncWorld):
        return transact_async()
    service = service.here()
    return _result(run(_transact(service.plans, attempt), service.world))


class Tried(NamedTuple):
    """What came of running the work once."""

    result: Any = None
    error: Exception | None = None
    conflicts: bool = False
    """Whether the error is the conflict that the transaction's own commit met."""


def _plain(work: Callable[[Any], Any], result: Any) -> Any:
    if isinstance(result, Coroutine):
        result.close()
        raise DefinitionError(f"{work!r} is a coroutine function; use AsyncService, and await it")
    return result


def _transact(plans: Plans[Any, Any, Any], attempt: Callable[[], Any]) -> Plan[Tried]:
    """Run the work until its commit meets no conflict, within the limits of the `Retry`."""
    started, _ = yield Begin(0)
    attempts = Attempts(plans.binding.retry, plans.machine.name, None, started)
    while True:
        if attempts.retry.breaker is not None:
            yield from attempts.ask(attempts.retry.breaker)
        try:
            tried: Tried = yield Work(attempt)
            if tried.error is None:
                attempts.succeeded()
            if not (tried.conflicts and isinstance(tried.error, VersionConflictError)):
                return tried
            if plans.binding.is_joined:  # tried once, like every command there
                return tried
            attempts.id = tried.error.id
            failure = yield from attempts.failed(tried.error)
            if failure is not None:
                return Tried(error=failure)
        finally:
            attempts.release()


def _result(tried: Tried) -> Any:
    if tried.error is None:
        return tried.result
    try:
        raise tried.error
    finally:
        del tried  # its error would keep this frame alive, and this frame the error
