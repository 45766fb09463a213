"""Books and their loans as tables, and the states of a loan."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from holdfast import Flow
from holdfast.ext.sqlalchemy import Stateful


class LoanFlow(Flow["Loan"]):
    requested = Flow.state(initial=True)
    lent = Flow.state()
    returned = Flow.state()
    lost = Flow.state()
    withdrawn = Flow.state()

    requested.to(lent, withdrawn)
    lent.to(returned, lost)
    lost.to(returned)


class Base(DeclarativeBase):
    pass


class Book(Base):
    __tablename__ = "books"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200), unique=True)
    copies: Mapped[int] = mapped_column(default=1)
    """Those that nobody has."""


class Loan(Stateful, Base):
    __tablename__ = "loans"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 (SQLAlchemy wants it so)
    __machine__ = LoanFlow
    __machine_state__ = "state"

    id: Mapped[int] = mapped_column(primary_key=True)
    reader: Mapped[str] = mapped_column(String(100))
    book_id: Mapped[int] = mapped_column(ForeignKey("books.id"))
    book: Mapped[Book] = relationship()
    state: Mapped[str] = mapped_column(String(20), default="requested", index=True)
