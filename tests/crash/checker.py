"""Holds the files of the workers against the store, once all is over."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from tests.crash.journal import Line, lines_in, notes_in
from tests.crash.machines import MACHINES
from tests.crash.place import Place
from tests.crash.workloads import ACCOUNTS

from holdfast import open_store
from holdfast.testing import (
    Entry,
    Operation,
    RegisterOperation,
    check_history,
    check_register,
    log_entries,
)
from holdfast.testing.consistency import all_log_rows, faults
from holdfast.testing.simulation.invariants import replay_differences

EXPECTED_ERRORS = {
    "BatchError",
    "NotFoundError",
    "OutcomeUnknownError",
    "RetriesExhaustedError",
    "StoreError",
    "TransientError",
    "VersionConflictError",
}


def violations(place: Place, journals: Path, counts: Counter[str]) -> list[str]:
    """Return what does not hold, a sentence each; add what was seen to the counts."""
    lines: list[Line] = []
    for journal in sorted(journals.iterdir()):
        lines += lines_in(journal)
        counts.update(notes_in(journal))
    operations = [line.operation for line in lines]
    with open_store(place.url) as opened:
        log = log_entries(opened)
        _count(lines, log, counts)
        found = [*opened.flaws(), *faults(opened)]
        found += check_history(operations, log, in_commit_order=place.in_commit_order)
        found += replay_differences(MACHINES, all_log_rows(opened), None)
        found += _unexpected_errors(lines)
        found += _faults_of_registers(operations)
        found += faults_of_sums(operations, log)
    return found + place.flaws()


def _unexpected_errors(lines: Sequence[Line]) -> Iterator[str]:
    """Tell of answers that neither conflicts, nor a store that is locked or full, explain."""
    for line in lines:
        if line.error is not None and line.error not in EXPECTED_ERRORS:
            yield f"{line.operation.client} was told {line.error} ({line.operation})"


def _faults_of_registers(operations: Sequence[Operation]) -> Iterator[str]:
    """Explain what was read of each register by what was put into it, without its versions."""
    by_id: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.machine == "register":
            by_id[operation.id].append(operation)
    for id, asked in by_id.items():
        # A write that expects a version compares more than the value, and may fail for its sake.
        seen = [_on_register(o) for o in asked if not (o.expected is not None and _failed(o))]
        yield from (f"register {id!r}: {fault}" for fault in check_register(seen))


def _failed(operation: Operation) -> bool:
    return operation.told == "refused"


def _on_register(operation: Operation) -> RegisterOperation:
    is_read = operation.kind == "read"
    read = None if operation.state is None else msgspec.json.decode(operation.state)["value"]
    return RegisterOperation(
        client=operation.client,
        kind="read" if is_read else "write",
        value=read if is_read else operation.name,
        began=operation.began,
        ended=operation.ended,
        told=operation.told,
    )


def faults_of_sums(operations: Sequence[Operation], log: Sequence[Entry]) -> Iterator[str]:
    """Tell of accounts that together hold more or less than they began with.

    A look at only some of them is one that was being written down when its worker was killed.
    """
    looks: dict[str, list[str | None]] = defaultdict(list)
    for look in operations:
        if look.machine == "account" and look.kind == "read" and look.told == "done":
            looks[look.together or ""].append(look.state)
    whole = {label: states for label, states in looks.items() if len(states) == len(ACCOUNTS)}
    last = {entry.id: entry.state for entry in log if entry.machine == "account"}
    for label, states in {**whole, "the last state": [*last.values()]}.items():
        total = sum(0 if state is None else msgspec.json.decode(state)["total"] for state in states)
        if total:
            yield f"{label}: the accounts hold {total} together, and began with 0"


def _count(lines: Sequence[Line], log: Sequence[Entry], counts: Counter[str]) -> None:
    names = {entry.name for entry in log}
    counts["transitions"] += len(log)
    for line in lines:
        operation = line.operation
        written = operation.name in names
        if operation.kind == "read":
            counts["reads"] += operation.told == "done"
        elif operation.ended is None:
            counts["unanswered, written" if written else "unanswered, not written"] += 1
        elif operation.told == "done":
            counts["acknowledged"] += 1
            counts["duplicates"] += operation.key is not None and not written
        if line.error is not None:
            counts[line.error] += 1
