"""What must hold after a run: the store agrees with itself, its clients and its machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from holdfast.machine.canonical import parse_time
from holdfast.machine.codec import decode_metadata
from holdfast.record import Context
from holdfast.stores.contract import LogRow, Store
from holdfast.testing.consistency import all_log_rows, faults
from holdfast.testing.history import Entry, check_history
from holdfast.testing.history.log import entry_of, name_in_metadata
from holdfast.testing.simulation.actions import Stream
from holdfast.testing.simulation.hooks import hook_faults
from holdfast.testing.simulation.journal import AnyMachine, Journal
from holdfast.testing.simulation.machines import Witness


def violations(
    store: Store,
    journal: Journal,
    streams: Sequence[Stream],
    deps: Any,
    *,
    replays: bool,
) -> list[str]:
    """Return what does not hold, a sentence each."""
    log = all_log_rows(store)
    entries = [entry_of(row, name_in_metadata(row)) for row in log]
    _count(journal, entries, log)
    found = [*journal.surprises, *faults(store), *check_history(journal.operations, entries)]
    if found:
        return found  # what follows needs a log that is whole
    if replays:
        found += replay_differences(journal.machines, log, deps)
    if isinstance(deps, Witness):
        found += _refusals_retried(journal, deps, log, entries)
        hooked = {name for name, machine in journal.machines.items() if machine.hooks is not None}
        deps.hooks.may_be_away = journal.counts["unavailable"] > 0
        found += hook_faults(deps.hooks, hooked, journal.operations, log, entries)
        journal.counts["refused by a guard"] += len(deps.hooks.refused)
        journal.counts["undone by a hook"] += len(deps.hooks.undone)
        journal.counts["followed by a hook"] += deps.hooks.followed.total()
    for stream in streams:
        found += _stream_faults(stream, store, entries)
    return found


def replay_differences(
    machines: dict[str, AnyMachine], log: Sequence[LogRow], deps: Any
) -> Iterator[str]:
    """Apply what the log recorded once more; tell where it leads elsewhere."""
    before: dict[tuple[str, str], LogRow] = {}
    for row in log:
        named = row.machine, row.id
        previous = before.get(named)
        before[named] = row
        if row.command_type is None or (previous is not None and previous.kind == "purged"):
            continue
        machine = machines[row.machine]
        text = None if previous is None else previous.state
        state = None if text is None else machine.state_codec.decode(text)
        command = machine.command_codec.decode(row.command or "")
        version = 0 if state is None else row.version - 1
        metadata = decode_metadata(row.metadata)
        context = Context(parse_time(row.at), row.token or "", row.id, version, metadata)
        try:
            after = machine.step(state, command, deps, context)
        except Exception as error:  # noqa: BLE001 (told, with where it happened)
            yield f"{row.machine} {row.id!r} refuses version {row.version} once more: {error!r}"
            continue
        led_to = None if after is None else machine.state_codec.encode(after)[0]
        if led_to != row.state:
            yield (
                f"{row.machine} {row.id!r} at version {row.version} is {row.state!r:.120}, and its "
                f"command leads to {led_to!r:.120}"
            )


def _refusals_retried(
    journal: Journal, witness: Witness, log: Sequence[LogRow], entries: Sequence[Entry]
) -> Iterator[str]:
    """Tell of each call that its handler refused, and that was asked once more all the same."""
    for row, entry in zip(log, entries, strict=True):
        if entry.name in journal.alone and row.token in witness.refused:
            yield f"{row.machine} {row.id!r} refused {entry.name}, and was asked once more"


def _stream_faults(stream: Stream, store: Store, entries: Sequence[Entry]) -> Iterator[str]:
    """Tell where a stream was not applied in order, each command once, up to the checkpoint."""
    position = store.checkpoint(stream.name) or 0
    places: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        if entry.name in stream.places:
            places.setdefault((entry.machine, entry.id), []).append(stream.places[entry.name])
    for named, applied in places.items():
        if applied != sorted(set(applied)):
            yield f"{named[0]} {named[1]!r} took the {stream.name} as {applied}"
        if max(applied) >= position:
            yield f"the {stream.name} is at {position}, and {max(applied)} was applied"


def _count(journal: Journal, entries: Sequence[Entry], log: Sequence[LogRow]) -> None:
    counts = journal.counts
    counts["transitions"] += len(log)
    counts["deletions"] += sum(row.kind == "deletion" for row in log)
    counts["re-creations"] += sum(
        row.from_type is None and row.to_type is not None and row.version > 1 for row in log
    )
    names = {entry.name for entry in entries}
    for operation in journal.operations:
        written = operation.name in names
        if operation.kind != "write" or operation.ended is None:
            continue
        if operation.told == "unknown":
            counts["unresolved, written" if written else "unresolved, not written"] += 1
        elif operation.told == "done" and operation.key is not None and not written:
            counts["duplicates"] += 1
