"""The store in a database of a Django project: on Django's own connections, in its transactions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from copy import copy
from functools import partial
from threading import Event
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error as DatabaseError

from holdfast.errors import StoreError
from holdfast.ext.django.commits import has_failed, watch
from holdfast.stores import utc_now
from holdfast.stores.contract import (
    Around,
    Check,
    Checkpoint,
    Clock,
    CommitUncertainError,
    KeptBack,
    Outcome,
    Store,
    Write,
)
from holdfast.stores.hosted import HostedStore
from holdfast.stores.outcomes import TransientError

T = TypeVar("T")

_stores: dict[str, DjangoStore] = {}


def store_of(using: str = DEFAULT_DB_ALIAS) -> DjangoStore:
    """Return the store in a database of the project, named as in `settings.DATABASES`."""
    store = _stores.get(using)
    if store is not None and not store.is_closed:
        return store
    if store is not None:
        _stores.pop(using, None)
    return _stores.setdefault(using, DjangoStore(using))  # another thread may have been faster


class DjangoStore(HostedStore):
    """Keeps records and the log in a database of the project, where `migrate` made the tables.

    In `transaction.atomic` all it does is part of that transaction. Outside, each verb is one of
    its own. It uses the connection that Django has for the thread, and leaves it to Django.
    """

    def __init__(self, using: str = DEFAULT_DB_ALIAS, *, clock: Clock | None = None) -> None:
        super().__init__()
        self.using = using
        self.url = f"the database {using!r}"
        self._closed = Event()
        self._clock = clock
        self._has_hooks = False
        """Whether it is what hooks are given, which may write the rows of their entities."""
        self._is_bare = False
        """Whether what its writes leave that fail, or conflict, is rolled back around it."""
        self._expect: Callable[[], None] = _nothing
        self._found: WeakKeyDictionary[BaseDatabaseWrapper, _Found] = WeakKeyDictionary()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed.is_set()

    def around(self) -> Around | None:
        """See `Store.around`: the transaction that `atomic` opened, or autocommit's absence did."""
        self._expect()
        return self._around()

    def _around(self) -> Around | None:
        connection = connections[self.using]
        if connection.in_atomic_block:
            on_commit = partial(transaction.on_commit, using=self.using)
            return Around(self, on_commit, self._shielded)
        if connection.connection is None or connection.get_autocommit():
            return None
        return Around(self, None)

    def _shielded(self, call: Callable[[], bool]) -> None:
        """Call something in a savepoint, which is undone where it answers False."""
        is_called = False
        try:
            with transaction.atomic(using=self.using):
                is_called = True
                if not call():
                    raise KeptBack(None)
        except KeptBack:
            pass
        except DatabaseError:  # the transaction has failed before: it is too late for a savepoint
            if is_called:
                raise
            call()

    def of_row(self, expect: Callable[[], None]) -> DjangoStore:
        """Return the store for the flow of a row; `expect` raises where it is the row's no more."""
        same = copy(self)
        same._expect = expect
        return same

    def on(self, connection: object) -> Store:
        """Raise StoreError: there is no need to be told of a transaction."""
        raise StoreError(
            f"{self.url} takes part in transaction.atomic by itself; leave out on(connection)"
        )

    def commit(
        self,
        writes: Sequence[Write],
        *,
        checks: Sequence[Check] = (),
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        timeout_seconds: float | None = None,
    ) -> list[Outcome]:
        """See `Store.commit`; states that models mirror are written along."""
        from holdfast.ext.django.mirrors import hold, is_mirrored, mirror

        rows = [write.entity for write in writes]
        held = [(row.machine, row.id) for row in rows]
        held += [(check.machine, check.id) for check in checks]
        if not self._has_hooks:
            held = [(machine, id) for machine, id in held if is_mirrored(machine)]

        def commit(store: Store) -> list[Outcome]:
            hold(held, self.using)
            within = store.bare() if self._is_bare else store
            outcomes = within.commit(
                writes,
                checks=checks,
                atomic=atomic,
                checkpoint=checkpoint,
                timeout_seconds=timeout_seconds,
            )
            made = zip(rows, outcomes, strict=False)
            mirror((row for row, each in made if each.applied and not each.found), self.using)
            return outcomes

        savepoint = not self._is_bare and any(is_mirrored(row.machine) for row in rows)
        return self._write(commit, savepoint=savepoint)

    def transact(self, act: Callable[[Store], T], *, timeout_seconds: float | None = None) -> T:
        """See `Store.transact`; nested in `atomic` it is a savepoint of Django's."""
        within = copy(self)
        within._has_hooks = True
        within._expect = _nothing
        try:
            return self._write(lambda store: act(within), savepoint=True)
        except KeptBack as kept:
            result: T = kept.result
            return result

    def bare(self) -> Store:
        """See `Store.bare`."""
        same = copy(self)
        same._is_bare = True
        return same

    def flaws(self) -> list[str]:
        """See `Store.flaws`."""
        return self._read(lambda store: store.flaws())

    def migrate(self) -> None:
        """Raise StoreError unless `manage.py migrate` was run, which makes the tables."""
        self._read(lambda store: None)

    def close(self) -> None:
        """Refuse every use from here on; the connections are Django's."""
        self._closed.set()

    def _read(self, ask: Callable[[Store], T]) -> T:
        connection = connections[self.using]
        if connection.vendor == "postgresql" and self._around() is None:
            with self._translated(connection, "read"):
                return ask(self._here(is_alone=True))
        with self._transaction("read"):
            return ask(self._here())

    def _write(self, verb: Callable[[Store], T], *, savepoint: bool) -> T:
        with self._transaction("write", savepoint=savepoint):
            store = self._here()
            watch(connections[self.using])
            return verb(store)

    @contextmanager
    def _transaction(self, doing: str, *, savepoint: bool = False) -> Generator[None]:
        """Be in a transaction: the one that is open, a savepoint of it, or one of its own."""
        connection = connections[self.using]
        is_over, used = False, None
        is_own = not connection.in_atomic_block and connection.get_autocommit()
        committed: list[bool] = []
        with self._translated(connection, doing):
            connection.validate_no_broken_transaction()
            try:
                with self._opened(connection, doing, savepoint=savepoint):
                    used = connection.connection
                    if is_own and doing == "write" and connection.in_atomic_block:
                        transaction.on_commit(partial(committed.append, True), using=self.using)
                    yield
                    self._expect_whole(connection)
                    is_over = True
            except Exception as error:
                if committed:  # and a function raised that a callback left for after the commit
                    _report(self.url)
                    return
                if not isinstance(error, DatabaseError):
                    raise
                is_lost = connection.connection is not used or not connection.is_usable()
                if is_over and is_lost and not connection.in_atomic_block:
                    raise CommitUncertainError(
                        f"{self.url} was lost while committing: {error}; whether it was stored is "
                        "not known"
                    ) from error
                raise

    def _expect_whole(self, connection: BaseDatabaseWrapper) -> None:
        """Raise StoreError where Django is to roll back what it would be told is written."""
        if connection.needs_rollback or has_failed(connection):
            raise StoreError(
                f"a callback went on after an error of {self.url}, or asked for a rollback; "
                "nothing was written: let it put what may fail into a transaction.atomic() of its "
                "own"
            )

    @contextmanager
    def _translated(self, connection: BaseDatabaseWrapper, doing: str) -> Generator[None]:
        """Raise what Django raises as StoreError, and have it look at a connection that failed."""
        try:
            yield
        except DatabaseError as error:
            raise StoreError(f"cannot {doing} {self.url}: {error}; nothing was written") from error
        except StoreError:
            connection.errors_occurred = True  # Django looks whether the connection still works
            raise

    def _opened(
        self, connection: BaseDatabaseWrapper, doing: str, *, savepoint: bool
    ) -> AbstractContextManager[object]:
        if connection.in_atomic_block or not connection.get_autocommit():
            return transaction.atomic(using=self.using) if savepoint else nullcontext()
        if doing == "write" and connection.vendor == "sqlite":
            return _begun_at_once(connection)
        return transaction.atomic(using=self.using)

    def _here(self, *, is_alone: bool = False) -> Store:
        """Return the store on the thread's connection; raises StoreError without its tables."""
        if self.is_closed:
            raise StoreError(f"{self.url} is closed as a store; take it anew: store_of()")
        connection = connections[self.using]
        connection.close_if_health_check_failed()
        connection.ensure_connection()
        found = self._found.get(connection)
        if found is None or found.connection is not connection.connection:
            found = self._found[connection] = _Found(connection.connection, {})
        store = found.stores.get(is_alone)
        if store is None:
            store = found.stores[is_alone] = self._find(connection, is_alone=is_alone)
        return store

    def _find(self, connection: BaseDatabaseWrapper, *, is_alone: bool) -> Store:
        try:
            store = _find_on(connection, self._clock, is_alone=is_alone)
        except TransientError:
            raise
        except StoreError as error:
            raise StoreError(
                f"{self.url} has no tables of Holdfast that this code can use: put "
                "'holdfast.ext.django' in INSTALLED_APPS, and run "
                f"`manage.py migrate --database {self.using}`; {error}"
            ) from error
        store.identity = self.identity
        return store


class _Found(NamedTuple):
    """The stores that were found on a connection: in a transaction, and without one."""

    connection: object
    stores: dict[bool, Store]


@contextmanager
def _begun_at_once(connection: BaseDatabaseWrapper) -> Generator[None]:
    """Open a transaction that takes SQLite's one place to write before it reads.

    It waits there for its turn. One that had read before could not wait: what it read would be old.
    """
    connection.ensure_connection()
    begins: Any = connection
    usual = begins.transaction_mode
    with ExitStack() as stack:
        try:
            begins.transaction_mode = "IMMEDIATE"
            stack.enter_context(transaction.atomic(using=connection.alias))
        finally:
            begins.transaction_mode = usual
        yield


def _find_on(connection: BaseDatabaseWrapper, clock: Clock | None, *, is_alone: bool) -> Store:
    if connection.vendor == "sqlite":
        from holdfast.stores.sqlite.store import SqliteStore

        return SqliteStore.of(connection.connection, clock or utc_now)
    if connection.vendor == "postgresql":
        from holdfast.stores.postgres.store import PostgresStore

        return PostgresStore.of(connection.connection, clock, in_transaction=not is_alone)
    raise StoreError(
        f"Holdfast keeps nothing on {connection.vendor}: use SQLite, or PostgreSQL with psycopg 3"
    )


def _nothing() -> None:
    """Expect nothing."""


def _report(url: str) -> None:
    """Log the error that is being handled."""
    logging.getLogger("holdfast").exception("what was to follow a commit on %s raised", url)
