"""Guards and callbacks: which transitions they belong to, and what they are given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CodeType, MappingProxyType
from typing import Any, Final, Literal

from msgspec import Struct

from holdfast.errors import DefinitionError

HookKind = Literal["guard", "before", "after", "after_commit", "on_failure", "on_guard_failure"]

_OFFERED: Final[dict[HookKind, tuple[str, ...]]] = {
    "guard": ("deps", "change"),
    "before": ("deps", "change"),
    "after": ("deps", "change", "transition"),
    "after_commit": ("deps", "change", "transition"),
    "on_failure": ("deps", "change", "error"),
    "on_guard_failure": ("deps", "change", "error"),
}
"""What a hook of each kind may take, by name."""


class Hook(Struct, frozen=True):
    """A function that is called around the transitions that its filter lets through."""

    kind: HookKind
    function: Callable[..., Any]
    location: str
    sources: frozenset[type] | None
    """The states before; NoneType is "not there", None is any."""
    commands: frozenset[type] | None
    targets: frozenset[type] | None
    """The states after; NoneType is a deletion, None is any."""
    parameters: tuple[str, ...]
    """What it takes, in its own order."""
    by_place: int
    """How many of these are passed by place; the others are passed by name."""
    reason: str | None = None
    """What a guard gives as its reason when it refuses."""
    spares: Callable[[Any], bool] | None = None
    """Tells of a command that the filter lets through that it is not called for it after all."""

    @property
    def name(self) -> str:
        """The function's name."""
        return name_of(self.function)

    def matches(self, source: type | None, command: type | None, target: type | None) -> bool:
        """Whether it belongs to a transition; what is not known, None, may be anything."""
        return (
            _lets(self.sources, source)
            and _lets(self.commands, command)
            and _lets(self.targets, target)
        )

    def call(self, **offered: Any) -> Any:
        """Call it with those of what is offered that it takes; return what it returns.

        Where it is not called after all, that is what a guard returns that lets pass.
        """
        if self.spares is not None and self.spares(offered["change"].command):
            return True
        if self.by_place == len(self.parameters):
            return self.function(*[offered[name] for name in self.parameters])
        first, rest = self.parameters[: self.by_place], self.parameters[self.by_place :]
        return self.function(
            *[offered[name] for name in first], **{name: offered[name] for name in rest}
        )


ByKind = Mapping[HookKind, tuple[Hook, ...]]
"""The hooks of each kind."""
NO_HOOKS: Final[ByKind] = MappingProxyType(dict.fromkeys(_OFFERED, ()))


class Hooks:
    """The hooks of a machine, in the order they were defined."""

    def __init__(self) -> None:
        self.all: list[Hook] = []
        self.are_inside = False
        """Whether some run in the transaction that writes."""
        self._found: dict[tuple[Any, ...], ByKind] = {}

    def __iter__(self) -> Iterator[Hook]:
        return iter(self.all)

    def add(self, hook: Hook) -> None:
        """Add one."""
        self.all.append(hook)
        self.are_inside = self.are_inside or hook.kind in {"before", "after"}
        self._found = {}

    def of(self, source: type | None, command: type | None, target: type | None) -> ByKind:
        """Return those that belong to a transition."""
        key = (source, command, target)
        found = self._found.get(key)
        if found is None:
            own = [hook for hook in self.all if hook.matches(source, command, target)]
            found = self._found[key] = {
                kind: tuple([hook for hook in own if hook.kind == kind]) for kind in _OFFERED
            }
        return found


def read_hook(
    kind: HookKind,
    function: object,
    *,
    leading: bool = False,
    reason: str | None = None,
) -> Hook:
    """Read what a function takes, which its parameters' names say; raises DefinitionError.

    It is for every transition, until it is given a filter.
    With `leading` its first parameter, whatever its name, is given the dependencies.
    """
    if not callable(function) or isinstance(function, type):
        raise DefinitionError(f"a hook is a function, not {function!r:.80}")
    code = code_of(function)
    location = f"{function!r:.80}" if code is None else _location(function, code)
    if not isinstance(reason, str | None):
        raise DefinitionError(
            f"{location}: reason= is what a guard tells where it refuses, not {reason!r:.80}; a "
            "guard that finds its reason itself raises CommandRejectedError with it"
        )
    flags = 0 if code is None else code.co_flags
    if flags & inspect.CO_COROUTINE or inspect.iscoroutinefunction(function):
        raise DefinitionError(
            f"{location}: a hook is a plain function, for it runs where the write does; what has "
            "to be awaited belongs after the call"
        )
    if flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        raise DefinitionError(f"{location}: hooks do not yield")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError as error:
        raise DefinitionError(f"{location}: tells no parameters; wrap it in a function") from error
    if leading and not (parameters and parameters[0].kind in _BY_PLACE):
        raise DefinitionError(f"{location}: takes no parameter for the object")
    names = [each.name for each in parameters]
    if leading:
        names[0] = "deps"
    offered = _OFFERED[kind][leading:]
    for name, each in zip(names[leading:], parameters[leading:], strict=True):
        if name not in offered or each.kind in _VARIABLE:
            raise DefinitionError(
                f"{location}: {str(each)!r} is nothing that {kind} offers; it offers "
                f"{', '.join(offered)}, by these names"
            )
    by_place = sum(each.kind in _BY_PLACE for each in parameters)
    return Hook(kind, function, location, None, None, None, tuple(names), by_place, reason)


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """Return the code that frames of a hook show; None where it is not written in Python."""
    inner: Any = inspect.unwrap(function)
    while isinstance(inner, partial):
        inner = inspect.unwrap(inner.func)
    if not hasattr(inner, "__code__"):
        inner = inspect.unwrap(type(inner).__call__)
    return getattr(inner, "__code__", None)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, or of what else is called."""
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    return str(getattr(inner, "__name__", type(inner).__name__))


def _location(function: Callable[..., Any], code: CodeType) -> str:
    name = getattr(function, "__qualname__", None) or name_of(function)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})"


def _lets(wanted: frozenset[type] | None, given: type | None) -> bool:
    return wanted is None or given is None or given in wanted
