"""Which parameters a handler takes, and how it is called: one way for every kind of handler."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from types import FunctionType
from typing import Any

from holdfast.errors import DefinitionError

_PARAMETERS = ("state", "command", "deps", "context")
_VAR_ARGUMENTS = 0x04 | 0x08  # CO_VARARGS | CO_VARKEYWORDS


def parameters_of(function: FunctionType, location: str) -> tuple[str, ...]:
    """Return the names of a handler's parameters, in its own order; raises DefinitionError."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    unknown = [name for name in names if name not in _PARAMETERS]
    if unknown or code.co_flags & _VAR_ARGUMENTS:
        extra = ", ".join(map(repr, unknown)) or "* or **"
        raise DefinitionError(
            f"{location}: {extra} is not a handler's parameter; they are state, command, and where "
            "wanted deps and context"
        )
    missing = [name for name in ("state", "command") if name not in names]
    if missing:
        raise DefinitionError(f"{location}: the parameter {missing[0]!r} is missing")
    if code.co_posonlyargcount:
        raise DefinitionError(f"{location}: parameters are passed by name; leave out the '/'")
    return names


def calling_of(
    function: FunctionType, inner: FunctionType, location: str
) -> tuple[tuple[str, ...], Callable[..., Any]]:
    """Return the parameters that a handler is given, in canonical order, and how to call it so.

    `inner` is the function that it is wrapped around, or the same. The arguments come in the order
    in which that has them, as most wrappers pass them on, and by name where they cannot. A wrapper
    may leave out deps and context. Raises DefinitionError.
    """
    names = parameters_of(inner, location)
    taken = signature(function, follow_wrapped=False)
    own = tuple(name for name in names if name in taken.parameters)
    takes_any = any(each.kind in _VARIABLE for each in taken.parameters.values())
    if not takes_any and {"state", "command"} <= {*own}:
        names = own
    wanted = tuple(name for name in _PARAMETERS if name in names)
    if _takes_in_order(taken, names) and (
        function is inner or _takes_in_order(signature(inner), names)
    ):
        return wanted, function if names == wanted else _reordered(function, names, wanted)
    if _takes_by_name(taken, names):
        return wanted, lambda *given: function(**dict(zip(wanted, given, strict=True)))
    raise DefinitionError(
        f"{location}: the function around it takes {taken}, and not what it would pass on: "
        f"{', '.join(names)}; let it take these by name, or (*args, **kwargs)"
    )


_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def _reordered(
    function: Callable[..., Any], names: tuple[str, ...], wanted: tuple[str, ...]
) -> Callable[..., Any]:
    places = [wanted.index(name) for name in names]
    return lambda *given: function(*[given[place] for place in places])


def _takes_in_order(taken: Signature, names: tuple[str, ...]) -> bool:
    """Tell whether arguments in an order come to the parameters that they are meant for."""
    try:
        bound = taken.bind(*names).arguments
    except TypeError:
        return False
    return all(passed == name or name not in _PARAMETERS for name, passed in bound.items())


def _takes_by_name(taken: Signature, names: tuple[str, ...]) -> bool:
    try:
        taken.bind(**dict.fromkeys(names))
    except TypeError:
        return False
    return True
