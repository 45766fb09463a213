"""How pydantic sees State and Command classes: as parts of its models, and in their JSON schema.

Only pydantic calls this; it is never imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from holdfast.machine.canonical import encode_canonically
from holdfast.machine.codec import Codec
from holdfast.machine.members import TAG_FIELD, is_model

_DEFINITION = "#/$defs/"


def core_schema_of(cls: type) -> Any:
    """Return pydantic's schema: values pass, and what describes them is read as JSON is."""
    schemas = sys.modules["pydantic_core.core_schema"]

    @cache
    def codec() -> Codec[Any]:
        """Return the codec; the names in its annotations may exist at the first use only."""
        return Codec(cls.__name__, [cls])

    def read(value: Any) -> Any:
        if type(value) is cls:
            return value
        if isinstance(value, Mapping) and TAG_FIELD not in value:
            # Where a model takes several classes, the first that it fits would be a guess.
            raise msgspec.ValidationError(f"Object missing required field `{TAG_FIELD}`")
        return codec().read(value)

    def write(value: Any) -> Any:
        return msgspec.json.decode(encode_canonically(value))

    return schemas.no_info_plain_validator_function(
        read,
        serialization=schemas.plain_serializer_function_ser_schema(write, when_used="json"),
    )


def json_schema_of(cls: type) -> dict[str, Any]:
    """Return the JSON schema of a class without references, which would lead out of it.

    Where a class contains itself, the inner one is any object; so are, of classes that contain
    each other, those within the second.
    """
    return _without_references(msgspec.json.schema(cls, schema_hook=_schema_of_model))


def _schema_of_model(cls: Any) -> dict[str, Any]:
    if not is_model(cls):
        raise NotImplementedError
    return _without_references(cls.model_json_schema())


def _without_references(schema: dict[str, Any]) -> dict[str, Any]:
    definitions = schema.get("$defs", {})
    inlined = _inline(schema, definitions, _recursive(definitions), ())
    assert isinstance(inlined, dict)
    return inlined


def _inline(
    schema: Any,
    definitions: Mapping[str, Any],
    recursive: frozenset[str],
    within: tuple[str, ...],
) -> Any:
    if isinstance(schema, list):
        return [_inline(part, definitions, recursive, within) for part in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).removeprefix(_DEFINITION)
    if name in within or (name in recursive and len(recursive.intersection(within)) > 1):
        return {"title": name, "type": "object"}
    if name in definitions:
        return _inline(definitions[name], definitions, recursive, (*within, name))
    kept = {key: part for key, part in schema.items() if key not in ("$defs", "discriminator")}
    return {key: _inline(part, definitions, recursive, within) for key, part in kept.items()}


def _recursive(definitions: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the definitions that lead back to themselves."""
    leads_to = {name: set(_names_in(part)) for name, part in definitions.items()}
    found = set()
    for name, names in leads_to.items():
        reached: set[str] = set()
        pending = set(names)
        while pending:
            reached |= pending
            pending = {other for each in pending for other in leads_to.get(each, ())} - reached
        if name in reached:
            found.add(name)
    return frozenset(found)


def _names_in(schema: Any) -> Iterator[str]:
    """Iterate over the names that a schema refers to."""
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix(_DEFINITION)
        parts = list(schema.values())
    else:
        parts = schema if isinstance(schema, list) else []
    for part in parts:
        yield from _names_in(part)
