"""What is passed wrongly: said at once, of the right branch, with the value and what to pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.service.orders import Desk, Orders, Place, order

from holdfast import (
    AsyncService,
    BatchError,
    CircuitBreaker,
    DefinitionError,
    QueryError,
    Record,
    Request,
    Retry,
    Service,
    ValidationError,
)
from holdfast.stores.contract import Store

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("bind", [Service, AsyncService])
def test_a_url_is_no_store(bind: Any) -> None:
    """The message says how to open it."""
    with pytest.raises(DefinitionError, match=r"open_store\('sqlite:///x\.db'\)"):
        bind(order, "sqlite:///x.db", deps=Desk())
    with pytest.raises(DefinitionError, match="what open_store returns, not None"):
        bind(order, None, deps=Desk())


@pytest.mark.parametrize("bind", [Service, AsyncService])
def test_what_is_no_machine_or_no_retry_is_refused(bind: Any, store: Store) -> None:
    """At construction, not at the first conflict."""
    with pytest.raises(DefinitionError, match="a service binds a Machine, not 'order'"):
        bind("order", store, deps=Desk())
    with pytest.raises(DefinitionError, match=r"retry= is a Retry.*, not 3"):
        bind(order, store, deps=Desk(), retry=3)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"attempts": "x"}, "whole attempts from 1, not 'x'"),
        ({"attempts": 1.5}, "not 1.5"),
        ({"attempts": True}, "not True"),
        ({"attempts": 0}, "not 0"),
        ({"budget_seconds": NAN}, "budget_seconds above 0, not nan"),
        ({"budget_seconds": "5"}, "not '5'"),
        ({"budget_seconds": 10**400}, "not 1000000"),
        ({"initial_seconds": NAN}, r"not \(nan, 1.0\)"),
        ({"initial_seconds": None}, "not"),
        ({"cap_seconds": NAN}, "nan"),
        ({"breaker": 3}, "breaker= is a CircuitBreaker, not 3"),
        ({"on_conflict": 3}, "on_conflict= is a function, not 3"),
    ],
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any], said: str) -> None:
    """With the value."""
    with pytest.raises(DefinitionError, match=said):
        Retry(**limits)


def test_no_limit_at_all_is_a_budget() -> None:
    """Infinity is a number of seconds."""
    assert Retry(budget_seconds=INFINITY).budget_seconds == INFINITY


@pytest.mark.parametrize(
    "limits", [{"threshold": 1.5}, {"threshold": "3"}, {"cooldown_seconds": NAN}], ids=repr
)
def test_a_breaker_without_a_threshold_is_refused(limits: dict[str, Any]) -> None:
    """With the value."""
    with pytest.raises(DefinitionError, match="CircuitBreaker takes"):
        CircuitBreaker(**limits)


@pytest.mark.parametrize(
    ("kind", "said", "ask"),
    [
        (ValidationError, "timeout .*'x'", lambda o: o.handle("a", Place(total=1), timeout="x")),
        (ValidationError, "nan", lambda o: o.handle("a", Place(total=1), timeout=NAN)),
        (ValidationError, "handle_many takes .* not None", lambda o: o.handle_many(None)),
        (ValidationError, "Checkpoint.*not 3", lambda o: o.handle_many([], checkpoint=3)),
        (QueryError, "state of order or several, not 3", lambda o: o.find(state=3)),
        (QueryError, "3 is no state of order", lambda o: o.find(state=[3])),
        (QueryError, r"\[\] is no state of order", lambda o: o.find(state=[[]])),
        (ValidationError, "dict", lambda o: o.find(after={})),
        (ValidationError, "int", lambda o: o.find(after=0)),
        (QueryError, "limit .*'3'", lambda o: o.find(limit="3")),
        (QueryError, "not None", lambda o: o.get_many(None)),
        (QueryError, "several ids, not 'ab'", lambda o: o.get_many("ab")),
        (QueryError, "several ids, not b'ab'", lambda o: o.get_many(b"ab")),
        (QueryError, "limit from 0, not -1", lambda o: o.contention(-1)),
        (QueryError, "limit from 0, not 'a'", lambda o: o.contention("a")),
        (QueryError, "limit from 0, not None", lambda o: o.contention(limit=None)),
        (QueryError, "not 1180591620717411303424", lambda o: o.history("a", after=2**70)),
    ],
)
def test_arguments_of_another_type_are_refused(
    orders: Orders, kind: type[Exception], said: str, ask: Callable[[Any], object]
) -> None:
    """Rejections where something would be written, query errors where something is asked."""
    with pytest.raises(kind, match=said):
        ask(orders)
    assert orders.count_by_state() == {}


BAD: list[Any] = [3, None, ("a",), ("a", Place(total=1), None, None, None, None, None), {}]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_request_that_is_none_is_its_own_answer(orders: Orders, bad: Any) -> None:
    """However many sound ones came before it, in batches that are written by then."""
    sound = [(f"o-{number}", Place(total=1)) for number in range(1_001)]
    answers = orders.handle_many([*sound, bad, Request("z", Place(total=1))])
    assert [type(a) for a in answers] == [Record] * 1_001 + [ValidationError, Record]
    assert "pair or a Request, not " in str(answers[1_001])


def test_a_request_that_is_none_keeps_all_from_being_written_with_atomic(orders: Orders) -> None:
    """And is named by its index."""
    batch: Any = [("a", Place(total=1)), None]
    with pytest.raises(BatchError) as caught:
        orders.handle_many(batch, atomic=True)
    assert list(caught.value.failures) == [1]
    assert orders.count_by_state() == {}
