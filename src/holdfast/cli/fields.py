"""Reads a command as people write it: JSON, or its name and `field=value`.

A value is text where the field takes that text, and JSON where it does not: the declared type
decides. `field:=value` is JSON in any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from inspect import Parameter, signature
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from holdfast.cli.exits import Exit, Failure
from holdfast.cli.target import AnyMachine
from holdfast.errors import ValidationError
from holdfast.machine.codec import tag_of
from holdfast.machine.model import TAG_FIELD

_PAIR = re.compile(r"([^=]*?)(:?=)(.*)", re.DOTALL)


class Field(NamedTuple):
    """A field of a command."""

    name: str
    type: Any
    required: bool

    def __str__(self) -> str:
        return f"{self.name}: {type_text(self.type)}" + ("" if self.required else " (optional)")


def fields_of(command: type) -> list[Field]:
    """Return the fields of a command class, in their order."""
    if issubclass(command, msgspec.Struct):
        return [
            Field(field.encode_name, field.type, field.required)
            for field in msgspec.structs.fields(command)
        ]
    types = get_type_hints(command, include_extras=True)
    return [
        Field(name, types.get(name, Any), parameter.default is Parameter.empty)
        for name, parameter in signature(command).parameters.items()
    ]


def commands_of(machine: AnyMachine) -> dict[str, type]:
    """Return the command classes by name."""
    return {tag_of(command): command for command in machine.commands}


def read_command(machine: AnyMachine, text: str, given: Sequence[str]) -> Any:
    """Return the command that was asked for; raises Failure, which tells what there is."""
    if text.lstrip().startswith("{"):
        if given:
            raise _unusable(f"JSON holds the whole command, so {given[0]!r} has no place")
        return _parse(machine, text, _advice(machine, text))
    commands = commands_of(machine)
    if text not in commands:
        raise _unusable(
            f"{machine.name} takes no command {text!r}"
            f"{_guess(text, commands)}; {_commands(machine)}"
        )
    fields = {field.name: field for field in fields_of(commands[text])}
    values = {
        name: _value(text, name, operator, value, fields)
        for name, operator, value in read_pairs(given)
    }
    tagged = {TAG_FIELD: text, **values}
    return _parse(machine, msgspec.json.encode(tagged), _describe(text, fields.values()))


def read_pairs(given: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return name, `=` or `:=`, and value of each argument; raises Failure."""
    pairs: list[tuple[str, str, str]] = []
    for text in given:
        match = _PAIR.fullmatch(text)
        if match is None or not match[1]:
            raise _unusable(f"{text!r} is not written as name=value")
        if any(match[1] == name for name, _, _ in pairs):
            raise _unusable(f"{match[1]} is given twice")
        pairs.append((match[1], match[2], match[3]))
    return pairs


def read_json(name: str, text: str) -> msgspec.Raw:
    """Return a value that was written as JSON; raises Failure."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _unusable(f"{name}:={text} is no JSON ({error}); text goes in quotes") from error
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
    if parts:
        return f"{type_text(origin)}[{', '.join(map(type_text, parts))}]"
    return getattr(declared, "__name__", str(declared)).replace("NoneType", "null")


def _value(
    command: str, name: str, operator: str, text: str, fields: Mapping[str, Field]
) -> msgspec.Raw:
    if name not in fields:
        raise _unusable(
            f"{command} has no field {name!r}{_guess(name, fields)}; "
            f"{_describe(command, fields.values())}"
        )
    return read_json(name, text) if operator == ":=" else _declared(fields[name].type, text)


def _declared(declared: Any, text: str) -> msgspec.Raw:
    """Return the JSON that a value means to a type; where it means none, what tells why best."""
    as_text = _encode(text)
    refusal = _refusal(as_text, declared)
    if refusal is None or _refusal(text.encode(), Any) is not None:
        return msgspec.Raw(as_text)
    is_other = _refusal(text.encode(), declared) is None or refusal.endswith("got `str`")
    return msgspec.Raw(text.encode() if is_other else as_text)


def _refusal(data: bytes, declared: Any) -> str | None:
    try:
        msgspec.json.decode(data, type=declared)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return str(error)
    return None


def _encode(text: str) -> bytes:
    try:
        return msgspec.json.encode(text)
    except UnicodeEncodeError as error:
        raise _unusable(f"{text!r} is not valid Unicode") from error


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
