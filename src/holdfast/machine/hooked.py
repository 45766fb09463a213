"""How hooks are declared on a machine: the decorators, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from types import NoneType
from typing import Any, Final, TypeVar, overload

from msgspec.structs import replace

from holdfast.errors import DefinitionError
from holdfast.machine.annotations import Signature, caller, flatten
from holdfast.machine.hooks import Hook, HookKind, Hooks, read_hook

G = TypeVar("G", bound=Callable[..., bool | None])
H = TypeVar("H", bound=Callable[..., object])


class Unfiltered(Enum):
    """What stands where a hook does not filter."""

    ANY = "any"


ANY: Final = Unfiltered.ANY


class Hooked:
    """A machine as far as its hooks are concerned."""

    name: str
    states: tuple[type, ...]
    commands: tuple[type, ...]
    handlers: list[Signature]

    def __init__(self) -> None:
        self.hooks: Hooks | None = None
        """Guards and callbacks; None where there are none."""
        self.initial: type | None = None
        """The state that an entity counts as being in before its first transition, if any does."""
        self._aims: dict[type, type | None] = {}

    @property
    def guard(self) -> Guarding:
        """Declare what may refuse a transition once its handler has decided.

        The function takes `change`, and `deps` if it wants them, and returns True, or False to
        refuse; to refuse for a reason it raises CommandRejectedError, or is declared with
        `reason=`. It may run many times for one command, and holds no transaction open. Guards run
        in the order of their definition, up to the first that refuses.
        """
        return Guarding(self)

    @property
    def before(self) -> Calling:
        """Declare what runs before a transition is written, in the transaction that writes it.

        The function takes `change`, and `deps`. What it raises undoes everything. It is not run for
        a transition that has come too late already, and again where one is tried again; what has
        effects elsewhere belongs after the commit.
        """
        return Calling(self, "before")

    @property
    def after(self) -> Calling:
        """Declare what runs once a transition is written, in the transaction that writes it.

        The function takes `change`, `transition` and `deps`. What it raises undoes everything.
        """
        return Calling(self, "after")

    @property
    def after_commit(self) -> Calling:
        """Declare what runs once a transition is committed, with the outermost transaction.

        The function takes `change`, `transition` and `deps`. What it raises undoes nothing and
        stops no other; it is logged, to the logger `holdfast`. It does not run where the process
        dies after the commit.
        """
        return Calling(self, "after_commit")

    @property
    def on_failure(self) -> Calling:
        """Declare what runs where a command failed, whatever the reason, outside the transaction.

        The function takes `change`, as far as it was decided, `error` and `deps`. The error goes on
        to the caller; what the function raises is logged. Where a command fails because another one
        of its batch does, `error` is the BatchError.
        """
        return Calling(self, "on_failure")

    @property
    def on_guard_failure(self) -> Calling:
        """Declare what runs where a guard refused; else as `on_failure`."""
        return Calling(self, "on_guard_failure")

    def add_hook(self, hook: Hook) -> None:
        """Add a hook; raises DefinitionError for one of another machine's types."""
        self.expect_open(hook.location)
        self._expect_filter(hook, "from_", hook.sources, (NoneType, *self.states))
        self._expect_filter(hook, "command", hook.commands, self.commands)
        self._expect_filter(hook, "to", hook.targets, (NoneType, *self.states))
        if self.hooks is None:
            self.hooks = Hooks()
        self.hooks.add(hook)

    def aim_of(self, command: type) -> type | None:
        """Return the one state that a command leads to, wherever it is taken; None for several."""
        if command not in self._aims:
            handlers = [handler for handler in self.handlers if command in handler.commands]
            targets = {target for each in handlers for target in (*each.targets, *each.kept)}
            only = targets.pop() if len(targets) == 1 else None
            self._aims[command] = None if only is NoneType else only
        return self._aims[command]

    def expect_open(self, location: str) -> None:
        """Raise DefinitionError where the machine is in use."""
        raise NotImplementedError

    def expect_hooks(self) -> None:
        """Raise DefinitionError for a hook that no handler leads to."""
        for hook in self.hooks or ():
            if hook.kind != "on_failure" and not any(
                _leads(handler, hook) for handler in self.handlers
            ):
                raise DefinitionError(
                    f"{hook.location}: no handler of {self.name} makes the transition that this "
                    f"{hook.kind} is for"
                )

    def _expect_filter(
        self, hook: Hook, option: str, given: frozenset[type] | None, members: tuple[type, ...]
    ) -> None:
        if given is None:
            return
        if not given:
            raise DefinitionError(f"{hook.location}: {option}= names nothing; leave it out for any")
        for cls in given:
            if cls not in members:
                raise DefinitionError(
                    f"{hook.location}: {option}={_written(cls)} is nothing of {self.name}; take "
                    f"{', '.join(map(_written, members))}"
                )


class Calling:
    """The decorator of callbacks: `@order.before`, or `@order.before(from_=…, command=…, to=…)`.

    A filter takes a class, a union of classes, or several of either; None stands for "not there".
    What is left out is any.
    """

    def __init__(self, machine: Hooked, kind: HookKind) -> None:
        self._machine = machine
        self._kind: HookKind = kind

    @overload
    def __call__(self, function: H, /) -> H: ...
    @overload
    def __call__(
        self, /, *, from_: Any = ANY, command: Any = ANY, to: Any = ANY
    ) -> Callable[[H], H]: ...
    def __call__(self, /, *given: Any, from_: Any = ANY, command: Any = ANY, to: Any = ANY) -> Any:
        """Declare a callback; raises DefinitionError."""
        _expect_function(self._kind, given, caller())
        declare = partial(_declare, self._machine, self._kind, (from_, command, to), None)
        return declare(*given) if given else declare


class Guarding:
    """The decorator of guards; filters as callbacks do, and may give a `reason`."""

    def __init__(self, machine: Hooked) -> None:
        self._machine = machine

    @overload
    def __call__(self, function: G, /) -> G: ...
    @overload
    def __call__(
        self, /, *, from_: Any = ANY, command: Any = ANY, to: Any = ANY, reason: str | None = None
    ) -> Callable[[G], G]: ...
    def __call__(
        self,
        /,
        *given: Any,
        from_: Any = ANY,
        command: Any = ANY,
        to: Any = ANY,
        reason: str | None = None,
    ) -> Any:
        """Declare a guard; raises DefinitionError."""
        _expect_function("guard", given, caller())
        declare = partial(_declare, self._machine, "guard", (from_, command, to), reason)
        return declare(*given) if given else declare


def _expect_function(kind: HookKind, given: tuple[Any, ...], location: str) -> None:
    """Raise DefinitionError for filters that are given by their places."""
    functions = [each for each in given[:1] if callable(each) and not isinstance(each, type)]
    for other in given[len(functions) :]:
        raise DefinitionError(
            f"{location}: a {kind} takes its filters by names, from_=…, command=… and to=…, not "
            f"{other!r:.80}"
        )


def _declare(
    machine: Hooked,
    kind: HookKind,
    filters: tuple[Any, Any, Any],
    reason: str | None,
    function: H,
) -> H:
    from_, command, to = filters
    hook = read_hook(kind, function, reason=reason)
    hook = replace(
        hook,
        sources=_filter(hook, "from_", from_),
        commands=_filter(hook, "command", command),
        targets=_filter(hook, "to", to),
    )
    if "deps" in hook.parameters and getattr(machine, "deps", None) is None:
        raise DefinitionError(
            f"{hook.location}: takes deps, and {machine.name} has none; declare them: "
            f'Machine("{machine.name}", …, deps=…)'
        )
    machine.add_hook(hook)
    return function


def _filter(hook: Hook, option: str, given: Any) -> frozenset[type] | None:
    """Return the classes that a filter names, None where there is none."""
    if given is ANY:
        return None
    parts: Iterable[Any] = given if isinstance(given, tuple | list | set | frozenset) else (given,)
    try:
        return frozenset(cls for part in parts for cls in flatten(part))
    except TypeError as error:
        raise DefinitionError(
            f"{hook.location}: {option}= takes classes of states or commands: {error}"
        ) from error


def _written(cls: type) -> str:
    """Return what users write for a class."""
    return "None" if cls is NoneType else cls.__name__


def _leads(handler: Signature, hook: Hook) -> bool:
    """Whether a handler makes a transition that a hook belongs to."""
    return any(
        hook.matches(source, command, target)
        for source in handler.sources
        for command in handler.commands
        for target in (handler.targets_from(source) or (None,))
    )
