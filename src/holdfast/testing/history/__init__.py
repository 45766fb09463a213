"""The checker of histories: what clients were told, held against the log; pure Python."""

from holdfast.testing.history.check import check_history
from holdfast.testing.history.log import log_entries
from holdfast.testing.history.model import Entry, Operation
from holdfast.testing.history.register import RegisterOperation, check_register

__all__ = [
    "Entry",
    "Operation",
    "RegisterOperation",
    "check_history",
    "check_register",
    "log_entries",
]
