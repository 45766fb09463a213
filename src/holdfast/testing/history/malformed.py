"""Refuses operations that no client can have met: what is left out of them would not be checked."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.testing.history.model import Operation
from holdfast.testing.history.order import described

KINDS = ("write", "read", "past")
TOLD = ("done", "refused", "unknown")


def refuse_malformed(operation: Operation) -> None:
    """Raise ValueError for an operation that contradicts itself, with its name and its entity."""
    for why in _contradictions(operation):
        where = f"{operation.machine} {operation.id!r:.40}"
        raise ValueError(f"the {described(operation)}, on {where}, {why}")


def contradictions_of_answer(told: str, began: float, ended: float | None) -> Iterator[str]:
    """Tell what is wrong with an answer, and with when it was asked for and came."""
    if told not in TOLD:
        yield f"was told none of {', '.join(TOLD)}"
    if told != "unknown" and ended is None:
        yield f"was told {told} and has no `ended`"
    if not began <= (began if ended is None else ended):
        yield "has an `ended` that is not after its `began`"


def _contradictions(operation: Operation) -> Iterator[str]:
    if operation.kind not in KINDS:
        yield f"is none of {', '.join(KINDS)}"
    yield from contradictions_of_answer(operation.told, operation.began, operation.ended)
    yield from _contradictions_of_kind(operation)
    yield from _contradictions_of_version(operation)


def _contradictions_of_kind(operation: Operation) -> Iterator[str]:
    if operation.kind == "write":
        if not operation.name:
            yield "is a write without a `name`, which tells it from every other"
        if operation.expected is not None and operation.expected < 0:
            yield f"expects version {operation.expected}; 0 is for no entity"
        return
    for field in ("name", "key", "expected"):
        if getattr(operation, field) is not None:
            yield f"is no write and has `{field}`"


def _contradictions_of_version(operation: Operation) -> Iterator[str]:
    version, told = operation.version, operation.told
    if version is not None and version < 0:
        yield f"was told version {version}; 0 is for no entity"
    if operation.saw is not None and told != "refused":
        yield "has `saw`, which is of a refusal, and was not refused"
    if operation.state is not None and (told != "done" or not version):
        yield "has a `state` without a version that it was told to be done with"
    if told == "unknown" and version is not None:
        yield f"was told version {version}, and is not known to be done or refused"
    if told == "done" and version == 0 and operation.kind == "write":
        yield "was acknowledged as version 0; versions begin with 1"
    if told == "done" and version is None and operation.kind != "write":
        yield "was done and tells no `version`; 0 is for no entity"
