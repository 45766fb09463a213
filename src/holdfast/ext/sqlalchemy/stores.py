"""A store inside the transaction that a session is in, whichever that is when a verb is called."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from typing import Any, TypeVar, cast

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util.concurrency import await_only

from holdfast.errors import StoreError
from holdfast.ext.sqlalchemy.commits import follow, held_open
from holdfast.ext.sqlalchemy.engines import (
    PASSED_OVER,
    begin,
    driver_of,
    expect_awaited,
    has_begun,
    has_failed,
    outermost,
)
from holdfast.ext.sqlalchemy.mirrors import Mirror, mirrors_of
from holdfast.stores.contract import (
    Around,
    Check,
    Checkpoint,
    KeptBack,
    Outcome,
    Store,
    Write,
)
from holdfast.stores.hosted import HostedStore

T = TypeVar("T")

_JOINED = "holdfast.joined"
_HOOK_PASSED_OVER = (
    "PostgreSQL refused a statement of a hook, which passed its error over; nothing was written: "
    "let such errors through, or make a savepoint around what may fail"
)
_MOST_JOINED = 8
"""How many stores a connection keeps, which outlives them in the pool of its engine."""


class SessionStore(HostedStore):
    """Does what a store does in the transaction of a session, which it begins where none is open.

    `find` tells the session at every verb, `binding` which of its connections. The session is
    flushed before each write, and `expect` then raises where nothing may be written. Hooks run in a
    nested transaction of the session, so that what they did to its objects is undone with the rest.
    Whatever mirrors states in the session is told of each write, `mirror` among it.
    """

    def __init__(
        self,
        store: Store,
        find: Callable[[], Session],
        binding: Mapping[str, Any],
        *,
        mirror: Mirror | None = None,
        expect: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.base: Store = store.base if isinstance(store, SessionStore) else store
        if self.base.place is None:
            raise StoreError(
                f"{self.base.url} is in no database that a session could reach; open the store in "
                "the database of the session"
            )
        self.url, self.place = self.base.url, self.base.place
        self.identity = self.base.identity
        self._find = find
        self._binding = binding
        self._mirror = mirror
        self._expect = expect
        self._within: SessionTransaction | None = None

    def commit(
        self,
        writes: Sequence[Write],
        *,
        checks: Sequence[Check] = (),
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        timeout_seconds: float | None = None,
    ) -> list[Outcome]:
        """See `Store.commit`."""
        return self._write(
            lambda store: store.commit(
                writes,
                checks=checks,
                atomic=atomic,
                checkpoint=checkpoint,
                timeout_seconds=timeout_seconds,
            ),
            writes,
        )

    def transact(self, act: Callable[[Store], T], *, timeout_seconds: float | None = None) -> T:
        """See `Store.transact`; a savepoint waits for nobody."""
        session = self._ready()
        nested = session.begin_nested()
        try:
            with nested:
                with held_open(session, nested, self._refusal("would commit")):
                    result = act(self._inside(nested))
                    if nested.is_active:
                        self._expect_whole(session, _HOOK_PASSED_OVER)
                    session.flush()
                self._expect_open(nested)
            return result
        except KeptBack as kept:
            return cast("T", kept.result)

    def around(self) -> Around | None:
        """See `Store.around`: it is always inside."""
        if self._mirror is not None:  # the session may be one that was not asked before
            self._mirror.remember(self._find(), self.identity)
        return Around(self, lambda function: follow(self._find(), function))

    def on(self, connection: object) -> Store:
        """Refuse a transaction beside the session's."""
        raise StoreError(
            f"{self.url} is joined to a session, whose connection it takes, and cannot be joined "
            f"to {connection!r:.80} besides"
        )

    def migrate(self) -> None:
        """Refuse what is no part of a transaction."""
        raise StoreError(f"{self.url} is not migrated in a session; call migrate() of the store")

    def close(self) -> None:
        """Leave the session to the caller, and the store open."""

    def _read(self, ask: Callable[[Store], T]) -> T:
        """Ask what the session would see.

        Where it has begun nothing in the database, that is what everybody sees: to begin would
        keep others from writing.
        """
        _, connection = outermost(self._reached(), self._binding)
        return _answer(self._joined(connection) if has_begun(connection) else self.base, ask)

    def _write(
        self, ask: Callable[[Store], list[Outcome]], writes: Sequence[Write]
    ) -> list[Outcome]:
        session = self._ready()
        mirrors = mirrors_of(session, self.identity, self._mirror)
        # What raises where a state is mirrored is to take the write with it.
        may_raise = any(each.may_raise for each in mirrors)
        with session.begin_nested() if may_raise else nullcontext():
            connection = session.connection(bind_arguments=dict(self._binding))  # makes a savepoint
            outcomes = _answer(self._joined(connection), ask)
            for write, outcome in zip(writes, outcomes, strict=False):
                for each in mirrors if outcome.applied else ():
                    each.write(session, write)
        return outcomes

    def _ready(self) -> Session:
        """Return the session in a transaction, and with all that it had to write written."""
        session = self._reached()
        self._expect_whole(session, PASSED_OVER if self._within is None else _HOOK_PASSED_OVER)
        session.flush()
        if self._expect is not None and self._within is None:
            self._expect()
        begin(session, self._binding)
        return session

    def _inside(self, nested: SessionTransaction) -> SessionStore:
        """Return the store for what is done within a savepoint."""
        within = copy(self)
        within._within = nested
        return within

    def _reached(self) -> Session:
        """Return the session; raises StoreError where it is awaited, and its caller is not."""
        if self._within is not None:
            self._expect_open(self._within)
        session = self._find()
        if self._mirror is not None:
            self._mirror.remember(session, self.identity)
        expect_awaited(session, self._binding, self.url)
        return session

    def _expect_whole(self, session: Session, refusal: str) -> None:
        """Raise StoreError where the database would do no more for the session's transaction."""
        if has_failed(outermost(session, self._binding)[1]):
            raise StoreError(refusal)

    def _expect_open(self, nested: SessionTransaction) -> None:
        if not nested.is_active:
            raise StoreError(self._refusal("ended"))

    def _refusal(self, what: str) -> str:
        return (
            f"a hook {what} the transaction of the session that {self.url} is joined to; leave "
            "commit() and rollback() to who began it"
        )

    def _joined(self, connection: Connection) -> Store:
        """Return the store on the driver's connection, which is asked once which store it is."""
        driver = driver_of(connection)
        known: dict[object, Store] = connection.info.setdefault(_JOINED, {})
        if self.identity not in known:
            if len(known) == _MOST_JOINED:
                del known[next(iter(known))]
            known[self.identity] = self.base.on(driver)
        return known[self.identity]


class AwaitedSessionStore(SessionStore):
    """The same for an AsyncSession: what the verbs return is to be awaited."""

    is_awaited = True

    def on(self, connection: object) -> Store:
        """Return the store itself, which is inside the session's transaction already."""
        return self

    def __init__(
        self,
        store: Store,
        find: Callable[[], AsyncSession],
        binding: Mapping[str, Any],
        *,
        mirror: Mirror | None = None,
    ) -> None:
        super().__init__(store, lambda: find().sync_session, binding, mirror=mirror)
        self._find_awaited = find
        self._blocking = SessionStore(store, self._find, binding, mirror=mirror)

    def transact(self, act: Callable[[Store], Any], *, timeout_seconds: float | None = None) -> Any:
        """See `Store.transact`; hooks are plain functions, and use the session as those do."""

        def act_at_once(store: Store) -> Any:
            return _finished(act(store))

        return self._run(lambda: self._blocking.transact(act_at_once))

    def _read(self, ask: Callable[[Store], Any]) -> Any:
        return self._run(lambda: self._blocking._read(ask))

    def _write(self, ask: Callable[[Store], list[Outcome]], writes: Sequence[Write]) -> Any:
        return self._run(lambda: self._blocking._write(ask, writes))

    def _run(self, act: Callable[[], Any]) -> Any:
        return self._find_awaited().run_sync(lambda _: act())


def _answer(store: Store, ask: Callable[[Store], T]) -> T:
    """Ask a store; where its connection is awaited, so is the answer, by whoever runs this."""
    answer: Any = ask(store)
    return cast("T", await_only(answer) if store.is_awaited else answer)


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine comes to that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    coroutine.close()
    raise AssertionError("a hook in the transaction of a session was awaited")
