"""The verb `send`: applies one command to one entity, or shows what it would do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from typing import Any

import click
import msgspec
from click.shell_completion import CompletionItem

from holdfast.cli.calls import failure_of_call
from holdfast.cli.exits import Exit, Failure
from holdfast.cli.fields import Field, commands_of, fields_of, read_command, read_json, read_pairs
from holdfast.cli.options import Count
from holdfast.cli.output import (
    EPILOG,
    after,
    format_option,
    in_json,
    raw,
    short_time,
    write,
    write_facts,
    write_lines,
    write_table,
)
from holdfast.cli.target import AnyMachine, AnyService, find_machine, open_service
from holdfast.cli.text import visible_json
from holdfast.machine.canonical import format_time
from holdfast.machine.codec import Codec, tag_of
from holdfast.machine.model import TAG_FIELD
from holdfast.record import Change, Record, Request
from holdfast.service.async_service import AsyncService
from holdfast.service.call import check_request


def _complete_command(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the commands of the target's machine, each with its fields as the help."""
    return [
        CompletionItem(name, help=", ".join(map(str, fields)) or None)
        for name, fields in _known_commands(ctx).items()
        if name.startswith(incomplete)
    ]


def _complete_field(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the fields of the command that are not given yet."""
    fields = _known_commands(ctx).get(ctx.params.get("command") or "", ())
    given = {text.partition("=")[0].rstrip(":") for text in ctx.params.get("fields") or ()}
    return [
        CompletionItem(f"{field.name}=", help=str(field))
        for field in fields
        if field.name not in given and field.name.startswith(incomplete)
    ]


def _known_commands(ctx: click.Context) -> Mapping[str, Sequence[Field]]:
    """Return the commands of the target's machine; none where the target cannot be used."""
    # Whatever the user's module prints, or raises, would land in the line being typed.
    with suppress(Exception), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        commands = commands_of(find_machine(ctx.params["target"]))
        return {name: fields_of(command) for name, command in commands.items()}
    return {}


@click.command(epilog=EPILOG)
@click.argument("target")
@click.argument("id")
@click.argument("command", shell_complete=_complete_command)
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...", shell_complete=_complete_field)
@click.option("--preview", is_flag=True, help="Decide, show before and after, and write nothing.")
@click.option(
    "--expect",
    "expected",
    type=Count(0),
    metavar="VERSION",
    help="Only if the entity is at this version; 0: only if there is none.",
)
@click.option("--key", help="Apply it once, however often it is sent with this key.")
@click.option("--by", metavar="NAME", help="Who sends it; recorded as the metadata `by`.")
@click.option(
    "--metadata",
    "notes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Recorded with the transition; text, or JSON after :=. May be repeated.",
)
@format_option
def send(
    *,
    target: str,
    id: str,
    command: str,
    fields: tuple[str, ...],
    preview: bool,
    expected: int | None,
    key: str | None,
    by: str | None,
    notes: tuple[str, ...],
    as_json: bool | None,
) -> None:
    """Apply a command to an entity, and show it as it is afterwards.

    The command is its name and its fields, or JSON as a whole:

    \b
      holdfast send shop:orders o-1 Place total=4200 note=rush
      holdfast send shop:orders o-1 '{"$type": "Place", "total": 4200}'

    \b
      FIELD=VALUE   text where the declared type of the field takes that text,
                    JSON where it does not: for str 42 is text, for int a
                    number; lists and the like are JSON: tags='["a", "b"]'
      FIELD:=VALUE  JSON in any case: note:=null for a field of str | None

    Where there is no store yet, one is made; --preview expects it.

    Exit codes: 0 applied, or previewed; 1 the command was refused; 2 not begun: no such command,
    a field that is wrong or missing; 4 the store failed; 5 a conflict, or the handler failed;
    6 applied, or previewed, and the output could not be written. A command that is refused, meets
    a conflict or fails writes nothing.
    """
    if preview and key is not None:
        raise click.UsageError("--preview writes nothing, so it takes no --key")
    metadata = _metadata(by, notes)
    with open_service(target, existing=preview, in_memory=preview) as service:
        given = read_command(service.machine, command, fields)
        check_request(service.machine, Request(id, given, key, metadata))
        if preview:
            change = _call(
                service, "preview", id, given, expected_version=expected, metadata=metadata
            )
            _show_change(service.machine, change, as_json=in_json(as_json))
        else:
            record = _call(
                service, "handle", id, given, expected_version=expected, metadata=metadata, key=key
            )
            with after(f"{tag_of(type(given))} was applied, as version {record.version:,}"):
                _show_record(service.machine, record, as_json=in_json(as_json))


def _metadata(by: str | None, notes: Sequence[str]) -> dict[str, Any] | None:
    pairs = read_pairs("--metadata", notes)
    metadata: dict[str, Any] = {} if by is None else {"by": by}
    for name, operator, text in pairs:
        if name in metadata:
            raise Failure("--by gives the metadata by already", Exit.USAGE)
        metadata[name] = msgspec.json.decode(read_json(name, text)) if operator == ":=" else text
    return metadata or None


def _call(service: AnyService, verb: str, id: str, command: Any, **options: Any) -> Any:
    """Call the service, one that awaits in a loop of its own; raises Failure for its errors."""
    function: Callable[..., Any] = getattr(service, verb)
    try:
        if isinstance(service, AsyncService):
            return asyncio.run(function(id, command, **options))
        return function(id, command, **options)
    except Exception as error:
        raise failure_of_call(service.machine, error) from error


def _show_record(machine: AnyMachine, record: Record[Any], *, as_json: bool) -> None:
    allowed = [tag_of(cls) for cls in machine.allowed(None if record.deleted else record.state)]
    name, state = tag_of(type(record.state)), _shown(machine.state_codec, record.state)
    if as_json:
        write_lines(
            [
                {
                    "machine": record.machine,
                    "id": record.id,
                    "version": record.version,
                    "state_type": name,
                    "state": raw(state),
                    "created_at": format_time(record.created_at),
                    "updated_at": format_time(record.updated_at),
                    "deleted": record.deleted,
                    "allowed": allowed,
                }
            ]
        )
        return
    write_facts(
        {
            record.machine: record.id,
            "state": f"(deleted), was {name}" if record.deleted else name,
            "version": f"{record.version:,}",
            "created": short_time(format_time(record.created_at)),
            "updated": short_time(format_time(record.updated_at)),
            "allowed": ", ".join(allowed) or "(no command)",
        }
    )
    write()
    write(visible_json(msgspec.json.format(state, indent=2), lines=True))


def _show_change(machine: AnyMachine, change: Change[Any, Any], *, as_json: bool) -> None:
    codec = machine.state_codec
    before, after = (
        None if state is None else _shown(codec, state) for state in (change.before, change.after)
    )
    if as_json:
        write_lines(
            [
                {
                    "preview": True,
                    "machine": change.machine,
                    "id": change.id,
                    "version": change.version,
                    "command": raw(_shown(machine.command_codec, change.command)),
                    "before": raw(before),
                    "after": raw(after),
                    "metadata": change.metadata,
                    "at": format_time(change.at),
                }
            ]
        )
        return
    write_facts({change.machine: change.id, "version": f"{change.version:,}, not written"})
    write()
    write_table(("", "before", "after"), _compare(before, after))


def _shown(codec: Codec[Any], value: Any) -> str:
    """Return the text that a value is stored as, but for its secrets."""
    return codec.redact(codec.encode(value)[0])


def _compare(before: str | None, after: str | None) -> list[tuple[str, str, str]]:
    """Return a row for the names of the states, and one for each field of either."""
    old, new = (msgspec.json.decode(text or "{}") for text in (before, after))
    states = "state", old.pop(TAG_FIELD, "(none)"), new.pop(TAG_FIELD, "(deleted)")
    return [states, *((name, _cell(old, name), _cell(new, name)) for name in {**old, **new})]


def _cell(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name, "")
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
