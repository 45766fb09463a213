"""How pydantic sees State and Command classes: as parts of its models, and in their JSON schema.

Only pydantic calls this; it is never imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from holdfast.machine.canonical import encode_canonically
from holdfast.machine.members import decode_part, is_model

_DEFINITION = "#/$defs/"


def core_schema_of(cls: type) -> Any:
    """Return pydantic's schema: values pass, and what describes them is read as JSON is."""
    schemas = sys.modules["pydantic_core.core_schema"]

    def read(value: Any) -> Any:
        return msgspec.convert(value, cls, dec_hook=decode_part, str_keys=True)

    def write(value: Any) -> Any:
        return msgspec.json.decode(encode_canonically(value))

    return schemas.no_info_plain_validator_function(
        read,
        serialization=schemas.plain_serializer_function_ser_schema(write, when_used="json"),
    )


def json_schema_of(cls: type) -> dict[str, Any]:
    """Return the JSON schema of a class without references, which would lead out of it.

    Where a class contains itself, the inner one is any object.
    """
    schema = msgspec.json.schema(cls, schema_hook=_schema_of_model)
    inlined = _inline(schema, schema.get("$defs", {}), ())
    assert isinstance(inlined, dict)
    inlined.pop("$defs", None)
    return inlined


def _schema_of_model(cls: Any) -> dict[str, Any]:
    if not is_model(cls):
        raise NotImplementedError
    schema = cls.model_json_schema()
    inlined = _inline(schema, schema.get("$defs", {}), ())
    assert isinstance(inlined, dict)
    inlined.pop("$defs", None)
    return inlined


def _inline(schema: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    if isinstance(schema, list):
        return [_inline(part, definitions, within) for part in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).removeprefix(_DEFINITION)
    if name in within:
        return {"title": name, "type": "object"}
    if name in definitions:
        return _inline(definitions[name], definitions, (*within, name))
    kept = {key: part for key, part in schema.items() if key not in ("$defs", "discriminator")}
    return {key: _inline(part, definitions, within) for key, part in kept.items()}
