"""The machine: states, commands and the handlers between them. It is shared, and knows no store."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import cached_property
from types import FrameType, NoneType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, get_origin, overload

from typing_extensions import TypeVar as TypeVarWithDefault

from holdfast.errors import DefinitionError, InvalidTransitionError, ValidationError
from holdfast.machine.annotations import (
    Signature,
    flatten,
    location_of,
    read_signature,
    resolve_fields,
)
from holdfast.machine.check import Check, check
from holdfast.machine.codec import Codec, tag_of
from holdfast.machine.graph import Graph, graph_of
from holdfast.machine.hooked import Hooked
from holdfast.machine.members import TAG_FIELD, fault_of, is_foreign
from holdfast.machine.model import Command, State
from holdfast.record import Context

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from holdfast.machine.flow.former import Former

S = TypeVar("S")
C = TypeVar("C")
D = TypeVarWithDefault("D", default=None)
S0 = TypeVar("S0")
C0 = TypeVar("C0")
H = TypeVar("H", bound=Callable[..., object])

_Entry = tuple[Callable[..., Any], int, frozenset[type]]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
MAX_TAG = 200
"""The longest name of a state or a command."""


class Machine(Hooked, Generic[S, C, D]):
    """The definition of a lifecycle: which commands lead from which states to which.

    `name` is stored with every entity: a letter, then letters, digits, `_`, `.` or `-`. `state`
    and `command` are a class or a union of classes; `deps`, where handlers take dependencies, is
    their type. Raises DefinitionError.
    """

    @overload
    def __init__(
        self: Machine[S0, C0, None], name: str, *, state: TypeForm[S0], command: TypeForm[C0]
    ) -> None: ...
    @overload
    def __init__(
        self, name: str, *, state: TypeForm[S], command: TypeForm[C], deps: TypeForm[D]
    ) -> None: ...
    def __init__(self, name: str, *, state: Any, command: Any, deps: Any = None) -> None:
        expect_name(name)
        super().__init__()
        self.name = name
        self.states = _members(name, "state", state, State)
        self.commands = _members(name, "command", command, Command)
        self.deps = _deps_type(name, deps)
        self.handlers: list[Signature] = []
        self.is_async = False
        """Whether a handler is a coroutine function; then only `AsyncService` takes the machine."""
        self.former: Former | None = None
        """Reads the states that are not declared, where they need no class: those of a flow."""
        self._handler_of: dict[tuple[type, type], Signature] = {}
        self._table: dict[tuple[type, type], _Entry] = {}
        self._codecs: tuple[Codec[S], Codec[C]] | None = None
        _resolve_local((*self.states, *self.commands), _caller_names())

    def __repr__(self) -> str:
        return f"<Machine {self.name}>"

    def on(self, handler: H) -> H:
        """Register a function as the handler for the states and commands it is annotated with.

        Raises DefinitionError, which names the function and its line.
        """
        signature = read_signature(handler, _caller_names())
        self.expect_open(signature.location)
        self._expect_members(signature)
        pairs = [(source, cmd) for source in signature.sources for cmd in signature.commands]
        for source, command in pairs:
            self._expect_free(source, command, signature)
        self._handler_of.update(dict.fromkeys(pairs, signature))
        self.handlers.append(signature)
        self.is_async = self.is_async or signature.is_async
        return handler

    def expect_open(self, location: str) -> None:
        """Raise DefinitionError where the machine is in use, and does not change any more."""
        if self._codecs is not None:
            raise DefinitionError(
                f"{location}: {self.name} is in use, and a machine does not change after its first "
                "use; define every handler and hook where the machine is defined"
            )

    def step(
        self, state: S | None, command: C, deps: D | None = None, context: Context | None = None
    ) -> S | None:
        """Decide: return the state that the command leads to, or None where it deletes.

        Pure but for what the handler does with `deps`: no store, no clock. Raises
        InvalidTransitionError where there is no handler, DefinitionError where the handler
        returns what it does not declare, and whatever the handler raises.
        """
        try:
            handler, wants, targets = self._table[type(state), type(command)]
        except KeyError:
            return self._step_slowly(state, command, deps, context)
        result: S | None
        if wants == 0:
            result = handler(state, command)
        elif wants == 1:
            result = handler(state, command, deps)
        elif wants == 2:
            result = handler(state, command, context)
        else:
            result = handler(state, command, deps, context)
        if type(result) in targets:
            return result
        raise self._undeclared(state, command, result)

    async def astep(
        self, state: S | None, command: C, deps: D | None = None, context: Context | None = None
    ) -> S | None:
        """Decide as `step` does, and await handlers that are coroutine functions."""
        self.compile()
        signature = self._handler_of.get((type(state), type(command)))
        if signature is None or not signature.is_async:
            return self.step(state, command, deps, context)
        given = {"deps": deps, "context": context}
        wanted = [part for name, part in given.items() if name in signature.parameters]
        result = await signature.call(state, command, *wanted)
        if type(result) in signature.targets_from(type(state)):
            return cast("S | None", result)
        raise self._undeclared(state, command, result, awaited=True)

    def allowed(self, state: S | None) -> tuple[type[C], ...]:
        """Return the commands that a state takes; None asks for those that create.

        Where an initial state is counted before the first transition, these are its commands.
        """
        self.compile()
        if self._is_former(state):
            return ()
        self.expect_state(state)
        source = self.initial if state is None and self.initial else type(state)
        commands = [cmd for cmd in self.commands if (source, cmd) in self._table]
        return tuple(cast("list[type[C]]", commands))

    @property
    def final(self) -> tuple[type[S], ...]:
        """The states that no command leads out of, nor deletes."""
        self.compile()
        sources = {source for source, _ in self._table}
        return tuple(cast("list[type[S]]", [cls for cls in self.states if cls not in sources]))

    def graph(self) -> Graph:
        """Return which commands lead from which states to which, as the annotations declare.

        Where an initial state is counted before the first transition, what leads on from there is
        not repeated for no entity.
        """
        self.compile()
        return graph_of(self.name, self.states, self.commands, self.handlers, self.initial)

    def check(self) -> Check:
        """Return what looks forgotten: pairs without a handler, states nothing leads to."""
        return check(self.graph())

    def parse_command(self, data: str | bytes | Mapping[str, Any]) -> C:
        """Return the command that JSON describes: `{"$type": "Place", "total": 4200}`.

        Raises ValidationError with the path to what is wrong.
        """
        return self.command_codec.parse(data)

    def compile(self) -> None:
        """Check the machine as a whole and close it to changes; the first use does it."""
        if self._codecs is not None:
            return
        if not self.handlers:
            raise DefinitionError(f"{self.name} has no handler; add functions with @{self.name}.on")
        self.expect_hooks()
        try:
            codecs = Codec[S]("state", self.states), Codec[C]("command", self.commands)
        except DefinitionError as error:
            raise DefinitionError(f"{self.name}: {error}") from error
        self._table = {
            (source, command): _entry(handler, source)
            for (source, command), handler in self._handler_of.items()
        }
        self._codecs = codecs

    @cached_property
    def state_codec(self) -> Codec[S]:
        """Encodes and decodes states."""
        self.compile()
        assert self._codecs is not None
        return self._codecs[0]

    @cached_property
    def command_codec(self) -> Codec[C]:
        """Encodes and decodes commands."""
        self.compile()
        assert self._codecs is not None
        return self._codecs[1]

    def handler_for(self, source: type, command: type) -> Signature | None:
        """Return the handler of a pair; NoneType as the source asks for the one that creates."""
        return self._handler_of.get((source, command))

    def expect_command(self, command: object) -> None:
        """Raise ValidationError for what is not a command of this machine."""
        if type(command) not in self.commands:
            raise self._stranger("command", command, self.commands)

    def expect_state(self, state: object) -> None:
        """Raise ValidationError for what is neither a state of this machine nor None."""
        if state is not None and type(state) not in self.states:
            raise self._stranger("state", state, self.states)

    def name_of(self, state: object) -> str | None:
        """Return the name of a state; for None that of the initial one, where there is one."""
        cls = self.initial if state is None else type(state)
        return None if cls is None else tag_of(cls)

    def advice(self, state: object) -> str:
        """Return what to do where a state takes no command because it is not declared."""
        if self.former is None or not self.former.holds(state):
            return ""
        return self.former.advice(tag_of(type(state)))

    def _expect_members(self, signature: Signature) -> None:
        groups = (
            ("state", signature.sources, (NoneType, *self.states), "a source state"),
            ("command", signature.commands, self.commands, "a command"),
            ("state", signature.targets, (NoneType, *self.states), "a target state"),
        )
        for union, given, members, what in groups:
            for cls in given:
                if cls not in members:
                    raise DefinitionError(
                        f"{signature.location}: {cls.__name__} is not {what} of {self.name}; "
                        f"its {union} union is {' | '.join(m.__name__ for m in members)}"
                    )
        if "deps" in signature.parameters and self.deps is None:
            raise DefinitionError(
                f"{signature.location}: takes deps, and {self.name} has none; declare them: "
                f'Machine("{self.name}", …, deps=…)'
            )

    def _expect_free(self, source: type, command: type, signature: Signature) -> None:
        first = self._handler_of.get((source, command))
        if first is not None:
            state = "no entity" if source is NoneType else source.__name__
            raise DefinitionError(
                f"{signature.location}: {command.__name__} in {state} has a handler already: "
                f"{location_of(first.function)}"
            )

    def _step_slowly(
        self, state: S | None, command: C, deps: D | None, context: Context | None
    ) -> S | None:
        if self._codecs is None:
            self.compile()
            return self.step(state, command, deps, context)
        self.expect_command(command)
        if not self._is_former(state):
            self.expect_state(state)
        if (type(state), type(command)) in self._table:  # another thread was compiling
            return self.step(state, command, deps, context)
        raise InvalidTransitionError(
            self.name,
            self.name_of(state),
            tag_of(type(command)),
            [tag_of(cls) for cls in self.allowed(state)],
            advice=self.advice(state),
        )

    def _is_former(self, state: object) -> bool:
        """Whether something is a state that a flow had once."""
        return self.former is not None and self.former.holds(state)

    def _undeclared(
        self, state: S | None, command: C, result: object, *, awaited: bool = False
    ) -> DefinitionError:
        signature = self._handler_of[type(state), type(command)]
        if isinstance(result, Coroutine):
            result.close()
            advice = _FORGOTTEN if awaited or not signature.is_async else _ASYNC
            raise DefinitionError(f"{signature.location} {advice}")
        declared = " | ".join(
            "None" if t is NoneType else t.__name__ for t in signature.targets_from(type(state))
        )
        return DefinitionError(
            f"{signature.location} returned {type(result).__name__}, and its annotation says "
            f"{declared or 'that it never returns'}; nothing was written"
        )

    def _stranger(self, role: str, value: object, members: tuple[type, ...]) -> ValidationError:
        names = ", ".join(cls.__name__ for cls in members)
        return ValidationError(
            f"{_describe(value)} is not a {role} of {self.name}; they are {names}", "$"
        )


_ASYNC = "is a coroutine function; decide with astep, or with AsyncService"
_FORGOTTEN = "returned a coroutine; await it in an `async def` handler, and return the state"


def expect_name(name: object) -> None:
    """Raise DefinitionError for what cannot name a machine."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r:.80} cannot name a machine: take a letter, then up to 99 letters, "
            "digits, '_', '.' or '-'"
        )


def _entry(signature: Signature, source: type) -> _Entry:
    """Return a handler's row of the table; deps count 1 and the context 2 in what it wants."""
    wants = ("deps" in signature.parameters) + 2 * ("context" in signature.parameters)
    return signature.call, wants, frozenset(signature.targets_from(source))


def _caller_names() -> Mapping[str, Any]:
    """Return the local names where the calling method was called: annotations may use them.

    Those of the functions around that place, where they still run, are among them.
    """
    frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage] (public in all but name)
    assert frame is not None
    inner = frame.f_code
    names = dict(frame.f_locals)
    while frame := frame.f_back:
        outer = frame.f_code
        if inner.co_qualname.startswith(f"{outer.co_qualname}.<locals>.") and (
            inner.co_filename == outer.co_filename
        ):
            names = {**frame.f_locals, **names}
    return names


def _deps_type(machine: str, deps: Any) -> Any:
    """Return the type of the dependencies; raises DefinitionError for what is no type."""
    is_named = hasattr(deps, "__value__") or hasattr(deps, "__supertype__")
    if deps is None or is_named or get_origin(deps) or isinstance(deps, type | TypeVar | str):
        return deps
    raise DefinitionError(
        f"{machine}: deps= takes a type, not {deps!r:.80}; the service is given the dependencies"
    )


def _members(machine: str, role: str, union: Any, base: type) -> tuple[type, ...]:
    try:
        members = flatten(union)
    except TypeError as error:
        raise DefinitionError(f"{machine}: {role}= takes a class or a union: {error}") from error
    names: dict[str, type] = {}
    for cls in members:
        if cls is NoneType:
            raise DefinitionError(f"{machine}: None is no {role}; absence needs no member")
        if is_foreign(cls):
            _expect_frozen(machine, cls)
        elif not issubclass(cls, base) or cls is base:
            raise DefinitionError(
                f"{machine}: {cls.__name__} does not subclass {base.__name__}, nor is it a "
                "dataclass, an attrs class or a pydantic model"
            )
        else:
            _expect_plain_value(machine, cls)
        other = names.setdefault(tag_of(cls), cls)
        if other is not cls:
            raise DefinitionError(f"{machine}: two {role} classes are stored as {tag_of(cls)!r}")
    if not members:
        raise DefinitionError(f"{machine}: the {role} union has no member")
    return members


def _expect_frozen(machine: str, cls: type) -> None:
    fault = fault_of(cls)
    if fault is not None:
        raise DefinitionError(f"{machine}: {cls.__name__} {fault}")


def _expect_plain_value(machine: str, cls: type) -> None:
    config = cls.__struct_config__  # type: ignore[attr-defined]  # (every Struct has it)
    kept = config.frozen and config.eq and config.forbid_unknown_fields
    if not kept or config.array_like or config.omit_defaults or config.tag_field != TAG_FIELD:
        raise DefinitionError(
            f"{machine}: {cls.__name__} changes how its base class is stored; leave frozen, eq, "
            "array_like, omit_defaults, forbid_unknown_fields and tag_field as they are"
        )
    if not (
        isinstance(config.tag, str) and config.tag.isprintable() and 0 < len(config.tag) <= MAX_TAG
    ):
        raise DefinitionError(
            f"{machine}: {cls.__name__} cannot be stored as {config.tag!r}; a tag has from 1 to "
            f"{MAX_TAG} printable characters"
        )


def _resolve_local(members: tuple[type, ...], namespace: Mapping[str, Any]) -> None:
    """Evaluate the fields of classes made inside a function, while its names can be seen."""
    seen: set[type] = set()
    for cls in members:
        if "<locals>" in cls.__qualname__:
            try:
                resolve_fields(cls, namespace, seen)
            except NameError as error:
                raise DefinitionError(
                    f"{cls.__qualname__}: a field's annotation cannot be evaluated: {error}"
                ) from error


def _describe(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} itself (build one: {value.__name__}(…))"
    return "None" if value is None else f"a {type(value).__name__}"
