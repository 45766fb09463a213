"""Assertions for users' tests: which guard refuses a transition, which hooks one calls."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import update_wrapper
from typing import Any

from msgspec.structs import force_setattr

from holdfast.errors import GuardFailedError
from holdfast.machine.definition import Machine
from holdfast.machine.flow.definition import FlowType
from holdfast.machine.hooks import Hook, name_of
from holdfast.service.flow import Flow

Function = Callable[..., Any]


def assert_guarded(
    flow: Flow[Any],
    to: str,
    *,
    by: Function | str | None = None,
    reason: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Assert that a guard refuses a transition from where the flow is; nothing is written.

    `by` is the guard or its name, `reason` what it must give as its reason; `metadata` is what the
    transition would be given, for guards that look at it. That no rule leads there is a failure
    too: no guard is asked then.
    """
    name = name_of(by) if callable(by) else by
    refusals = flow.why_not(to, metadata=metadata)
    guards = [each for each in refusals if isinstance(each, GuardFailedError)]
    way = f"{flow.current_state} to {to}"
    if len(guards) < len(refusals):
        raise AssertionError(f"no rule leads from {way}, so that no guard is asked")
    if not guards:
        raise AssertionError(f"no guard refuses from {way}")
    found = [each for each in guards if name in (None, each.guard)]
    if not found:
        others = ", ".join(each.guard for each in guards)
        raise AssertionError(f"{name} does not refuse from {way}; it is {others} that does")
    if reason is not None and reason not in [each.reason for each in found]:
        given = ", ".join(repr(each.reason) for each in found)
        raise AssertionError(f"the reason not to go from {way} is {given}, not {reason!r}")


@contextmanager
def assert_calls(
    of: FlowType | Machine[Any, Any, Any], *functions: Function, never: Iterable[Function] = ()
) -> Generator[None]:
    """Assert that what is done within calls guards and callbacks of a flow, or of a machine.

    The functions must be called in their order, each as often as it is named; others may be called
    in between, but none of `never`. What is done by other threads meanwhile counts too.
    """
    machine = of.machine if isinstance(of, FlowType) else of
    unwanted = list(never)
    hooks = list(machine.hooks or ())
    _expect_hooks(machine, hooks, [*functions, *unwanted])
    called: list[Function] = []
    calls = [hook.function for hook in hooks]
    for hook in hooks:  # in place: what was decided before is to be seen too
        force_setattr(hook, "function", Noting(hook.function, called))
    try:
        yield
    finally:
        for hook, call in zip(hooks, calls, strict=True):
            force_setattr(hook, "function", call)
    _expect_calls(called, functions, unwanted)


class Noting:
    """Calls a guard or a callback, and notes that it was called."""

    def __init__(self, call: Function, called: list[Function]) -> None:
        update_wrapper(self, call)
        self.function = _function_of(call)
        self._call = call
        self._called = called

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Do as the function does."""
        self._called.append(self.function)
        return self._call(*args, **named)


def _function_of(call: Function) -> Function:
    """Return the function of a definition, whoever notes its calls."""
    return call.function if isinstance(call, Noting) else call


def _expect_hooks(
    machine: Machine[Any, Any, Any], hooks: Iterable[Hook], functions: list[Function]
) -> None:
    if not functions:
        raise AssertionError("assert_calls is given no function to look for")
    known = [_function_of(hook.function) for hook in hooks]
    for function in functions:
        if function not in known:
            raise AssertionError(f"{function!r} is no guard or callback of {machine.name}")


def _expect_calls(
    called: list[Function], functions: Iterable[Function], never: Iterable[Function]
) -> None:
    names = ", ".join(name_of(each) for each in called) or "nothing"
    left = iter(called)
    for function in functions:
        if function not in left:  # takes from the iterator up to the one that is found
            raise AssertionError(f"{name_of(function)} was not called in its turn, but {names}")
    for function in never:
        if function in called:
            raise AssertionError(f"{name_of(function)} was called; in all, {names}")
