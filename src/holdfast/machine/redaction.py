"""Masks the values of secret fields in stored text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from holdfast.machine.fields import fields_of, secrets_of
from holdfast.machine.hints import class_of
from holdfast.machine.members import MASK, TAG_FIELD, is_foreign
from holdfast.machine.outlines import Outlines


class Redaction:
    """What is secret in the members of a union, by the tag under which it is stored."""

    def __init__(self, outlines: Outlines) -> None:
        self._secrets: dict[str | None, frozenset[str]] = {}
        for tag, names in _secrets_in(outlines):
            self._secrets[tag] = self._secrets.get(tag, frozenset()) | names
        self.names = frozenset(name for names in self._secrets.values() for name in names)
        """The names of all secret fields: those of the attributes, and those that are stored."""

    def mask(self, text: str) -> str:
        """Return the JSON text with a mask in place of the values of secret fields."""
        return msgspec.json.encode(self._masked(msgspec.json.decode(text))).decode()

    def mask_all(self, text: str) -> str:
        """Return the JSON text with a mask in place of all values but the tag."""
        try:
            stored = msgspec.json.decode(text)
        except (ValueError, RecursionError):
            stored = None
        shown: Any = MASK
        if isinstance(stored, dict):
            shown = {
                name: value if name == TAG_FIELD and isinstance(value, str) else MASK
                for name, value in stored.items()
            }
        return msgspec.json.encode(shown).decode()

    def _masked(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._masked(item) for item in value]
        if not isinstance(value, dict):
            return value
        tag = value.get(TAG_FIELD)
        names = self._secrets.get(tag if isinstance(tag, str) else None, ())
        return {name: MASK if name in names else self._masked(item) for name, item in value.items()}


def _secrets_in(outlines: Outlines) -> Iterator[tuple[str | None, frozenset[str]]]:
    """Iterate over the secret fields of classes, by tag; of parts without a tag it is None."""
    for kind in outlines.parts:
        cls = class_of(kind)
        hidden = secrets_of(cls)
        if not hidden:
            continue
        names = hidden.union(field.stored for field in fields_of(cls) if field.name in hidden)
        if is_foreign(cls):
            yield None, names
            if cls in outlines.of_member:
                yield cls.__name__, names
        else:
            config = cls.__struct_config__
            yield str(config.tag) if config.tag_field == TAG_FIELD else None, names
