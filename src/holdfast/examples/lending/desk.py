"""What is done at the desk: each is one transaction of a session."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from holdfast import open_store
from holdfast.examples.lending import rules
from holdfast.examples.lending.model import Base, Book, Loan, LoanFlow
from holdfast.ext.sqlalchemy import flow_of, nest_savepoints
from holdfast.stores.contract import Store

__all__ = ["Desk", "open_library", "rules"]


class Desk:
    """Lends books and takes them back; `clerk` is who does it, in every history."""

    def __init__(self, sessions: sessionmaker[Session], store: Store, clerk: str) -> None:
        self._sessions = sessions
        self._store = store
        self._who = {"by": clerk}

    def buy(self, title: str, copies: int = 1) -> None:
        """Put a new book on the shelf."""
        with self._sessions.begin() as session:
            session.add(Book(title=title, copies=copies))

    def lend(self, title: str, reader: str) -> int:
        """Lend a book, and return the number of the loan; a guard may refuse: nothing is left."""
        with self._sessions.begin() as session:
            book = session.scalars(select(Book).where(Book.title == title)).one()
            loan = Loan(reader=reader, book=book)
            session.add(loan)
            self._bring(loan, "lent")
            return loan.id

    def lend_all(self, titles: list[str], reader: str) -> list[str]:
        """Lend what can be lent of several books; return the titles of the others."""
        refused: list[str] = []
        with self._sessions.begin() as session:
            wanted = select(Book).where(Book.title.in_(titles)).order_by(Book.id)
            for book in session.scalars(wanted).all():
                savepoint = session.begin_nested()
                session.add(loan := Loan(reader=reader, book=book))
                if flow_of(LoanFlow, loan, store=self._store).try_transition_to(
                    "lent", metadata=self._who
                ):
                    savepoint.commit()
                else:
                    savepoint.rollback()  # and the loan with it
                    refused.append(book.title)
        return refused

    def take_back(self, number: int) -> None:
        """Take a book back, late or not."""
        with self._sessions.begin() as session:
            self._bring(session.get_one(Loan, number), "returned")

    def give_up(self, number: int, reason: str) -> None:
        """Count a book as lost."""
        with self._sessions.begin() as session:
            self._bring(session.get_one(Loan, number), "lost", reason=reason)

    def out(self) -> list[tuple[str, str, datetime]]:
        """Return which books are lent, to whom, and since when, the longest first."""
        last = Loan.most_recent_transition()
        query = select(Book.title, Loan.reader, last.at).join(Loan.book)
        with self._sessions() as session:
            found = session.execute(query.where(Loan.in_state("lent")).order_by(last.at))
            return [(title, reader, at) for title, reader, at in found]

    def _bring(self, loan: Loan, state: str, **more: str) -> None:
        flow = flow_of(LoanFlow, loan, store=self._store)
        flow.transition_to(state, metadata={**self._who, **more})


@contextmanager
def open_library(url: str, clerk: str) -> Generator[Desk]:
    """Open the desk of a library that a store and SQLAlchemy keep in one database."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    nest_savepoints(engine)
    with open_store(url, migrate=True) as store:
        store.migrate()
        Base.metadata.create_all(engine)
        try:
            yield Desk(sessionmaker(engine), store, clerk)
        finally:
            engine.dispose()
