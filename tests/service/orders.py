"""An order machine whose handlers tell what they see, a store that counts, a world of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar

from holdfast import (
    Command,
    CommandRejectedError,
    Context,
    Machine,
    Meta,
    Record,
    Request,
    Service,
    State,
)
from holdfast.service.call import check_request
from holdfast.service.requests import Plan
from holdfast.service.runner import run
from holdfast.stores.contract import Checkpoint, Key, Loaded, Outcome, Store, Write

T = TypeVar("T")


class Pending(State):
    total: int
    notes: list[str] = []  # noqa: RUF012 (msgspec copies it)


class Paid(State):
    total: int
    card: str


class Broken(State):
    ratio: float


class Place(Command):
    total: Annotated[int, Meta(gt=0)]


class Note(Command):
    text: str


class Pay(Command):
    card: str
    tags: list[str] = []  # noqa: RUF012 (msgspec copies it)


class Refuse(Command):
    reason: str


class Fail(Command):
    reason: str


class Mislead(Command):
    """Makes its handler return what it does not declare."""


class Spoil(Command):
    """Leads to a state that cannot be stored."""


class Remove(Command):
    pass


class OutOfPaperError(Exception):
    """What the handler of Fail raises: no error of the library."""


OrderState: TypeAlias = Pending | Paid | Broken
OrderCommand: TypeAlias = Place | Note | Pay | Refuse | Fail | Mislead | Spoil | Remove


class Desk:
    """Sees what handlers see; the next of `interrupts` is called while a handler decides."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, object, Context]] = []
        self.interrupts: list[Callable[[], object]] = []

    @property
    def states(self) -> list[object]:
        """The states that handlers saw, in order."""
        return [state for state, _, _ in self.seen]

    @property
    def contexts(self) -> list[Context]:
        """The contexts that handlers saw, in order."""
        return [context for _, _, context in self.seen]

    def ask(self, state: object, command: object, context: Context) -> None:
        """Take note of a handler's call, and let the next interrupt happen."""
        self.seen.append((state, command, context))
        if self.interrupts:
            self.interrupts.pop(0)()


order = Machine("order", state=OrderState, command=OrderCommand, deps=Desk)
Orders: TypeAlias = Service[OrderState, OrderCommand, Desk]


@order.on
def place(state: None, command: Place, deps: Desk, context: Context) -> Pending:
    deps.ask(state, command, context)
    return Pending(total=command.total)


@order.on
def note(state: OrderState, command: Note, deps: Desk, context: Context) -> OrderState:
    deps.ask(state, command, context)
    if isinstance(state, Pending) and command.text:
        return Pending(total=state.total, notes=[*state.notes, command.text])
    return state


@order.on
def pay(state: Pending, command: Pay, deps: Desk, context: Context) -> Paid:
    deps.ask(state, command, context)
    return Paid(total=state.total, card=command.card)


@order.on
def refuse(state: Pending | None, command: Refuse, deps: Desk, context: Context) -> Pending:
    deps.ask(state, command, context)
    raise CommandRejectedError(command.reason)


@order.on
def fail(state: OrderState | None, command: Fail, deps: Desk, context: Context) -> OrderState:
    deps.ask(state, command, context)
    raise OutOfPaperError(command.reason)


@order.on
def mislead(state: OrderState | None, command: Mislead) -> Pending:
    return Paid(total=1, card="")  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


@order.on
def spoil(state: OrderState, command: Spoil) -> Broken:
    return Broken(ratio=float("nan"))


@order.on
def remove(state: OrderState, command: Remove, deps: Desk, context: Context) -> None:
    deps.ask(state, command, context)


class CountingStore(Store):
    """A store that counts what is asked of it, and may be told to fail."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.url = store.url
        self.loads: list[int] = []
        self.commits: list[int] = []
        self.before_commit: list[Callable[[], object]] = []
        """Each is called before one commit, and may raise."""
        self.after_commit: list[Callable[[], object]] = []
        """Each is called after one commit, and may raise: then it was written all the same."""

    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        self.loads.append(len(keys))
        return self.store.load(keys)

    def commit(self, writes: Sequence[Write], **options: Any) -> list[Outcome]:
        self.commits.append(len(writes))
        if self.before_commit:
            self.before_commit.pop(0)()
        outcomes = self.store.commit(writes, **options)
        if self.after_commit:
            self.after_commit.pop(0)()
        return outcomes

    def transact(self, act: Callable[[Store], Any], **options: Any) -> Any:
        return self.store.transact(act, **options)

    def history(self, machine: str, id: str, **options: Any) -> Any:
        return self.store.history(machine, id, **options)

    def transition_at(self, machine: str, id: str, **options: Any) -> Any:
        return self.store.transition_at(machine, id, **options)

    def find(self, machine: str, **options: Any) -> Any:
        return self.store.find(machine, **options)

    def count(self, machine: str) -> dict[str, int]:
        return self.store.count(machine)

    def entities(self, **options: Any) -> Any:
        return self.store.entities(**options)

    def read_log(self, **options: Any) -> Any:
        return self.store.read_log(**options)

    def checkpoint(self, name: str) -> int | None:
        return self.store.checkpoint(name)

    def migrate(self) -> None:
        self.store.migrate()

    def close(self) -> None:
        self.store.close()


class FakeWorld:
    """A world whose clock moves by sleeping alone, and whose randomness and tokens are told."""

    def __init__(self, store: Store, *, random: float = 0.5) -> None:
        self.store = store
        self.now = 100.0
        self.next_random = random
        self.sleeps: list[float] = []
        self.drawn = 0
        self.on_sleep: list[Callable[[], object]] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        if self.on_sleep:
            self.on_sleep.pop(0)()

    def random(self) -> float:
        return self.next_random

    def tokens(self, count: int) -> list[str]:
        self.drawn += count
        return [f"{number:032x}" for number in range(self.drawn - count, self.drawn)]


def handle_plan(
    orders: Orders, id: str, command: OrderCommand, **options: Any
) -> Plan[Record[OrderState] | Exception]:
    """Return the plan of a `handle` call."""
    timeout = options.pop("timeout", None)
    call = check_request(orders.machine, Request(id, command, **options))
    [answer] = yield from orders.plans.handle(call, timeout)
    return answer


def handle_in(
    world: FakeWorld, orders: Orders, id: str, command: OrderCommand, **options: Any
) -> Record[OrderState]:
    """Apply a command in a world of one's own; raise what refuses it."""
    answer = run(handle_plan(orders, id, command, **options), world)
    if isinstance(answer, Exception):
        raise answer
    return answer


def checkpoint(position: int, after: int = 0) -> Checkpoint:
    """Return how far a reader came."""
    return Checkpoint("reader", position, after)
