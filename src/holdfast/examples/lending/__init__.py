"""A lending library on SQLAlchemy: loans with a flow, in the transactions of its sessions."""

from holdfast.examples.lending.desk import Desk, open_library
from holdfast.examples.lending.model import Book, Loan, LoanFlow

__all__ = ["Book", "Desk", "Loan", "LoanFlow", "open_library"]
