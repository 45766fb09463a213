"""Tells where an error arose: in a handler, or in what is around it.

A handler may raise what a store or a service raises as well, so the type alone does not tell.
"""

from __future__ import annotations

from traceback import walk_tb
from types import FunctionType
from typing import cast

from holdfast.errors import DefinitionError, HoldfastError
from holdfast.service.records import AnyMachine


def is_of_handler(machine: AnyMachine, error: BaseException) -> bool:
    """Whether a handler raised an error, or broke its declaration."""
    if isinstance(error, DefinitionError) or not isinstance(error, HoldfastError):
        return True
    return passed_handler(machine, error)


def passed_handler(machine: AnyMachine, error: BaseException) -> bool:
    """Whether an error came out of a handler, which raised it or let it pass."""
    handlers = {cast("FunctionType", handler.function).__code__ for handler in machine.handlers}
    return any(frame.f_code in handlers for frame, _ in walk_tb(error.__traceback__))
