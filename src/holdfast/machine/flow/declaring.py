"""The decorators of a flow's callbacks, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never, TypeVar, overload

from holdfast.errors import DefinitionError
from holdfast.machine.annotations import caller
from holdfast.machine.flow.callbacks import Callback, Names
from holdfast.machine.flow.chart import Chart, States
from holdfast.machine.flow.states import expect_named, expect_options
from holdfast.machine.hooks import HookKind, read_hook

G = TypeVar("G", bound=Callable[..., bool | None])
H = TypeVar("H", bound=Callable[..., object])


class _Declaring:
    """What adds callbacks of a kind to the chart of a flow; None for the flow without states."""

    def __init__(self, flow: str, chart: Chart | None, kind: HookKind) -> None:
        self._flow = flow
        self._chart = chart
        self._kind: HookKind = kind

    def _declare(
        self,
        given: tuple[Any, ...],
        filters: tuple[States | None, States | None],
        location: str,
        reason: str | None = None,
    ) -> Any:
        """Take the function that is decorated, or return what takes it."""
        kind, chart = self._kind, self._expect_chart(location)
        from_, to = (self._names(chart, each, location) for each in filters)

        def take(function: Any) -> Any:
            _expect_function(kind, function, location)
            chart.add(Callback(read_hook(kind, function, leading=True, reason=reason), from_, to))
            return function

        for function in given[:1]:
            _expect_function(kind, function, location)
        expect_named(f"a {kind}", given[1:], location)
        return take(given[0]) if given else take

    def _expect_chart(self, location: str) -> Chart:
        if self._chart is None:
            raise DefinitionError(
                f"{location}: {self._flow} itself has no states; inherit from it, and add the "
                f"{self._kind} to the flow after its body: @OrderFlow.{self._kind}(…)"
            )
        return self._chart

    def _names(self, chart: Chart, states: States | None, location: str) -> Names | None:
        names = None if states is None else frozenset(chart.named(states, location))
        if names is not None and not names:
            raise DefinitionError(
                f"{location}: this {self._kind} names no state, and would never be called; leave "
                "out from_ or to for any state"
            )
        return names


class Calling(_Declaring):
    """The decorator of callbacks: `@OrderFlow.before`, or `@OrderFlow.before(from_=…, to=…)`."""

    @overload
    def __call__(self, function: H, /) -> H: ...
    @overload
    def __call__(
        self, /, *, from_: States | None = None, to: States | None = None, **misspelt: Never
    ) -> Callable[[H], H]: ...
    def __call__(
        self,
        /,
        *given: Any,
        from_: States | None = None,
        to: States | None = None,
        **misspelt: Never,
    ) -> Any:
        """Declare a callback; raises DefinitionError."""
        location = caller()
        expect_options(self._kind, misspelt, ("from_", "to"), location)
        return self._declare(given, (from_, to), location)


class Guarding(_Declaring):
    """The decorator of guards; filters as callbacks do, and may give a `reason`."""

    def __init__(self, flow: str, chart: Chart | None) -> None:
        super().__init__(flow, chart, "guard")

    @overload
    def __call__(self, function: G, /) -> G: ...
    @overload
    def __call__(
        self,
        /,
        *,
        from_: States | None = None,
        to: States | None = None,
        reason: str | None = None,
        **misspelt: Never,
    ) -> Callable[[G], G]: ...
    def __call__(
        self,
        /,
        *given: Any,
        from_: States | None = None,
        to: States | None = None,
        reason: str | None = None,
        **misspelt: Never,
    ) -> Any:
        """Declare a guard; raises DefinitionError."""
        location = caller()
        expect_options("guard", misspelt, ("from_", "to", "reason"), location)
        return self._declare(given, (from_, to), location, reason)


def _expect_function(kind: HookKind, given: object, location: str) -> None:
    if not callable(given) or isinstance(given, type):
        raise DefinitionError(
            f"{location}: a {kind} is a function, not {given!r:.80}; states are given as from_= "
            "and to="
        )
