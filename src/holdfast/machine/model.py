"""The base classes of states and commands: frozen values, tagged by `$type`, readable as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform, overload

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from holdfast.errors import DefinitionError
from holdfast.machine.members import MASK, TAG_FIELD

__all__ = ["TAG_FIELD", "Command", "Meta", "State", "field"]

T = TypeVar("T")


@overload
def field(*, default: T, name: str | None = None, secret: bool = False) -> T: ...
@overload
def field(
    *, default_factory: Callable[[], T], name: str | None = None, secret: bool = False
) -> T: ...
@overload
def field(*, name: str | None = None, secret: bool = False) -> Any: ...
def field(
    *,
    default: Any = NODEFAULT,
    default_factory: Any = NODEFAULT,
    name: str | None = None,
    secret: bool = False,
) -> Any:
    """Declare a field of a State or Command: its default, the name it is stored under.

    A secret field is stored as it is, and kept out of `repr`, error texts and what the command
    line shows; it stays secret in subclasses.
    """
    made: Any = cast("Any", msgspec.field)(
        default=default, default_factory=default_factory, name=name
    )
    if secret:
        body = sys._getframe(1).f_locals  # pyright: ignore[reportPrivateUsage] (public in all but name)
        if "__qualname__" not in body:
            raise DefinitionError("call field(secret=True) in the body of the class it is for")
        body.setdefault("__secrets__", []).append((body, made))
    return made


def _names(marks: Any) -> Iterable[str]:
    """Return the names under which marked declarations stand in their class body."""
    if isinstance(marks, frozenset):
        return marks
    return [name for body, made in marks for name, value in body.items() if value is made]


class _Mask:
    def __repr__(self) -> str:
        return MASK


_MASK = _Mask()


class _Member(Struct, frozen=True, tag=True, tag_field=TAG_FIELD, forbid_unknown_fields=True):
    """What State and Command have in common."""

    __secrets__: ClassVar[Any] = frozenset()
    """The names of the secret fields."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Note which fields are secret: msgspec takes the declarations out of the class."""
        super().__init_subclass__(**options)
        cls.__secrets__ = frozenset(
            name for base in cls.__mro__ for name in _names(vars(base).get("__secrets__", ()))
        )

    def __repr__(self) -> str:
        if not self.__secrets__:
            return super().__repr__()
        parts = (f"{name}={part!r}" for name, part in self.__rich_repr__())
        return f"{type(self).__name__}({', '.join(parts)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the fields as rich shows them."""
        hidden = self.__secrets__
        names = self.__struct_fields__
        return [(name, _MASK if name in hidden else getattr(self, name)) for name in names]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Return how pydantic validates and writes this class as a part of its models."""
        from holdfast.machine.schema import core_schema_of

        return core_schema_of(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        """Return the JSON schema of this class, as pydantic and FastAPI publish it."""
        from holdfast.machine.schema import json_schema_of

        return json_schema_of(cls)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class State(_Member, frozen=True, tag=True, tag_field=TAG_FIELD, forbid_unknown_fields=True):
    """Base class of states: subclass it with annotated fields.

    Instances are immutable, equal by value, hashable if their fields are, and stored as JSON
    under the name of the class.
    """


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Command(_Member, frozen=True, tag=True, tag_field=TAG_FIELD, forbid_unknown_fields=True):
    """Base class of commands: subclass it with annotated fields, constrained by `Meta`.

    Instances are immutable, equal by value, hashable if their fields are, and recorded as JSON
    under the name of the class.
    """
