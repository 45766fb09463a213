"""The fields of foreign classes as they are stored, and which fields of a class are secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from msgspec import NODEFAULT

from holdfast.errors import DefinitionError
from holdfast.machine.hints import class_of, classes_in, has_fields
from holdfast.machine.members import declared_in, is_foreign, is_model


class MemberField(msgspec.Struct, frozen=True):
    """A field of a class, other than its type."""

    name: str
    argument: str
    """What the constructor calls it."""
    stored: str
    required: bool
    secret: bool = False
    opaque: bool = False
    """Whether pydantic alone knows the type, and so writes and reads it."""


class Opaque:
    """The value of a field whose type pydantic alone knows."""

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.name = name

    @property
    def value(self) -> Any:
        """The value itself."""
        return getattr(self.model, self.name)

    def dumped(self) -> Any:
        """Return what pydantic writes in its place; raises ValueError, TypeError."""
        # Its warnings quote the value; what was written wrongly is refused when it is read.
        written = self.model.model_dump(
            mode="json", include={self.name}, by_alias=True, warnings=False
        )
        if isinstance(written, dict) and len(written) == 1:
            [part] = written.values()
            return part
        raise TypeError(f"{type(self.model).__name__} does not write {self.name} by itself")


def fields_of(cls: Any) -> tuple[MemberField, ...]:
    """Return the fields of a class that are stored."""
    fields = _FIELDS.get(cls)
    if fields is None:
        fields = _FIELDS[cls] = tuple(_read(cls))
    return fields


_FIELDS: WeakKeyDictionary[type, tuple[MemberField, ...]] = WeakKeyDictionary()
"""What was read, without the types: these would keep the classes alive."""


def value_of(value: Any, field: MemberField) -> Any:
    """Return a field's value in the form in which it is encoded."""
    return Opaque(value, field.name) if field.opaque else getattr(value, field.name)


def secrets_of(cls: Any) -> frozenset[str]:
    """Return the names of the fields that are kept out of sight.

    Of foreign classes they are those that their own `repr` leaves out. Raises DefinitionError where
    other classes declare some.
    """
    if is_foreign(cls):
        return frozenset(field.name for field in fields_of(cls) if field.secret)
    secrets: Any = getattr(cls, "__secrets__", frozenset())
    if isinstance(secrets, frozenset):
        return secrets
    raise DefinitionError(f"{cls.__name__}: only State and Command classes have secret fields")


def _read(cls: Any) -> Iterator[MemberField]:
    if is_model(cls):
        return _of_model(cls)
    if is_foreign(cls):
        return _of_class(cls)
    return _of_struct(cls) if issubclass(cls, msgspec.Struct) else _of_tuple(cls)


def _of_class(cls: Any) -> Iterator[MemberField]:
    """Read a dataclass or attrs class: what its constructor takes is stored."""
    for field in declared_in(cls):
        if field.init:
            argument = getattr(field, "alias", field.name)
            required = _is_required(field)
            yield MemberField(field.name, argument, field.name, required, field.repr is not True)


def _is_required(field: Any) -> bool:
    if isinstance(field, dataclasses.Field):
        return field.default is field.default_factory  # both are MISSING
    return getattr(field.default, "name", None) == "NOTHING"


def _of_model(cls: Any) -> Iterator[MemberField]:
    by_name = cls.model_config.get("validate_by_alias") is False
    for name, info in cls.model_fields.items():
        argument = name if by_name else _alias(info) or name
        custom = [kind for kind in classes_in(info.annotation) if is_custom(kind)]
        secret = any(hasattr(class_of(kind), "get_secret_value") for kind in custom)
        yield MemberField(
            name, argument, argument, info.is_required(), info.repr is False or secret, bool(custom)
        )


def _alias(info: Any) -> str | None:
    alias = info.validation_alias or info.alias
    choices = getattr(alias, "choices", [alias])
    return next((choice for choice in choices if isinstance(choice, str)), None)


def is_custom(kind: Any) -> bool:
    """Tell whether msgspec does not know a class."""
    from msgspec.inspect import CustomType, type_info

    return not has_fields(kind) and isinstance(type_info(kind), CustomType)


def _of_struct(cls: Any) -> Iterator[MemberField]:
    defaults = cls.__struct_defaults__
    names = list(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    first = len(names) - len(defaults)
    for number, (name, stored) in enumerate(names):
        required = number < first or defaults[number - first] is NODEFAULT
        yield MemberField(name, name, stored, required)


def _of_tuple(cls: Any) -> Iterator[MemberField]:
    for name in cls._fields:
        yield MemberField(name, name, name, name not in cls._field_defaults)
