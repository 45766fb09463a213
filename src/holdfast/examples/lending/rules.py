"""What guards a loan's transitions, and what happens with them."""

from __future__ import annotations

import logging

from sqlalchemy import func, select
from sqlalchemy.orm import Session, object_session

from holdfast import Change, CommandRejectedError, Transition
from holdfast.examples.lending.model import Book, Loan, LoanFlow

MOST = 2
"""How many books one reader may have at a time."""


@LoanFlow.guard(to=LoanFlow.lent, reason="every copy is lent")
def has_a_copy(loan: Loan) -> bool:
    # Another desk may have lent it since it was loaded, and from here to the commit none can:
    # PostgreSQL locks the row now, and SQLite locked the file when the loan was inserted.
    _session(loan).refresh(loan.book, with_for_update=True)
    return loan.book.copies > 0


@LoanFlow.guard(to=LoanFlow.lent)
def has_not_too_many(loan: Loan, change: Change) -> bool:
    # Nothing locks a reader: on PostgreSQL two desks at once may lend one book more.
    theirs = select(func.count(Loan.id)).where(Loan.reader == loan.reader)
    count = _session(loan).scalars(theirs.where(Loan.in_state("lent"))).one()
    if count >= MOST:
        raise CommandRejectedError(f"{loan.reader} has {count} books already")
    return True


@LoanFlow.before(to=LoanFlow.lent)
def take_from_the_shelf(loan: Loan) -> None:
    loan.book.copies = Book.copies - 1  # counted by the database: others count too


@LoanFlow.before(to=LoanFlow.returned)
def put_on_the_shelf(loan: Loan) -> None:
    loan.book.copies = Book.copies + 1


@LoanFlow.after_commit()
def tell_the_reader(loan: Loan, transition: Transition) -> None:
    logging.getLogger(__name__).info(
        "to %s: %r is %s", loan.reader, loan.book.title, transition.to_state
    )


def _session(loan: Loan) -> Session:
    session = object_session(loan)
    assert session is not None
    return session
