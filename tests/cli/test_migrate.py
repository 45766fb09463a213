"""`holdfast migrate`: the tables of a store, and the SQL that is due."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Cli
from tests.servers.databases import Database

from holdfast import open_store
from holdfast.cli.exits import Exit
from holdfast.stores.sql import load_script


def test_a_file_is_brought_up_to_date(cli: Cli, tmp_path: Path) -> None:
    """It is made where there is none; a second time changes nothing."""
    url = f"sqlite:///{tmp_path}/shop.db"
    for _ in range(2):
        done = cli("migrate", url)
        assert done.code == Exit.DONE
        assert "has the tables" in done.out
    with open_store(url) as store:
        assert store.flaws() == []


def test_what_cannot_be_migrated_is_refused(cli: Cli) -> None:
    """A URL that names no store, and a plan or roles of a store that migrates itself."""
    assert cli("migrate", "mysql://x").code == Exit.USAGE
    for option in ("--plan", "--roles"):
        assert cli("migrate", option, "sqlite:///shop.db").code == Exit.USAGE
    assert not Path("shop.db").exists()


def test_a_plan_is_what_is_due(cli: Cli, postgres_database: Database) -> None:
    """A plan changes nothing; after the migration nothing is due."""
    url = postgres_database.url()
    assert "CREATE TABLE" in cli("migrate", "--plan", url).out
    assert "CREATE TABLE" in cli("migrate", "--plan", url).out
    assert cli("migrate", url).code == Exit.DONE
    assert cli("migrate", "--plan", url).out.strip() == ""


def test_roles_are_printed_without_a_server(cli: Cli) -> None:
    """As the script that an administrator runs."""
    done = cli("migrate", "--roles", "postgresql://localhost:1/shop")
    assert done.code == Exit.DONE
    assert done.out == load_script("postgres", "roles")
