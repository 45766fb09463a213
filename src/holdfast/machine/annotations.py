"""Reads what a handler's annotations declare: source states, commands, targets, parameters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import CellType, FunctionType, NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Never,
    NoReturn,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from holdfast.errors import DefinitionError
from holdfast.machine.calling import calling_of
from holdfast.machine.members import is_model

_COROUTINE = 0x80  # CO_COROUTINE
_GENERATOR = 0x20 | 0x200  # CO_GENERATOR | CO_ASYNC_GENERATOR


class Signature(msgspec.Struct, frozen=True):
    """What one handler takes and returns, as declared. NoneType stands for "not there"."""

    function: Callable[..., Any]
    location: str
    sources: tuple[type, ...]
    commands: tuple[type, ...]
    targets: tuple[type, ...]
    parameters: tuple[str, ...]
    call: Callable[..., Any]
    """Calls it with these parameters in this order."""
    is_async: bool = False
    kept: tuple[type, ...] = ()
    """Sources that come back as the same type: those of a TypeVar that stands in the result too."""

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.function.__name__)

    def targets_from(self, source: type) -> tuple[type, ...]:
        """Return the types that may come of a source."""
        if source in self.kept and source not in self.targets:
            return (*self.targets, source)
        return self.targets


def read_signature(function: object, namespace: Mapping[str, Any]) -> Signature:
    """Read a handler's annotations; `namespace` holds the local names where it was defined.

    Annotations are evaluated one by one and only those of the state, the command and the result,
    so that a dependency imported for type checking alone breaks nothing. Raises DefinitionError.
    """
    if not isinstance(function, FunctionType):
        raise DefinitionError(f"a handler is a function, not {function!r}")
    location = location_of(function)
    inner = _unwrapped(function)
    parameters, call = calling_of(function, inner, location)
    if inner.__code__.co_flags & _GENERATOR:
        raise DefinitionError(f"{location}: handlers do not yield; return the state")

    def parts_of(name: str) -> tuple[Any, ...]:
        if name not in declared:
            what = "its result" if name == "return" else f"the parameter {name!r}"
            raise DefinitionError(f"{location}: {what} has no annotation; the types are the chart")
        try:
            parts = _united(declared[name], inner, namespace)
            flatten_all(parts)
        except (NameError, TypeError, AttributeError, SyntaxError, RecursionError) as error:
            raise DefinitionError(
                f"{location}: the annotation {declared[name]!r} of {name!r} cannot be "
                f"evaluated: {error}"
            ) from error
        return parts

    declared = _annotations(inner)
    sources, commands, results = parts_of("state"), parts_of("command"), parts_of("return")
    for name, parts in (("state", sources), ("command", commands)):
        if not parts:
            raise DefinitionError(
                f"{location}: the annotation {declared[name]!r} of {name!r} names no type, so that "
                "nothing would ever come here"
            )
    variables = [part for part in sources if isinstance(part, TypeVar) and part in results]
    return Signature(
        function,
        location,
        flatten_all(sources),
        flatten_all(commands),
        flatten_all(part for part in results if part not in variables),
        parameters,
        call,
        bool((inner.__code__.co_flags | function.__code__.co_flags) & _COROUTINE),
        flatten_all(variables),
    )


def flatten(annotation: Any) -> tuple[type, ...]:
    """Return the classes that an annotation unites, NoneType for None; raises TypeError."""
    return flatten_all(unite(annotation))


def flatten_all(parts: Iterable[Any]) -> tuple[type, ...]:
    """Return the classes among the parts of a union, a TypeVar standing for all it may be."""
    members: list[type] = []
    for part in parts:
        if isinstance(part, TypeVar) and (part.__constraints__ or part.__bound__):
            members += flatten_all(part.__constraints__ or unite(part.__bound__))
        elif isinstance(part, type):
            members.append(part)
        else:
            raise TypeError(f"{part!r} is not a class or a union of classes")
    return tuple(dict.fromkeys(members))


def unite(annotation: Any) -> tuple[Any, ...]:
    """Return what an annotation unites, NoneType for None, TypeVars as they are."""
    if annotation is None:
        return (NoneType,)
    if annotation is Never or annotation is NoReturn:
        return ()
    if hasattr(annotation, "__value__"):  # type X = A | B
        return unite(annotation.__value__)
    origin = get_origin(annotation)
    if origin is Annotated:
        return unite(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        return tuple(part for arg in get_args(annotation) for part in unite(arg))
    return (annotation,)


def location_of(function: Callable[..., Any]) -> str:
    """Return where a function was defined: `place (order/machine.py:12)`."""
    code = _unwrapped(function).__code__
    return f"{function.__qualname__} ({code.co_filename}:{code.co_firstlineno})"


def caller(depth: int = 2) -> str:
    """Return the file and line that called what calls this: `order/flow.py:12`."""
    frame = sys._getframe(depth)  # pyright: ignore[reportPrivateUsage] (public in all but name)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def resolve_fields(cls: type, namespace: Mapping[str, Any], seen: set[type]) -> None:
    """Evaluate the field annotations of a class defined inside a function, which its codec cannot.

    Its bases and the classes of its fields follow. Only names found in `namespace`, the module or
    the class are needed; raises NameError.
    """
    if cls in seen or "<locals>" not in cls.__qualname__:
        return
    seen.add(cls)
    if is_model(cls):
        _resolve_model(cls, namespace, seen)
        return
    nested = {name: value for name, value in vars(cls).items() if isinstance(value, type)}
    hints = get_type_hints(cls, localns={**namespace, **nested}, include_extras=True)
    own = cls.__annotations__
    own.update({name: hints[name] for name in own})
    for part in (*cls.__bases__, *(part for hint in own.values() for part in _classes_in(hint))):
        resolve_fields(part, namespace, seen)


def _resolve_model(cls: Any, namespace: Mapping[str, Any], seen: set[type]) -> None:
    """Let pydantic evaluate the annotations of its model, and follow them."""
    cls.model_rebuild(raise_errors=False, _types_namespace=namespace)
    hints = [info.annotation for info in cls.model_fields.values()]
    for part in (*cls.__bases__, *(part for hint in hints for part in _classes_in(hint))):
        resolve_fields(part, namespace, seen)


def _classes_in(annotation: Any) -> list[type]:
    parts = (annotation, get_origin(annotation))
    found = [part for part in parts if isinstance(part, type)]
    return found + [cls for part in get_args(annotation) for cls in _classes_in(part)]


def _unwrapped(function: Callable[..., Any]) -> FunctionType:
    inner: Any = function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    return cast("FunctionType", inner)


def _annotations(function: FunctionType) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF)
    return function.__annotations__


def _united(
    annotation: Any, function: FunctionType, namespace: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Return what an annotation unites; what is quoted within it, once or twice, is evaluated."""
    return tuple(
        part
        for outer in unite(_evaluate(annotation, function, namespace))
        for part in (
            _united(outer, function, namespace) if isinstance(outer, str | ForwardRef) else (outer,)
        )
    )


def _evaluate(annotation: Any, function: FunctionType, namespace: Mapping[str, Any]) -> Any:
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
    own = {each.__name__: each for each in getattr(function, "__type_params__", ())}  # def f[T]
    return eval(annotation, function.__globals__, {**namespace, **closure, **own})  # noqa: S307 (annotations are code)


def _is_filled(cell: CellType) -> bool:
    """Tell whether a name of the enclosing function has a value yet."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
