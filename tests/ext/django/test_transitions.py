"""Flows of model instances: transitions in Django's transactions, and after their rollback."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from copy import copy, deepcopy
from sqlite3 import SQLITE_LIMIT_VARIABLE_NUMBER
from threading import Event, Thread
from time import sleep
from uuid import uuid4

import pytest
from django import test
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.db.models.signals import post_delete, post_save
from django.test.utils import CaptureQueriesContext
from tests.ext.django.shop.models import (
    Coupon,
    Letter,
    LetterFlow,
    Note,
    Order,
    OrderFlow,
    Parcel,
    Registered,
)

from holdfast import HoldfastError, Service, StoreError, ValidationError, VersionConflictError
from holdfast.ext.django import store_of

pytestmark = pytest.mark.usefixtures("project")


class GoneError(Exception):
    """Ends a block."""


def paid_order() -> Order:
    order = Order.objects.create(is_paid=True)
    order.flow.transition_to("checking_out")
    order.calls.clear()
    Note.objects.all().delete()
    return order


def path(order: Order) -> list[str | None]:
    return [each.to_state for each in order.flow.history]


def notes() -> list[str]:
    return list(Note.objects.order_by("pk").values_list("text", flat=True))


def fail() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")


def pass_over() -> None:
    with suppress(DatabaseError):
        fail()


def test_the_flow_of_an_instance_is_kept_under_its_primary_key() -> None:
    """As text, in the project's database; what it returns is what any flow returns."""
    order = Order.objects.create()
    made = order.flow.transition_to("checking_out", metadata={"by": "alice"})
    assert (made.id, made.version, made.actor) == (str(order.pk), 1, "alice")
    assert Order.objects.get().flow.current_state == "checking_out"


def test_an_instance_that_is_not_saved_has_no_flow_yet() -> None:
    """It says what to do."""
    order = Order()
    with pytest.raises(ValidationError, match=r"this Order is not saved yet.*save\(\) it first"):
        print(order.flow)
    assert order.status == ""


def test_an_instance_has_the_id_of_its_row_however_its_key_was_written() -> None:
    """What was saved under text is the entity that is read under the key itself."""
    parcel = Parcel.objects.create(id=uuid4().hex.upper(), number="p-2")
    parcel.payment.transition_to("paid")
    assert Parcel.objects.get(number="p-2").payment.current_state == "paid"
    assert Parcel.objects.in_state("paid", flow="payment").get() == Parcel.objects.get(number="p-2")


def test_a_row_without_the_field_that_names_it_has_no_flow() -> None:
    """It is said which."""
    parcel = Parcel.objects.create(number="")
    with pytest.raises(ValidationError, match="this Parcel has no number"):
        print(parcel.parcel)
    assert parcel.payment.current_state == "open"


@pytest.mark.parametrize("copied", [lambda order: order, copy, deepcopy])
def test_a_copy_that_is_saved_as_another_row_begins_anew(copied: Callable[[Order], Order]) -> None:
    """As Django copies rows, without a key; what was taken of the first is not its flow."""
    order = paid_order()
    key, flow = order.pk, order.flow
    assert (flow.current_state, order.status) == ("checking_out", "checking_out")
    other = copied(order)
    taken = other.flow
    other.pk, other._state.adding = key + 1000, True
    assert other.status == ""
    other.pk, other._state.adding = None, False
    assert other.status == ""
    other.save()
    assert (other.flow.current_state, other.status) == ("pending", "pending")
    for act in (lambda: taken.current_state, lambda: taken.transition_to("cancelled")):
        with pytest.raises(StoreError, match=rf"this Order is '{other.pk}' now.* when it was '"):
            act()
    other.flow.transition_to("cancelled")
    order = Order.objects.get(pk=key)
    assert (order.flow.current_state, order.status) == ("checking_out", "checking_out")
    assert path(order) == ["checking_out"]


def test_a_flow_is_not_copied_with_what_holds_it() -> None:
    """It says what to do."""
    with pytest.raises(TypeError, match="make a flow around the copy of its object"):
        deepcopy({"flow": paid_order().flow})


def test_a_row_that_a_callback_copies_or_deletes_is_transitioned_all_the_same() -> None:
    """What it is told of is whole."""
    order, other = paid_order(), paid_order()

    def copy_it() -> None:
        order.pk = None
        order.save()

    order.acts["before"], other.acts["after_commit purchased"] = copy_it, other.delete
    flow = order.flow
    made = flow.transition_to("purchased")
    assert (made.to_state, made.from_state) == ("purchased", "checking_out")
    made = other.flow.transition_to("purchased")
    assert (made.to_state, made.from_state) == ("purchased", "checking_out")
    assert {each.pk: each.flow.current_state for each in Order.objects.all()} == {
        int(flow.id): "purchased",
        order.pk: "pending",
    }


def test_saving_writes_all_but_the_column_and_makes_a_row_that_is_gone(project: str) -> None:
    """As for any instance, whether its flow was asked or not."""
    order = paid_order()
    saved: list[object] = []

    def note(update_fields: object, **options: object) -> None:
        saved.append(update_fields)

    post_save.connect(note, sender=Order)
    try:
        order.save()
    finally:
        post_save.disconnect(note, sender=Order)
    assert saved == [None]
    Order.objects.filter(pk=order.pk).delete()
    order.save()
    assert Order.objects.get() == order


def test_a_row_that_is_made_again_goes_on_where_the_log_left_off() -> None:
    """Its key is the same, and so is its history; the column tells what the flow does."""
    order = paid_order()
    order.flow.transition_to("cancelled")
    key = order.pk
    order.delete()
    assert order.status == ""
    order = Order(pk=key)
    order.save()
    fresh = Order.objects.create()
    with transaction.atomic():
        Order.objects.filter(pk=key).delete()
        Order.objects.bulk_create([Order(pk=key), Order(pk=fresh.pk + 7), Order()])
    states = [(each.status, each.flow.current_state) for each in Order.objects.order_by("pk")]
    assert [status for status, _ in states].count("cancelled") == 1
    assert all(status == state for status, state in states)
    assert (order.status, order.flow.current_state) == ("cancelled", "cancelled")
    Service(OrderFlow.machine, store_of(), deps=order).purge(str(key))
    order.delete()
    assert Order.objects.create(pk=key).status == "pending"


def test_a_row_that_was_just_made_tells_its_state_without_a_query(project: str) -> None:
    """Also one that brought its key, and one that is gone again by then."""
    told: list[str] = []

    def tell(instance: Order, **options: object) -> None:
        told.append(instance.status)

    post_delete.connect(tell, sender=Order)
    try:
        for order in (Order.objects.create(), Order.objects.create(pk=77)):
            with CaptureQueriesContext(connection) as queries:
                assert order.status == "pending"
            assert len(queries) == 0
            order.delete()
    finally:
        post_delete.disconnect(tell, sender=Order)
    assert told == ["pending", "pending"]


def test_a_row_whose_key_the_database_gives_has_a_flow_once_it_is_made() -> None:
    """Before, nobody knows the key."""
    with pytest.raises(ValidationError, match=r"not saved yet.*save\(\) it first"):
        print(Coupon().flow)
    coupon = Coupon.objects.create()
    assert (coupon.pk, coupon.status) == (1, "valid")
    coupon.flow.transition_to("used")
    coupon.save()
    assert coupon.status == Coupon.objects.get().status == "used"
    coupon.delete()
    made = Coupon.objects.bulk_create([Coupon(number=2), Coupon(number=1)])
    assert [each.status for each in made] == ["valid", "used"]


def test_rows_that_bring_their_keys_are_made_as_any_rows_are(project: str) -> None:
    """In few queries, which name no more values than Django counts."""
    known = Order.objects.create()
    known.flow.transition_to("cancelled")
    key = known.pk
    known.delete()
    if project == "sqlite":
        connection.ensure_connection()
        connection.connection.setlimit(SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    with CaptureQueriesContext(connection) as queries:
        Order.objects.bulk_create([Order(pk=key + n) for n in range(1200)])
    made = [each["sql"] for each in queries if each["sql"].startswith("INSERT")]
    assert len(queries) < 20
    assert "holdfast_entity" not in "".join(made)
    assert project == "sqlite" or "UNNEST" in made[0]
    assert Order.objects.get(status="cancelled").pk == key
    assert Order.objects.filter(status="pending").count() == 1199


def test_rows_that_bring_their_keys_wait_for_who_writes() -> None:
    """On an SQLite file, where who has read before could not."""
    if connections["default"].vendor == "sqlite":
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
    is_begun = Event()

    def write() -> None:
        try:
            with transaction.atomic():
                Note.objects.create(text="beside")
                is_begun.set()
                sleep(0.3)
        finally:
            connections.close_all()

    other = Thread(target=write)
    other.start()
    is_begun.wait()
    with transaction.atomic():
        Order.objects.bulk_create([Order(pk=1), Order(pk=2)])
    other.join()
    assert (Order.objects.count(), notes()) == (2, ["beside"])


def test_in_autocommit_a_transition_is_a_transaction_of_its_own_with_its_hooks() -> None:
    """Guards first, then the callbacks around the write, then what follows the commit."""
    order = paid_order()
    in_atomic: dict[str, bool] = {}
    for each in ("guard", "before", "after", "after_commit purchased"):
        order.acts[each] = lambda each=each: in_atomic.setdefault(
            each, connections["default"].in_atomic_block
        )
    order.flow.transition_to("purchased")
    assert order.calls == notes() == ["before", "after", "after_commit purchased"]
    assert in_atomic == {
        "guard": False,
        "before": True,
        "after": True,
        "after_commit purchased": False,
    }


@pytest.mark.parametrize("callback", ["before", "after"])
def test_a_callback_that_raises_undoes_its_transaction(callback: str) -> None:
    """What it wrote and the transition; what the failure callbacks write stays."""
    order = paid_order()

    def act() -> None:
        transaction.on_commit(lambda: order.calls.append("never"))
        raise GoneError

    order.acts[callback] = act
    flow = order.flow
    with pytest.raises(GoneError):
        flow.transition_to("purchased")
    assert flow.current_state == order.flow.current_state == "checking_out"
    assert notes() == ["on_failure"]
    assert "never" not in order.calls
    order.acts.clear()
    assert flow.transition_to("purchased").version == 2


@pytest.mark.parametrize("raises", [True, False])
def test_a_failure_callback_that_fails_in_atomic_undoes_nothing_else(raises: bool) -> None:
    """Whatever its query broke, after a guard's refusal and after an error."""
    order, other = paid_order(), paid_order()

    def fail() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    other.acts["on_failure"] = fail
    if not raises:
        other.is_paid = False
        other.save()
    with transaction.atomic():
        order.flow.transition_to("purchased")
        if raises:
            other.acts["before"] = fail
            with pytest.raises(DatabaseError):
                other.flow.transition_to("purchased")
        else:
            assert other.flow.try_transition_to("purchased") is False
    assert path(order) == ["checking_out", "purchased"]
    assert path(other) == ["checking_out"]


@pytest.mark.parametrize("nested", [False, True])
def test_an_error_that_a_callback_passes_over_is_told(project: str, nested: bool) -> None:
    """PostgreSQL would take the COMMIT for a ROLLBACK; to SQLite nothing has happened."""
    order = paid_order()
    order.acts["after"] = pass_over
    told = pytest.raises(StoreError, match="nothing was written")
    with transaction.atomic() if nested else nullcontext():
        with told if project == "postgres" else nullcontext():
            order.flow.transition_to("purchased")
        is_stored = path(order) == ["checking_out", "purchased"]
    assert is_stored == (project != "postgres")
    assert ("after_commit purchased" in notes()) == is_stored


def test_an_atomic_that_passed_over_an_error_is_not_taken_for_committed(project: str) -> None:
    """PostgreSQL rolls back: the block raises, and nothing follows. To SQLite nothing happened."""
    order = paid_order()
    is_lost = project == "postgres"
    told = pytest.raises(StoreError, match="its error was passed over; nothing was written")
    with told if is_lost else nullcontext(), transaction.atomic():
        order.flow.transition_to("cancelled")
        pass_over()
    assert order.flow.current_state == ("checking_out" if is_lost else "cancelled")
    assert order.calls == notes() == ([] if is_lost else ["after_commit cancelled"])


def test_an_atomic_that_undid_what_failed_commits_its_transitions() -> None:
    """By a savepoint, be it made by hand."""
    order = paid_order()
    with transaction.atomic():
        order.flow.transition_to("cancelled")
        with suppress(DatabaseError), transaction.atomic():
            fail()
        savepoint = connection.savepoint()
        assert savepoint is not None
        pass_over()
        connection.savepoint_rollback(savepoint)
    assert order.calls == ["after_commit cancelled"]
    assert Order.objects.get().flow.current_state == "cancelled"


@pytest.mark.parametrize("ended", ["committed", "rolled back"])
def test_an_atomic_without_a_transition_is_left_to_django(ended: str) -> None:
    """Also where one before it had some."""
    order = paid_order()
    with suppress(GoneError), transaction.atomic():
        order.flow.transition_to("cancelled")
        if ended == "rolled back":
            raise GoneError
    with transaction.atomic():
        pass_over()
    with transaction.atomic():
        Note.objects.create(text="later")
    assert notes()[-1] == "later"


@pytest.mark.parametrize("error", [GoneError, IntegrityError])
@pytest.mark.parametrize("callback", ["before", "after"])
def test_what_a_callback_leaves_for_the_commit_and_raises_undoes_nothing(
    callback: str, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """The transition is stored by then, and is told as such; the error is logged."""
    order = paid_order()

    def fail() -> None:
        raise error("the mail was not sent")

    order.acts[callback] = lambda: transaction.on_commit(fail)
    assert order.flow.transition_to("purchased").version == 2
    assert path(order) == ["checking_out", "purchased"]
    assert notes()[-1] == "after_commit purchased"
    assert "on_failure" not in notes()
    assert "the mail was not sent" in caplog.text


@pytest.mark.parametrize("callback", ["before", "after"])
def test_a_callback_that_raises_in_atomic_leaves_the_transaction_usable(callback: str) -> None:
    """It is undone alone, with what it left for the commit; the caller goes on."""
    order = paid_order()

    def act() -> None:
        transaction.on_commit(lambda: order.calls.append("never"))
        Note(pk=Note.objects.latest("pk").pk).save(force_insert=True)

    order.acts[callback] = act
    with transaction.atomic():
        with pytest.raises(Exception, match=r"(?i)unique"):
            order.flow.transition_to("purchased")
        Note.objects.create(text="caller")
        order.flow.transition_to("cancelled")
    assert path(order) == ["checking_out", "cancelled"]
    assert notes() == ["on_failure", "caller", "after_commit cancelled"]
    assert "never" not in order.calls


@pytest.mark.parametrize("callback", ["before", "after"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_callback_that_hides_an_error_of_the_database_fails_its_transition(
    callback: str, is_nested: bool
) -> None:
    """Django rolls back then, without a word: it is not told as done, nor does anything follow."""
    order = paid_order()

    def act() -> None:
        with suppress(IntegrityError):
            Note(pk=Note.objects.latest("pk").pk).save(force_insert=True)

    order.acts[callback] = act
    with transaction.atomic() if is_nested else nullcontext():
        with pytest.raises(StoreError, match="nothing was written"):
            order.flow.transition_to("purchased")
        assert order.flow.current_state == order.status == "checking_out"
    assert order.calls[-1] == "on_failure"
    assert notes() == ["on_failure"]


def test_a_callback_may_pass_over_what_failed_in_an_atomic_of_its_own() -> None:
    """Which is undone alone."""
    order = paid_order()

    def act() -> None:
        with suppress(IntegrityError), transaction.atomic():
            Note(pk=Note.objects.latest("pk").pk).save(force_insert=True)

    order.acts["before"] = order.acts["after"] = act
    order.flow.transition_to("purchased")
    assert notes() == ["before", "after", "after_commit purchased"]


def test_atomic_commits_a_transition_with_all_the_rest() -> None:
    """Callbacks for after the commit wait for the outermost."""
    order = paid_order()
    with transaction.atomic():
        with transaction.atomic():
            order.flow.transition_to("purchased")
        assert order.calls == ["before", "after"]
        assert order.flow.current_state == "purchased"
    assert order.calls == ["before", "after", "after_commit purchased"]


def test_after_an_outer_rollback_the_same_object_does_not_believe_what_was_undone() -> None:
    """Neither the flow nor the instance nor its column; and no transition starts from it."""
    order = paid_order()
    flow = order.flow
    with suppress(GoneError), transaction.atomic():
        flow.transition_to("purchased")
        assert (flow.current_state, order.status) == ("purchased", "purchased")
        raise GoneError
    assert (flow.current_state, order.status) == ("checking_out", "checking_out")
    assert order.calls == ["before", "after"]
    assert notes() == []
    assert flow.transition_to("cancelled").from_state == "checking_out"
    assert path(order) == ["checking_out", "cancelled"]


def test_after_a_savepoint_is_rolled_back_the_same_object_does_not_believe_it() -> None:
    """Nor is anything called after the commit that follows."""
    order = paid_order()
    flow = order.flow
    with transaction.atomic():
        with suppress(GoneError), transaction.atomic():
            flow.transition_to("purchased")
            raise GoneError
        assert (flow.current_state, order.status) == ("checking_out", "checking_out")
        flow.transition_to("cancelled")
    assert path(order) == ["checking_out", "cancelled"]
    assert order.calls == ["before", "after", "after_commit cancelled"]


def reload(order: Order) -> None:
    order.refresh_from_db()


def put(order: Order) -> None:
    order.status = "purchased"


WRITES = [reload, Order.full_clean, Order.save, put]
"""What gives the instance a value for its column."""


@pytest.mark.parametrize("write", WRITES)
def test_what_the_column_held_once_is_not_believed_after_a_transition(
    write: Callable[[Order], object],
) -> None:
    """In whatever place an instance was given it, whose flow was taken."""
    order = paid_order()
    flow = order.flow
    order.acts["before"] = lambda: write(order)
    flow.transition_to("purchased")
    assert (flow.current_state, order.status) == ("purchased", "purchased")
    order = Order.objects.create()
    flow = order.flow
    flow.transition_to("checking_out")
    write(order)
    Order.objects.get(pk=order.pk).flow.transition_to("cancelled")
    assert order.status == "cancelled"


@pytest.mark.parametrize("write", WRITES)
def test_what_the_column_held_in_atomic_is_not_believed_after_a_rollback(
    write: Callable[[Order], object],
) -> None:
    """The same where the transaction is gone that it was read in."""
    order = paid_order()
    with suppress(GoneError), transaction.atomic():
        order.flow.transition_to("purchased")
        write(order)
        assert order.status == "purchased"
        raise GoneError
    assert order.status == "checking_out"


def test_a_conflict_in_atomic_is_raised_and_leaves_the_transaction_open() -> None:
    """Nothing is tried again there."""
    order = paid_order()
    with transaction.atomic():
        with pytest.raises(VersionConflictError):
            order.flow.retry_conflicts(5).transition_to("cancelled", expected_version=7)
        order.flow.transition_to("cancelled")
    assert path(order) == ["checking_out", "cancelled"]


def test_a_callback_that_transitions_another_row_takes_it_along() -> None:
    """Both or neither."""
    order, other = paid_order(), Order.objects.create()
    order.acts["after"] = lambda: other.flow.transition_to("cancelled")
    order.acts["after_commit purchased"] = lambda: order.calls.append(str(other.calls))
    order.flow.transition_to("purchased")
    assert other.flow.current_state == "cancelled"
    assert other.calls == ["after_commit cancelled"]


def test_a_callback_whose_savepoint_is_undone_leaves_nothing_of_another_row() -> None:
    """Neither its transition nor what was to follow."""
    order, other = paid_order(), Order.objects.create()

    def act() -> None:
        with suppress(GoneError), transaction.atomic():
            other.flow.transition_to("cancelled")
            raise GoneError

    order.acts["after"] = act
    order.flow.transition_to("purchased")
    assert (other.flow.current_state, other.calls) == ("pending", [])


def test_a_callback_cannot_transition_the_row_that_is_about_to_be_written() -> None:
    """It would make the decision stale."""
    order = paid_order()
    order.acts["before"] = lambda: Order.objects.get(pk=order.pk).flow.transition_to("cancelled")
    with pytest.raises(Exception, match="which is about to be written"):
        order.flow.transition_to("purchased")
    assert order.flow.current_state == "checking_out"


def test_a_broken_transaction_is_not_written_to() -> None:
    """As Django refuses queries in it."""
    parcel = Parcel.objects.create(number="p-1")
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(StoreError, match="until the end of the 'atomic' block"):
            parcel.payment.transition_to("paid")
    assert parcel.payment.current_state == "open"
    assert store_of().count("payment") == {}


def test_a_flow_of_a_model_is_not_joined_by_hand() -> None:
    """It says that there is no need."""
    with pytest.raises(StoreError, match=r"takes part in transaction\.atomic by itself"):
        paid_order().flow.on(connections["default"].connection)


def test_the_mirror_follows_every_writer_and_saving_does_not_touch_it() -> None:
    """An instance that was loaded before does not write its old state back."""
    order = Order.objects.create()
    stale = Order.objects.get()
    assert stale.status == "pending"
    order.flow.transition_to("checking_out")
    stale.is_paid = True
    stale.save()
    assert Order.objects.get(is_paid=True).status == "checking_out"
    order.save()
    assert list(Order.objects.values_list("status", flat=True)) == ["checking_out"]


def test_a_batch_is_mirrored_in_as_many_queries_as_it_has_states(project: str) -> None:
    """And not in as many as it has entities; ids that no row can have are passed by."""
    send, back = (LetterFlow.compiled.commands[state] for state in ("sent", "written"))
    made = [Registered.objects.create() for _ in range(7)]
    letters = Service(LetterFlow.machine, store_of())
    with CaptureQueriesContext(connection) as one:
        letters.handle(str(made.pop().pk), send())
    ids = [str(letter.pk) for letter in made]
    with CaptureQueriesContext(connection) as many:
        stranger = [(id, send()) for id in ("x", "0", "01", "9" * 30, "-1")]
        letters.handle_many([*((id, send()) for id in ids), *stranger])
    assert len(many) == len(one)
    letters.handle_many([(ids[0], back()), (ids[1], back())])
    states = list(Registered.objects.order_by("pk").values_list("status", flat=True))
    assert states == ["written", "written", *["sent"] * 5]


def test_a_batch_of_a_thousand_is_mirrored_in_few_queries(project: str) -> None:
    """Though a query names no more of them than every SQLite takes."""
    send = LetterFlow.compiled.commands["sent"]
    with transaction.atomic():
        ids = [str(Registered.objects.create().pk) for _ in range(1000)]
    with CaptureQueriesContext(connection) as many:
        Service(LetterFlow.machine, store_of()).handle_many([(id, send()) for id in ids])
    assert len(many) < 20
    assert Registered.objects.filter(status="sent").count() == 1000


@pytest.mark.parametrize("wanted", ["cancelled", "purchased"])
def test_who_has_locked_a_row_may_transition_it_though_another_wants_to(wanted: str) -> None:
    """Both take the row first, and then its entity: they wait for one another in turn."""
    order = paid_order()

    def rival() -> bool:
        rival = Order.objects.get()
        rival.acts["before"] = rival.save
        return rival.flow.try_transition_to(wanted)

    with beside(rival) as begin, transaction.atomic():
        locked = Order.objects.select_for_update().get()
        locked.save()
        begin()
        assert locked.flow.transition_to("purchased").version == 2
    assert path(order) == ["checking_out", "purchased"]


def test_who_has_locked_a_row_may_transition_it_where_callbacks_write_it() -> None:
    """Though no column of it mirrors the state."""
    Parcel.objects.create(number="p-1")

    def send(parcel: Parcel) -> bool:
        return parcel.parcel.try_transition_to("sent", metadata={"by": "bob"})

    with beside(lambda: send(Parcel.objects.get())) as begin, transaction.atomic():
        locked = Parcel.objects.select_for_update().get()
        locked.save()
        begin()
        assert send(locked)
    assert Parcel.objects.get().parcel.version == 1


@contextmanager
def beside(rival: Callable[[], object]) -> Generator[Callable[[], None]]:
    """Yield what lets a rival begin in another thread; it loses, once it had to wait."""
    if connections["default"].vendor == "sqlite":
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
    answers: list[object] = []

    def run() -> None:
        try:
            answers.append(rival())
        except HoldfastError as error:
            answers.append(error)
        finally:
            connections.close_all()

    thread = Thread(target=run)

    def begin() -> None:
        thread.start()
        sleep(0.3)

    yield begin
    thread.join()
    [answer] = answers
    assert isinstance(answer, VersionConflictError) or answer is False


def test_a_column_above_the_model_of_the_flow_is_mirrored_in_too() -> None:
    """Where one model inherits another, with a row in each table."""
    letter = Registered.objects.create()
    assert letter.status == Letter.objects.get().status == "written"
    letter.flow.transition_to("sent")
    assert letter.status == Letter.objects.get().status == "sent"
    letter.save()
    assert Letter.objects.get().status == "sent"
    Letter.objects.update(status="")
    assert Registered.objects.mirror_states() == 1
    assert Registered.objects.in_state("sent").get().status == "sent"


def test_filling_a_mirror_waits_for_transitions_and_sees_them() -> None:
    """It does not write what was true before it had to wait."""
    if connections["default"].vendor == "sqlite":
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
    order = Order.objects.create()
    Order.objects.update(status="")

    def fill() -> None:
        try:
            Order.objects.filter(is_paid=False).mirror_states()
        finally:
            connections.close_all()

    other = Thread(target=fill)
    with transaction.atomic():
        order.flow.transition_to("cancelled")
        other.start()
        sleep(0.3)
    other.join()
    assert (order.flow.current_state, order.status) == ("cancelled", "cancelled")


def test_a_test_case_of_djangos_undoes_transitions_and_calls_what_follows_when_asked() -> None:
    """Every test of it is one transaction, around one for all that they share."""

    class Case(test.TestCase):
        order: Order

        @classmethod
        def setUpTestData(cls) -> None:
            cls.order = paid_order()

        def test_first(self) -> None:
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                self.order.flow.transition_to("purchased")
                assert self.order.calls == ["before", "after"]
            assert len(callbacks) == 1
            assert self.order.calls == ["before", "after", "after_commit purchased"]

        def test_second(self) -> None:
            assert (self.order.flow.current_state, self.order.status) == (
                "checking_out",
                "checking_out",
            )
            self.order.flow.transition_to("cancelled")
            assert self.order.calls == []

    result = unittest.TestResult()
    unittest.TestSuite([Case("test_first"), Case("test_second")]).run(result)
    assert (result.testsRun, result.errors, result.failures) == (2, [], [])
    assert Order.objects.count() == store_of().count("order").get("purchased", 0) == 0


def test_a_transaction_begun_by_hand_is_joined_but_for_what_follows_its_commit() -> None:
    """Without autocommit nobody tells of the commit; what an SQLite file needs is said."""
    parcel = Parcel.objects.create(number="p-1")
    transaction.set_autocommit(False)
    try:
        if connections["default"].vendor == "sqlite":
            with pytest.raises(StoreError, match="BEGIN IMMEDIATE"):
                parcel.payment.transition_to("paid")
            connections["default"].cursor().execute("BEGIN IMMEDIATE")
        parcel.payment.transition_to("paid")
        assert parcel.payment.current_state == "paid"
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    assert parcel.payment.current_state == "open"
