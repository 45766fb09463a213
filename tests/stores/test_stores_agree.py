"""The stores agree: whatever is asked of them, in whatever order, they answer alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from holdfast import Context, HoldfastError, Request, StoreError, open_store
from holdfast.machine.canonical import format_time
from holdfast.stores.contract import Check, Checkpoint, EntityRow, Key, Outcome, Store, Write
from holdfast.testing import ManualClock
from holdfast.testing.conformance.base import SampleService, service_on
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, Close, Create, Remove, sample, undisturbed
from holdfast.testing.writes import write

MACHINES = ["sample", "other"]
NAMES = [("sample", "a"), ("sample", "\uffff"), ("sample", "\U00010000"), ("other", "a")]
KEYS = ["k", "l", "m"]
STATES = ["Open", "Closed"]


class Wish(NamedTuple):
    """What a write is made from."""

    name: tuple[str, str]
    late: int
    """On which row: 0 for the present one, 1 for the one before, -1 for one that is yet to come."""
    states: list[str | None]
    keys: list[str | None]
    tokens: list[str | None]


names = st.sampled_from(NAMES)
chains = st.lists(st.sampled_from([*STATES, *STATES, None]), min_size=1, max_size=3)
wishes = st.builds(
    Wish,
    names,
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, -1]),
    chains,
    st.lists(st.none() | st.sampled_from(KEYS), max_size=3),
    st.lists(st.none() | st.sampled_from("tuv"), max_size=3),
)
batches = st.lists(wishes, min_size=1, max_size=4, unique_by=lambda wish: wish.name)


class Stores(RuleBasedStateMachine):
    """Does the same to a store in memory and to one of SQLite, and compares all they say."""

    stores: Sequence[Store] = ()

    @initialize()
    def open(self) -> None:
        self.clock = ManualClock()
        urls = ("memory://", "sqlite:///:memory:")
        self.stores = [open_store(url, clock=self.clock) for url in urls]
        self.past: dict[tuple[str, str], list[EntityRow | None]] = {name: [None] for name in NAMES}
        self.sent: list[Write] = []

    def teardown(self) -> None:
        for store in self.stores:
            assert faults(store) == []
            store.close()

    @rule(name=names, states=chains, seconds=st.sampled_from([-3600, 0, 0.000001, 86_400]))
    def change_one(self, name: tuple[str, str], states: list[str | None], seconds: float) -> None:
        """Time passes, or is set back, and an entity changes."""
        self.clock.advance(seconds)
        made = self.build(Wish(name, 0, states, [], [f"token-{len(self.sent)}"]))
        self.commit([made])
        self.sent.append(made)

    @rule(batch=batches, atomic=st.booleans(), name=names, late=st.integers(0, 3))
    def change_some(
        self,
        batch: list[Wish],
        atomic: bool,
        name: tuple[str, str],
        late: int,
    ) -> None:
        """Several entities change, some too late; perhaps if another has not changed meanwhile."""
        writes = [self.build(wish) for wish in batch]
        machine, id = name
        row = self.past[name][-1]
        check = Check(machine, id, max(0, (row.version if row else 0) - late // 2))
        checks = [check] if late < 3 and name not in [wish.name for wish in batch] else []
        position = self.stores[0].checkpoint("reader") or 0
        after = max(0, position - late % 2)
        checkpoint = Checkpoint("reader", position + 3, after) if len(batch) == 2 else None
        self.commit(writes, checks=checks, atomic=atomic, checkpoint=checkpoint)
        self.sent += [made for made, wish in zip(writes, batch, strict=True) if wish.late >= 0]

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), atomic=st.booleans())
    def send_again(self, data: st.DataObject, atomic: bool) -> None:
        """What was written is sent again, as after a lost acknowledgement."""
        sent = st.sampled_from(self.sent)
        batch = data.draw(
            st.lists(
                sent, min_size=1, max_size=3, unique_by=lambda s: (s.entity.machine, s.entity.id)
            )
        )
        self.commit(batch, atomic=atomic)

    @rule(name=names)
    def purge(self, name: tuple[str, str]) -> None:
        """An entity is erased, if there is one."""
        row = self.past[name][-1]
        if row is not None:
            machine, id = name
            at = max(row.updated_at, format_time(self.clock.now))
            self.commit([write(id, None, on=row, machine=machine, at=at, purge=True)])

    @rule(
        asked=st.lists(st.tuples(names, st.lists(st.sampled_from(KEYS), unique=True)), max_size=4),
        machine=st.sampled_from(MACHINES),
        states=st.none() | st.lists(st.sampled_from(STATES), unique=True),
        after=st.sampled_from(["", *[id for _, id in NAMES]]),
        limit=st.integers(1, 4),
    )
    def read(self, asked: Any, machine: str, states: Any, after: str, limit: int) -> None:
        """All that can be asked is asked."""
        self.both("load", [Key(machine, id, tuple(keys)) for (machine, id), keys in asked])
        self.both("find", machine, state_types=states, after=after, limit=limit)
        self.both("entities", after=(machine, after), limit=limit)
        self.both("history", machine, "a", after=limit - 1, limit=limit)
        self.both("transition_at", machine, "a", version=limit)
        self.both("transition_at", machine, "a", time=format_time(self.clock.now))

    @invariant()
    def hold_the_same(self) -> None:
        if self.stores:
            self.both("read_log", limit=1_000)
            self.both("checkpoint", "reader")
            for machine in MACHINES:
                self.both("count", machine)

    def build(self, wish: Wish) -> Write:
        """Make a write on a row that the entity has, had, or may have."""
        machine, id = wish.name
        past = self.past[wish.name]
        on = past[max(0, len(past) - 1 - max(0, wish.late))]
        if on is not None and wish.late < 0:
            on = replace(on, version=on.version + 1)
        now = format_time(self.clock.now)
        return write(
            id,
            *possible(wish.states, on),
            on=on,
            machine=machine,
            keys=wish.keys,
            tokens=wish.tokens,
            at=max(on.updated_at, now) if on else now,
        )

    def both(self, ask: str, *args: Any, **options: Any) -> Any:
        """Ask both the same, and return what both answered."""
        answers = [getattr(store, ask)(*args, **options) for store in self.stores]
        assert answers[0] == answers[1]
        return answers[0]

    def commit(self, writes: Sequence[Write], **options: Any) -> None:
        """Commit the same to both; where one refuses a key, the other may tell a conflict first.

        Not every store tells seals. Whatever they answered, what they hold afterwards is the same.
        """
        answers: list[list[Outcome]] = []
        for store in self.stores:
            try:
                outcomes = store.commit(writes, **options)
                answers.append([replace(outcome, seal=None) for outcome in outcomes])
            except StoreError:
                answers.append([])
        assert answers[0] == answers[1] or [] in answers
        for machine, id in {(made.entity.machine, made.entity.id) for made in writes}:
            row = self.both("load", [Key(machine, id)])[0].entity
            if row != self.past[machine, id][-1]:
                self.past[machine, id].append(row)


def possible(states: list[str | None], on: EntityRow | None) -> list[str | None]:
    """Return a chain without the deletions of what is not there."""
    kept: list[str | None] = []
    last = on and on.state_type
    for state in states:
        if state or last:
            kept.append(state)
            last = state
    return kept or ["Open"]


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


commands = st.one_of(
    st.builds(Create, note=st.sampled_from(["", "n"])),
    st.builds(Add, by=st.integers(-2, 3)),
    st.builds(Close),
    st.builds(Remove),
)
requests = st.builds(
    Request,
    id=st.sampled_from(["a", "b", "c"]),
    command=commands,
    key=st.none() | st.none() | st.sampled_from(KEYS),
    expected_version=st.none() | st.none() | st.integers(0, 4),
)
calls = st.one_of(
    st.tuples(st.just("handle"), requests),
    st.tuples(st.just("batch"), st.lists(requests, max_size=5)),
    st.tuples(st.just("atomic"), st.lists(requests, max_size=5)),
    st.tuples(st.just("purge"), st.sampled_from(["a", "b", "c"])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(calls, max_size=25))
def test_services_agree(todo: list[tuple[str, Any]]) -> None:
    """On any store they answer alike; each answer and each state follows from the log."""
    clock = ManualClock()
    with (
        open_store("memory://", clock=clock) as one,
        open_store("sqlite:///:memory:", clock=clock) as other,
    ):
        for verb, argument in todo:
            clock.advance(1)
            answers = [told(perform, service_on(store), verb, argument) for store in (one, other)]
            assert answers[0] == answers[1]
        for store in (one, other):
            assert faults(store) == []
            assert [replayed(store, id) for id in "abc"] == [found(store, id) for id in "abc"]


def perform(service: SampleService, verb: str, argument: Any) -> Any:
    """Call the service; errors of a batch are compared by their text."""
    if verb == "handle":
        return service.handle(
            argument.id,
            argument.command,
            key=argument.key,
            expected_version=argument.expected_version,
        )
    if verb == "purge":
        return service.purge(argument)
    answers = service.handle_many(argument, atomic=verb == "atomic")
    return [repr(answer) if isinstance(answer, Exception) else answer for answer in answers]


def told(act: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call returns, or the text of what it raises."""
    try:
        return act(*arguments)
    except HoldfastError as error:
        return repr(error)


def replayed(store: Store, id: str) -> Any:
    """Return the state that the commands of the log lead to, one after the other."""
    state: Any = None
    for transition in service_on(store).history(id):
        if transition.kind == "purged" or transition.command is None:
            state = None
            continue
        state = sample.step(state, transition.command, undisturbed, Context(transition.at))
        assert state == transition.state
    return state


def found(store: Store, id: str) -> Any:
    """Return an entity's state, None where it does not live."""
    records = service_on(store).get_many([id])
    return records[id].state if id in records else None
