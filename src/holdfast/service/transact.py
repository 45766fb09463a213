"""Runs a function in a transaction, and again in a fresh one where it meets a conflict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from holdfast.errors import CircuitOpenError, DefinitionError
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
        stage = _new_stage(service)
        try:
            async with AsyncTransaction(service.plans, stage, service.world) as transaction:
                working = work(transaction)
                if not isawaitable(working):
                    raise DefinitionError(
                        f"transact takes a coroutine function with AsyncService, not {work!r}"
                    )
                return Tried(stage, await working)
        except Exception as error:  # noqa: BLE001 (judged by the plan)
            return Tried(stage, error=error)

    async def transact_async() -> Any:
        return _result(await run_async(_transact(service.plans, attempt_async), service.world))

    def attempt() -> Tried:
        stage = _new_stage(service)
        try:
            with Transaction(service.plans, stage, service.world) as transaction:
                return Tried(stage, _plain(work, work(transaction)))
        except Exception as error:  # noqa: BLE001 (judged by the plan)
            return Tried(stage, error=error)

    if isinstance(service.world, AsyncWorld):
        return transact_async()
    service = service.here()
    return _result(run(_transact(service.plans, attempt), service.world))


class Tried(NamedTuple):
    """What came of running the work once."""

    stage: Stage | None
    result: Any = None
    error: Exception | None = None


def _new_stage(service: Any) -> Stage:
    is_joined = service.plans.binding.is_joined  # and tried once, like every command there
    return Stage(service.store, is_joined=is_joined, is_begun_anew=not is_joined)


def _plain(work: Callable[[Any], Any], result: Any) -> Any:
    if isinstance(result, Coroutine):
        result.close()
        raise DefinitionError(f"{work!r} is a coroutine function; use AsyncService, and await it")
    return result


def _transact(plans: Plans[Any, Any, Any], attempt: Callable[[], Any]) -> Plan[Tried]:
    """Run the work until its commit meets no conflict, within the limits of the `Retry`."""
    started, _ = yield Begin(0)
    attempts = Attempts(plans.binding.retry, plans.machine.name, None, started)
    late: Stage | None = None
    failure: Exception | None = None
    while failure is None:
        try:
            if attempts.retry.breaker is not None:
                yield from attempts.ask(attempts.retry.breaker)
            tried: Tried = yield Work(attempt)
            if tried.error is None:
                attempts.succeeded()
            late = tried.stage
            assert late is not None
            conflict = late.conflict
            if conflict is None or plans.binding.is_joined:
                return tried
            if conflict is not tried.error:  # the work went on from it
                yield from late.fail(plans, conflict)
                return tried
            attempts.id = conflict.id
            failure = yield from attempts.failed(conflict)
        except CircuitOpenError as error:
            failure = error
        finally:
            attempts.release()
    if late is not None:
        yield from late.fail(plans, failure)
    return Tried(late, error=failure)


def _result(tried: Tried) -> Any:
    if tried.error is None:
        return tried.result
    try:
        raise tried.error
    finally:
        del tried  # its error would keep this frame alive, and this frame the error
