"""Hooks on PostgreSQL: connections that are lost in their transaction, and locks that cross."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from tests.service.bills import Bills, Diary, Note, Pay, Place, bill, memo, stands
from tests.stores.postgres.conftest import Open
from tests.stores.postgres.proxy import Fate, Proxy

from holdfast import Retry, Service, StoreError
from holdfast.service.within import innermost
from holdfast.stores.contract import Store
from holdfast.testing.consistency import faults


def test_an_error_that_a_hook_passes_over_acknowledges_nothing(store: Store) -> None:
    """The server takes the COMMIT of such a transaction for a ROLLBACK, and says nothing."""
    diary = Diary()
    bills = Service(bill, store, deps=diary)
    bills.handle("b-1", Place(5))
    diary.entries.clear()

    def read(change: object) -> None:
        here = innermost()
        assert here is not None
        with suppress(StoreError):
            here.joined.history("memo", "m-1", after=2**63, limit=1)

    diary.acts["after"] = read
    with pytest.raises(StoreError, match="passed its error over; nothing was written"):
        bills.handle("b-1", Pay())
    assert stands(bills) == (1, "Pending")
    assert "after_commit" not in diary.hooks
    assert "on_failure" in diary.hooks
    diary.acts.clear()
    assert bills.handle("b-1", Pay()).version == 2


@pytest.mark.parametrize("fate", ["is lost", "loses its answer"])
@pytest.mark.parametrize("message", ["BEGIN", "SAVEPOINT", "$type", "COMMIT\0"])
def test_a_transition_with_hooks_happens_once(
    open: Open, proxy: Proxy, store: Store, message: str, fate: Fate
) -> None:
    """Wherever the connection is lost: what its hooks sent, and what follows, happens once too."""
    diary = Diary()
    lossy = open(url=proxy.url)
    bills = Service(bill, lossy, deps=diary, retry=Retry(initial_seconds=0.001))
    memos = Service(memo, lossy)
    bills.handle("b-1", Place(5))
    diary.entries.clear()
    diary.acts["before"] = lambda change: memos.handle("m-1", Place(1))
    proxy.expect(message, fate)
    assert bills.handle("b-1", Pay()).version == 2
    assert not proxy.expected()
    assert diary.hooks[-2:] == ["after_commit", "after_commit 2"]
    assert diary.hooks.count("after_commit") == 1
    assert stands(bills) == (2, "Paid")
    assert [each.version for each in memos.history("m-1")] == [1]
    assert faults(store) == []


def test_hooks_that_cross_each_other_come_through(open: Open, store: Store) -> None:
    """Each writes what the other has locked: the database ends one, which begins anew."""
    both = threading.Barrier(2)
    services: list[Bills] = []

    def crossing(own: str, others: str) -> Bills:
        diary = Diary()
        met: list[str] = []

        def cross(change: object) -> None:
            if not met:
                met.append(own)
                both.wait(10)
            services[0].handle(others, Note(own))

        diary.acts["after"] = cross
        return Service(bill, store, deps=diary, retry=Retry(attempts=50))

    shared = Diary()
    services.append(Service(bill, store, deps=shared, retry=Retry(attempts=50)))
    for id in ("a", "b"):
        services[0].handle(id, Place(5))
    with ThreadPoolExecutor(2) as pool:
        told = [
            pool.submit(crossing(own, others).handle, own, Pay())
            for own, others in (("a", "b"), ("b", "a"))
        ]
        assert all(each.result(30).version >= 2 for each in told)
    assert stands(services[0], "a") == stands(services[0], "b") == (3, "Paid")
    assert "on_failure" not in shared.hooks  # what is begun anew has not failed


def test_callers_of_hooks_do_not_stand_in_each_others_way(store: Store) -> None:
    """What is written for different entities is written at the same time."""
    both = threading.Barrier(2)
    diary = Diary(acts={"after": lambda change: both.wait(10)})
    bills = Service(bill, store, deps=diary)
    for id in ("a", "b"):
        bills.handle(id, Place(5))
    with ThreadPoolExecutor(2) as pool:
        told = [pool.submit(bills.handle, id, Pay()) for id in ("a", "b")]
        assert [each.result(30).version for each in told] == [2, 2]
