"""For users' tests and ours: what shows that a store or a machine keeps its promises."""

import sys
from typing import TYPE_CHECKING, Any

# Before the import, so that a failed assertion of the suite tells what it compared.
if pytest := sys.modules.get("pytest"):
    pytest.register_assert_rewrite("holdfast.testing.conformance")

from holdfast.testing.callbacks import assert_calls, assert_guarded
from holdfast.testing.clock import ManualClock
from holdfast.testing.history import (
    Entry,
    Operation,
    RegisterOperation,
    check_history,
    check_register,
    log_entries,
)
from holdfast.testing.simulation import Faults, VacuousError, ViolationError, simulate

if TYPE_CHECKING:
    from holdfast.testing.conformance import StoreConformance

__all__ = [
    "Entry",
    "Faults",
    "ManualClock",
    "Operation",
    "RegisterOperation",
    "StoreConformance",
    "VacuousError",
    "ViolationError",
    "assert_calls",
    "assert_guarded",
    "check_history",
    "check_register",
    "log_entries",
    "simulate",
]


def __getattr__(name: str) -> Any:
    """Import what needs pytest when it is asked for."""
    if name == "StoreConformance":
        try:
            from holdfast.testing.conformance import StoreConformance
        except ModuleNotFoundError as error:
            error.add_note("the conformance suite is run by pytest: install holdfast[testing]")
            raise
        return StoreConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
