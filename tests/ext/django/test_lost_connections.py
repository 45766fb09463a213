"""What becomes of a transition whose connection is lost, the answer to its commit included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.signals import request_finished, request_started
from django.db import connection, transaction
from tests.ext.django.conftest import use
from tests.ext.django.shop.models import Note, Order, Parcel
from tests.stores.postgres.proxy import Fate, Proxy, proxy_to

from holdfast import StoreError


@pytest.fixture
def proxy(postgres: None, migrated_postgres: dict[str, Any]) -> Iterator[Proxy]:
    """Have the project reach its database through a proxy."""
    address = "{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**migrated_postgres)
    with proxy_to(f"postgresql://{address}") as proxy:
        port = proxy.url.partition("@")[2].partition("/")[0].rpartition(":")[2]
        options = {"sslmode": "disable", "gssencmode": "disable"}
        behind = {"HOST": "127.0.0.1", "PORT": port, "OPTIONS": options}
        use(default={**migrated_postgres, **behind})
        yield proxy
        use(default=migrated_postgres)


@pytest.mark.parametrize("fate", ["loses its answer", "is lost"])
def test_a_commit_whose_answer_is_lost_is_made_once(proxy: Proxy, fate: Fate) -> None:
    """What was written is asked for and found, or written now; the callbacks go with it."""
    order = Order.objects.create(is_paid=True)
    order.flow.transition_to("checking_out")
    Note.objects.all().delete()
    proxy.expect("COMMIT", fate)
    assert order.flow.transition_to("purchased").version == 2
    assert not proxy.expected()
    assert [each.to_state for each in order.flow.history] == ["checking_out", "purchased"]
    texts = list(Note.objects.order_by("pk").values_list("text", flat=True))
    assert texts == ["before", "after", "after_commit purchased"]


def test_a_connection_that_is_lost_in_atomic_takes_all_with_it(proxy: Proxy) -> None:
    """And the next transaction is on a new one."""
    order = Order.objects.create()

    def lose() -> None:
        with transaction.atomic():
            Note.objects.create(text="caller")
            proxy.cut()
            order.flow.transition_to("cancelled")

    with pytest.raises(StoreError, match="nothing was written"):
        lose()
    connection.close_if_unusable_or_obsolete()
    assert (order.flow.current_state, Note.objects.count()) == ("pending", 0)
    assert order.flow.transition_to("cancelled").version == 1


@pytest.mark.usefixtures("postgres")
@pytest.mark.parametrize("is_read", [True, False])
def test_a_connection_that_was_lost_between_requests_is_replaced(
    migrated_postgres: dict[str, Any], is_read: bool
) -> None:
    """Where the project has Django look at connections that it keeps."""
    use(default={**migrated_postgres, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True})
    parcel = Parcel.objects.create(number="p-1")
    flow = parcel.payment
    lose_connection()
    request_started.send(None)
    if is_read:
        assert flow.current_state == "open"
    else:
        assert flow.transition_to("paid").version == 1


@pytest.mark.usefixtures("postgres")
def test_a_connection_that_was_lost_unnoticed_is_told_as_that() -> None:
    """And not as tables that are missing; the next request has a new one."""
    parcel = Parcel.objects.create(number="p-1")
    lose_connection()
    with pytest.raises(StoreError, match="the connection was lost: try again"):
        print(parcel.payment.current_state)
    request_finished.send(None)
    assert parcel.payment.current_state == "open"


def lose_connection() -> None:
    """Have the server end the project's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
