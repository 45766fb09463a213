"""Members that are no State or Command: frozen dataclasses, attrs classes, pydantic (v2) models.

Each gets an outline: a msgspec class with its name and its fields, which lends it the encoding, the
tag and the errors of a State. Neither pydantic nor attrs is imported here: whoever declared such a
class has done it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, cast, get_origin, get_type_hints
from weakref import WeakKeyDictionary

import msgspec
from msgspec import UNSET

from holdfast.errors import DefinitionError

TAG_FIELD = "$type"
MASK = "***"
"""Stands for the value of a secret field wherever it is shown."""

_SEVERAL = (
    "a field that is a union of several classes may list State and Command classes only, and every "
    "name in an annotation must exist when the machine is first used"
)


class MemberField(msgspec.Struct, frozen=True):
    """A field of a foreign class."""

    name: str
    argument: str
    """What the constructor calls it."""
    stored: str
    type: Any
    required: bool
    secret: bool
    opaque: bool = False
    """Whether pydantic alone knows the type, and so writes and reads it."""


class Outline:
    """Turns values of one foreign class into values of a msgspec class, and back."""

    def __init__(self, cls: type, *, tag: str | None) -> None:
        self.cls: Any = cls
        self.fields = fields_of(cls)
        try:
            self.struct = msgspec.defstruct(
                cls.__name__,
                [_specification(field) for field in self.fields],
                module=cls.__module__,
                frozen=True,
                kw_only=True,
                tag=tag,
                tag_field=tag and TAG_FIELD,
                forbid_unknown_fields=True,
            )
        except ValueError as error:
            raise DefinitionError(f"{cls.__name__} cannot be stored: {error}") from error
        hidden = frozenset(field.name for field in self.fields if field.secret)
        type.__setattr__(self.struct, "__secrets__", hidden)

    def draw(self, value: Any) -> msgspec.Struct:
        """Return the outline of a value."""
        return self.struct(**{field.name: part_of(value, field) for field in self.fields})

    def fill(self, drawn: msgspec.Struct) -> Any:
        """Return the value that an outline is of, as its class builds it.

        Raises ValueError, which ends with the path as msgspec writes it.
        """
        parts = ((field.argument, getattr(drawn, field.name)) for field in self.fields)
        given = {argument: part for argument, part in parts if part is not UNSET}
        try:
            if is_model(self.cls):
                return self.cls.model_validate(given)
            return self.cls(**given)
        except (TypeError, ValueError) as error:
            # The text of pydantic's own error quotes the value, which may be a secret.
            raise ValueError(_reason(error)) from None if is_model(self.cls) else error


def is_model(cls: Any) -> bool:
    """Tell whether a class is a pydantic model."""
    base = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return base is not None and isinstance(cls, type) and issubclass(cls, base)


def is_foreign(cls: type) -> bool:
    """Tell whether a class is a dataclass, an attrs class or a pydantic model."""
    return is_model(cls) or hasattr(cls, "__attrs_attrs__") or dataclasses.is_dataclass(cls)


def fault_of(cls: Any) -> str | None:
    """Return why a foreign class cannot be a member, and what to do; None where it can."""
    if is_model(cls):
        return _fault_of_model(cls)
    if "__attrs_attrs__" in vars(cls):
        frozen, remedy = cls.__setattr__.__name__ == "_frozen_setattrs", "@attrs.frozen"
    elif "__dataclass_params__" in vars(cls):
        frozen, remedy = cls.__dataclass_params__.frozen, "@dataclass(frozen=True)"
    else:
        return "inherits from a dataclass or attrs class, and is not decorated as one itself"
    if not frozen:
        return f"is mutable; members are values, so decorate it with {remedy}"
    if cls.__eq__ is object.__eq__:
        return "is not compared by value; leave eq as it is"
    return None


def outline_of(cls: type) -> Outline:
    """Return the outline of a part: it has no tag."""
    outline = _OUTLINES.get(cls)
    if outline is None:
        outline = _OUTLINES[cls] = Outline(cls, tag=None)
    return outline


def decode_part(cls: type, value: Any) -> Any:
    """Return the pydantic model that plain JSON values describe; msgspec calls it for parts."""
    if isinstance(value, cls):
        return value
    if not is_model(cls):
        raise TypeError(f"{cls.__name__} has no encoding")
    outline = outline_of(cls)
    try:
        drawn = msgspec.convert(value, outline.struct, dec_hook=decode_part, str_keys=True)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    return outline.fill(drawn)


def part_of(value: Any, field: MemberField) -> Any:
    """Return a field's value in the form in which it is encoded."""
    part = getattr(value, field.name)
    if not field.opaque:
        return part
    if hasattr(part, "get_secret_value"):
        return part.get_secret_value()
    return value.model_dump(mode="json", include={field.name}, by_alias=False).get(field.name)


def secrets_of(cls: type) -> frozenset[str]:
    """Return the names of the fields that are kept out of sight.

    Of foreign classes they are those that their own `repr` leaves out.
    """
    if issubclass(cls, msgspec.Struct):
        secrets: Any = getattr(cls, "__secrets__", frozenset())
        if isinstance(secrets, frozenset):
            return secrets
        raise DefinitionError(f"{cls.__name__}: only State and Command classes have secret fields")
    if is_model(cls):
        return frozenset(field.name for field in fields_of(cls) if field.secret)
    return frozenset(field.name for field in _declared(cls) if field.repr is not True)


def fields_of(cls: type) -> tuple[MemberField, ...]:
    """Return the fields of a foreign class that are stored; raises NameError, DefinitionError."""
    fields = _FIELDS.get(cls)
    if fields is None:
        read = _model_fields if is_model(cls) else _class_fields
        fields = _FIELDS[cls] = tuple(read(cls))
    return fields


_FIELDS: WeakKeyDictionary[type, tuple[MemberField, ...]] = WeakKeyDictionary()
_OUTLINES: WeakKeyDictionary[type, Outline] = WeakKeyDictionary()


def expect_encodable(cls: type) -> None:
    """Raise DefinitionError, with its name, for a field whose type cannot be encoded.

    Where a name in an annotation does not exist, nothing can be said about the fields.
    """
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError:
        return
    for name, hint in hints.items():
        if get_origin(hint) is not ClassVar:
            _expect_encodable(cls, name, hint)


def _expect_encodable(cls: type, name: str, hint: Any) -> None:
    try:
        msgspec.json.Decoder(hint)
    except (TypeError, NameError) as error:
        raise DefinitionError(
            f"{cls.__name__}.{name} cannot be encoded: {error}; {_SEVERAL}"
        ) from error


def _fault_of_model(cls: Any) -> str | None:
    root = getattr(sys.modules.get("pydantic.root_model"), "RootModel", None)
    if root is not None and issubclass(cls, root):
        return "is a RootModel, which has no fields to store under a tag; take a BaseModel"
    if not cls.model_config.get("frozen"):
        return "is mutable; members are values, so declare class …(BaseModel, frozen=True)"
    return None


def _specification(field: MemberField) -> tuple[str, Any, Any]:
    if field.required:
        return field.name, field.type, msgspec.field(name=field.stored)
    return field.name, field.type, msgspec.field(default=UNSET, name=field.stored)


def _class_fields(cls: Any) -> Iterator[MemberField]:
    """Return the fields of a dataclass or attrs class: what its constructor takes."""
    hints = get_type_hints(cls, include_extras=True)
    for field in _declared(cls):
        if field.init:
            yield MemberField(
                field.name,
                getattr(field, "alias", field.name),
                field.name,
                hints.get(field.name, Any),
                _is_required(field),
                field.repr is not True,
            )


def _declared(cls: Any) -> Iterable[Any]:
    """Return the fields of a dataclass or an attrs class, as these modules tell them."""
    if hasattr(cls, "__attrs_attrs__"):
        return cast("Iterable[Any]", cls.__attrs_attrs__)
    return dataclasses.fields(cls)


def _is_required(field: Any) -> bool:
    if isinstance(field, dataclasses.Field):
        return field.default is field.default_factory  # both are MISSING
    return getattr(field.default, "name", None) == "NOTHING"


def _model_fields(cls: Any) -> Iterator[MemberField]:
    cls.model_rebuild()
    by_name = cls.model_config.get("validate_by_alias") is False
    for name, info in cls.model_fields.items():
        argument = name if by_name else _alias(info) or name
        _expect_encodable(cls, name, info.annotation)
        opaque, secret = _is_opaque(info.annotation), _holds_secret(info.annotation)
        yield MemberField(
            name,
            argument,
            argument,
            Any if opaque else info.annotation,
            info.is_required(),
            info.repr is False or secret,
            opaque,
        )


def _alias(info: Any) -> str | None:
    alias = info.validation_alias or info.alias
    choices = getattr(alias, "choices", [alias])
    return next((choice for choice in choices if isinstance(choice, str)), None)


def _is_opaque(annotation: Any) -> bool:
    return any(not is_model(cls) for cls in _custom_classes(annotation))


def _holds_secret(annotation: Any) -> bool:
    return any(hasattr(cls, "get_secret_value") for cls in _custom_classes(annotation))


def _custom_classes(annotation: Any) -> Iterator[Any]:
    """Iterate over the classes in an annotation that msgspec does not know."""
    from msgspec.inspect import CustomType, type_info

    pending = [type_info(annotation)]
    while pending:
        info = pending.pop()
        if isinstance(info, CustomType):
            yield info.cls
        elif not hasattr(info, "fields"):
            pending += types_in(info)


def types_in(info: Any) -> list[Any]:
    """Return the types that a type directly consists of, as `msgspec.inspect` tells them."""
    parts = [field.type for field in getattr(info, "fields", ()) if hasattr(field, "type")]
    parts += getattr(info, "types", ()) or getattr(info, "item_types", ())
    for name in ("item_type", "key_type", "value_type", "type"):
        part = getattr(info, name, None)
        if part is not None:
            parts.append(part)
    return parts


def _reason(error: Exception) -> str:
    """Return what was wrong without the value, and the path as msgspec writes it."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors(include_url=False, include_input=False, include_context=False)[0]
    steps = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in first["loc"])
    return f"{first['msg']} - at `${steps}`" if steps else str(first["msg"])
