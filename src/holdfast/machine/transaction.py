"""The verbs of a transaction on a plain object in memory, with rules that the caller gives."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Generic, TypeVar

from holdfast.errors import CommandRejectedError, TransactionClosedError

T = TypeVar("T")
Op = TypeVar("Op")


def begin(
    subject: T, *, verify: Callable[[T, Op], object], apply: Callable[[T, Op], object]
) -> ObjectTransaction[T, Op]:
    """Begin a transaction on a mutable object.

    `verify` refuses an operation by raising, or by returning False; `apply` carries it out on the
    object it is given. Both see a copy with everything staged before; the object itself changes
    at the commit.
    """
    return ObjectTransaction(subject, verify, apply)


class ObjectTransaction(Generic[T, Op]):
    """Stages operations on a copy of an object, and carries them out on the object once."""

    def __init__(
        self, subject: T, verify: Callable[[T, Op], object], apply: Callable[[T, Op], object]
    ) -> None:
        self._subject = subject
        self._draft = deepcopy(subject)
        self._verify = verify
        self._apply = apply
        self._staged: list[Op] = []
        self._closed = False

    def prepare(self, *operations: Op) -> None:
        """Verify and stage operations, each seeing what was staged before it.

        Raises what `verify` raises, and CommandRejectedError where it returns False; of the
        operations given, none is staged then.
        """
        self._stage(operations, self._verify)

    def prepare_only(self, *operations: Op) -> None:
        """Stage operations without verifying them, on purpose."""
        self._stage(operations, None)

    def commit(self) -> T:
        """Carry out what was staged, and return the object.

        All or nothing: where `apply` raises, the object is put back as it was, and the error goes
        on. Raises TransactionClosedError the second time.
        """
        self._expect_open()
        self._closed = True
        before = deepcopy(self._subject)
        try:
            for operation in self._staged:
                self._apply(self._subject, operation)
        except BaseException:
            _restore(self._subject, before)
            raise
        return self._subject

    def _stage(self, operations: tuple[Op, ...], verify: Callable[[T, Op], object] | None) -> None:
        self._expect_open()
        draft = deepcopy(self._draft)
        for operation in operations:
            if verify is not None and verify(draft, operation) is False:
                raise CommandRejectedError(f"{operation!r} was refused; nothing was staged")
            self._apply(draft, operation)
        self._draft = draft
        self._staged += operations

    def _expect_open(self) -> None:
        if self._closed:
            raise TransactionClosedError("the transaction was committed before; begin a new one")


def _restore(subject: object, before: object) -> None:
    """Give an object the contents of its copy."""
    if isinstance(subject, list) and isinstance(before, list):
        subject[:] = before
    elif isinstance(subject, dict | set) and isinstance(before, dict | set):
        subject.clear()
        subject.update(before)
    else:
        _restore_attributes(subject, before)


def _restore_attributes(subject: object, before: object) -> None:
    slots = [name for cls in type(subject).__mro__ for name in getattr(cls, "__slots__", ())]
    for name in [*vars(subject)] if hasattr(subject, "__dict__") else []:
        delattr(subject, name)
    kept = vars(before) if hasattr(before, "__dict__") else {}
    for name, value in kept.items():
        setattr(subject, name, value)
    for name in slots:
        if hasattr(before, name):
            setattr(subject, name, getattr(before, name))
