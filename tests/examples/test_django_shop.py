"""The example in Django: what its README says to run, and a visit to its admin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.servers.databases import Database

FOLDER = Path(__file__).parents[2] / "src" / "holdfast" / "examples" / "django_shop"
VISIT = """
import django
django.setup()

from django.contrib.auth.models import User
from django.test import Client
from holdfast.examples.django_shop.shop.models import Order, Product

client = Client()
client.force_login(User.objects.create_superuser("alice"))


def press(order, state, **typed):
    page = f"/shop/order/{order.pk}/"
    given = {"to": state, "version": order.flow.version, **typed}
    return client.post(f"{page}transition/", given, follow=True).content.decode()


assert client.get("/shop/order/").status_code == 200
barbara = Order.objects.get(customer="Barbara")
assert "3 are wanted, and 2 are in stock" in press(barbara, "checking_out")
Product.objects.filter(name="buoy").update(stock=3)
assert "is in the state “checking out” now" in press(barbara, "checking_out")
assert Product.objects.get(name="buoy").stock == 0
press(barbara, "cancelled")
assert Product.objects.get(name="buoy").stock == 3

grace = Order.objects.in_state("purchased").get()
assert "a refund needs a reason" in press(grace, "refunded")
press(grace, "refunded", reason="it broke")
made = grace.flow.last_transition
assert (made.to_state, made.actor, made.reason) == ("refunded", "alice", "it broke")
assert sorted(Order.objects.values_list("state", flat=True)) == [
    "cancelled", "cancelled", "refunded", "shipped"
]
"""


@pytest.fixture(params=["sqlite", "postgres"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return the environment that names an empty database."""
    given = {**os.environ, "DJANGO_SETTINGS_MODULE": "holdfast.examples.django_shop.settings"}
    if request.param == "sqlite":
        return given
    database: Database = request.getfixturevalue("postgres_database")
    address = database.server.address
    named = {
        "PGDATABASE": database.name,
        "PGUSER": address.user,
        "PGPASSWORD": address.password,
        "PGHOST": address.host,
        "PGPORT": address.port,
    }
    return {**given, **{name: str(value) for name, value in named.items() if value}}


def run(folder: Path, environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_runs_as_its_readme_says(tmp_path: Path, environment: dict[str, str]) -> None:
    """Migrated, filled, and visited: guards refuse, callbacks and transitions are one."""
    manage = ("-m", "holdfast.examples.django_shop.manage")
    run(tmp_path, environment, *manage, "migrate", "--verbosity", "0")
    assert run(tmp_path, environment, *manage, "sample") == "4 orders were made.\n"
    checks = ("makemigrations", "--check", "--dry-run")
    assert run(tmp_path, environment, *manage, *checks) == "No changes detected\n"
    run(tmp_path, environment, "-c", VISIT)


def test_the_readme_names_the_commands_and_the_files() -> None:
    """So that it stays true."""
    text = (FOLDER / "README.md").read_text("utf-8")
    for command in ("migrate", "sample", "createsuperuser", "runserver"):
        assert f"$ python -m holdfast.examples.django_shop.manage {command}\n" in text
    for name in ("flow.py", "models.py", "admin.py", "settings.py"):
        assert f"`{name}`" in text or f"`shop/{name}`" in text
