"""The verbs of a transaction on a plain object in memory, with rules that the caller gives."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Generic, TypeVar

from holdfast.errors import CommandRejectedError, TransactionClosedError
from holdfast.machine.restoring import expect_restorable, restore

T = TypeVar("T")
Op = TypeVar("Op")


def begin(
    subject: T, *, verify: Callable[[T, Op], object], apply: Callable[[T, Op], object]
) -> ObjectTransaction[T, Op]:
    """Begin a transaction on a mutable object: a collection, or an object of attributes.

    `verify` refuses an operation by raising, or by returning False; `apply` carries it out on the
    object it is given. Both see a copy with everything staged before; the object itself changes
    at the commit, which asks `verify` again: another transaction may have changed it meanwhile.
    Threads that share an object take turns by a lock of their own. Raises DefinitionError for an
    object that could not be put back.
    """
    return ObjectTransaction(subject, verify, apply)


class ObjectTransaction(Generic[T, Op]):
    """Stages operations on a copy of an object, and carries them out on the object once."""

    def __init__(
        self, subject: T, verify: Callable[[T, Op], object], apply: Callable[[T, Op], object]
    ) -> None:
        self._subject = subject
        self._origin = deepcopy(subject)
        expect_restorable(subject, self._origin)
        self._draft: T | None = None
        self._verify = verify
        self._apply = apply
        self._staged: list[tuple[Op, bool]] = []
        self._closed = False

    def prepare(self, *operations: Op) -> None:
        """Verify and stage operations, each seeing what was staged before it.

        Raises what `verify` raises, and CommandRejectedError where it returns False; of the
        operations given, none is staged then.
        """
        self._stage(operations, verified=True)

    def prepare_only(self, *operations: Op) -> None:
        """Stage operations without verifying them, on purpose."""
        self._stage(operations, verified=False)

    def commit(self) -> T:
        """Carry out what was staged, and return the object.

        All or nothing: where `verify` refuses by now or `apply` raises, the object is put back as
        it was, and the error goes on; of what it holds, copies take the place. Raises
        TransactionClosedError the second time.
        """
        self._expect_open()
        self._closed = True
        before = deepcopy(self._subject)
        try:
            for operation, verified in self._staged:
                self._carry_out(self._subject, operation, verified=verified)
        except BaseException:
            restore(self._subject, before)
            raise
        return self._subject

    def _stage(self, operations: tuple[Op, ...], *, verified: bool) -> None:
        self._expect_open()
        draft = self._drafted()
        self._draft = None  # for as long as it holds what may not be staged
        for operation in operations:
            self._carry_out(draft, operation, verified=verified)
        self._draft = draft
        self._staged += [(operation, verified) for operation in operations]

    def _drafted(self) -> T:
        """Return the copy with what was staged; it is made anew where staging failed."""
        if self._draft is not None:
            return self._draft
        draft = deepcopy(self._origin)
        for operation, _ in self._staged:
            self._apply(draft, operation)
        return draft

    def _carry_out(self, subject: T, operation: Op, *, verified: bool) -> None:
        if verified and self._verify(subject, operation) is False:
            raise CommandRejectedError(f"{operation!r} was refused; nothing was changed")
        self._apply(subject, operation)

    def _expect_open(self) -> None:
        if self._closed:
            raise TransactionClosedError("the transaction was committed before; begin a new one")
