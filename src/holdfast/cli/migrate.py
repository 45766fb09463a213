"""The verb `migrate`: brings the tables of a store up to date, or prints the SQL that would."""

from __future__ import annotations

import click

from holdfast.cli.exits import Exit, Failure
from holdfast.cli.output import EPILOG, after, write
from holdfast.errors import StoreError
from holdfast.stores import open_store
from holdfast.stores.contract import Store
from holdfast.stores.sql import load_script


@click.command(epilog=EPILOG)
@click.argument("url")
@click.option(
    "--plan", "only_plan", is_flag=True, help="Print the SQL that is due; change nothing."
)
@click.option(
    "--roles",
    "only_roles",
    is_flag=True,
    help="Print the SQL that makes the roles of a store; change nothing.",
)
def migrate(*, url: str, only_plan: bool, only_roles: bool) -> None:
    """Bring the tables of a store up to what this code needs.

    URL names the store, like postgresql://migrator@host/database. What is there already stays as
    it is, and two that migrate at once wait for each other. A store on SQLite does this by itself
    whenever it is opened.

    --plan prints the SQL that is due, for which no rights to run it are needed. --roles prints the
    SQL that an administrator runs once a server, before the first migration.

    Exit codes: 0 done, 2 not begun, 4 the store failed.
    """
    if (only_plan or only_roles) and not url.startswith(("postgresql://", "postgres://")):
        raise Failure(
            "--plan and --roles print SQL for PostgreSQL; other stores migrate themselves, and "
            "have no roles",
            Exit.USAGE,
        )
    with _open(url) as store:
        if only_roles:
            write(load_script("postgres", "roles"), end="")
            return
        if only_plan:
            write(store.plan())
            return
        store.migrate()
        with after(f"{store.url} is migrated"):
            write(f"{store.url} has the tables that this code needs")


def _open(url: str) -> Store:
    try:
        return open_store(url)
    except StoreError as error:  # nothing is opened yet: it is the URL that is wrong
        raise Failure(str(error), Exit.USAGE) from error
