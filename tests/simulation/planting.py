"""Plants bugs in the real code, in memory: a function gets the code of a changed copy of its text.

A bug says what to change, and in which part of the package; the function that holds it is found by
that, wherever it lives by now. It stays the same object, so everybody who imported it runs the bug,
and gets rid of it afterwards.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any, NamedTuple

from msgspec.structs import replace

import holdfast.service.service
import holdfast.stores.memory  # noqa: F401 (what is planted in must be there)
from holdfast.stores.sqlite.statements import QUERIES

SQL = "sql:"


class Change(NamedTuple):
    """What a bug changes, somewhere in a part of the package or, as `sql:name`, in a query."""

    where: str
    """`service`, `stores.sqlite` …: modules whose names begin so, after the package's."""
    right: str
    """A regular expression that matches once there; `[^~]` stands for any character."""
    wrong: str
    names: Mapping[str, Any] = MappingProxyType({})
    """What the changed text uses beside what the function sees."""


@contextmanager
def planted(*changes: Change) -> Generator[None]:
    """Have the changes in effect; raises LookupError where the code reads differently now."""
    with ExitStack() as stack:
        for change in changes:
            plant = _query_planted if change.where.startswith(SQL) else _function_planted
            stack.enter_context(plant(change))
        yield


@contextmanager
def _function_planted(change: Change) -> Generator[None]:
    function, text = _function_with(change)
    code = _code_of(textwrap.dedent(re.sub(change.right, change.wrong, text)), function)
    right, globals_ = function.__code__, function.__globals__
    if code.co_freevars != right.co_freevars:
        raise _reads_differently(change, "it sees other names")
    try:
        globals_.update(change.names)
        function.__code__ = code
        yield
    finally:
        function.__code__ = right
        for name in change.names:
            del globals_[name]


def _function_with(change: Change) -> tuple[FunctionType, str]:
    """Return the function that holds what is to be changed, and its text."""
    found = [
        (functions[line], text)
        for module in _modules(change.where)
        for functions in [_functions_by_line(module)]
        for line, text in _texts(module)
        if line in functions and re.search(change.right, text)
    ]
    matches = sum(len(re.findall(change.right, text)) for _, text in found)
    if matches != 1:
        raise _reads_differently(change, f"{matches} places match {change.right!r}")
    return found[0]


def _modules(prefix: str) -> Iterator[ModuleType]:
    for name, module in list(sys.modules.items()):
        if f"{name}.".startswith((f"holdfast.{prefix}.", f"holdfast.{prefix}_")):
            yield module


@cache
def _texts(module: ModuleType) -> list[tuple[int, str]]:
    """Return the functions and methods of a module, by their first line, as text."""
    source = inspect.getsource(module)
    lines = source.splitlines(keepends=True)
    return [
        (part.lineno, "".join(lines[part.lineno - 1 : part.end_lineno]))
        for node in ast.parse(source).body
        for part in (node.body if isinstance(node, ast.ClassDef) else [node])
        if isinstance(part, ast.FunctionDef) and not part.decorator_list
    ]


def _functions_by_line(module: ModuleType) -> dict[int, FunctionType]:
    """Return the functions and methods that a module defines, by their first line."""
    own = [value for value in vars(module).values() if _module_of(value) == module.__name__]
    members = [vars(value).values() if isinstance(value, type) else [value] for value in own]
    return {
        function.__code__.co_firstlineno: function
        for group in members
        for function in group
        if isinstance(function, FunctionType)
    }


def _module_of(value: object) -> str | None:
    return getattr(value, "__module__", None) if callable(value) else None


def _code_of(text: str, function: FunctionType) -> CodeType:
    """Compile the text of a function as its module was compiled."""
    flags = function.__code__.co_flags & annotations.compiler_flag
    module = compile(text, function.__code__.co_filename, "exec", flags, dont_inherit=True)
    [code] = [part for part in module.co_consts if isinstance(part, CodeType)][:1]
    return code.replace(co_firstlineno=function.__code__.co_firstlineno)


@contextmanager
def _query_planted(change: Change) -> Generator[None]:
    """Change a query wherever its text is kept."""
    name = change.where.removeprefix(SQL)
    query = QUERIES[name]
    wrong = {text: _changed(text, change) for text in (query.text, query.positional)}
    kept = [
        (module, place, value)
        for module in _modules("stores")
        for place, value in list(vars(module).items())
        if isinstance(value, str) and value in wrong
    ]
    changed = {"text": wrong[query.text], "positional": wrong[query.positional]}
    QUERIES[name] = replace(query, **changed)
    try:
        for module, place, value in kept:
            setattr(module, place, wrong[value])
        yield
    finally:
        QUERIES[name] = query
        for module, place, value in kept:
            setattr(module, place, value)


def _changed(text: str, change: Change) -> str:
    changed, count = re.subn(change.right, change.wrong, text)
    if count != 1:
        raise _reads_differently(change, f"{count} places match {change.right!r}")
    return changed


def _reads_differently(change: Change, why: str) -> LookupError:
    return LookupError(f"{change.where} reads differently now ({why}): plant the bug anew")
