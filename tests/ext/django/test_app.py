"""The app: its migrations, its checks, several databases, services of typed machines."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from io import StringIO
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.db import connections, models, transaction
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import isolate_apps, override_settings
from tests.ext.django.conftest import file, use
from tests.ext.django.shop.models import Note, Order, OrderFlow, ParcelFlow, PaymentFlow

from holdfast import (
    DefinitionError,
    Flow,
    Service,
    StoreError,
    VersionConflictError,
    open_store,
    transact,
)
from holdfast.ext.django import DjangoStore, ModelFlow, StateField, store_of
from holdfast.ext.django.checks import check_models
from holdfast.stores.sql import load_migrations
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, sample, undisturbed

MIGRATIONS = Path(__file__).parents[3] / "src/holdfast/ext/django/migrations"

MEMORY = file(Path(":memory:"))


@pytest.fixture
def two(migrated_file: Path, tmp_path: Path) -> Iterator[None]:
    """Have the project use two migrated databases, and a third that is not."""
    for name in ("default", "other"):
        (tmp_path / name).write_bytes(migrated_file.read_bytes())
    use(**{name: file(tmp_path / name) for name in ("default", "other", "bare")})
    yield
    connections.close_all()


def told(found: list[CheckMessage]) -> list[tuple[str | None, str]]:
    return [(each.id, each.msg) for each in found]


@pytest.mark.usefixtures("project")
def test_the_models_agree_with_the_migrations() -> None:
    """`makemigrations --check` has nothing to add, and `check` nothing to say."""
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    call_command("check", fail_level="WARNING", verbosity=0)


def test_each_migration_of_the_store_is_one_of_the_app() -> None:
    """So that `manage.py migrate` is all that is needed."""
    names = sorted(path.stem for path in MIGRATIONS.glob("0*.py"))
    for dialect in ("sqlite", "postgres"):
        migrations = load_migrations(dialect)
        assert names == [f"{each.number:04}_{each.name}" for each in migrations]


def test_the_tables_are_those_that_the_store_makes_itself(project: str) -> None:
    """To the letter: any tool of Holdfast's works with them."""
    store = store_of()
    store.migrate()
    assert store.flaws() == []
    Order.objects.create().flow.transition_to("cancelled", metadata={"by": "alice"})
    settings = connections["default"].settings_dict
    url = f"sqlite:///{settings['NAME']}"
    if project == "postgres":
        url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**settings)
    connections.close_all()
    with open_store(url) as outside:
        assert faults(outside) == []
        assert [each.to_type for each in outside.read_log(limit=9)] == ["cancelled"]


def test_a_database_that_is_a_store_already_is_taken_as_it_is(tmp_path: Path) -> None:
    """With what it holds."""
    with open_store(f"sqlite:///{tmp_path}/shop.db") as store:
        Service(sample, store, deps=undisturbed).handle("e", Add())
    use(default=file(tmp_path / "shop.db"))
    call_command("migrate", verbosity=0)
    assert store_of().count(sample.name) == {"Open": 1}
    connections.close_all()


def test_the_sql_can_be_read_before_it_is_run() -> None:
    """`sqlmigrate` prints it, for what the database has not."""
    use(default=MEMORY)
    out = StringIO()
    call_command("sqlmigrate", "holdfast", "0001", stdout=out)
    assert "CREATE TABLE entity" in out.getvalue()
    assert "CREATE VIEW holdfast_transition" in out.getvalue()
    close_memory()


class Apart:
    """Keeps the app out of every database but the default one."""

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        return db == "default" if app_label == "holdfast" else None


@override_settings(DATABASE_ROUTERS=[Apart()])
def test_a_router_keeps_the_tables_out_of_a_database() -> None:
    """They are made where it allows them."""
    use(default=MEMORY, other=MEMORY)
    tables = {}
    for name in ("default", "other"):
        call_command("migrate", "holdfast", database=name, verbosity=0)
        tables[name] = {"entity", "transition", "holdfast_entity", "holdfast_transition"} & {
            each.name
            for each in connections[name].introspection.get_table_list(connections[name].cursor())
        }
    assert [len(tables[name]) for name in ("default", "other")] == [4, 0]
    with pytest.raises(StoreError, match="has no tables of Holdfast"):
        store_of("other").count("order")
    call_command("migrate", "shop", database="other", verbosity=0)
    Order(pk=7).save(using="other")
    assert Order.objects.using("other").get().status == "pending"
    for name in ("default", "other"):
        close_memory(name)


@pytest.mark.usefixtures("project")
def test_the_log_is_not_unmade() -> None:
    """Going back to before the app would erase what happened."""
    with pytest.raises(IrreversibleError):
        call_command("migrate", "holdfast", "zero", verbosity=0)


@pytest.mark.usefixtures("two")
def test_a_flow_is_in_the_database_of_its_row() -> None:
    """The same key in two databases is two entities."""
    here, there = Order.objects.create(), Order.objects.using("other").create()
    assert here.pk == there.pk
    with transaction.atomic(using="other"):
        there.flow.transition_to("cancelled")
        assert there.calls == []
        with suppress(ZeroDivisionError), transaction.atomic():
            here.flow.transition_to("checking_out")
            raise ZeroDivisionError
    assert (here.flow.current_state, there.flow.current_state) == ("pending", "cancelled")
    assert Order.objects.using("other").in_state("cancelled").count() == 1
    assert Order.objects.in_state("cancelled").count() == 0
    assert Order.objects.using("other").get().status == "cancelled"
    assert Note.objects.using("other").get().text == "after_commit cancelled"


class Primary:
    """Reads from one database, and writes to another."""

    def db_for_read(self, model: object, **hints: object) -> str:
        return "other"

    def db_for_write(self, model: object, **hints: object) -> str:
        return "default"

    def allow_relation(self, *rows: object, **hints: object) -> bool:
        return True


@pytest.mark.usefixtures("two")
@override_settings(DATABASE_ROUTERS=[Primary()])
def test_an_instance_of_a_replica_transitions_on_the_primary() -> None:
    """And sees there what it did, which the replica may not have yet."""
    Order(pk=7).save(using="default")
    Order(pk=7).save(using="other")
    order = Order.objects.get()
    assert order._state.db == "other"
    order.flow.transition_to("cancelled")
    assert (order.flow.current_state, order.status) == ("cancelled", "cancelled")
    assert Order.objects.using("default").in_state("cancelled").get() == order
    assert Order.objects.in_state("cancelled").count() == 0


@pytest.mark.usefixtures("two")
def test_a_database_without_the_tables_says_what_to_run() -> None:
    """Naming it."""
    with pytest.raises(StoreError, match=r"run `manage\.py migrate --database bare`"):
        store_of("bare").count("order")


def test_a_database_in_memory_will_do() -> None:
    """As Django's own test runner uses one."""
    use(default=MEMORY)
    call_command("migrate", verbosity=0)
    order = Order.objects.create()
    order.flow.transition_to("cancelled")
    assert Order.objects.in_state("cancelled").get() == order
    close_memory()


def test_threads_that_come_first_are_given_one_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is who comes once it was closed."""
    everybody = Barrier(4)
    init = DjangoStore.__init__

    def wait(self: DjangoStore, using: str) -> None:
        everybody.wait(5)
        init(self, using)

    monkeypatch.setattr(DjangoStore, "__init__", wait)
    with ThreadPoolExecutor(4) as threads:
        [store] = set(threads.map(store_of, ["nowhere"] * 4))
    monkeypatch.undo()
    assert store_of("nowhere") is store
    store.close()
    assert store_of("nowhere") is not store
    assert not store_of("nowhere").is_closed


@pytest.mark.usefixtures("sqlite")
def test_threads_that_transition_at_once_wait_for_each_other() -> None:
    """Whoever reads and then writes takes its place before it reads."""
    with connections["default"].cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = WAL")
    orders = [Order.objects.create(is_paid=True) for _ in range(24)]

    def bring(order: Order) -> None:
        try:
            for state in ("checking_out", "purchased"):
                order.flow.transition_to(state)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(bring, orders))
    assert Order.objects.in_state("purchased").count() == 24


@pytest.mark.usefixtures("project")
def test_services_of_typed_machines_join_atomic_too() -> None:
    """And conflicts there are raised at once."""
    service = Service(sample, store_of(), deps=undisturbed)
    service.handle("e", Add())
    with suppress(ZeroDivisionError), transaction.atomic():
        assert service.handle("e", Add()).version == 2
        with pytest.raises(VersionConflictError):
            service.handle("e", Add(), expected_version=1)
        with service.begin() as staged:
            staged.prepare("e", Add())
            staged.commit()
        assert service.get("e").version == 3
        transact(service, lambda transaction: transaction.prepare("e", Add()))
        raise ZeroDivisionError
    assert service.get("e").version == 1
    assert [each.position > 0 for each in service.history("e")] == [True]


@isolate_apps("tests.ext.django.shop")
def test_what_a_model_declares_wrongly_is_said_by_check() -> None:
    """With what to write."""

    class Letter(models.Model):
        number = models.CharField(max_length=9)
        state = models.CharField(max_length=9)
        flow = ModelFlow(OrderFlow, id="number", mirror="state")

        class Meta:
            app_label = "shop"

    class Card(models.Model):
        state = StateField()
        parcel = ModelFlow(ParcelFlow, mirror="state")
        flow = ModelFlow(OrderFlow)

        class Meta:
            app_label = "shop"

    assert told(check_models([Letter, Card])) == [
        ("holdfast.E001", "Letter.flow is kept under 'number', which is no unique field"),
        ("holdfast.E002", "Letter.flow is mirrored in 'state', which is no StateField"),
        (
            "holdfast.E003",
            "Card.flow and Letter share the flow 'order': rows of both with the same key would be "
            "one entity",
        ),
    ]
    assert told(check_models([Card])) == []


@isolate_apps("tests.ext.django.shop")
def test_two_flows_of_a_model_that_are_one_are_said_by_check() -> None:
    """Their machines have one name."""

    class Twin(Flow[Any], name="order"):
        asleep = Flow.state(initial=True)

    class Letter(models.Model):
        flow = ModelFlow(OrderFlow)
        twin = ModelFlow(Twin)

        class Meta:
            app_label = "shop"

    assert told(check_models([Letter])) == [
        ("holdfast.E003", "Letter.twin and .flow share the flow 'order', and would be one entity")
    ]


@isolate_apps("tests.ext.django.shop")
def test_a_key_whose_values_have_several_texts_is_said_by_check_and_refused() -> None:
    """1.5 and 1.50 are one key, and would be two entities; nor could queries ask for them."""

    class Ticket(models.Model):
        price = models.DecimalField(primary_key=True, max_digits=6, decimal_places=2)
        day = models.DateField(unique=True)
        flow = ModelFlow(OrderFlow)
        parcel = ModelFlow(ParcelFlow, id="day")

        class Meta:
            app_label = "shop"

    class Stub(models.Model):
        ticket = models.OneToOneField(Ticket, models.CASCADE, primary_key=True)
        flow = ModelFlow(PaymentFlow)

        class Meta:
            app_label = "shop"

    unfit = "is kept under a %s, whose values have no one text that queries could compare"
    assert told(check_models([Ticket, Stub])) == [
        ("holdfast.E006", f"Ticket.flow {unfit % 'DecimalField'}"),
        ("holdfast.E006", f"Ticket.parcel {unfit % 'DateField'}"),
        ("holdfast.E006", f"Stub.flow {unfit % 'DecimalField'}"),
    ]
    ticket = Ticket(price=Decimal("1.5"))
    ticket._state.adding = False
    with pytest.raises(DefinitionError, match="let id= name a unique field of whole numbers"):
        print(ticket.flow)


def test_what_is_no_flow_is_refused_where_the_model_is_declared() -> None:
    """With what was given."""
    given: Any = "order"
    with pytest.raises(DefinitionError, match="ModelFlow takes a Flow, the class itself, not 'or"):
        ModelFlow(given)


@pytest.mark.usefixtures("sqlite")
def test_a_row_that_a_migration_makes_has_the_initial_state_in_its_column() -> None:
    """The models of migrations have no flows."""
    state = MigrationExecutor(connections["default"]).loader.project_state(("shop", "0001_initial"))
    made = state.apps.get_model("shop", "Order").objects.create()
    assert made.status == Order.objects.get().status == "pending"


@isolate_apps("tests.ext.django.shop")
def test_a_column_that_cannot_be_a_mirror_and_a_key_that_is_several_are_said_by_check() -> None:
    """Transitions would fail, or overwrite each other's states, or not be mirrored."""

    class Box(models.Model):
        pk = models.CompositePrimaryKey("row", "shelf")
        row = models.IntegerField()
        shelf = models.IntegerField()
        flow = ModelFlow(PaymentFlow)

        class Meta:
            app_label = "shop"

    class Letter(models.Model):
        state = StateField(max_length=11)
        flow = ModelFlow(OrderFlow, mirror="state")
        parcel = ModelFlow(ParcelFlow, mirror="state")

        class Meta:
            app_label = "shop"

    assert told(check_models([Box, Letter])) == [
        ("holdfast.E001", "Box.flow is kept under a primary key of several columns"),
        ("holdfast.E005", "Letter.state holds 11 letters, and the state 'checking_out' has 12"),
        ("holdfast.E004", "Letter.parcel is mirrored in 'state', as flow is"),
    ]


def test_importing_the_app_needs_no_settings() -> None:
    """Nor does it start the project."""
    import subprocess
    import sys

    command = [sys.executable, "-c", "import holdfast.ext.django"]
    done: Any = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def close_memory(name: str = "default") -> None:
    """Close the connection to a database in memory, which Django itself leaves open."""
    connections[name].connection.close()
    del connections[name]
