"""What plans ask of the world: the store, the clock, sleep, randomness. Runners do the asking."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from holdfast.errors import DefinitionError
from holdfast.service import handling
from holdfast.stores.contract import Check, Checkpoint, Key, Store, Write

T = TypeVar("T")


class World(Protocol):
    """What a runner gives its plans beside the store; a simulator gives its own."""

    store: Store

    def clock(self) -> float:
        """Return monotonic seconds."""
        ...

    def sleep(self, seconds: float) -> Any:
        """Wait."""
        ...

    def random(self) -> float:
        """Return a number from [0, 1)."""
        ...

    def tokens(self, count: int) -> list[str]:
        """Draw random tokens of 32 hexadecimal digits."""
        ...


class Ask(Struct, frozen=True):
    """One thing that a plan asks for; the answer is sent back into the plan."""

    def perform(self, world: World) -> Any:
        """Ask it of the world."""
        raise NotImplementedError


Plan = Generator[Ask, Any, T]
"""A piece of the service's logic: yields what it needs, receives the answers, does no I/O."""


def unwrap(answer: T | Exception) -> T:
    """Return what a plan answered; raise it where it is an error.

    Users' errors leave plans as answers: a generator cannot raise a StopIteration.
    """
    if isinstance(answer, Exception):
        raise answer
    return answer


class Begin(Ask, frozen=True, gc=False):
    """The time a call begins, and a token for each of its commands."""

    calls: int

    def perform(self, world: World) -> tuple[float, list[str]]:
        """Answer with monotonic seconds and the tokens."""
        return world.clock(), world.tokens(self.calls)


class Load(Ask, frozen=True, gc=False):
    """Entities, and what their keys made."""

    keys: Sequence[Key]

    def perform(self, world: World) -> Any:
        """Answer with a `Loaded` for each."""
        return world.store.load(self.keys)


class Commit(Ask, frozen=True):
    """Write what was decided."""

    writes: Sequence[Write]
    checks: Sequence[Check] = ()
    atomic: bool = False
    checkpoint: Checkpoint | None = None
    timeout_seconds: float | None = None

    @property
    def entities(self) -> list[tuple[str, str]]:
        """Return the machine and id of each entity that is written."""
        return [(write.entity.machine, write.entity.id) for write in self.writes]

    @property
    def is_whole(self) -> bool:
        """Whether it must be a commit of its own."""
        return self.atomic or bool(self.checks) or self.checkpoint is not None

    def perform(self, world: World) -> Any:
        """Answer with an `Outcome` for each write and each check."""
        return world.store.commit(
            self.writes,
            checks=self.checks,
            atomic=self.atomic,
            checkpoint=self.checkpoint,
            timeout_seconds=self.timeout_seconds,
        )


class Read(Ask, frozen=True):
    """Anything else that is read from the store."""

    query: Callable[[Store], Any]

    def perform(self, world: World) -> Any:
        """Answer with what the query returns."""
        return self.query(world.store)


class Decide(Ask, frozen=True):
    """What a handler makes of a call, where the handler may have to be awaited."""

    binding: Any
    draft: Any
    call: Any
    token: str

    def perform(self, world: World) -> Any:
        """Answer with the record that the call leads to."""
        return handling.answer(self.binding, self.draft, self.call, self.token)


class Gather(Ask, frozen=True):
    """Several decisions that need not wait for each other."""

    decisions: Sequence[Decide]

    def perform(self, world: World) -> Any:
        """Answer with what each leads to, an exception being an answer too."""
        return [_outcome(decision, world) for decision in self.decisions]


def _outcome(ask: Ask, world: World) -> Any:
    try:
        return ask.perform(world)
    except Exception as error:  # noqa: BLE001 (it is this decision's answer)
        return error


class Clock(Ask, frozen=True):
    """The time, in monotonic seconds."""

    def perform(self, world: World) -> float:
        """Answer with the time."""
        return world.clock()


class Random(Ask, frozen=True):
    """A random number from [0, 1)."""

    def perform(self, world: World) -> float:
        """Answer with the number."""
        return world.random()


class Sleep(Ask, frozen=True):
    """A wait."""

    seconds: float

    def perform(self, world: World) -> Any:
        """Answer after the wait."""
        return world.sleep(self.seconds)


class Notify(Ask, frozen=True):
    """A call of a user's hook."""

    hook: Callable[[Any], object]
    value: object
    within: Context | None = None
    """The context variables that it sees, where it runs away from its caller."""

    def call(self) -> object:
        """Call the hook; return what it returns."""
        if self.within is None:
            return handling.call_hook(self.hook, self.value)
        return self.within.run(handling.call_hook, self.hook, self.value)

    def perform(self, world: World) -> Any:
        """Answer with what the hook returns; a coroutine is refused, for nobody awaits it here."""
        answer = self.call()
        if answer is not None and isinstance(answer, Coroutine):
            answer.close()
            raise DefinitionError(f"{self.hook!r} is a coroutine function; use a plain one")
        return answer


class Work(Ask, frozen=True):
    """A function of the caller, to be called where the caller is."""

    function: Callable[[], Any]

    def perform(self, world: World) -> Any:
        """Answer with what the function returns, a coroutine where the caller awaits."""
        return self.function()
