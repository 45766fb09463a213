"""What Statesman gets wrong, and a flow gets right."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.flow.databases import outer
from tests.flow.orders import Order, begin, bring, order_flow, path

from holdfast import (
    Flow,
    GuardFailedError,
    HoldfastError,
    InvalidTransitionError,
    Retry,
    VersionConflictError,
    open_store,
)
from holdfast.stores.contract import Store


def test_after_a_rollback_the_rolled_back_state_is_not_believed(
    database: Store, database_url: str
) -> None:
    """Given a transition that its caller rolled back, when asked, then the object knows nothing."""
    order = begin(order_flow(), database)
    bring(order, "checking_out")
    with outer(database_url) as transaction:
        joined = order.on(transaction.connection)
        joined.transition_to("purchased")
        assert joined.current_state == "purchased"
        assert joined.last_transition_to("purchased") is not None
        transaction.rollback()
        if isinstance(transaction.connection, sqlite3.Connection):
            transaction.connection.execute("BEGIN IMMEDIATE")
        assert joined.current_state == "checking_out"
        with pytest.raises(InvalidTransitionError, match="in state checking_out"):
            joined.transition_to("shipped")
        assert [each.to_state for each in joined.history] == ["checking_out"]
    assert path(order) == ["checking_out"]


def test_a_raising_callback_leaves_the_state_that_was_looked_at(store: Store) -> None:
    """Given a history that was read before, when a callback raises, then the state is as it was."""
    flow = order_flow()

    @flow.after(to="purchased")
    def fail(order: Order) -> None:
        raise LookupError

    order = begin(flow, store)
    bring(order, "checking_out")
    before = (order.current_state, order.history, order.last_transition, order.version)
    with pytest.raises(LookupError):
        order.transition_to("purchased")
    assert (order.current_state, order.history, order.last_transition, order.version) == before
    order.transition_to("cancelled")


def test_removing_a_state_keeps_a_guard_of_several_targets_a_guard(store: Store) -> None:
    """Given a guard to two states, when one is removed, then the other stays guarded."""
    base = order_flow()
    base.guard(to=["checking_out", "cancelled"])(lambda order: False)
    base.guard(to="cancelled")(lambda order: False)

    class Shorter(base):  # type: ignore[misc, valid-type]
        pass

    Shorter.remove_state("cancelled")

    order = Shorter(Order(), store=store, id="o-1")
    with pytest.raises(GuardFailedError):
        order.transition_to("checking_out")
    assert len(order.why_not("checking_out")) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transition SET to_type = 'shipped'",
        "DELETE FROM transition",
        "INSERT OR REPLACE INTO transition SELECT * FROM transition",
    ],
)
def test_history_cannot_be_edited_nor_deleted(tmp_path: Path, statement: str) -> None:
    """Given a history, when somebody changes it with SQL, then the database refuses."""
    with open_store(f"sqlite:///{tmp_path}/orders.db") as store:
        bring(begin(order_flow(), store), "checking_out", "purchased")
    with closing(sqlite3.connect(tmp_path / "orders.db")) as connection:
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
        connection.rollback()
        count = connection.execute("SELECT count(*) FROM transition").fetchone()
    assert count == (2,)


class CountingFlow(Flow[Order], name="count"):
    """Counts by leading to itself."""

    counting = Flow.state(initial=True)
    counting.to(counting)


@CountingFlow.guard()
def _always(order: Order) -> bool:
    return True


@CountingFlow.before()
def _nothing(order: Order) -> None: ...


def test_of_eight_threads_that_transition_at_once_one_does(any_store: Store) -> None:
    """Given one version that all saw, when eight threads transition, then one is first."""
    flow = order_flow()
    flow.before()(lambda order: None)

    def transition(number: int) -> str:
        try:
            begin(flow, any_store).transition_to("cancelled", expected_version=0)
        except VersionConflictError:
            return "conflict"
        return "done"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(transition, range(8)))
    assert sorted(outcomes) == ["conflict"] * 7 + ["done"]
    assert path(begin(flow, any_store)) == ["cancelled"]


def test_eight_threads_lose_nothing(any_store: Store) -> None:
    """Given eight threads that retry, when each transitions five times, then all are in the log."""
    retry = Retry(attempts=500, initial_seconds=0.0005, cap_seconds=0.01)

    def count(number: int) -> None:
        for _ in range(5):
            thing = CountingFlow(Order(), store=any_store, id="c-1", retry=retry)
            thing.transition_to("counting", metadata={"by": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    history = CountingFlow(Order(), store=any_store, id="c-1").history
    assert [each.version for each in history] == [*range(1, 41)]
    assert sorted(each.metadata["by"] for each in history) == sorted([*range(8)] * 5)


@pytest.mark.parametrize("kind", ["guard", "before", "after"])
@pytest.mark.parametrize(
    ("state", "error"), [("refunded", InvalidTransitionError), ("cancelled", GuardFailedError)]
)
def test_a_nested_failure_is_not_taken_for_the_outer_ones(
    store: Store, kind: str, state: str, error: type[InvalidTransitionError | GuardFailedError]
) -> None:
    """Given a callback that transitions another, when that is refused, then the error arrives."""
    outer_flow, inner_flow = order_flow(), order_flow()
    inner_flow.guard(to="cancelled")(lambda order: False)
    refusals: list[HoldfastError] = []

    @outer_flow.on_guard_failure()
    def refused(order: Order, error: GuardFailedError) -> None:
        refusals.append(error)

    def pay(order: Order) -> bool:
        inner_flow(Order(), store=store, id="o-2").transition_to(state)
        return True

    getattr(outer_flow, kind)(to="checking_out")(pay)
    order = begin(outer_flow, store)
    with pytest.raises(error, match="order 'o-2'"):
        order.try_transition_to("checking_out")
    assert (path(order), refusals) == ([], [])


def test_a_nested_refusal_of_the_same_entity_is_not_taken_for_the_outer_ones(store: Store) -> None:
    """Given a callback that tries the same order elsewhere, when refused, then that is no False."""
    flow = order_flow()

    @flow.after(to="checking_out")
    def again(order: Order) -> None:
        begin(flow, store).transition_to("refunded")

    with pytest.raises(HoldfastError):
        begin(flow, store).try_transition_to("checking_out")
    assert begin(flow, store).history == []


def test_none_of_no_states_is_excluded(store: Store) -> None:
    """Given no names, when an entity is asked whether it is in them, then it is in none."""
    order = begin(order_flow(), store)
    assert order.in_state() is False
