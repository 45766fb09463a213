"""The tests' Django project on an SQLite file and on PostgreSQL, each migrated once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from holdfast.ext.django import store_of
from holdfast.testing.consistency import faults

if TYPE_CHECKING:
    from tests.servers.databases import Databases

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.ext.django.settings")
django.setup()

EMPTY = (Path(__file__).parent / "empty_project.sql").read_text("utf-8")


def use(**databases: dict[str, Any]) -> None:
    """Have the project use these databases, of which one is `default`."""
    connections.close_all()
    for connection in connections.all(initialized_only=True):
        del connections[connection.alias]
    connections.settings = connections.configure_settings(databases)
    settings.DATABASES = databases


def file(path: Path) -> dict[str, Any]:
    """Return the settings of an SQLite file."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an SQLite file that was migrated, to be copied."""
    path = tmp_path_factory.mktemp("django") / "migrated.db"
    use(default=file(path))
    call_command("migrate", verbosity=0)
    connections.close_all()
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_databases: Databases) -> Iterator[dict[str, Any]]:
    """Return the settings of a PostgreSQL database that was migrated."""
    database = postgres_databases.take()
    with database.connect() as connection:
        info = connection.info
        given = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database.name,
            "USER": info.user,
            "PASSWORD": info.password,
            "HOST": info.host,
            "PORT": str(info.port),
        }
    use(default=given)
    call_command("migrate", verbosity=0)
    connections.close_all()
    yield given
    connections.close_all()
    postgres_databases.give_back(database)


@pytest.fixture
def sqlite(migrated_file: Path, tmp_path: Path) -> Iterator[None]:
    """Have the project use an empty SQLite file."""
    shutil.copy(migrated_file, tmp_path / "project.db")
    use(default=file(tmp_path / "project.db"))
    yield
    assert faults(store_of()) == []
    connections.close_all()


@pytest.fixture
def postgres(migrated_postgres: dict[str, Any]) -> Iterator[None]:
    """Have the project use an empty PostgreSQL database."""
    use(default=migrated_postgres)
    yield
    assert faults(store_of()) == []
    with connections["default"].cursor() as cursor:
        cursor.execute(EMPTY)
    connections.close_all()


@pytest.fixture(params=["sqlite", "postgres"])
def project(request: pytest.FixtureRequest) -> str:
    """Have the project use an empty database of each kind."""
    request.getfixturevalue(request.param)
    return str(request.param)
