"""A flow around an object: what it remembers, what it costs, and where it cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace
from tests.flow.databases import outer
from tests.flow.orders import Order, Orders, begin, bring, noted, order_flow

from holdfast import (
    AsyncService,
    Change,
    DefinitionError,
    NotFoundError,
    Service,
    StoreError,
    ValidationError,
    transact,
)
from holdfast.stores.contract import Outcome, Store

NEVER = datetime(2000, 1, 1, tzinfo=UTC)


def counted(store: Store) -> tuple[Any, list[str]]:
    """Return the store as it notes what is read."""
    loads: list[str] = []
    load = store.load

    def noting(keys: Any) -> Any:
        loads.append("load")
        return load(keys)

    watched = copy(store)
    setattr(watched, "load", noting)  # noqa: B010 (a method)
    return watched, loads


def test_what_was_seen_is_remembered(store: Store) -> None:
    """Given a look, when more is asked, then the store is not."""
    watched, loads = counted(store)
    order = begin(order_flow(), watched)
    assert order.current_state == "pending"
    assert order.in_state("pending")
    assert order.can_transition_to("cancelled")
    assert order.allowed_transitions
    assert order.version == 0
    assert loads == ["load"]


def test_what_was_seen_is_forgotten_with_a_transition(store: Store) -> None:
    """Given a look, when a transition is tried, whatever comes of it, then the next asks anew."""
    flow = order_flow()
    order = begin(flow, store)
    assert order.current_state == "pending"
    begin(flow, store).transition_to("checking_out")
    assert order.current_state == "pending"
    assert not order.try_transition_to("shipped")
    assert order.current_state == "checking_out"


def test_a_transition_is_decided_on_what_is_true(store: Store) -> None:
    """Given a look that has become old, when the object transitions, then from where it is."""
    flow = order_flow()
    order = begin(flow, store)
    assert order.current_state == "pending"
    begin(flow, store).transition_to("checking_out")
    assert order.transition_to("purchased").from_state == "checking_out"


def test_what_a_guard_saw_is_forgotten_with_its_transition(store: Store) -> None:
    """Given a guard that asks the flow where it is, when it has transitioned, then it is there."""
    flow = order_flow()
    orders: list[Orders] = []

    @flow.guard()
    def look(order: Order) -> bool:
        return orders[0].current_state == "pending"

    orders.append(begin(flow, store))
    orders[0].transition_to("checking_out")
    assert orders[0].current_state == "checking_out"


def test_a_guard_that_asks_the_flow_is_told_what_is_true(store: Store) -> None:
    """Given a look that has become old, when a guard asks the flow, then it is told anew."""
    flow = order_flow()
    orders: list[Orders] = []
    flow.guard(to="purchased")(lambda order: orders[0].current_state == "checking_out")
    orders.append(begin(flow, store))
    assert orders[0].current_state == "pending"
    begin(flow, store).transition_to("checking_out")
    assert orders[0].try_transition_to("purchased")


def test_guards_are_told_alike_beforehand_and_by_the_transition(store: Store) -> None:
    """Given a new order, one under way and an erased one, when asked why not, guards see it all."""
    flow = order_flow()
    told: list[Change] = []

    @flow.guard
    def look(order: Order, change: Change) -> bool:
        told.append(replace(change, at=NEVER))
        return True

    order = begin(flow, store)
    for state in ("checking_out", "purchased"):
        assert order.why_not(state, metadata={"by": "ann"}) == []
        order.transition_to(state, metadata={"by": "ann"})
    Service(flow.machine, store, deps=order.object).purge("o-1")
    assert order.reload().why_not("cancelled") == []
    order.transition_to("cancelled")
    assert [change.version for change in told] == [1, 1, 2, 2, 4, 4]
    assert told[::2] == told[1::2]


def test_what_tries_again_is_the_same_flow(store: Store) -> None:
    """Given a look, when the flow transitions as it tries again, then the flow knows that."""
    order = begin(order_flow(), store)
    assert order.current_state == "pending"
    order.retry_conflicts(2).transition_to("checking_out")
    assert order.current_state == "checking_out"


def test_a_flow_whose_transaction_commits_knows_that(database: Store, database_url: str) -> None:
    """Given looks before and within a transaction, when it is committed, then both flows see it."""
    order = begin(order_flow(), database)
    assert order.current_state == "pending"
    with outer(database_url) as transaction:
        joined = order.on(transaction.connection)
        joined.transition_to("checking_out")
        assert order.current_state == "pending"
        transaction.commit()
    assert order.current_state == "checking_out"


def test_a_reload_asks_anew(store: Store) -> None:
    """Given a look that has become old, when reloaded, then the next question asks the store."""
    flow = order_flow()
    order = begin(flow, store)
    assert order.current_state == "pending"
    begin(flow, store).transition_to("cancelled")
    assert order.current_state == "pending"
    assert order.reload().current_state == "cancelled"


def test_a_flow_on_a_connection_remembers_nothing(database: Store, database_url: str) -> None:
    """Given a transaction, when others write in it, then the flow sees that at once."""
    flow = order_flow()
    order = begin(flow, database)
    with outer(database_url) as transaction:
        first, second = (order.on(transaction.connection) for _ in range(2))
        assert first.current_state == "pending"
        second.transition_to("checking_out")
        assert first.current_state == "checking_out"
        transaction.commit()
    assert order.current_state == "checking_out"


def test_what_was_seen_before_the_transaction_is_forgotten(
    database: Store, database_url: str
) -> None:
    """Given a look that has become old, when the flow joins a transaction, then it asks again."""
    flow = order_flow()
    order = begin(flow, database)
    assert order.current_state == "pending"
    begin(flow, database).transition_to("checking_out")
    with outer(database_url) as transaction:
        order.on(transaction.connection)
        assert order.current_state == "checking_out"
        transaction.rollback()


def test_what_tries_again_takes_part_in_the_transaction(database: Store, database_url: str) -> None:
    """Given a flow in a transaction, when it is to try again, then it is still in there."""
    flow = order_flow()
    flow.after_commit(lambda order: order.calls.append("after_commit"))
    order = begin(flow, database)
    with outer(database_url) as transaction:
        joined = order.on(transaction.connection, on_commit=transaction.on_commit)
        again = joined.retry_conflicts(2)
        again.transition_to("checking_out")
        assert noted(order) == []
        transaction.rollback()
    assert order.current_state == "pending"


def test_a_transition_takes_part_in_the_callers_transaction(
    database: Store, database_url: str
) -> None:
    """Given a transaction, when it is rolled back, then no transition was made."""
    order = begin(order_flow(), database)
    with outer(database_url) as transaction:
        bring(order.on(transaction.connection), "checking_out", "purchased")
        transaction.rollback()
    assert order.history == []


def test_callbacks_after_the_commit_wait_for_the_callers(
    database: Store, database_url: str
) -> None:
    """Given a transaction, when it is committed, then after-commit callbacks are called."""
    flow = order_flow()
    flow.after()(lambda order: order.calls.append("after"))
    flow.after_commit()(lambda order: order.calls.append("after_commit"))
    order = begin(flow, database)
    with outer(database_url) as transaction:
        order.on(transaction.connection, on_commit=transaction.on_commit).transition_to("cancelled")
        assert noted(order) == ["after"]
        transaction.commit()
        assert noted(order) == ["after_commit"]


def test_callbacks_after_the_commit_need_to_be_told_of_it(
    database: Store, database_url: str
) -> None:
    """Given such callbacks, when it transitions where nobody tells of the commit, it is refused."""
    flow = order_flow()
    flow.after_commit()(lambda order: None)
    order = begin(flow, database)
    with outer(database_url) as transaction:
        joined = order.on(transaction.connection)
        with pytest.raises(DefinitionError, match="on_commit"):
            joined.transition_to("checking_out")
        assert joined.history == []
        transaction.rollback()


def test_a_callback_that_raises_leaves_the_callers_transaction_open(
    database: Store, database_url: str
) -> None:
    """Given a callback that raises, when the transaction goes on, then what else it did is kept."""
    flow = order_flow()

    @flow.after(to="purchased")
    def fail(order: Order) -> None:
        raise LookupError

    order = begin(flow, database)
    with outer(database_url) as transaction:
        joined = order.on(transaction.connection)
        joined.transition_to("checking_out")
        with pytest.raises(LookupError):
            joined.transition_to("purchased")
        assert joined.current_state == "checking_out"
        joined.transition_to("cancelled")
        transaction.commit()
    assert [each.to_state for each in order.history] == ["checking_out", "cancelled"]


def test_a_callback_transitions_another_flow_in_the_same_transaction(any_store: Store) -> None:
    """Given a callback that brings another order on, when it raises then, both are as before."""
    flow = order_flow()
    parcel = order_flow()(Order(), store=any_store, id="o-2")

    @flow.after(to="cancelled")
    def cancel_parcel(order: Order) -> None:
        parcel.transition_to("cancelled")
        assert parcel.current_state == "cancelled"
        if not order.in_stock:
            raise LookupError

    order = begin(flow, any_store)
    order.object.in_stock = False
    with pytest.raises(LookupError):
        order.transition_to("cancelled")
    assert (order.current_state, parcel.current_state) == ("pending", "pending")
    order.object.in_stock = True
    order.transition_to("cancelled")
    assert (order.current_state, parcel.current_state) == ("cancelled", "cancelled")


def test_what_is_written_is_told_though_the_store_fails_after_it(store: Store) -> None:
    """Given a log that cannot be read back, when an order transitions, then that has succeeded."""

    def fail(*args: object, **options: object) -> Any:
        raise StoreError("the connection was lost")

    def commit(*args: Any, **options: Any) -> list[Outcome]:
        return [replace(outcome, seal=None) for outcome in store.commit(*args, **options)]

    broken = copy(store)
    for name, method in (("history", fail), ("commit", commit)):
        setattr(broken, name, method)
    flow = order_flow()
    made = begin(flow, broken).transition_to("checking_out", metadata={"by": "ann"}, key="k-1")
    assert (made.to_state, made.version, made.actor, made.key) == ("checking_out", 1, "ann", "k-1")
    assert (made.position, made.digest, made.token) == (0, "", None)
    assert begin(flow, broken).try_transition_to("purchased") is True
    assert begin(flow, store).version == 2


def test_metadata_are_shown_to_guards_that_are_asked_beforehand(store: Store) -> None:
    """Given a guard that looks at who does it, when asked whether, then it is told who would."""
    flow = order_flow()
    flow.guard()(lambda order, change: change.metadata.get("by") == "ann")
    order = begin(flow, store)
    assert not order.can_transition_to("cancelled")
    assert order.can_transition_to("cancelled", metadata={"by": "ann"})
    assert order.why_not("cancelled", metadata={"by": "ann"}) == []
    assert len(order.why_not("cancelled", metadata={"by": "bob"})) == 1


def test_metadata_may_name_states_wherever(store: Store) -> None:
    """Given states and events among the metadata, when it is kept, then as plain text."""
    flow = order_flow()
    order = begin(flow, store)
    metadata: dict[str, Any] = {
        "from": flow.pending,
        "ways": [flow.cancelled, (flow.submit, 1)],
        "taken": {flow.checking_out: {"by": flow.cancel}},
    }
    made = order.transition_to("checking_out", metadata=metadata)
    assert made.metadata == {
        "from": "pending",
        "ways": ["cancelled", ["submit", 1]],
        "taken": {"checking_out": {"by": "cancel"}},
    }


@pytest.mark.parametrize("metadata", ["hello", [1], 3, [("by", "ann")]])
def test_metadata_are_a_mapping(store: Store, metadata: Any) -> None:
    """Given what is none, when it is passed to any verb, then that is said."""
    order = begin(order_flow(), store)
    for verb in (order.transition_to, order.can_transition_to, order.why_not):
        with pytest.raises(ValidationError, match="metadata is a mapping, not"):
            verb("cancelled", metadata=metadata)
    with pytest.raises(ValidationError, match="metadata is a mapping, not"):
        order.trigger("cancel", metadata=metadata)


def test_metadata_that_hold_themselves_are_refused(store: Store) -> None:
    """Given metadata that no JSON can hold, when given, then that is said as for other services."""
    order = begin(order_flow(), store)
    metadata: dict[str, Any] = {"by": "ann"}
    metadata["again"] = [metadata, metadata]
    for verb in (order.transition_to, order.try_transition_to, order.why_not):
        with pytest.raises(ValidationError, match="nested deeper than 100 levels"):
            verb("cancelled", metadata=metadata)
    with pytest.raises(ValidationError, match="nested deeper than 100 levels"):
        order.trigger("cancel", metadata=metadata)
    assert order.history == []


def test_a_flow_and_a_service_of_its_machine_see_the_same(store: Store) -> None:
    """Given a flow, when a service is bound to its machine, then records and finds are there."""
    flow = order_flow()
    bring(begin(flow, store), "checking_out")
    orders = Service(flow.machine, store)
    assert [record.id for record in orders.find(state="checking_out")] == ["o-1"]
    assert orders.count_by_state() == {"checking_out": 1}


def test_a_service_without_the_object_takes_no_commands(store: Store) -> None:
    """Given callbacks, when a service of the machine has no object for them, then it only reads."""
    flow = order_flow()
    flow.before()(lambda order: order.calls.append("before"))
    begin(flow, store).transition_to("checking_out")
    cancel = flow.compiled.commands["cancelled"]()
    alone = Service(flow.machine, store)
    sends: list[Callable[[], object]] = [
        lambda: alone.handle("o-1", cancel),
        lambda: alone.handle_many([("o-1", cancel)]),
        lambda: alone.preview("o-1", cancel),
        alone.begin,
        lambda: transact(alone, lambda transaction: transaction.prepare("o-1", cancel)),
        lambda: asyncio.run(AsyncService(flow.machine, store).handle("o-1", cancel)),
    ]
    for send in sends:
        with pytest.raises(DefinitionError, match="guards and callbacks of order take the object"):
            send()
    assert alone.get("o-1").version == 1
    assert alone.allowed("o-1")
    order = Order()
    Service(flow.machine, store, deps=order).handle("o-1", cancel)
    assert order.calls == ["before"]
    alone.purge("o-1")


def test_after_a_purge_it_is_in_the_initial_state(store: Store) -> None:
    """Given an order that was erased, when asked, then nothing is known of it, and it may begin."""
    flow = order_flow()
    flow.before(from_="pending")(lambda order: order.calls.append("before"))
    order = begin(flow, store)
    bring(order, "checking_out", "purchased")
    orders = Service(flow.machine, store)
    orders.purge("o-1")
    order.reload()
    assert order.current_state == "pending"
    assert order.transition_to("cancelled").version == 4
    assert order.version == 4
    assert noted(order) == ["before", "before"]
    orders.purge("o-1")
    order.reload()
    assert order.version == 0
    assert order.last_transition == order.history[-1]
    assert order.last_transition_to("cancelled") is None
    with pytest.raises(NotFoundError):
        orders.get("o-2")


@pytest.mark.parametrize("id", ["", "a\0b", 3, None])
def test_an_id_that_cannot_be_one_is_refused_at_once(store: Store, id: Any) -> None:
    """Given what is no id, when a flow is made for it, then that is said."""
    with pytest.raises(ValidationError):
        order_flow()(Order(), store=store, id=id)


def test_a_store_that_is_none_is_refused_at_once() -> None:
    """Given a URL, when a flow is made with it, then it says to open it."""
    with pytest.raises(DefinitionError, match="open it: open_store"):
        order_flow()(Order(), store="memory://", id="o-1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_template_is_around_nothing(store: Store) -> None:
    """Given an abstract flow, when one is made, then it says to inherit."""
    with pytest.raises(DefinitionError, match="Orders is abstract: a template; inherit from it"):
        Orders(Order(), store=store, id="o-1")


def test_a_flow_shows_what_it_is_around(store: Store) -> None:
    """Given a flow, its text names its class, its id and its store."""
    assert repr(begin(order_flow(), store)) == f"<OrderFlow 'o-1' on {store.url}>"


def test_an_object_may_be_nothing(store: Store) -> None:
    """Given no object, when the order transitions, then callbacks are given None."""
    flow: Any = order_flow()
    seen: list[object] = []
    flow.before()(lambda nothing: seen.append(nothing))  # noqa: PLW0108 (callbacks are functions)
    flow(None, store=store, id="o-1").transition_to("cancelled")
    assert seen == [None]


def test_the_object_of_a_flow_stays_the_same(store: Store) -> None:
    """Given another object, when it is to be the flow's, then that is refused, and not ignored."""
    order = begin(order_flow(), store)
    given = order.object
    for flow in (order, order.retry_conflicts(2)):
        with pytest.raises(AttributeError):
            flow.object = Order()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue] (that is the point)
        assert flow.object is given
