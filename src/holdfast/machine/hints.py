"""Reads the types of the fields of classes, and finds the classes within a type."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NotRequired,
    Protocol,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from typing_extensions import ReadOnly, is_typeddict

from holdfast.machine.members import is_foreign, is_model

_QUALIFIERS = (ClassVar, Final, NotRequired, ReadOnly, Required)
_CONTAINERS: frozenset[Any] = frozenset(
    (
        dict,
        frozenset,
        list,
        set,
        tuple,
        collections.abc.Collection,
        collections.abc.Mapping,
        collections.abc.MutableMapping,
        collections.abc.MutableSequence,
        collections.abc.MutableSet,
        collections.abc.Sequence,
        collections.abc.Set,
    )
)


def class_of(kind: Any) -> Any:
    """Return the class itself, of a generic one with arguments too."""
    return get_origin(kind) or kind


def is_named_tuple(cls: Any) -> bool:
    """Tell whether a class is a named tuple."""
    return isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")


def has_fields(kind: Any) -> bool:
    """Tell whether something is a class with fields, or a generic one with arguments."""
    cls = class_of(kind)
    if is_typeddict(cls):
        return True
    if not isinstance(cls, type):
        return False
    return issubclass(cls, msgspec.Struct) or is_foreign(cls) or is_named_tuple(cls)


def hints_of(kind: Any) -> dict[str, Any]:
    """Return the types that a class with fields is annotated with, its type variables filled in.

    Raises NameError.
    """
    cls = class_of(kind)
    if is_model(cls):
        return {name: info.annotation for name, info in cls.model_fields.items()}
    scopes = dict(_scopes_of(kind))
    hints = get_type_hints(cls, localns=_type_parameters(cls), include_extras=True)
    return {
        name: _filled_in(hint, scopes.get(_owner(cls, name), {})) for name, hint in hints.items()
    }


def swap(hint: Any, change: Callable[[Any], Any]) -> Any:
    """Return a type with each class in it changed; a generic one comes with its arguments."""
    hint = _resolved(hint)
    origin: Any = get_origin(hint)
    args = get_args(hint)
    if origin is None:
        return change(hint) if isinstance(hint, type) or is_typeddict(hint) else hint
    if origin is Literal or not args:
        return hint
    if origin is Annotated:
        return Annotated[(swap(args[0], change), *args[1:])]
    changed = tuple(part if part is Ellipsis else swap(part, change) for part in args)
    if origin is Union or origin is UnionType:
        return Union[changed]  # noqa: UP007 (their number is not known)
    return origin[changed] if origin in _CONTAINERS else change(hint)


def _resolved(hint: Any) -> Any:
    """Return the type that a variable, a new name or an alias stands for, without qualifiers."""
    if isinstance(hint, TypeVar):
        return Any if hint.__bound__ is None else _resolved(hint.__bound__)
    if hasattr(hint, "__supertype__"):  # NewType
        return _resolved(hint.__supertype__)
    origin, args = get_origin(hint), get_args(hint)
    if origin in _QUALIFIERS:
        return _resolved(args[0])
    alias = origin or hint
    if hasattr(alias, "__value__"):  # type X[T] = …
        scope = dict(zip(alias.__type_params__, args, strict=False))
        return _resolved(_filled_in(alias.__value__, scope))
    return hint


def classes_in(hint: Any) -> list[Any]:
    """Return the classes within a type, generic ones with their arguments."""
    found: list[Any] = []

    def note(kind: Any) -> Any:
        found.append(kind)
        return Any

    swap(hint, note)
    return found


def _type_parameters(cls: Any) -> dict[str, Any] | None:
    """Return what annotations may name where a class has parameters of its own: class X[T]."""
    parameters = [part for base in cls.__mro__ for part in getattr(base, "__type_params__", ())]
    if not parameters:
        return None
    nested = {name: value for name, value in vars(cls).items() if isinstance(value, type)}
    return nested | {parameter.__name__: parameter for parameter in parameters}


def _scopes_of(kind: Any) -> Iterator[tuple[Any, dict[Any, Any]]]:
    """Iterate over the generic classes that a class inherits from, and what their variables are."""
    cls = class_of(kind)
    scope = dict(zip(getattr(cls, "__parameters__", ()), get_args(kind), strict=False))
    yield cls, scope
    for base in getattr(cls, "__orig_bases__", ()):
        if get_origin(base) not in (None, Generic, Protocol):
            yield from _scopes_of(_filled_in(base, scope))


def _owner(cls: Any, name: str) -> Any:
    """Return the class whose annotation counts for a field."""
    mro = getattr(cls, "__mro__", (cls,))
    return next((base for base in mro if name in getattr(base, "__annotations__", ())), cls)


def _filled_in(hint: Any, scope: Mapping[Any, Any]) -> Any:
    """Return a type with arguments in place of its variables."""
    if isinstance(hint, TypeVar):
        return scope.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or not scope or get_origin(hint) is None:
        return hint
    return hint[tuple(scope.get(parameter, parameter) for parameter in parameters)]
