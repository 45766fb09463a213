"""What is to follow a session's commit: it waits for the outermost, and goes with a rollback.

And who may not commit: callbacks that run in the transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from holdfast.errors import StoreError
from holdfast.ext.sqlalchemy.engines import expect_intact

Function = Callable[[], object]
"""Answers False where it failed, and has said so."""

_KEY = "holdfast.due"
_HELD = "holdfast.held"


def follow(session: Session, function: Function) -> None:
    """Have a function called once the session's outermost transaction is committed.

    It is never called where that, or a savepoint that the session is in now, is rolled back. What
    it does with the session is committed after it; where it raises that is undone, and logged.
    """
    due: Due | None = session.info.get(_KEY)
    if due is None:
        due = session.info[_KEY] = Due()
        event.listen(session, "before_commit", expect_intact)
        event.listen(session, "after_commit", due.on_commit)
        event.listen(session, "after_transaction_end", due.on_end)
    due.add(session, function)


@contextmanager
def held_open(session: Session, savepoint: SessionTransaction, refusal: str) -> Generator[None]:
    """Refuse meanwhile, with StoreError, to commit a savepoint, and so what is around it."""
    held: dict[SessionTransaction, str] | None = session.info.get(_HELD)
    if held is None:
        held = session.info[_HELD] = {}
        event.listen(session, "before_commit", _refuse_held)
    held[savepoint] = refusal
    try:
        yield
    finally:
        del held[savepoint]


class Due:
    """What is to be called, by the transaction or the savepoint that it was left in."""

    def __init__(self) -> None:
        self._functions: dict[SessionTransaction, list[Function]] = {}
        self._committed: SessionTransaction | None = None

    def add(self, session: Session, function: Function) -> None:
        """Take a function."""
        current = _current(session)
        if current is None:
            raise StoreError("the session is in no transaction, whose commit could be followed")
        self._functions.setdefault(current, []).append(function)

    def on_commit(self, session: Session) -> None:
        """Take note of which transaction, or which savepoint, is committed."""
        self._committed = _current(session)

    def on_end(self, session: Session, transaction: SessionTransaction) -> None:
        """Call what is due, or leave it to the transaction around a savepoint."""
        is_committed = transaction is self._committed
        if is_committed:
            self._committed = None
        functions = self._functions.pop(transaction, [])
        if not functions or not is_committed:
            return
        around = _boundary(transaction.parent)
        if around is None:
            _call(session, functions)
        else:
            self._functions.setdefault(around, []).extend(functions)


def _refuse_held(session: Session) -> None:
    nested = session.get_nested_transaction()
    held: dict[SessionTransaction, str] = session.info[_HELD]
    if nested in held:
        raise StoreError(held[nested])


def _current(session: Session) -> SessionTransaction | None:
    return session.get_nested_transaction() or session.get_transaction()


def _boundary(transaction: SessionTransaction | None) -> SessionTransaction | None:
    """Return the savepoint or the outermost transaction that one is, or is a part of."""
    while transaction is not None and not transaction.nested and transaction.parent is not None:
        transaction = transaction.parent
    return transaction


def _call(session: Session, functions: Sequence[Function]) -> None:
    with _after_the_block(session):
        for function in functions:
            try:
                _call_in_transaction(session, function)
            except Exception:
                logging.getLogger("holdfast").exception(
                    "what followed a commit raised; the others run on"
                )


def _call_in_transaction(session: Session, function: Function) -> None:
    """Commit what a function does with a session, or undo it where it fails."""
    try:
        if not session.autobegin:
            session.begin()
        if function() is False:
            session.rollback()
        elif session.in_transaction():
            session.commit()
    except BaseException:
        session.rollback()
        raise


@contextmanager
def _after_the_block(session: Session) -> Generator[None]:
    """Let the session be used although the `with session.begin():` around it is not left yet.

    It is committed already, and SQLAlchemy has no event after the block.
    """
    block = session._trans_context_manager  # pyright: ignore[reportPrivateUsage] (no event is later)
    session._trans_context_manager = None  # pyright: ignore[reportPrivateUsage] (as above)
    try:
        yield
    finally:
        session._trans_context_manager = block  # pyright: ignore[reportPrivateUsage] (as above)
