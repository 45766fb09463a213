"""Statesman's behaviours: the history, metadata, the initial transition, and events."""

from __future__ import annotations

from copy import copy
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.flow.orders import Order, begin, bring, noted, order_flow, path

from holdfast import (
    Change,
    Flow,
    GuardFailedError,
    InvalidTransitionError,
    KeyReusedError,
    Transition,
    ValidationError,
    VersionConflictError,
    open_store,
)
from holdfast.stores.contract import Store
from holdfast.testing import ManualClock


def test_the_history_has_every_transition_oldest_first(any_store: Store) -> None:
    """Given a way through three states, when asked, then its steps are told with their versions."""
    order = begin(order_flow(), any_store)
    bring(order, "checking_out", "purchased", "shipped")
    assert [(each.version, each.from_state, each.to_state) for each in order.history] == [
        (1, None, "checking_out"),
        (2, "checking_out", "purchased"),
        (3, "purchased", "shipped"),
    ]


def test_a_transition_is_what_the_history_has(any_store: Store) -> None:
    """Given a transition, when it is made, then the entry of the log is returned."""
    order = begin(order_flow(), any_store)
    made = bring(order, "checking_out", "cancelled")
    assert unplaced(made) == unplaced(order.history)


def test_a_transition_on_postgresql_numbers_nothing(postgres_url: str) -> None:
    """Given a store whose readers number the log, when one transitions, then it does not."""
    with open_store(postgres_url) as store:
        store.migrate()
        order = begin(order_flow(), store)
        assert [each.position for each in bring(order, "checking_out", "purchased")] == [0, 0]
        assert [each.position for each in order.history] == [1, 2]


def unplaced(transitions: list[Transition]) -> list[Transition]:
    """Return transitions without their places in the log, which readers may have to give."""
    return [replace(each, position=0) for each in transitions]


def test_the_last_transition_is_the_last_of_the_history(store: Store) -> None:
    """Given a way, when asked for the last step, then it is that, and None before the first."""
    order = begin(order_flow(), store)
    assert order.last_transition is None
    bring(order, "checking_out", "purchased")
    assert order.last_transition == order.history[-1]


def test_the_last_transition_to_a_state_is_found(store: Store) -> None:
    """Given states that come again, when asked for one, then its last entry is told."""
    flow = order_flow()
    flow.transition(from_="purchased", to="checking_out")
    order = begin(flow, store)
    bring(order, "checking_out", "purchased", "checking_out", "purchased", "shipped")
    found = order.last_transition_to("checking_out")
    assert found is not None
    assert found.version == 3
    assert order.last_transition_to(flow.cancelled) is None


def test_the_last_transition_to_a_state_is_found_far_back(store: Store) -> None:
    """Given a long history, when the state was entered at its begin, then it is found."""
    flow = order_flow()
    flow.transition(from_="purchased", to="purchased")
    order = begin(flow, store)
    bring(order, "checking_out", *["purchased"] * 250)
    found = order.last_transition_to("checking_out")
    assert found is not None
    assert found.version == 1


def test_metadata_are_kept_as_they_were_given(any_store: Store) -> None:
    """Given JSON, when it goes with a transition, then another instance reads the same."""
    metadata = {"by": "alice", "reason": "late", "lines": [1, 2.5, None, {"a": True}]}
    flow = order_flow()
    begin(flow, any_store).transition_to("cancelled", metadata=metadata)
    last = begin(flow, any_store).last_transition
    assert last is not None
    assert last.metadata == metadata


def test_a_transition_without_metadata_has_none(store: Store) -> None:
    """Given nothing to keep, when asked, then the metadata are empty."""
    order = begin(order_flow(), store)
    assert order.transition_to("cancelled").metadata == {}


def test_what_is_no_json_is_refused(store: Store) -> None:
    """Given metadata that cannot be read back, when given, then all is as before."""
    order = begin(order_flow(), store)
    with pytest.raises(ValidationError, match="metadata"):
        order.transition_to("cancelled", metadata={"at": object()})
    assert order.history == []


def test_metadata_may_name_a_state(store: Store) -> None:
    """Given a state in the metadata, when it is kept, then its name is."""
    order = begin(order_flow(), store)
    made = order.transition_to("cancelled", metadata={"was": order.current_state})
    assert made.metadata == {"was": "pending"}


def test_who_and_why_are_told_by_the_metadata(store: Store) -> None:
    """Given by and reason, when guards and readers are told, they are its actor and reason."""
    flow = order_flow()
    asked: list[tuple[str | None, str | None]] = []

    @flow.guard
    def look(order: Order, change: Change) -> bool:
        asked.append((change.actor, change.reason))
        return True

    order = begin(flow, store)
    bring(order, "checking_out")
    made = order.transition_to("cancelled", metadata={"by": "alice", "reason": "too late"})
    assert (made.actor, made.reason) == ("alice", "too late")
    assert asked == [(None, None), ("alice", "too late")]


def test_the_time_of_a_transition_is_the_stores(store: Store, clock: ManualClock) -> None:
    """Given the store's clock, when an order transitions, then that is when."""
    order = begin(order_flow(), store)
    first = order.transition_to("checking_out")
    clock.advance(timedelta(hours=2).total_seconds())
    second = order.transition_to("cancelled")
    assert second.at - first.at == timedelta(hours=2)


def test_nothing_records_the_initial_state_by_default(store: Store) -> None:
    """Given a new order, when it is looked at, then nothing is written."""
    order = begin(order_flow(), store)
    assert order.current_state == "pending"
    assert (order.history, order.version) == ([], 0)


def test_the_initial_state_may_be_recorded(any_store: Store) -> None:
    """Given record_initial, when a flow is made for a new order, then its begin is in the log."""
    flow = order_flow()
    order = begin(flow, any_store, record_initial=True)
    bring(order, "checking_out")
    assert [(each.from_state, each.to_state) for each in order.history] == [
        (None, "pending"),
        ("pending", "checking_out"),
    ]


def test_the_initial_state_is_recorded_once(store: Store) -> None:
    """Given an order with a history, when another flow records the begin, then nothing is added."""
    flow = order_flow()
    begin(flow, store, record_initial=True)
    begin(flow, store, record_initial=True)
    order = begin(flow, store)
    bring(order, "cancelled")
    begin(flow, store, record_initial=True)
    assert path(order) == ["pending", "cancelled"]


def test_a_begin_that_is_there_is_no_failure_to_record_it(store: Store) -> None:
    """Given an order with a history, when its begin is recorded again, then nothing has failed."""
    flow = order_flow()
    flow.on_failure()(lambda order: order.calls.append("failure"))
    begin(flow, store, record_initial=True)
    assert noted(begin(flow, store, record_initial=True)) == []


def test_of_two_that_record_the_begin_at_once_one_does(store: Store) -> None:
    """Given another who is faster, when the begin is to be recorded, then it is there once."""
    flow = order_flow()
    slow, load, others = copy(store), store.load, [flow]

    def late(keys: Any) -> Any:
        found = load(keys)
        if others:
            begin(others.pop(), store, record_initial=True)
        return found

    setattr(slow, "load", late)  # noqa: B010 (a method)
    order = begin(flow, slow, record_initial=True)
    assert path(order) == ["pending"]


def test_recording_calls_unfiltered_callbacks_and_asks_no_guard(store: Store) -> None:
    """Given callbacks for every transition, when the begin is recorded, then they see it."""
    flow = order_flow()
    flow.guard()(lambda order: False)
    flow.guard(from_="pending")(lambda order: False)
    flow.before()(lambda order, change: order.calls.append(f"before {change.to_state}"))
    flow.after()(lambda order, transition: order.calls.append(f"after {transition.to_state}"))
    flow.before(from_="pending")(lambda order: order.calls.append("from pending"))
    order = begin(flow, store, record_initial=True)
    assert noted(order) == ["before pending", "after pending"]
    assert path(order) == ["pending"]


def test_to_record_the_begin_is_no_transition_there(store: Store) -> None:
    """Given callbacks for transitions back to the begin, when it is recorded, they are not called.

    Given several targets, the others are meant from wherever they are reached.
    """
    flow = order_flow()
    flow.transition(from_="checking_out", to="pending")
    flow.before(to="pending")(lambda order: order.calls.append("to pending"))
    flow.after(to=["pending", "checking_out"])(lambda order: order.calls.append("to either"))
    order = begin(flow, store, record_initial=True)
    assert noted(order) == []
    bring(order, "checking_out", "pending")
    assert noted(order) == ["to either", "to pending", "to either"]
    bring(flow(order.object, store=store, id="o-2"), "checking_out", "pending")
    assert noted(order) == ["to either", "to pending", "to either"]


def test_to_record_the_begin_is_no_transition_from_it_to_itself(any_store: Store) -> None:
    """Given a rule from the begin to itself, when the begin is recorded, its callbacks are not."""
    flow = order_flow()
    flow.transition(from_="pending", to="pending")
    flow.guard(reason="not now")(lambda order, change: change.metadata.get("by") == "alice")
    flow.guard(to="pending")(lambda order: order.calls.append("guard") or True)
    flow.before(to="pending")(lambda order: order.calls.append("before"))
    flow.after_commit(from_="pending")(lambda order: order.calls.append("after commit"))
    flow.after(lambda order: order.calls.append("any"))
    order = begin(flow, any_store, record_initial=True)
    assert noted(order) == ["any"]
    assert not order.try_transition_to("pending")
    order.transition_to("pending", metadata={"by": "alice"})
    assert noted(order) == ["guard", "before", "any", "after commit"]
    unwritten = flow(order.object, store=any_store, id="o-2")
    assert not unwritten.try_transition_to("pending")
    unwritten.transition_to("pending", metadata={"by": "alice"})
    assert noted(unwritten) == ["guard", "before", "any", "after commit"]


def test_guards_are_asked_alike_whether_the_begin_is_recorded_or_not(store: Store) -> None:
    """Given a guard from the initial state, when it refuses, then it does with and without."""
    for record_initial in (False, True):
        flow = order_flow()
        flow.guard(from_="pending", to="cancelled")(lambda order: False)
        order = flow(Order(), store=store, id=f"{record_initial}", record_initial=record_initial)
        assert not order.try_transition_to("cancelled")
        assert order.try_transition_to("checking_out")


def test_an_event_leads_where_it_says_for_the_state(store: Store) -> None:
    """Given an event of two transitions, when it is triggered twice, then both are made."""
    order = begin(order_flow(), store)
    assert order.trigger("submit").to_state == "checking_out"
    assert order.trigger(type(order).submit).to_state == "purchased"


def test_a_guard_of_several_targets_sees_the_metadata_of_the_event(store: Store) -> None:
    """Given guards that look at who does it, when an event is triggered, then they are told."""

    class ClaimFlow(Flow[Order]):
        filed = Flow.state(initial=True)
        approved = Flow.state()
        queued = Flow.state()
        decide = Flow.event(filed.to(approved, queued))

    ClaimFlow.guard(to="approved")(lambda order, change: change.metadata.get("by") == "chief")
    for by, state in (("clerk", "queued"), ("chief", "approved")):
        claim = ClaimFlow(Order(), store=store, id=by)
        assert claim.trigger("decide", metadata={"by": by}).to_state == state


def test_a_guard_of_several_targets_sees_the_event(store: Store) -> None:
    """Given guards that look at the command, when one of several is chosen, then it has the event.

    It is what they see again where the transition is decided.
    """

    class ClaimFlow(Flow[Order]):
        filed = Flow.state(initial=True)
        approved = Flow.state()
        queued = Flow.state()
        decide = Flow.event(filed.to(approved, queued))

    seen: list[Any] = []

    @ClaimFlow.guard()
    def look(order: Order, change: Change) -> bool:
        seen.append(change.command.event)
        return True

    ClaimFlow(Order(), store=store, id="c-1").trigger("decide")
    assert seen == ["decide", "decide"]


def test_a_guard_of_several_targets_that_raises_is_a_failure(store: Store) -> None:
    """Given a guard that fails, when an event is triggered, then its error arrives, and is told."""

    class ClaimFlow(Flow[Order]):
        filed = Flow.state(initial=True)
        approved = Flow.state()
        queued = Flow.state()
        decide = Flow.event(filed.to(approved, queued))

    @ClaimFlow.guard(to="approved")
    def fail(order: Order) -> bool:
        raise LookupError

    ClaimFlow.on_failure(to="approved")(lambda order, error: order.calls.append(repr(error)))
    claim = ClaimFlow(Order(), store=store, id="c-1")
    with pytest.raises(LookupError):
        claim.trigger("decide")
    assert claim.object.calls == ["LookupError()"]
    assert claim.current_state == "filed"


def test_an_event_decided_on_another_version_is_a_conflict(store: Store) -> None:
    """Given a version that has passed, when an event is triggered on it, then that is the error."""
    flow = order_flow()
    flow.on_failure()(lambda order: order.calls.append("failure"))
    order = begin(flow, store).retry_conflicts(5)
    bring(order, "checking_out", "purchased")
    for version in (0, 1):
        with pytest.raises(VersionConflictError) as raised:
            order.trigger("submit", expected_version=version)
        assert (raised.value.expected, raised.value.actual) == (version, 2)
        assert noted(order) == ["failure"]
    order.transition_to("shipped", expected_version=2)


def test_an_event_is_recorded_with_its_transition(store: Store) -> None:
    """Given a transition by an event and one by name, when the log is read, then it tells."""
    order = begin(order_flow(), store)
    order.trigger("submit", metadata={"by": "alice"})
    order.transition_to("cancelled")
    events = [getattr(each.command, "event", "") for each in order.history]
    assert events == ["submit", None]
    assert order.history[0].metadata == {"by": "alice"}


def test_an_event_that_the_state_does_not_take_is_refused(store: Store) -> None:
    """Given an order that is cancelled, when an event is triggered, then the error names it."""
    order = begin(order_flow(), store)
    order.transition_to("cancelled")
    with pytest.raises(InvalidTransitionError, match="submit cannot be applied to order 'o-1'"):
        order.trigger("submit")
    assert path(order) == ["cancelled"]


def test_the_error_of_an_event_tells_those_that_are_taken(store: Store) -> None:
    """Given a purchased order, when it is to be submitted, then it is told what else there is."""
    flow = order_flow()
    order = begin(flow, store)
    bring(order, "checking_out", "purchased")
    with pytest.raises(InvalidTransitionError) as raised:
        order.trigger("submit")
    assert (raised.value.state, raised.value.allowed) == ("purchased", ())


@pytest.mark.parametrize(
    ("event", "told"),
    [("submit", ["any", "purchased", "from purchased"]), ("cancel", ["any", "from purchased"])],
)
def test_an_event_that_the_state_does_not_take_is_a_failure(
    store: Store, event: str, told: list[str]
) -> None:
    """Given callbacks of failures, when it is triggered, then those that may be meant are."""
    flow = order_flow()
    flow.on_failure()(lambda order: order.calls.append("any"))
    flow.on_failure(to="purchased")(lambda order: order.calls.append("purchased"))
    flow.on_failure(from_="purchased")(lambda order: order.calls.append("from purchased"))
    flow.on_failure(from_="pending")(lambda order: order.calls.append("from pending"))
    order = begin(flow, store)
    bring(order, "checking_out", "purchased")
    with pytest.raises(InvalidTransitionError):
        order.trigger(event)
    assert noted(order) == told


@pytest.mark.parametrize("name", ["pay", "pending", ""])
def test_a_name_that_is_no_event_is_refused(store: Store, name: str) -> None:
    """Given a name that came from anywhere, when it is no event, then that is said."""
    with pytest.raises(ValidationError, match="is no event of OrderFlow; they are submit, cancel"):
        begin(order_flow(), store).trigger(name)


def test_a_guard_refuses_an_event(store: Store) -> None:
    """Given an event of one transition, when its guard refuses, then that is the error."""
    flow = order_flow()
    flow.guard(to="cancelled", reason="too late")(lambda order: False)
    order = begin(flow, store)
    with pytest.raises(GuardFailedError, match="too late"):
        order.trigger("cancel")
    assert order.history == []


def test_a_second_transition_needs_the_version_that_is_there(any_store: Store) -> None:
    """Given a version that was decided on, when it has passed, then nothing is written."""
    order = begin(order_flow(), any_store)
    order.transition_to("checking_out", expected_version=0)
    with pytest.raises(VersionConflictError) as raised:
        order.transition_to("cancelled", expected_version=0)
    assert (raised.value.expected, raised.value.actual) == (0, 1)
    assert order.transition_to("cancelled", expected_version=1).version == 2


def test_the_same_key_makes_one_transition(any_store: Store) -> None:
    """Given a request that is sent again, when its key is the same, then the first is answered."""
    order = begin(order_flow(), any_store)
    first = order.transition_to("checking_out", key="k-1")
    order.transition_to("purchased")
    again = order.transition_to("checking_out", key="k-1")
    assert unplaced([again]) == unplaced([first])
    assert path(order) == ["checking_out", "purchased"]


def test_the_key_of_another_transition_is_refused(store: Store) -> None:
    """Given a key that was used, when another state is asked for, then that is an error."""
    order = begin(order_flow(), store)
    order.transition_to("checking_out", key="k-1")
    with pytest.raises(KeyReusedError):
        order.transition_to("cancelled", key="k-1")


def test_the_same_key_triggers_once(store: Store) -> None:
    """Given an event that is sent again, when its key is the same, then the first is answered."""
    order = begin(order_flow(), store)
    first = order.trigger("submit", key="k-1")
    assert order.trigger("submit", key="k-1") == first
    assert path(order) == ["checking_out"]
    with pytest.raises(KeyReusedError):
        order.trigger("cancel", key="k-1")


def test_an_event_takes_the_first_target_whose_guards_pass(store: Store) -> None:
    """Given an event that leads to several states, when guards refuse some, then the next is."""

    class ReviewFlow(Flow[Order]):
        draft = Flow.state(initial=True)
        published = Flow.state()
        queued = Flow.state()
        rejected = Flow.state()
        decide = Flow.event(draft.to(published, queued, rejected))

    open_to: set[str] = set()
    ReviewFlow.guard(to="published", reason="embargo")(lambda order: "published" in open_to)
    ReviewFlow.guard(to="queued")(lambda order: "queued" in open_to)
    ReviewFlow.guard(to="rejected")(lambda order: "rejected" in open_to)

    def decided(id: str, *states: str) -> str | None:
        open_to.clear()
        open_to.update(states)
        return ReviewFlow(Order(), store=store, id=id).trigger("decide").to_state

    assert decided("1", "published", "queued", "rejected") == "published"
    assert decided("2", "queued", "rejected") == "queued"
    assert decided("3", "rejected") == "rejected"
    with pytest.raises(GuardFailedError, match="embargo"):
        decided("4")
