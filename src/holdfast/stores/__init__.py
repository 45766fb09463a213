"""Where records and the log live: `open_store` finds the store that a URL names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdfast.errors import StoreError
from holdfast.machine.canonical import plain_time

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.stores.contract import Clock, Store

_FORMS = (
    "memory://, sqlite:///relative/path.db, sqlite:////absolute/path.db or sqlite:///:memory:, "
    "the SQLite ones with ?synchronous=FULL (or NORMAL) and &busy_timeout_seconds=5 if wanted, "
    "files with &mode=rwc (or rw: what exists, or ro: read only), or "
    "postgresql://user:password@host/database"
)
_POSTGRES = ("postgresql", "postgres")


def open_store(url: str, *, clock: Clock | None = None, migrate: bool = False) -> Store:
    """Return the store that a URL names, to be used in a `with` statement or closed by hand.

    `memory://` lives as long as the object. `sqlite:///shop.db` is a file, made where there is
    none; `?synchronous=NORMAL` makes writes cheaper, and acknowledged transitions can then vanish
    when the power fails; `busy_timeout_seconds` (5) bounds the wait for other writers; `mode=rw`
    makes no file and no tables where there is no store, and `mode=ro` writes nothing at all, nor
    needs the right to. `postgresql://user:password@host/database` is a schema of a PostgreSQL
    database, `?holdfast_schema=holdfast` unless another is named, reached by a pool of
    `holdfast_pool_size=10` connections at most; other parameters are libpq's. Its tables are made
    by `holdfast migrate`, or with `migrate` at the first use, for trials; the others migrate
    themselves. Nothing is opened before the first use. `clock` overrides the store's time, for
    tests. Raises StoreError for a URL that names no store.
    """
    from urllib.parse import parse_qsl

    if not isinstance(url, str):
        raise StoreError(f"{url!r:.80} names no store; write {_FORMS}")
    given_time = None if clock is None else _told_by(clock)
    scheme, _, rest = url.partition("://")
    if scheme in _POSTGRES:
        return _postgres_store(url, given_time, migrate=migrate)
    time = given_time or utc_now
    encoded_path, _, query = rest.partition("?")
    path = _decoded(encoded_path)
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    store: Store | None = None
    if len(options) < len(pairs):
        raise StoreError(f"{url!r} gives an option twice; say once what is meant")
    if scheme == "memory" and not encoded_path and not options:
        from holdfast.stores.memory import MemoryStore

        store = MemoryStore(clock=time)
    elif scheme == "sqlite" and path.startswith("/") and len(path) > 1:
        store = _sqlite_store(path[1:], options, time)
    if store is None:
        raise StoreError(f"{url!r} names no store; write {_FORMS}")
    return store


def _sqlite_store(path: str, options: dict[str, str], clock: Clock) -> Store | None:
    """Return the store of a file; None for options that there are not."""
    from holdfast.stores.sqlite import MODES, SYNCHRONOUS, SqliteStore

    synchronous = SYNCHRONOUS.get(options.pop("synchronous", "FULL").upper())
    busy_timeout = options.pop("busy_timeout_seconds", "5")
    mode = MODES.get(options.pop("mode", "rwc"))
    if path == ":memory:" and mode != "rwc":
        mode = None
    if synchronous is None or mode is None or not _is_duration(busy_timeout) or options:
        return None
    return SqliteStore(
        path,
        synchronous=synchronous,
        busy_timeout_seconds=float(busy_timeout),
        mode=mode,
        clock=clock,
    )


def _postgres_store(url: str, clock: Clock | None, *, migrate: bool) -> Store:
    try:
        from holdfast.stores.postgres.store import PostgresStore
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise StoreError(
            "a store on PostgreSQL needs psycopg: pip install 'holdfast[postgres]'"
        ) from error
    return PostgresStore(url, migrate=migrate, clock=clock)


def read_only(url: str) -> str:
    """Return a URL that reads only: with `mode=ro`, where it names a file and gives no mode."""
    from urllib.parse import parse_qsl

    path, _, query = url.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if file_of(url) is None or "mode" in given:
        return url
    return f"{path}?{query}&mode=ro" if query else f"{path}?mode=ro"


def url_of(path: str) -> str:
    """Return the URL of an SQLite file; `open_store` takes it, whatever the path holds."""
    import re
    from urllib.parse import quote

    if path == ":memory:":
        return "sqlite:///:memory:"
    encoded = re.sub(r"[^\w./~:-]", lambda found: quote(found[0], errors="surrogateescape"), path)
    return f"sqlite:///{encoded}"


def file_of(url: str) -> Path | None:
    """Return the file that the URL of a store names; None where it names none."""
    from pathlib import Path

    path = url.partition("?")[0].removeprefix("sqlite:///")
    if path == url.partition("?")[0] or _decoded(path) in ("", ":memory:"):
        return None
    return Path(_decoded(path))


def _decoded(path: str) -> str:
    """Return a path without its percent signs; empty for one that no file can have."""
    from urllib.parse import unquote

    decoded = unquote(path, errors="surrogateescape")
    return "" if "\0" in decoded else decoded


def _is_duration(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal() and float(text) <= 3600


def _told_by(clock: Clock) -> Clock:
    """Return a clock that raises StoreError where the given one tells no moment."""
    if not callable(clock):
        raise StoreError(f"clock= is a function that returns the time, not {clock!r:.80}")

    def now() -> datetime:
        time = clock()
        if not isinstance(time, datetime) or time.utcoffset() is None:
            raise StoreError(
                f"the clock of the store returned {time!r:.80}; it must return a datetime with a "
                "time zone, as datetime.now(UTC) does"
            )
        try:
            return plain_time(time)
        except OverflowError as error:
            raise StoreError(
                f"the clock of the store returned {time}, which is before year 1 or after 9999 in "
                "UTC"
            ) from error

    return now


def utc_now() -> datetime:
    """Return this machine's time, in UTC."""
    return datetime.now(UTC)
