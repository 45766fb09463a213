"""Members that are no State or Command: frozen dataclasses, attrs classes, pydantic (v2) models.

Neither pydantic nor attrs is imported here: whoever declared such a class has done it.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from holdfast.errors import DefinitionError

TAG_FIELD = "$type"
MASK = "***"
"""Stands for the value of a secret field wherever it is shown."""

_Declaration = type(msgspec.field())


def is_model(cls: Any) -> bool:
    """Tell whether a class is a pydantic model."""
    base = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return base is not None and isinstance(cls, type) and issubclass(cls, base)


def is_foreign(cls: Any) -> bool:
    """Tell whether a class is a dataclass, an attrs class or a pydantic model."""
    return is_model(cls) or hasattr(cls, "__attrs_attrs__") or dataclasses.is_dataclass(cls)


def is_plain(cls: Any) -> bool:
    """Tell whether msgspec builds and writes the values of a foreign class as the class would.

    It calls no constructor, so that one with a say of its own must not be left out.
    """
    if is_model(cls) or hasattr(cls, "__attrs_attrs__"):
        return False
    plain, made_by = cast("Any", object), type(cls)
    generated = getattr(cls.__init__, "__code__", None)
    return (
        made_by is type
        and cls.__new__ is plain.__new__
        and generated is not None
        and generated.co_filename == "<string>"  # where the dataclass decorator writes it
        and (cls.__setattr__ is plain.__setattr__ or cls.__dataclass_params__.frozen)
        and all(field.init and not field.name.startswith("_") for field in dataclasses.fields(cls))
    )


def declared_in(cls: Any) -> Iterable[Any]:
    """Return the fields of a dataclass or an attrs class, as these modules tell them."""
    if hasattr(cls, "__attrs_attrs__"):
        return cast("Iterable[Any]", cls.__attrs_attrs__)
    return dataclasses.fields(cls)


def fault_of(cls: Any) -> str | None:
    """Return why a foreign class cannot be a member, and what to do; None where it can."""
    return _misdeclared(cls) or (_fault_of_model(cls) if is_model(cls) else _fault_of_class(cls))


def expect_sound(cls: Any) -> None:
    """Raise DefinitionError for a foreign class that cannot be built from what is stored."""
    fault = _misdeclared(cls)
    if fault is None and not is_model(cls):
        fault = _misbuilt(cls)
    if fault is not None:
        raise DefinitionError(f"{cls.__name__} {fault}")


def _fault_of_model(cls: Any) -> str | None:
    root = getattr(sys.modules.get("pydantic.root_model"), "RootModel", None)
    if root is not None and issubclass(cls, root):
        return "is a RootModel, which has no fields to store under a tag; take a BaseModel"
    if not cls.model_config.get("frozen"):
        return "is mutable; members are values, so declare class …(BaseModel, frozen=True)"
    return None


def _fault_of_class(cls: Any) -> str | None:
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


def _misdeclared(cls: Any) -> str | None:
    """Return what is wrong where a foreign class declares a field as a State does."""
    fields = cls.model_fields.values() if is_model(cls) else declared_in(cls)
    taken = any(isinstance(field.default, _Declaration) for field in fields)
    if taken or any("__secrets__" in vars(base) for base in cls.__mro__):
        return (
            "declares a field with holdfast.field, which State and Command classes alone know; "
            "take the class's own field(), with repr=False for a secret"
        )
    return None


def _misbuilt(cls: Any) -> str | None:
    """Return what is wrong where the constructor does not take what is stored, nor that alone."""
    parameters = inspect.signature(cls).parameters
    stored = {_argument(field) for field in declared_in(cls) if field.init}
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for name in stored - parameters.keys() if not takes_all else ():
        return f"has a constructor that does not take {name!r}, which is one of its fields"
    for name, each in parameters.items():
        if name not in stored and each.default is each.empty and each.kind in _NAMED:
            return (
                f"has a constructor that takes {name!r}, which is no field of it, and so is not "
                "stored; give it a default, or make it a field"
            )
    return None


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _argument(field: Any) -> str:
    return str(getattr(field, "alias", field.name))
