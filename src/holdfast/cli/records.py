"""The verbs that look at entities: `list`, `show`, `history`.

They show what is stored, so they also work on what the code of today cannot read.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeVar

import click
import msgspec
from msgspec.structs import replace

from holdfast.cli.options import Count
from holdfast.cli.output import (
    EPILOG,
    format_option,
    hint,
    in_json,
    raw,
    short_time,
    write,
    write_facts,
    write_lines,
    write_table,
)
from holdfast.cli.target import AnyMachine, AnyService, open_service
from holdfast.cli.text import visible, visible_json
from holdfast.errors import DecodeError, NotFoundError
from holdfast.machine.codec import tag_of
from holdfast.machine.model import TAG_FIELD
from holdfast.service.call import check_id
from holdfast.service.records import decode_state
from holdfast.stores.contract import MAX_PAGE, EntityRow, Key, LogRow

Row = TypeVar("Row", EntityRow, LogRow)

limit_option = click.option(
    "--limit",
    type=Count(1),
    default=100,
    metavar="N",
    show_default=True,
    help="How many at most.",
)
all_option = click.option("--all", "everything", is_flag=True, help="Without a limit.")


@click.command("list", epilog=EPILOG)
@click.argument("target")
@click.option("--state", "states", multiple=True, help="Only those in it; may be repeated.")
@click.option("--after", default="", metavar="ID", help="Only ids above this one, bytewise.")
@limit_option
@all_option
@format_option
def list_entities(
    *,
    target: str,
    states: tuple[str, ...],
    after: str,
    limit: int,
    everything: bool,
    as_json: bool | None,
) -> None:
    """List the entities of a machine by id; deleted ones are left out.

    JSON lines hold the whole state too. Where there are more than the limit, the standard error
    says how to go on.
    """
    if after:
        check_id(after)
    with open_service(target) as service:
        _expect_states(service.machine, states)
        found = _entities(service, states, after)
        shown = found if everything else [*islice(found, limit)]
        if in_json(as_json):
            write_lines(map(_entity, shown))
        else:
            write_table(("id", "state", "version", "updated"), map(_entity_cells, shown))
        if isinstance(shown, list) and next(found, None) is not None:
            _tell_more(shown[-1].id)


@click.command(epilog=EPILOG)
@click.argument("target")
@click.argument("id")
@format_option
def show(*, target: str, id: str, as_json: bool | None) -> None:
    """Show an entity: version, times, the commands that it takes now, and its state."""
    with open_service(target) as service:
        row = _load(service, check_id(id))
        allowed = _allowed(service.machine, row)
        row = _without_secrets(service.machine, row)
    if in_json(as_json):
        write_lines([{**_entity(row), "allowed": allowed}])
        return
    unknown = "(this code cannot read the state)" if allowed is None else "(no command)"
    write_facts(
        {
            row.machine: row.id,
            "state": row.state_type or "",
            "version": f"{row.version:,}",
            "created": short_time(row.created_at),
            "updated": short_time(row.updated_at),
            "allowed": ", ".join(allowed or ()) or unknown,
        }
    )
    write()
    write(visible_json(msgspec.json.format(row.state or "null", indent=2), lines=True))


@click.command(epilog=EPILOG)
@click.argument("target")
@click.argument("id")
@click.option(
    "--after",
    type=Count(0),
    default=0,
    metavar="VERSION",
    show_default=True,
    help="Only versions above this one.",
)
@limit_option
@all_option
@format_option
def history(
    *, target: str, id: str, after: int, limit: int, everything: bool, as_json: bool | None
) -> None:
    """Show the transitions of an entity, the oldest first, of a deleted one too.

    JSON lines hold all that is recorded. Where there are more than the limit, the standard error
    says how to go on.
    """
    with open_service(target) as service:
        found = _transitions(service, check_id(id), after)
        shown = found if everything else [*islice(found, limit)]
        if not next(_transitions(service, id, 0), None):
            raise NotFoundError(service.machine.name, id)
        if in_json(as_json):
            write_lines(map(_transition, shown))
        else:
            write_table(_HISTORY, map(_transition_cells, shown))
        if isinstance(shown, list) and next(found, None) is not None:
            _tell_more(str(shown[-1].version))


def _expect_states(machine: AnyMachine, states: tuple[str, ...]) -> None:
    known = [tag_of(state) for state in machine.states]
    for state in states:
        if state not in known:
            raise click.BadParameter(
                f"{visible(state)} is no state of {machine.name}; use {', '.join(known)}",
                param_hint="--state",
            )


def _entities(service: AnyService, states: tuple[str, ...], after: str) -> Iterator[EntityRow]:
    while True:
        rows = service.store.find(
            service.machine.name, state_types=states or None, after=after, limit=MAX_PAGE
        )
        yield from (_without_secrets(service.machine, row) for row in rows)
        if len(rows) < MAX_PAGE:
            return
        after = rows[-1].id


def _transitions(service: AnyService, id: str, after: int) -> Iterator[LogRow]:
    while True:
        rows = service.store.history(service.machine.name, id, after=after, limit=MAX_PAGE)
        yield from (_without_secrets(service.machine, row) for row in rows)
        if len(rows) < MAX_PAGE:
            return
        after = rows[-1].version


def _without_secrets(machine: AnyMachine, row: Row) -> Row:
    """Return a row as it may be shown: `***` stands for the values of secret fields."""
    state = row.state and machine.state_codec.redact(row.state)
    if isinstance(row, EntityRow):
        return replace(row, state=state)
    command = row.command and machine.command_codec.redact(row.command)
    return replace(row, state=state, command=command)


def _load(service: AnyService, id: str) -> EntityRow:
    name = service.machine.name
    [loaded] = service.store.load([Key(name, id)])
    row = loaded.entity
    if row is None:
        raise NotFoundError(name, id)
    if row.state_type is None:
        raise NotFoundError(
            name, id, f"was deleted at version {row.version}; its history is still there"
        )
    return row


def _allowed(machine: AnyMachine, row: EntityRow) -> list[str] | None:
    """Return the names of the commands; None where the code cannot read the state."""
    try:
        return [tag_of(command) for command in machine.allowed(decode_state(machine, row))]
    except DecodeError:
        return None


def _entity(row: EntityRow) -> dict[str, Any]:
    return {
        "machine": row.machine,
        "id": row.id,
        "version": row.version,
        "state_type": row.state_type,
        "state": raw(row.state),
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _entity_cells(row: EntityRow) -> tuple[str, ...]:
    return row.id, row.state_type or "", f"{row.version:,}", short_time(row.updated_at)


def _transition(row: LogRow) -> dict[str, Any]:
    return {
        "position": row.seq,
        "machine": row.machine,
        "id": row.id,
        "version": row.version,
        "kind": row.kind,
        "from_state": row.from_type,
        "to_state": row.to_type,
        "command_type": row.command_type,
        "command": raw(row.command),
        "state": raw(row.state),
        "metadata": raw(row.metadata) or {},
        "key": row.key,
        "token": row.token,
        "at": row.at,
        "recorded_at": row.recorded_at,
        "digest": row.digest,
    }


_HISTORY = ("version", "at", "command", "states", "metadata")


def _transition_cells(row: LogRow) -> tuple[str, ...]:
    if row.kind == "purged":
        return str(row.version), short_time(row.at), "(purged)", "", ""
    states = f"{row.from_type or '(none)'} → {row.to_type or '(deleted)'}"
    return (
        f"{row.version:,}",
        short_time(row.at),
        _command_cell(row),
        states,
        _metadata_cell(row.metadata),
    )


def _command_cell(row: LogRow) -> str:
    if row.command is None:
        return f"({row.kind})" if row.command_type is None else row.command_type
    fields = msgspec.json.decode(row.command)
    if isinstance(fields, dict):
        fields = {k: v for k, v in fields.items() if k != TAG_FIELD and v is not None}
    text = msgspec.json.encode(fields).decode() if fields else ""
    return f"{row.command_type} {text}".rstrip()


def _metadata_cell(text: str | None) -> str:
    """Return who and why, then the rest: `by alice, reason: too late`."""
    metadata = {} if text is None else msgspec.json.decode(text)
    who = metadata.pop("by", None)
    parts = [] if who is None else [f"by {_plain(who)}"]
    reason = metadata.pop("reason", None)
    parts += [] if reason is None else [f"reason: {_plain(reason)}"]
    return ", ".join(parts + [f"{name}: {_plain(value)}" for name, value in metadata.items()])


def _plain(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _tell_more(last: str) -> None:
    hint(f"There are more: --after {shlex.quote(visible(last))}, or --all")
