"""Assertions for users' tests: which guard refuses a transition, which hooks one calls."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import wraps
from typing import Any

from msgspec.structs import replace

from holdfast.errors import GuardFailedError
from holdfast.machine.definition import Machine
from holdfast.machine.flow.definition import FlowType
from holdfast.machine.hooks import Hook, Hooks, name_of
from holdfast.service.flow import Flow

Function = Callable[..., Any]


def assert_guarded(
    flow: Flow[Any], to: str, *, by: Function | str | None = None, reason: str | None = None
) -> None:
    """Assert that a guard refuses a transition from where the flow is; nothing is written.

    `by` is the guard or its name, `reason` what it must give as its reason. That no rule leads
    there is a failure too: no guard is asked then.
    """
    name = name_of(by) if callable(by) else by
    refusals = flow.why_not(to)
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
    own = machine.hooks
    _expect_hooks(machine, own, [*functions, *unwanted])
    watched = machine.hooks = Watched(own)
    try:
        yield
    finally:
        machine.hooks = own
    _expect_calls(watched.called, functions, unwanted)


class Watched(Hooks):
    """Hooks that note the calls of their functions."""

    def __init__(self, hooks: Hooks | None) -> None:
        super().__init__()
        self.functions = _functions_of(hooks)
        """Those of the definition, whoever else watches them."""
        self.called: list[Function] = []
        for hook, function in zip(hooks or (), self.functions, strict=True):
            self.add(self._noting(hook, function))

    def _noting(self, hook: Hook, function: Function) -> Hook:
        """Return a hook that notes its calls; the same in all else."""
        call = hook.function

        @wraps(call)
        def note(*args: Any, **named: Any) -> Any:
            self.called.append(function)
            return call(*args, **named)

        return replace(hook, function=note)


def _functions_of(hooks: Hooks | None) -> list[Function]:
    if isinstance(hooks, Watched):
        return hooks.functions
    return [hook.function for hook in hooks or ()]


def _expect_hooks(
    machine: Machine[Any, Any, Any], hooks: Hooks | None, functions: list[Function]
) -> None:
    if not functions:
        raise AssertionError("assert_calls is given no function to look for")
    known = _functions_of(hooks)
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
