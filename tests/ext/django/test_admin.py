"""The admin: the history that nobody edits, and the buttons, through Django's own test client."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from tests.ext.django.shop.admin import OrderAdmin, ParcelAdmin
from tests.ext.django.shop.models import Order, OrderFlow, Parcel, Registered

from holdfast import Flow
from holdfast.ext.django import store_of
from holdfast.ext.django.admin import FlowAdmin
from holdfast.ext.django.models import Entity, ReadOnlyError, Transition

pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def client(project: str) -> Client:
    """Return a client that is logged in as a superuser, and checked for CSRF."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("alice"))
    return client


@pytest.fixture
def order(project: str) -> Order:
    """Return an order."""
    return Order.objects.create()


def page_of(row: Any) -> str:
    name = type(row).__name__.lower()
    return f"/admin/shop/{name}/{row.pk}/change/"


def press(client: Client, row: Any, label: str, **typed: str) -> str:
    """Press a button of the page of a row, as a browser does; return the page that follows."""
    page = client.get(page_of(row)).content.decode()
    return post(client, page, label, **typed)


def post(client: Client, page: str, label: str, **typed: str) -> str:
    """Press a button of a page that was loaded before."""
    for form in re.findall(r'<form class="module holdfast-flow".*?</form>', page, re.DOTALL):
        button = re.search(rf'name="to" value="(\w+)">{label}<', form)
        if button:
            action = re.search(r'action="([^"]+)"', form)
            assert action is not None
            hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
            given = {**hidden, "to": button[1], **typed}
            done = client.post(action[1], given, follow=True)
            return str(done.content.decode())
    raise AssertionError(f"the page has no button {label}")


def buttons(page: str) -> list[str]:
    return re.findall(r'name="to" value="(\w+)"', page)


def rows(page: str) -> list[list[str]]:
    """Return what the history shows, but for the times."""
    found = []
    for row in re.findall(r"<tr>(<td class=\"field-version.*?)</tr>", page, re.DOTALL):
        cells = dict(re.findall(r'<td class="field-(\w+)">(.*?)</td>', row, re.DOTALL))
        found.append([cells[name] for name in ("version", "before", "after", "who", "why")])
    return found


def test_a_page_has_one_button_for_each_transition_that_the_rules_allow(
    client: Client, order: Order
) -> None:
    """And none where nothing leads on."""
    assert buttons(client.get(page_of(order)).content.decode()) == ["checking_out", "cancelled"]
    order.flow.transition_to("cancelled")
    assert buttons(client.get(page_of(order)).content.decode()) == []


def test_a_button_transitions_and_records_who_and_why(client: Client, order: Order) -> None:
    """The page that follows says so, and shows it in the history; so does Django's own."""
    page = press(client, order, "Cancelled", reason="changed her mind")
    assert f"Order {order.pk} is in the state “cancelled” now." in page
    assert rows(page) == [["1", "pending", "cancelled", "alice", "changed her mind"]]
    made = order.flow.last_transition
    assert made is not None
    assert (made.to_state, made.actor, made.reason) == ("cancelled", "alice", "changed her mind")
    assert LogEntry.objects.get().get_change_message() == "Transition to cancelled."


@override_settings(USE_THOUSAND_SEPARATOR=True)
def test_a_button_knows_its_version_however_numbers_are_written(
    client: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As digits alone."""
    monkeypatch.setattr(OrderFlow, "version", 1234567)
    page = client.get(page_of(order)).content.decode()
    assert 'name="version" value="1234567"' in page


def test_enter_in_the_field_of_the_reason_chooses_no_transition(
    client: Client, order: Order
) -> None:
    """Browsers press the first button of the form then, which does nothing."""
    page = client.get(page_of(order)).content.decode()
    [form] = re.findall(r'<form class="module holdfast-flow".*?</form>', page, re.DOTALL)
    first, *others = re.findall(r"<button[^>]*>", form)
    assert "disabled" in first
    assert not any("disabled" in each for each in others)


def test_the_refusal_of_a_guard_is_shown_with_its_reason(client: Client, order: Order) -> None:
    """Nothing is written."""
    order.flow.transition_to("checking_out")
    page = press(client, order, "Purchased")
    assert "“purchased” was not done: nothing was paid." in page
    assert order.flow.current_state == "checking_out"


def test_a_button_of_a_page_that_is_out_of_date_does_nothing(client: Client, order: Order) -> None:
    """Somebody else was faster; the page that follows says what is true."""
    page = client.get(page_of(order)).content.decode()
    order.flow.transition_to("checking_out")
    page = post(client, page, "Cancelled")
    assert "somebody else changed order" in page
    assert "the state “checking out” now" in page
    assert order.flow.current_state == "checking_out"


def test_a_state_that_does_not_follow_is_refused_with_what_does(
    client: Client, order: Order
) -> None:
    """As a request that no page made may ask."""
    page = client.get(page_of(order)).content.decode()
    for state, told in (("refunded", "is no state of OrderFlow"), ("purchased", "allowed: ")):
        forged = page.replace('value="cancelled"', f'value="{state}"')
        assert told in post(client, forged, "Cancelled")
    assert order.flow.version == 0


def test_a_request_that_no_page_makes_is_a_bad_one(order: Order) -> None:
    """A version that is no number is not taken for none, which would do without looking."""
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("alice"))
    url = f"/admin/shop/order/{order.pk}/transition/"
    for given in ({"flow": "parcel"}, {"version": "x"}, {"version": "-1"}, {"version": "9" * 5000}):
        assert client.post(url, {"to": "cancelled", **given}).status_code == 400
    assert order.flow.version == 0


def test_the_conflict_of_another_row_is_not_taken_for_this_ones(
    client: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as what it is."""
    other = Order.objects.create()
    order.is_paid = True
    order.save()
    order.flow.transition_to("checking_out")

    def call(self: Order, what: str) -> None:
        if what == "before":
            other.flow.transition_to("cancelled", expected_version=7)

    monkeypatch.setattr(Order, "call", call)
    page = press(client, order, "Purchased")
    assert "somebody else changed" not in page
    assert f"order &#x27;{other.pk}&#x27;" in page
    assert order.flow.current_state == "checking_out"


def test_a_transition_takes_a_post_with_the_token_of_the_page(client: Client, order: Order) -> None:
    """Neither a link nor another site makes one."""
    url = f"/admin/shop/order/{order.pk}/transition/"
    assert client.get(url).status_code == 405
    assert client.post(url, {"to": "cancelled"}).status_code == 403
    assert order.flow.version == 0


def test_who_may_only_view_sees_the_history_and_no_buttons(order: Order) -> None:
    """And is refused what a button would ask."""
    order.flow.transition_to("checking_out", metadata={"by": "bob"})
    user = User.objects.create_user("carol", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_order"))
    client = Client()
    client.force_login(user)
    page = client.get(page_of(order)).content.decode()
    assert buttons(page) == []
    assert rows(page) == [["1", "pending", "checking out", "bob", ""]]
    done = client.post(f"/admin/shop/order/{order.pk}/transition/", {"to": "cancelled"})
    assert done.status_code == 403
    assert order.flow.current_state == "checking_out"


def test_a_stranger_is_asked_to_log_in(order: Order) -> None:
    """Before anything else."""
    done = Client().post(f"/admin/shop/order/{order.pk}/transition/", {"to": "cancelled"})
    assert done.status_code == 302
    assert "/login/" in done["Location"]


def test_the_button_of_a_row_that_is_gone_leads_to_the_list(client: Client, order: Order) -> None:
    """With a message."""
    page = client.get(page_of(order)).content.decode()
    order.delete()
    page = post(client, page, "Cancelled")
    assert "Select order to change" in page
    assert "is not there any more." in page


def test_saving_the_page_leaves_the_history_alone_whatever_is_posted(
    client: Client, order: Order
) -> None:
    """Its form set takes nothing, be it made up."""
    order.flow.transition_to("checking_out", metadata={"by": "bob"})
    before = list(Transition.objects.values())
    page = client.get(page_of(order)).content.decode()
    token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[0]
    prefix = "holdfast-history"
    forged = {
        f"{prefix}-TOTAL_FORMS": "1",
        f"{prefix}-INITIAL_FORMS": "1",
        f"{prefix}-0-seq": str(before[0]["seq"]),
        f"{prefix}-0-to_state": "shipped",
        f"{prefix}-0-DELETE": "on",
    }
    done = client.post(
        page_of(order), {"csrfmiddlewaretoken": token, "is_paid": "on", **forged}, follow=True
    )
    assert "was changed successfully" in done.content.decode()
    assert list(Transition.objects.values()) == before
    order.refresh_from_db()
    assert (order.is_paid, order.status) == (True, "checking_out")


def test_the_rows_of_the_log_are_neither_saved_nor_deleted(order: Order) -> None:
    """Nor those of the entities, one by one or many at once."""
    order.flow.transition_to("checking_out")
    for model in (Transition, Entity):
        row = model.objects.get()
        for write in (
            row.save,
            row.delete,
            model.objects.all().delete,
            lambda model=model: model.objects.update(version=7),
            lambda model=model: model.objects.create(version=7),
        ):
            with pytest.raises(ReadOnlyError, match="transitions write it"):
                write()


def test_a_page_shows_the_latest_transitions_and_that_there_may_be_more(
    client: Client, order: Order
) -> None:
    """So that it stays small, however long the history is."""
    order.is_paid = True
    order.save()
    order.flow.record_initial()
    for state in ("checking_out", "purchased"):
        order.flow.transition_to(state)
    page = client.get(page_of(order)).content.decode()
    assert [row[0] for row in rows(page)] == ["3", "2", "1"]
    assert "The latest 3 are shown." in page


def test_what_is_typed_as_a_reason_is_shown_as_text(client: Client, order: Order) -> None:
    """And not as part of the page."""
    page = press(client, order, "Cancelled", reason="<script>alert(1)</script>")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert(1)" not in page


def test_each_of_two_flows_has_buttons_and_a_history(client: Client) -> None:
    """Named as in the model; a press moves the one it belongs to."""
    parcel = Parcel.objects.create(number="p-1")
    page = press(client, parcel, "Sent")
    assert "Transitions: parcel" in page
    assert "Transitions: payment" in page
    page = post(client, page, "Paid")
    assert [row[2] for row in rows(page)] == ["sent", "paid"]
    assert (parcel.parcel.current_state, parcel.payment.current_state) == ("sent", "paid")


def test_a_state_that_newer_code_wrote_is_shown_without_buttons(
    client: Client, order: Order
) -> None:
    """While both run side by side."""

    class NewerFlow(Flow[Any], name="order"):
        pending = Flow.state(initial=True)
        on_its_way = Flow.state()
        pending.to(on_its_way)

    page = client.get(page_of(order)).content.decode()
    NewerFlow(order, store=store_of(), id=str(order.pk)).transition_to("on_its_way")
    assert "is in the state “on its way” now" in post(client, page, "Cancelled")
    page = client.get(page_of(order)).content.decode()
    assert "<strong>on its way</strong>" in page
    assert buttons(page) == []
    assert [row[2] for row in rows(page)] == ["on its way"]
    assert "on its way" in client.get("/admin/shop/order/").content.decode()


def test_the_page_in_a_popup_has_no_buttons(client: Client, order: Order) -> None:
    """It is there to be saved, and closed by that."""
    page = client.get(f"{page_of(order)}?_popup=1").content.decode()
    assert 'name="is_paid"' in page
    assert buttons(page) == []


def test_the_page_of_a_new_row_has_neither_history_nor_buttons(client: Client) -> None:
    """They begin with the row."""
    page = client.get("/admin/shop/order/add/").content.decode()
    assert "holdfast-flow" not in page
    assert "Transitions" not in page


def test_the_list_shows_and_filters_by_state(client: Client, order: Order) -> None:
    """A row without an entity is in the initial state."""
    gone = Order.objects.create()
    gone.flow.transition_to("cancelled")
    page = client.get("/admin/shop/order/").content.decode()
    assert re.findall(r'class="field-current_state">([^<]+)<', page) == ["cancelled", "pending"]
    page = client.get("/admin/shop/order/?state=pending&_facets=True").content.decode()
    assert re.findall(r">(order \d+)</a>", page) == [f"order {order.pk}"]
    assert "cancelled (1)" in page


def test_the_list_shows_sorts_and_filters_by_each_of_two_flows(client: Client) -> None:
    """In a column for each, in one query for all rows."""
    sent, paid, new = (Parcel.objects.create(number=f"p-{n}") for n in (1, 2, 3))
    sent.parcel.transition_to("sent", metadata={"by": "bob"})
    paid.payment.transition_to("paid")

    def shown(query: str) -> list[tuple[str, ...]]:
        page = client.get(f"/admin/shop/parcel/{query}").content.decode()
        columns = [
            re.findall(rf'class="field-{name}[^"]*">(?:<a[^>]*>)?([^<]+)<', page)
            for name in ("number", "parcel_state", "payment_state")
        ]
        return list(zip(*columns, strict=True))

    first, second, third = (
        ("p-1", "sent", "open"),
        ("p-2", "packed", "paid"),
        ("p-3", "packed", "open"),
    )
    assert sorted(shown("")) == [first, second, third]
    assert shown("?o=2.1") == [second, third, first]
    assert shown("?o=-3.1") == [second, first, third]
    assert shown("?parcel_state=packed&o=1") == [second, third]
    assert shown("?parcel_state=packed&payment_state=open") == [third]
    with CaptureQueriesContext(connection) as few:
        shown("")
    new.delete()
    with CaptureQueriesContext(connection) as fewer:
        shown("")
    assert len(few) == len(fewer)
    page = client.get("/admin/shop/parcel/").content.decode()
    assert "By parcel" in page
    assert "By payment" in page


def test_the_states_of_two_flows_may_be_a_field_of_the_page(client: Client) -> None:
    """Each is named."""
    state = re.compile(r'<div class="readonly">([^<]+)<')
    page = client.get("/admin/shop/parcel/add/").content.decode()
    assert state.findall(page) == ["parcel: packed, payment: open"]
    parcel = Parcel.objects.create(number="p-1")
    parcel.payment.transition_to("paid")
    page = client.get(page_of(parcel)).content.decode()
    assert state.findall(page) == ["parcel: packed, payment: paid"]


def test_a_column_of_states_that_is_added_for_a_request_is_as_any_other(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sorted by, and costs no query for each row; that of two flows goes by the first."""

    def add(self: FlowAdmin, request: Any) -> list[Any]:
        return [*FlowAdmin.get_list_display(self, request), "current_state"]

    def shown(model: str, query: str) -> list[str]:
        page = client.get(f"/admin/shop/{model}/{query}").content.decode()
        return re.findall(r'class="field-current_state">([^<]+)<', page)

    for admin in (OrderAdmin, ParcelAdmin):
        monkeypatch.setattr(admin, "list_display", ("__str__",))
        monkeypatch.setattr(admin, "get_list_display", add)
    orders = [Order.objects.create() for _ in range(3)]
    orders[1].flow.transition_to("cancelled")
    sent, _ = (Parcel.objects.create(number=f"p-{n}") for n in (1, 2))
    sent.parcel.transition_to("sent", metadata={"by": "bob"})
    assert shown("order", "?o=2") == ["cancelled", "pending", "pending"]
    assert shown("order", "?o=-2") == ["pending", "pending", "cancelled"]
    two = ["parcel: packed, payment: open", "parcel: sent, payment: open"]
    assert (shown("parcel", "?o=2"), shown("parcel", "?o=-2")) == (two, two[::-1])
    with CaptureQueriesContext(connection) as few:
        shown("order", "")
    orders[0].delete()
    with CaptureQueriesContext(connection) as fewer:
        shown("order", "")
    assert len(few) == len(fewer)


def test_a_filter_for_a_state_that_is_none_shows_the_list(client: Client, order: Order) -> None:
    """As Django does with any filter that is none."""
    done = client.get("/admin/shop/order/?state=shiped", follow=True)
    assert done.redirect_chain == [("/admin/shop/order/?e=1", 302)]
    assert f"order {order.pk}" in done.content.decode()


def test_a_button_leads_back_to_the_list_as_it_was_filtered(client: Client, order: Order) -> None:
    """By way of the row, whose page knows the filters."""
    filters = "_changelist_filters=state%3Dpending"
    page = client.get(f"{page_of(order)}?{filters}").content.decode()
    action = re.search(r'action="([^"]+/transition/[^"]*)"', page)
    assert action is not None
    token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[0]
    given = {"to": "cancelled", "csrfmiddlewaretoken": token}
    assert client.post(action[1], given)["Location"] == f"{page_of(order)}?{filters}"


def test_the_state_may_be_a_field_of_the_page(client: Client) -> None:
    """That of a new row is the initial one."""
    state = re.compile(r'<div class="readonly">(\w+)<')
    page = client.get("/admin/shop/registered/add/").content.decode()
    assert state.findall(page) == ["written"]
    letter = Registered.objects.create()
    letter.flow.transition_to("sent")
    assert state.findall(client.get(page_of(letter)).content.decode()) == ["sent"]


def test_a_flow_that_waits_for_its_field_is_not_on_the_page(client: Client) -> None:
    """The others are."""
    page = client.get(page_of(Parcel.objects.create(number=""))).content.decode()
    assert buttons(page) == ["paid"]
    assert page.count("No transition yet.") == 1


def test_who_may_not_see_a_row_is_not_told_whether_it_is_there(order: Order) -> None:
    """A row that is gone is forbidden as another is."""
    client = Client()
    client.force_login(User.objects.create_user("carol", is_staff=True))
    for pk in (order.pk, order.pk + 1):
        done = client.post(f"/admin/shop/order/{pk}/transition/", {"to": "cancelled"})
        assert done.status_code == 403
