"""The base classes of states and commands: frozen values, tagged by `$type`, readable as JSON."""

from __future__ import annotations

from typing import dataclass_transform

from msgspec import Meta, Struct, field

__all__ = ["Command", "Meta", "State", "field"]

TAG_FIELD = "$type"


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class State(Struct, frozen=True, tag=True, tag_field=TAG_FIELD, forbid_unknown_fields=True):
    """Base class of states: subclass it with annotated fields.

    Instances are immutable, equal by value, hashable if their fields are, and stored as JSON
    under the name of the class.
    """


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Command(Struct, frozen=True, tag=True, tag_field=TAG_FIELD, forbid_unknown_fields=True):
    """Base class of commands: subclass it with annotated fields, constrained by `Meta`.

    Instances are immutable, equal by value, hashable if their fields are, and recorded as JSON
    under the name of the class.
    """
