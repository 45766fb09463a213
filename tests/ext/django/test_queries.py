"""Querysets by the state of a flow: what they return, and that an index finds it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import pytest
from django.db import connection, models, transaction
from django.test.utils import isolate_apps
from tests.ext.django.shop.models import Note, Order, Parcel, PaymentFlow

from holdfast import QueryError, Service, ValidationError
from holdfast.ext.django import (
    FlowManager,
    ModelFlow,
    current_state,
    in_state,
    most_recent_transition,
    not_in_state,
    store_of,
)

pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def orders(project: str) -> dict[str, Order]:
    """Return orders in every state, and one whose initial state was written down."""
    paths: dict[str, list[str]] = {
        "pending": [],
        "checking_out": ["checking_out"],
        "purchased": ["checking_out", "purchased"],
        "cancelled": ["cancelled"],
    }
    made = {}
    for state, path in paths.items():
        made[state] = Order.objects.create(is_paid=True)
        for each in path:
            made[state].flow.transition_to(each)
    made["recorded"] = Order.objects.create()
    made["recorded"].flow.record_initial()
    return made


def names(orders: dict[str, Order], rows: Iterable[Order]) -> set[str]:
    keys = {order.pk: name for name, order in orders.items()}
    return {keys[row.pk] for row in rows}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["cancelled"], {"cancelled"}),
        (["cancelled", "purchased"], {"cancelled", "purchased"}),
        (["pending"], {"pending", "recorded"}),
        (["pending", "cancelled"], {"pending", "recorded", "cancelled"}),
        ([], set()),
    ],
)
def test_in_state_and_not_in_state_part_the_rows(
    orders: dict[str, Order], asked: list[str], found: set[str]
) -> None:
    """A row without an entity is in the initial state; without names nothing is excluded."""
    assert names(orders, Order.objects.in_state(*asked)) == found
    others = set(orders) - found
    assert names(orders, Order.objects.not_in_state(*asked)) == others
    assert names(orders, Order.objects.filter(~in_state(Order, *asked))) == others


def test_what_was_purged_counts_as_in_the_initial_state(orders: dict[str, Order]) -> None:
    """As the flow itself says."""
    order = orders["cancelled"]
    Service(type(order.flow).machine, store_of(), deps=order).purge(str(order.pk))
    assert order.flow.current_state == "pending"
    assert order in Order.objects.in_state("pending")
    assert order in Order.objects.not_in_state("cancelled")
    assert order not in Order.objects.not_in_state("pending")
    assert order not in Order.objects.in_state("cancelled")


def test_conditions_combine(orders: dict[str, Order]) -> None:
    """They are conditions of Django's, as any other."""
    either = in_state(Order, "cancelled") | models.Q(pk=orders["pending"].pk)
    assert names(orders, Order.objects.filter(either)) == {"cancelled", "pending"}
    assert names(orders, Order.objects.exclude(not_in_state(Order, "cancelled"))) == {"cancelled"}
    assert Order.objects.in_state("cancelled").filter(is_paid=False).count() == 0


def test_a_state_that_is_none_is_an_error(orders: dict[str, Order]) -> None:
    """It would find nothing for ever."""
    with pytest.raises(QueryError, match="'shiped' is no state of OrderFlow; they are pending, "):
        Order.objects.in_state("shiped")


def test_states_and_last_transitions_are_expressions(orders: dict[str, Order]) -> None:
    """To annotate, to order and to group by."""
    rows = Order.objects.with_state().order_by("current_state", "pk")
    states = ["cancelled", "checking_out", "pending", "pending", "purchased"]
    assert list(rows.values_list("current_state", flat=True)) == states
    counted = Order.objects.values(state=current_state(Order)).annotate(n=models.Count("pk"))
    assert dict(counted.values_list("state", "n"))["pending"] == 2
    asked = most_recent_transition(Order, "version")
    versions = dict(Order.objects.annotate(last=asked).values_list("pk", "last"))
    assert versions[orders["purchased"].pk] == 2
    assert versions[orders["pending"].pk] is None
    at = Order.objects.annotate(last=most_recent_transition(Order)).values_list("last", flat=True)
    last = orders["purchased"].flow.last_transition
    assert last is not None
    assert at.get(pk=orders["purchased"].pk) == last.at


def test_each_of_two_flows_is_asked_by_its_name() -> None:
    """One is kept under a unique field, one under a key that is a UUID; querysets are chained."""
    heavy, light = (Parcel.objects.create(number=f"p-{grams}", grams=grams) for grams in (2000, 5))
    heavy.parcel.transition_to("sent", metadata={"by": "alice"})
    light.payment.transition_to("paid")
    assert heavy.parcel.id == "p-2000"
    assert light.payment.id == str(light.pk)
    assert list(Parcel.objects.in_state("sent", flow="parcel")) == [heavy]
    assert list(Parcel.objects.in_state("paid", flow="payment")) == [light]
    assert list(Parcel.objects.in_state("open", flow="payment")) == [heavy]
    assert list(Parcel.objects.not_in_state("open", flow="payment")) == [light]
    assert list(Parcel.objects.not_in_state("paid", flow="payment")) == [heavy]
    assert list(Parcel.objects.heavy().in_state("sent", flow="parcel")) == [heavy]
    with pytest.raises(
        ValidationError, match="Parcel has several flows, parcel, payment: say which"
    ):
        Parcel.objects.in_state("sent")
    with pytest.raises(ValidationError, match="'post' is no flow of Parcel; its flows are parcel,"):
        Parcel.objects.in_state("sent", flow="post")
    with pytest.raises(ValidationError, match="Note has no flow: declare one in its body"):
        in_state(Note, "sent")


@pytest.mark.parametrize("key", [10**17, 10**18, 2**63 - 1, -(2**63)])
def test_rows_are_found_whatever_the_size_of_their_key(key: int) -> None:
    """Keys that are drawn, and not counted, have nineteen digits."""
    Order.objects.create(pk=key).flow.transition_to("cancelled")
    assert Order.objects.in_state("cancelled").get().pk == key
    assert Order.objects.not_in_state("pending").get().pk == key
    assert Order.objects.in_state("pending").count() == 0


@isolate_apps("tests.ext.django.shop")
def test_rows_are_found_whatever_the_collation_of_their_key(project: str) -> None:
    """Ids are compared byte by byte, and keys as their column says."""

    class Word(models.Model):
        collation = "NOCASE" if project == "sqlite" else "POSIX"
        word = models.CharField(max_length=9, primary_key=True, db_collation=collation)
        flow = ModelFlow(PaymentFlow)
        objects: ClassVar[FlowManager[Word]] = FlowManager()

        class Meta:
            app_label = "shop"

    with connection.schema_editor() as editor:
        editor.create_model(Word)
    try:
        new, old = Word.objects.create(word="new"), Word.objects.create(word="Old")
        old.flow.transition_to("paid")
        assert list(Word.objects.in_state("paid")) == [old]
        assert list(Word.objects.in_state("open")) == [new]
        assert list(Word.objects.not_in_state("open")) == [old]
        assert list(Word.objects.with_state().filter(current_state="paid")) == [old]
        last = Word.objects.annotate(last=most_recent_transition(Word, "version"))
        assert list(last.filter(last=1)) == [old]
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Word)


@pytest.mark.parametrize("id", ["not-a-number", "007", "9" * 30, "9" * 19, "\u0661", "1.0"])
def test_entities_that_no_row_can_have_are_passed_by(orders: dict[str, Order], id: str) -> None:
    """Others may write to a machine too; a query does not fail for it."""
    Order(pk=7).save()
    order_flow = type(orders["pending"].flow)
    for flow, state in ((order_flow, "cancelled"), (PaymentFlow, "paid")):
        service = Service(flow.machine, store_of(), deps=orders["pending"])
        service.handle(id, flow.compiled.commands[state]())
    assert names(orders, Order.objects.in_state("cancelled")) == {"cancelled"}
    assert Order.objects.not_in_state("pending").count() == 3
    assert Order.objects.exclude(status=current_state(Order)).count() == 0
    assert Parcel.objects.in_state("paid", flow="payment").count() == 0


def test_a_mirror_that_came_later_is_filled(orders: dict[str, Order]) -> None:
    """In one statement, for all rows or some."""
    Order.objects.update(status="")
    assert Order.objects.mirror_states() == 5
    assert Order.objects.with_state().filter(status=models.F("current_state")).count() == 5


MANY = 100_000
FEW = 10
FILL = """
INSERT INTO {entity} (machine, id, version, state_type, state, schema_version, created_at,
    updated_at, entered_version, digest)
SELECT 'order', CAST(id AS text), 1, CASE WHEN id % 10000 = 0 THEN 'cancelled' ELSE 'purchased' END,
    '{{}}', 1, '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z', 1, ''
FROM shop_order
"""
FILL_LOG = """
INSERT INTO {log} (machine, id, version, kind, to_type, at, recorded_at, digest)
SELECT 'order', CAST(id AS text), 1, 'command', 'purchased', '', '', '' FROM shop_order
"""


def test_ten_rows_of_many_are_found_without_a_scan(project: str) -> None:
    """By the index of entities on their state, and from there by the key of the rows."""
    entity, log = ("entity", "transition")
    if project == "postgres":
        entity, log = ("holdfast.entity", "holdfast.transition")
    with transaction.atomic(), connection.cursor() as cursor:
        Order.objects.bulk_create([Order() for _ in range(MANY)], batch_size=5_000)
        cursor.execute(FILL.format(entity=entity))
        cursor.execute(FILL_LOG.format(log=log))
        cursor.execute("ANALYZE")
        found = Order.objects.in_state("cancelled")
        assert found.count() == FEW
        plans = [found.explain(), Order.objects.not_in_state("pending", "purchased").explain()]
        last = Order.objects.annotate(last=most_recent_transition(Order, "version"))
        one = last.filter(pk=Order.objects.latest("pk").pk).explain()
        transaction.set_rollback(True)
    for plan in plans:
        assert "entity_by_state" in plan, plan
        assert "SCAN shop_order" not in plan, plan
        assert "Seq Scan" not in plan, plan
    assert "transition_by_version" in one or "sqlite_autoindex_transition_1" in one, one
