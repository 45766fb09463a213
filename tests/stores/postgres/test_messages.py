"""What goes wrong between a store and its server is told: what, to which, and what to do next."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest
from tests.servers.databases import Database

from holdfast import open_store
from holdfast.errors import StoreError
from holdfast.stores.contract import Store
from holdfast.testing.conformance.base import find_row, stored
from holdfast.testing.writes import write

SECRET = "the-secret-password"


def told(url: str, use: Callable[[Store], object] = lambda store: store.count("sample")) -> str:
    """Return what a store says that cannot be used; the password is nowhere in it."""
    with open_store(url) as store, pytest.raises(StoreError) as caught:
        use(store)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in repr(error)
        error = error.__cause__ or error.__context__
    return str(caught.value)


def test_an_unreachable_server() -> None:
    """Nobody listens there."""
    text = told(f"postgresql://shop:{SECRET}@127.0.0.1:1/shop")
    assert text.startswith("cannot connect to postgresql://shop@127.0.0.1:1/shop: ")
    assert text.endswith("check that the server runs and takes connections from here")


def test_a_wrong_password(postgres_database: Database) -> None:
    """Or a user whom the server does not know."""
    for user in ("postgres", "nobody-of-that-name"):
        text = told(postgres_database.url(user=user, password=SECRET))
        assert f"postgresql://{user}@127.0.0.1" in text
        assert text.endswith("check the user, the password and the server's pg_hba.conf")


def test_an_unknown_database(postgres_database: Database) -> None:
    """The name may be mistyped."""
    text = told(postgres_database.server.url("no_such_database"))
    assert 'database "no_such_database" does not exist' in text
    assert text.endswith("check the name of the database")


def test_a_missing_schema(postgres_url: str) -> None:
    """Nothing is made unasked."""
    text = told(f"{postgres_url}?holdfast_schema=shop")
    assert "has no tables in the schema 'shop': run `holdfast migrate URL`" in text


def test_a_missing_right(postgres_database: Database, application_url: str) -> None:
    """An account without a role, and one that may read only."""
    server = postgres_database.server
    password = server.create_login("holdfast_test_nobody")
    text = told(postgres_database.url(user="holdfast_test_nobody", password=password))
    assert "permission denied for schema holdfast" in text
    assert text.endswith("grant it holdfast_application, or holdfast_viewer to read")


def test_a_read_only_server(application_url: str) -> None:
    """As a standby is: it can be read from."""
    url = f"{application_url}?options=-cdefault_transaction_read_only%3Don"
    with open_store(application_url) as store:
        stored(store, write("e", "Open"))
    with open_store(url) as store:
        assert find_row(store, "e") is not None
        assert store.history("sample", "e", limit=9)[0].version == 1
        assert store.read_log(limit=9) == []
    text = told(url, lambda store: store.commit([write("f", "Open")]))
    assert "nothing was written, it is read-only, a standby perhaps" in text


def test_a_statement_that_takes_too_long(application_url: str, other: psycopg.Connection) -> None:
    """The server's, or the user's, own limit."""
    url = f"{application_url}?options=-cstatement_timeout%3D50"
    other.execute("LOCK TABLE holdfast.entity")
    text = told(url, lambda store: store.commit([write("f", "Open")]))
    assert "statement timeout; nothing was written" in text
    assert text.endswith("took longer than statement_timeout: try again, or raise that")
    other.rollback()


def test_a_table_that_is_gone(application_url: str, raw: psycopg.Connection) -> None:
    """The schema is not the one of this code."""
    raw.execute("DROP TABLE holdfast.checkpoint")
    text = told(application_url, lambda store: store.checkpoint("reader"))
    assert text.endswith("run `holdfast migrate`, or upgrade holdfast")


def test_too_many_connections(postgres_database: Database) -> None:
    """The limit of the account, or of the server."""
    password = postgres_database.server.create_login("holdfast_test_crowded")
    with postgres_database.connect() as connection:
        connection.execute("ALTER ROLE holdfast_test_crowded CONNECTION LIMIT 0")
    text = told(postgres_database.url(user="holdfast_test_crowded", password=password))
    assert "too many connections" in text
    assert "lower holdfast_pool_size" in text


def test_a_key_that_was_used(store: Store) -> None:
    """What a service never sends: the error names the entity and the key, and no payload."""
    row = stored(store, write("e", "Open", keys=["k"]))
    with pytest.raises(StoreError, match=r"nothing was written") as caught:
        store.commit([write("e", "Open", on=row, keys=["k"])])
    assert "(sample, e, k) already exists" in str(caught.value)
    assert "$type" not in str(caught.value)


def test_a_disk_that_is_full(
    postgres_database: Database, application_url: str, raw: psycopg.Connection
) -> None:
    """Here the part of it that statements may use: nothing is written, what was there is whole."""
    with open_store(application_url) as store:
        row = stored(store, write("e", "Open"))
    for setting in ("temp_file_limit = 0", "work_mem = '64kB'"):
        raw.execute(f'ALTER DATABASE "{postgres_database.name}" SET {setting}'.encode())
    large = "x" * 1_000
    text = told(
        application_url,
        lambda store: store.commit(
            [write(f"{place}{large}"[:500], "Open") for place in range(999)]
        ),
    )
    assert "temporary file size exceeds" in text
    ending = "nothing was written, a limit of the server was reached: raise it, or free some space"
    assert text.endswith(ending)
    with open_store(application_url) as store:
        assert store.entities(limit=9) == [row]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://shop:{}@host/%zz", "is not as libpq takes it"),
        ("postgresql://shop:{}@host/shop?colour=red", "is not as libpq takes it"),
        ("postgresql://shop:{}@host/shop?holdfast_color=red", "unknown option holdfast_color"),
        ("postgresql://shop:{}@host/shop?holdfast_pool_size=0", "holdfast_pool_size= is from 1"),
        ("postgresql://shop:{}@host/shop?holdfast_pool_size=ten", "holdfast_pool_size= is from 1"),
        ("postgresql://shop:{}@host/shop?holdfast_schema=", "is no name for a schema"),
        ("postgresql://shop:{}@host/shop?holdfast_schema=pg_shop", "is no name for a schema"),
        ("postgresql://shop:{}@host/shop?holdfast_schema=a%3Bb", "is no name for a schema"),
        ("postgresql://shop:{}@host/shop?holdfast_schema=a%24%24b", "is no name for a schema"),
        ("postgresql://shop:{}@host/shop?connect_timeout=soon", "connect_timeout= is in whole"),
        ("postgresql://shop@host/shop?password={}&holdfast_x=1", "unknown option holdfast_x"),
    ],
)
def test_a_url_that_cannot_be_meant(url: str, expected: str) -> None:
    """It is refused before anything is opened, and no password is repeated."""
    with pytest.raises(StoreError, match=expected) as caught:
        open_store(url.format(SECRET))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://shop:{}@host:5433/shop", "postgresql://shop@host:5433/shop"),
        ("postgres://host/shop?password={}&sslmode=require", "postgresql://host/shop"),
        ("postgresql://a@h1:1,h2:2/shop?target_session_attrs=any", "postgresql://a@h1:1,h2:2/shop"),
        ("postgresql:///shop?host=/var/run&user=a", "postgresql://a@%2Fvar%2Frun/shop"),
        (
            "postgresql://a@h/b?holdfast_schema=my%20shop&connect_timeout=3&holdfast_pool_size=2",
            "postgresql://a@h/b?holdfast_schema=my%20shop",
        ),
        ("postgresql://a%40b:{}@[::1]:5432/my%20shop", "postgresql://a%40b@[::1]:5432/my%20shop"),
    ],
)
def test_a_store_is_named_without_its_password(url: str, name: str) -> None:
    """And without anything else that does not tell which store it is."""
    with open_store(url.format(SECRET)) as store:
        assert store.url == name


def test_a_missing_driver() -> None:
    """The extra that brings it is named."""
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from holdfast import StoreError, open_store\n"
        "try: open_store('postgresql://host/shop')\n"
        "except StoreError as error: print(error)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "pip install 'holdfast[postgres]'" in done.stdout
