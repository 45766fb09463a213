"""What is stored of a flow stays readable when its states, events and rules change in the code."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from holdfast import Flow, InvalidTransitionError, KeyReusedError, Service
from holdfast.errors import DecodeError, ValidationError
from holdfast.stores.contract import Store
from holdfast.stores.verify import verify


class First(Flow[Any], name="order"):
    """The flow as it was first released."""

    pending = Flow.state(initial=True)
    reserved = Flow.state()
    paid = Flow.state()
    pending.to(reserved)
    reserved.to(paid)
    book = Flow.event(pending.to(reserved))


class Later(Flow[Any], name="order"):
    """The flow after a year: it begins elsewhere, `reserved` and the event are gone."""

    draft = Flow.state(initial=True)
    pending = Flow.state()
    paid = Flow.state()
    draft.to(pending)
    pending.to(paid)
    settle = Flow.event(pending.to(paid))


class Mended(Later, name="order"):
    """The flow that lets entities out of the state that is no longer entered."""

    reserved = Flow.state()
    reserved.to("paid")


def first(store: Store, *states: str, id: str = "o-1") -> Flow[Any]:
    """Return a flow of the first release that went through states."""
    flow = First(None, store=store, id=id, record_initial=True)
    for state in states:
        flow.transition_to(state, metadata={"by": "alice"})
    return flow


def later(store: Store, id: str = "o-1") -> Flow[Any]:
    """Return the same entity in the later flow."""
    return Later(None, store=store, id=id)


def test_history_stays_readable_where_a_state_was_removed(any_store: Store) -> None:
    """Its rows name the states as they were."""
    first(any_store, "reserved", "paid")
    flow = later(any_store)
    rows = [(each.from_state, each.to_state, each.command_type) for each in flow.history]
    assert rows == [
        (None, "pending", "pending"),
        ("pending", "reserved", "reserved"),
        ("reserved", "paid", "paid"),
    ]
    assert [each.actor for each in flow.history] == [None, "alice", "alice"]
    assert flow.current_state == "paid"


def test_history_stays_readable_where_it_begins_elsewhere(any_store: Store) -> None:
    """A row that wrote the former initial state down is one as any other."""
    first(any_store)
    flow = later(any_store)
    assert flow.last_transition is not None
    assert (flow.last_transition.from_state, flow.last_transition.to_state) == (None, "pending")
    assert flow.last_transition_to("pending") == flow.last_transition
    assert flow.transition_to("paid").version == 2


def test_a_transition_to_what_begins_the_flow_now_is_read_as_it_was(store: Store) -> None:
    """Whether a state is the initial one changes nothing of what is stored of it."""

    class Turned(Flow[Any], name="order"):
        pending = Flow.state()
        reserved = Flow.state(initial=True)
        reserved.to(pending)

    first(store, "reserved")
    flow = Turned(None, store=store, id="o-1")
    assert [each.to_state for each in flow.history] == ["pending", "reserved"]
    assert flow.last_transition is not None
    assert flow.last_transition.command == Turned.compiled.commands["reserved"]()
    assert flow.transition_to("pending").version == 3


def test_a_removed_state_tells_its_name(any_store: Store) -> None:
    """The entity that is in it says so."""
    first(any_store, "reserved")
    flow = later(any_store)
    assert (flow.current_state, flow.version) == ("reserved", 2)
    assert not flow.in_state("pending", "paid")
    assert flow.last_transition is not None
    assert flow.last_transition.to_state == "reserved"
    service = Service(Later.machine, any_store)
    assert service.count_by_state() == {"reserved": 1}
    assert [type(record.state).__name__ for record in service.find()] == ["reserved"]
    assert service.allowed("o-1") == ()


def test_a_removed_state_allows_no_transition_and_says_what_to_do(any_store: Store) -> None:
    """Its refusals are those of a rule; nothing is written."""
    first(any_store, "reserved")
    flow = later(any_store)
    told = (
        "paid cannot be applied to order 'o-1', in state reserved; allowed: no command at all; "
        "Later declares no state reserved: keep it, with rules that lead out of it, until no "
        "entity is in it, or use the code that has it"
    )
    assert flow.allowed_transitions == []
    assert not flow.can_transition_to("paid")
    assert [str(refusal) for refusal in flow.why_not("paid")] == [told]
    assert flow.try_transition_to("paid") is False
    with pytest.raises(InvalidTransitionError) as refused:
        flow.transition_to("paid")
    assert (str(refused.value), refused.value.state) == (told, "reserved")
    assert str(pickle.loads(pickle.dumps(refused.value))) == told
    assert flow.version == 2


def test_an_event_says_what_to_do_in_a_removed_state(any_store: Store) -> None:
    """As a transition does."""
    first(any_store, "reserved")
    with pytest.raises(InvalidTransitionError, match=r"settle .* Later declares no state reserved"):
        later(any_store).trigger("settle")


def test_a_state_that_is_declared_again_is_led_out_of(any_store: Store) -> None:
    """What is stored of it is as good as ever."""
    first(any_store, "reserved")
    flow = Mended(None, store=any_store, id="o-1")
    assert flow.allowed_transitions == ["paid"]
    assert flow.transition_to("paid").from_state == "reserved"


def test_failure_callbacks_see_a_removed_state(store: Store) -> None:
    """Those without a filter are called, and are told its name."""

    class Watched(Flow[Any], name="order"):
        draft = Flow.state(initial=True)
        paid = Flow.state()
        draft.to(paid)

    seen: list[str | None] = []

    @Watched.on_failure
    def note(object: Any, change: Any) -> None:
        seen.append(change.from_state)

    first(store, "reserved")
    assert not Watched(None, store=store, id="o-1").try_transition_to("paid")
    assert seen == ["reserved"]


def test_a_name_that_is_no_state_stays_a_mistake(store: Store) -> None:
    """Though a store has it, nothing leads there, and a misspelling is told."""
    first(store, "reserved")
    with pytest.raises(ValidationError, match="'reserved' is no state of Later"):
        later(store).transition_to("reserved")


def test_events_that_were_removed_are_told_as_they_were(any_store: Store) -> None:
    """An event is kept as its name."""
    flow = First(None, store=any_store, id="o-1")
    flow.trigger("book")
    [made] = later(any_store).history
    assert made.command is not None
    assert (made.to_state, made.command.event) == ("reserved", "book")


def test_a_key_finds_what_it_made_before_the_flow_changed(any_store: Store) -> None:
    """What began the flow then is a state as any other now; the request is the same."""

    class Circle(Flow[Any], name="order"):
        pending = Flow.state(initial=True)
        reserved = Flow.state()
        pending.to(reserved)
        reserved.to(pending)

    class Turned(Flow[Any], name="order"):
        pending = Flow.state()
        reserved = Flow.state(initial=True)
        reserved.to(pending)

    flow = Circle(None, store=any_store, id="o-1")
    flow.transition_to("reserved")
    flow.transition_to("pending", key="k-1")
    turned = Turned(None, store=any_store, id="o-1")
    assert turned.transition_to("pending", key="k-1").version == 2
    with pytest.raises(KeyReusedError):
        turned.transition_to("reserved", key="k-1")


def test_what_a_flow_never_wrote_is_not_read_as_a_state_of_it(any_store: Store) -> None:
    """What is stored under its name with fields is another machine's, and is told as unreadable."""
    from holdfast import Command, Machine, State

    class Reserved(State):
        until: str

    class Reserve(Command):
        until: str

    machine = Machine("order", state=Reserved, command=Reserve)

    @machine.on
    def reserve(state: None, command: Reserve) -> Reserved:
        return Reserved(until=command.until)

    Service(machine, any_store).handle("o-1", Reserve(until="noon"))
    with pytest.raises(DecodeError, match="cannot be read by this code"):
        print(later(any_store).current_state)
    with pytest.raises(DecodeError, match="cannot be read by this code"):
        print(later(any_store).history)


def test_a_store_is_sound_whatever_became_of_the_flow(any_store: Store) -> None:
    """Digests are over what is stored, and what is stored does not change."""
    first(any_store, "reserved")
    first(any_store, "reserved", "paid", id="o-2")
    Mended(None, store=any_store, id="o-1").transition_to("paid")
    report = verify(any_store)
    assert (report.sound, report.transitions, report.entities) == (True, 6, 2)


def test_the_key_of_an_event_is_answered_where_its_state_was_removed(any_store: Store) -> None:
    """With what it made, wherever the entity is by now; another event's key is refused."""

    class Without(Flow[Any], name="order"):
        pending = Flow.state(initial=True)
        paid = Flow.state()
        book = Flow.event(pending.to(paid))
        settle = Flow.event(pending.to(paid))

    flow = First(None, store=any_store, id="o-1")
    flow.trigger("book", key="k-1")
    without = Without(None, store=any_store, id="o-1")
    again = without.trigger("book", key="k-1")
    assert (again.version, again.to_state) == (1, "reserved")
    assert without.version == 1
    flow.reload()
    flow.transition_to("paid")
    assert without.reload().trigger("book", key="k-1").version == 1
    with pytest.raises((KeyReusedError, InvalidTransitionError)):
        without.trigger("settle", key="k-1")
    assert without.version == 2


@pytest.mark.parametrize(
    ("then", "now"), [(First, Later), (Later, First), (Later, Mended), (Mended, Later)]
)
def test_a_pickle_is_read_as_the_code_is_by_then(
    store: Store, monkeypatch: pytest.MonkeyPatch, then: type[Flow[Any]], now: type[Flow[Any]]
) -> None:
    """A state that was removed or declared again since is the one that the store tells."""
    first(store, "reserved")
    kept = pickle.dumps(then(None, store=store, id="o-1").history)
    monkeypatch.setattr(sys.modules[__name__], then.__name__, now)
    assert pickle.loads(kept) == now(None, store=store, id="o-1").history


def test_states_that_are_gone_are_pickled(store: Store) -> None:
    """With the transitions that tell of them."""
    first(store, "reserved")
    history = later(store).history
    assert pickle.loads(pickle.dumps(history)) == history


def test_a_request_does_not_name_a_state_that_is_gone() -> None:
    """Leniency is for what is stored, and not for what is asked."""
    with pytest.raises(ValidationError):
        Later.machine.parse_command('{"$type": "reserved"}')


def test_more_names_than_a_flow_may_have_had_are_unreadable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made of what a store has is bounded; what was read before stays readable."""
    monkeypatch.setattr("holdfast.machine.flow.former.MAX_FORMER", 1)

    class Few(Later, name="order"):
        """A flow that has read nothing yet."""

    class Other(First, name="order"):
        """The first release, with a state that it gave up too."""

        booked = Flow.state()
        Flow.transition(from_="pending", to="booked")

    First(None, store=store, id="o-1").transition_to("reserved")
    Other(None, store=store, id="o-2").transition_to("booked")
    known, unknown = (Few(None, store=store, id=id) for id in ("o-1", "o-2"))
    assert [each.to_state for each in known.history] == ["reserved"]
    with pytest.raises(DecodeError):
        print(unknown.history)
    assert known.reload().current_state == "reserved"
