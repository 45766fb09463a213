"""The operations of the migrations: the store's own SQL, and views of its tables for Django."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation

from holdfast.errors import StoreError
from holdfast.stores import utc_now
from holdfast.stores.sql import Migration, load_migrations

SQL = Path(__file__).parent / "sql"


class _Forwards(Operation):
    """Changes what is no model of Django's; the log is not undone."""

    reversible = False
    reduces_to_sql = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Leave the models as they are."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: Any,
        to_state: Any,
    ) -> None:
        """Execute what is to be done in this database."""
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            for statement in self.statements(schema_editor.connection):
                schema_editor.execute(statement, params=None)

    def statements(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return the SQL for a database."""
        raise NotImplementedError


class MigrateStore(_Forwards):
    """Applies one migration of the store, by its number, where it is not applied already."""

    def __init__(self, number: int) -> None:
        self.number = number

    def describe(self) -> str:
        """Return what `migrate` shows."""
        return f"Bring the tables of Holdfast to schema {self.number}"

    def statements(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return the store's own SQL."""
        connection.ensure_connection()
        if connection.vendor == "sqlite":
            return _for_sqlite(connection.connection, self.number)
        if connection.vendor == "postgresql":
            return _for_postgres(connection, self.number)
        raise StoreError(
            f"Holdfast keeps nothing on {connection.vendor}, which the database "
            f"{connection.alias!r} is: use SQLite or PostgreSQL, or have a router of "
            "DATABASE_ROUTERS keep the app holdfast out of it"
        )


class CreateViews(_Forwards):
    """Makes the views that the models of this app read."""

    def describe(self) -> str:
        """Return what `migrate` shows."""
        return "Create the views that Django reads"

    def statements(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return the views of the database's kind."""
        script = (SQL / f"{connection.vendor}.sql").read_text("utf-8")
        return connection.ops.prepare_sql_script(script)


def _for_sqlite(connection: Any, number: int) -> list[str]:
    from holdfast.stores.sqlite import schema

    if schema.schema_version(connection, "the database") >= number:
        return []
    return schema.statements_of(_numbered("sqlite", number), utc_now)


def _for_postgres(connection: BaseDatabaseWrapper, number: int) -> list[str]:
    from holdfast.stores.postgres import migrations

    return migrations.parts_on(connection.connection, _numbered("postgres", number))


def _numbered(dialect: str, number: int) -> Migration:
    return next(each for each in load_migrations(dialect) if each.number == number)
