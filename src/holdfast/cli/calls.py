"""What came out of a call of a service: how it is told, and what the process ends with."""

from __future__ import annotations

from holdfast.cli.exits import Exit, Failure, describe, text_of
from holdfast.cli.target import AnyMachine
from holdfast.errors import DecodeError, RejectedError, StoreError
from holdfast.service.origin import passed_handler


def tell(machine: AnyMachine, error: BaseException) -> str:
    """Return an error of a call in one line, with its place where a handler raised it."""
    return describe(error, placed=passed_handler(machine, error))


def code_of(machine: AnyMachine, error: BaseException) -> Exit:
    """Return what a call that failed ends with."""
    if isinstance(error, RejectedError):
        return Exit.FOUND
    if isinstance(error, StoreError | DecodeError) and not passed_handler(machine, error):
        return Exit.STORE
    return Exit.FAILED


def failure_of_call(machine: AnyMachine, error: BaseException) -> Failure:
    """Return the end of a verb that made one call, which failed."""
    refused = isinstance(error, RejectedError)
    return Failure(text_of(error) if refused else tell(machine, error), code_of(machine, error))
