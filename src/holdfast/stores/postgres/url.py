"""What the URL of a PostgreSQL store says: libpq's own parameters, and those of the store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from holdfast.errors import StoreError

SCHEMA = "holdfast"
POOL_SIZE = 10
MAX_POOL_SIZE = 1_000
WAIT_FOR_EVER_SECONDS = 3_600.0
"""What a connect_timeout of 0 means here."""

FORM = (
    "postgresql://user:password@host:5432/database, with ?holdfast_schema=holdfast and "
    "&holdfast_pool_size=10 and any parameter of libpq if wanted"
)
# A server that is gone is noticed within a minute, and one that does not answer is not waited for.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "fallback_application_name": "holdfast",
}
_OWN = re.compile(r"(?<=[?&])holdfast_(\w*)=([^&]*)&?")


class Address(Struct, frozen=True):
    """Where a store is, and how to connect to it."""

    url: str
    """Without the password, for messages."""
    conninfo: str
    """What libpq takes."""
    schema: str
    pool_size: int
    wait_seconds: float
    """How long a connection is waited for: libpq's connect_timeout."""
    place: tuple[str, ...]
    """The server, the database and the schema, whoever connects and however."""


def parse(url: str) -> Address:
    """Return what a URL says; raises StoreError where it says nothing that can be meant."""
    options = {name: unquote(value) for name, value in _OWN.findall(url)}
    rest = _OWN.sub("", url).rstrip("?&")
    try:
        given = conninfo_to_dict(rest)
    except (psycopg.Error, UnicodeError):  # its text repeats the URL, the password included
        raise StoreError(f"a postgresql:// URL is not as libpq takes it; write {FORM}") from None
    schema = options.pop("schema", SCHEMA)
    pool_size = options.pop("pool_size", str(POOL_SIZE))
    name = _named(given, schema)
    if options:
        raise StoreError(f"{name} has the unknown option holdfast_{min(options)}; write {FORM}")
    if not _is_name(schema):
        raise StoreError(
            f"{schema!r:.80} is no name for a schema: 1 to 63 bytes, without ; $ or NUL, not pg_…"
        )
    if not (pool_size.isdecimal() and 1 <= int(pool_size) <= MAX_POOL_SIZE):
        raise StoreError(f"holdfast_pool_size= is from 1 to {MAX_POOL_SIZE}, not {pool_size!r:.80}")
    defaults = {option: value for option, value in _DEFAULTS.items() if option not in given}
    conninfo = make_conninfo(rest, client_encoding="utf8", **defaults)
    wait = str(given.get("connect_timeout", _DEFAULTS["connect_timeout"]))
    if not wait.removeprefix("-").isdecimal():
        raise StoreError(f"connect_timeout= is in whole seconds, not {wait!r:.80}")
    wait_seconds = float(wait) if int(wait) > 0 else WAIT_FOR_EVER_SECONDS
    return Address(name, conninfo, schema, int(pool_size), wait_seconds, _place(given, schema))


def _place(given: Mapping[str, object], schema: str) -> tuple[str, ...]:
    host = str(given.get("host") or given.get("hostaddr") or "")
    port = str(given.get("port") or "5432")
    server = "localhost" if host in _OWN_MACHINE else host
    return server, port, str(given.get("dbname") or given.get("user") or ""), schema


_OWN_MACHINE = {"", "localhost", "127.0.0.1", "::1"}


def url_of(connection: psycopg.Connection[Any]) -> str:
    """Return a URL of the database that a connection is to, without the password."""
    return _named(connection.info.get_parameters(), SCHEMA)


def _named(given: Mapping[str, object], schema: str) -> str:
    """Return the URL with no password, nor anything else that does not tell which store it is."""
    user, database = (quote(str(given.get(name, "")), safe="") for name in ("user", "dbname"))
    hosts = str(given.get("host") or given.get("hostaddr") or "").split(",")
    ports = str(given.get("port", "")).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = [
        (f"[{host}]" if ":" in host else quote(host, safe="")) + (f":{port}" if port else "")
        for host, port in zip(hosts, ports, strict=False)
    ]
    account = f"{user}@" if user else ""
    ending = "" if schema == SCHEMA else f"?holdfast_schema={quote(schema, safe='')}"
    return f"postgresql://{account}{','.join(places)}/{database}{ending}"


def _is_name(schema: str) -> bool:
    return (
        0 < len(schema.encode(errors="replace")) <= 63
        and not set(schema) & set("\0;$")  # which end statements and the texts of functions
        and not schema.startswith("pg_")
    )
