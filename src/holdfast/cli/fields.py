"""Reads a command as people write it: JSON, or its name and `field=value`.

A value is text where the field takes that text, and JSON where it does not: so says the codec that
reads the command. `field:=value` is JSON in any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from holdfast.cli.exits import Exit, Failure
from holdfast.cli.target import AnyMachine
from holdfast.errors import ValidationError
from holdfast.machine.codec import tag_of
from holdfast.machine.fields import fields_of as stored_fields_of
from holdfast.machine.hints import hints_of
from holdfast.machine.model import TAG_FIELD

_NAME = re.compile(r"[\w.-]{1,200}")
_PAIR = re.compile(r"([^=]*?)(:?=)(.*)", re.DOTALL)


class Field(NamedTuple):
    """A field of a command."""

    name: str
    type: Any
    required: bool

    def __str__(self) -> str:
        return f"{self.name}: {type_text(self.type)}" + ("" if self.required else " (optional)")


def fields_of(command: type) -> list[Field]:
    """Return the fields of a command class by the names they are stored under, in their order."""
    if issubclass(command, msgspec.Struct):
        return [
            Field(field.encode_name, field.type, field.required)
            for field in msgspec.structs.fields(command)
        ]
    types = hints_of(command)
    return [
        Field(field.stored, types.get(field.name, Any), field.required)
        for field in stored_fields_of(command)
    ]


def commands_of(machine: AnyMachine) -> dict[str, type]:
    """Return the command classes by name."""
    return {tag_of(command): command for command in machine.commands}


def read_command(machine: AnyMachine, text: str, given: Sequence[str]) -> Any:
    """Return the command that was asked for; raises Failure, which tells what there is.

    What was given as a value stays out of it: it may be a secret.
    """
    if text.lstrip().startswith("{"):
        if given:
            raise _unusable("JSON holds the whole command, so no field may come after it")
        return _parse(machine, text, _advice(machine, text))
    commands = commands_of(machine)
    if text not in commands:
        name = repr(text) if _NAME.fullmatch(text) else "that is written so"
        raise _unusable(
            f"{machine.name} takes no command {name}{_guess(text, commands)}; {_commands(machine)}"
        )
    fields = fields_of(commands[text])
    values = {name: _Value(name, *value) for name, *value in read_pairs("field", given)}
    _expect_fields(text, values, fields)
    return _fit(machine, text, values, _describe(text, fields))


def read_pairs(what: str, given: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return name, `=` or `:=`, and value of each argument; raises Failure."""
    pairs: list[tuple[str, str, str]] = []
    for place, text in enumerate(given, 1):
        match = _PAIR.fullmatch(text)
        if match is None or not match[1]:
            raise _unusable(f"{what} {place} is not written as name=value")
        if any(match[1] == name for name, _, _ in pairs):
            raise _unusable(f"{match[1]} is given twice")
        pairs.append((match[1], match[2], match[3]))
    return pairs


def read_json(name: str, text: str) -> msgspec.Raw:
    """Return a value that was written as JSON; raises Failure."""
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise _unusable(f"{name}:= takes JSON ({error}); text goes in quotes") from error
    except UnicodeEncodeError:
        raise _no_unicode(name) from None
    except RecursionError as error:
        raise _unusable(f"{name}:= takes JSON that is not nested so deeply") from error
    return msgspec.Raw(text.encode())


def type_text(declared: Any) -> str:
    """Return a type as its declaration shows it, with its constraints: `int (gt=0)`."""
    origin, parts = get_origin(declared), get_args(declared)
    if isinstance(declared, type) and issubclass(declared, Enum):
        return " | ".join(repr(member.value) for member in declared)
    if origin is Annotated:
        limits = ", ".join(
            repr(part).removeprefix("msgspec.Meta(")[:-1]
            for part in parts
            if isinstance(part, msgspec.Meta)
        )
        return type_text(parts[0]) + (f" ({limits})" if limits else "")
    if origin in (Union, UnionType, Literal):
        tell = repr if origin is Literal else type_text
        return " | ".join(map(tell, parts))
    if declared is Ellipsis:
        return "..."
    if parts:
        return f"{type_text(origin)}[{', '.join(map(type_text, parts))}]"
    return getattr(declared, "__name__", str(declared)).replace("NoneType", "null")


class _Value:
    """The value of a field: JSON as given, or text that may mean JSON."""

    def __init__(self, name: str, operator: str, text: str) -> None:
        self.text = text if operator == "=" else None
        self.json = read_json(name, text) if operator == ":=" else _quoted(name, text)
        self.refusal: ValidationError | None = None
        """Why it is not to be taken as text."""

    def becomes_json(self, refusal: ValidationError) -> bool:
        """Take what was refused as text for JSON; return False if it is none, or was before."""
        if self.text is None or self.refusal is not None or not _is_json(self.text):
            return False
        self.refusal = refusal
        self.json = msgspec.Raw(self.text.encode())
        return True

    def best(self, refusal: ValidationError) -> ValidationError:
        """Return what tells why the value is not to be taken: as JSON, or as text."""
        if self.refusal is None or str(self.refusal).endswith("got `str`"):
            return refusal
        return self.refusal


def _fit(machine: AnyMachine, command: str, values: Mapping[str, _Value], advice: str) -> Any:
    """Return the command, each value as text where its field takes that, and as JSON where not."""
    while True:
        tagged = {TAG_FIELD: command, **{name: value.json for name, value in values.items()}}
        try:
            machine.parse_command(msgspec.json.encode(tagged))
        except ValidationError as error:
            value = next((values[name] for name in values if _is_at(name, error.path)), None)
            if value is None:
                raise _unusable(f"{error}; {advice}") from error
            if not value.becomes_json(error):
                raise _unusable(f"{value.best(error)}; {advice}") from error
        else:
            return _parse(machine, msgspec.json.encode(tagged), advice)


def _is_at(name: str, path: str | None) -> bool:
    """Return whether a path leads to a field or into it."""
    here = f"$.{name}"
    return path == here or (path or "").startswith((f"{here}.", f"{here}["))


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _quoted(name: str, text: str) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(text))
    except UnicodeEncodeError:
        raise _no_unicode(name) from None


def _no_unicode(name: str) -> Failure:
    return _unusable(f"{name} is not valid Unicode")


def _expect_fields(command: str, names: Iterable[str], fields: Sequence[Field]) -> None:
    known = [field.name for field in fields]
    for name in names:
        if name not in known:
            raise _unusable(
                f"{command} has no field {name!r}{_guess(name, known)}; "
                f"{_describe(command, fields)}"
            )


def _parse(machine: AnyMachine, data: str | bytes, advice: str) -> Any:
    try:
        command = machine.parse_command(data)
        machine.command_codec.encode(command)
        return command
    except ValidationError as error:
        raise _unusable(f"{error}; {advice}") from error


def _advice(machine: AnyMachine, text: str) -> str:
    """Return what the command that JSON names takes; where it names none, which there are."""
    commands = commands_of(machine)
    try:
        name = msgspec.json.decode(text, type=dict[str, Any])[TAG_FIELD]
        return _describe(name, fields_of(commands[name]))
    except (msgspec.DecodeError, ValueError, RecursionError, LookupError, TypeError):
        return _commands(machine)


def _commands(machine: AnyMachine) -> str:
    return f"its commands are {', '.join(commands_of(machine))}"


def _describe(command: str, fields: Iterable[Field]) -> str:
    told = ", ".join(map(str, fields))
    return f"{command} takes {told}" if told else f"{command} takes no field"


def _guess(name: str, known: Iterable[str]) -> str:
    folded = {other.casefold(): other for other in known}
    close = get_close_matches(name.casefold(), folded, n=1)
    return f" (did you mean {folded[close[0]]}?)" if close else ""


def _unusable(reason: str) -> Failure:
    return Failure(reason, Exit.USAGE)
