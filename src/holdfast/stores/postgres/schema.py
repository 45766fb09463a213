"""What a connection to a store in PostgreSQL needs, and which schema it finds, as steps."""

from __future__ import annotations

from holdfast.errors import StoreError
from holdfast.stores.postgres.statements import Statements, Steps
from holdfast.stores.sql import load_migrations

OLDEST_SERVER = 15


def prepare(sql: Statements, url: str) -> Steps[None]:
    """Set up a connection; raises StoreError for a server that a store cannot live on."""
    [[encoding, version, *_]] = yield sql.ask("prepare_session")
    if version < OLDEST_SERVER * 10_000:
        raise StoreError(
            f"{url} is PostgreSQL {version // 10_000}, which is too old: a store needs "
            f"PostgreSQL {OLDEST_SERVER} or later"
        )
    if encoding != "UTF8":
        raise StoreError(f"{url} keeps text in {encoding}: create the database with ENCODING UTF8")


def expect(sql: Statements, url: str) -> Steps[None]:
    """Raise StoreError where the schema is not one that this code runs on."""
    number, newest = (yield from applied(sql, url)), load_migrations("postgres")[-1].number
    if number == 0:
        raise StoreError(
            f"{url} has no tables in the schema {sql.schema!r}: run `holdfast migrate URL`, or "
            "open it once with open_store(URL, migrate=True), for a trial"
        )
    if number < newest:
        raise StoreError(
            f"{url} has schema {number}, and this code needs schema {newest}: run "
            "`holdfast migrate URL`, which older code goes on running on where it can"
        )


def applied(sql: Statements, url: str) -> Steps[int]:
    """Return the newest migration that was applied; raises StoreError where it is too new."""
    [[exists]] = yield sql.ask("has_schema", schema=sql.schema)
    if not exists:
        return 0
    [[number, oldest_code]] = yield sql.ask("schema_version")
    known = load_migrations("postgres")[-1].number
    if oldest_code > known:
        raise StoreError(
            f"{url} has schema {number}, which needs code that knows schema {oldest_code}; this "
            f"one knows {known}: upgrade holdfast"
        )
    return int(number)


def identity(sql: Statements) -> Steps[str]:
    """Tell which store it is: in which database, and since when."""
    [[text]] = yield sql.ask("identity")
    return str(text)
