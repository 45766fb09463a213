"""What is said of a value that cannot be stored or read: why, at which path, and no secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from typing import Any, NoReturn

import msgspec
from msgspec import UNSET

from holdfast.errors import ValidationError
from holdfast.machine.canonical import has_parts, parts_of
from holdfast.machine.fields import Opaque
from holdfast.machine.outlines import UnfitError

MAX_NESTING = 100
"""How deep lists and mappings may be nested, the value itself counted."""

FAILURES = (TypeError, ValueError, ArithmeticError, msgspec.MsgspecError)
"""How encoding and decoding fail, the depth of the stack aside."""

_WHERE = re.compile(r"(?: - at (?:`key` in )?`\$[^`]*`)+$")
_PATH = re.compile(r"`\$([^`]*)`")
_STEP = re.compile(r"([^.\[]+)(?:\[(?:\d+|\.\.\.)\])*")
_ALIKE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NEITHER = bytes(set(range(256)) - set(b'[]{}"'))  # neither a bracket nor a quote

Hidden = frozenset[str]
"""The names of secret fields: what is said leads there and no further."""


def refuse(role: str, error: Exception, hidden: Hidden, path: str | None = None) -> NoReturn:
    """Raise ValidationError for what failed to be encoded or decoded."""
    message, where = split(error)
    path, is_hidden = cut(path or where, hidden)
    if is_hidden:
        raise ValidationError(f"the {role} is not valid at {path}", path) from None
    raise ValidationError(f"the {role} is not valid at {path}: {message}", path) from error


def split(error: Exception) -> tuple[str, str]:
    """Return what an error says, and the path at its end; of nested paths the outer is the last."""
    if isinstance(error, UnfitError):
        return error.message, f"${error.path}"
    text = str(error)
    where = _WHERE.search(text)
    if where is None:
        return text, "$"
    return text[: where.start()], "$" + "".join(reversed(_PATH.findall(where[0])))


def cut(path: str, hidden: Hidden) -> tuple[str, bool]:
    """Return a path as far as the first field that has the name of a secret one, if any does.

    What follows may be a key of a secret mapping, or be numbers.
    """
    if hidden:
        for step in _STEP.finditer(path):
            if step[1] in hidden:
                return path[: step.end()], True
    return path, False


def blame(encode: Callable[[Any], bytes], value: Any) -> str:
    """Return the path to the smallest part that cannot be encoded."""
    path = "$"
    while True:
        for step, part in parts_of(value):
            if _fails(encode, part):
                path, value = path + step, part
                break
        else:
            return path


def _fails(encode: Callable[[Any], bytes], part: Any) -> bool:
    try:
        encode(part)
    except FAILURES:
        return True
    return False


def refuse_unread(role: str, value: Any, error: Exception, hidden: Hidden) -> NoReturn:
    """Raise ValidationError for a value whose text cannot be decoded."""
    lost = _not_finite(value, "$")
    if lost is None:
        refuse(role, error, hidden)
    refuse(role, ValueError(f"{lost[1]} is no number that JSON can hold"), hidden, lost[0])


def _not_finite(value: Any, path: str) -> tuple[str, float] | None:
    """Return the path to the first NaN or infinity, which JSON writes as null; and itself."""
    pending = [(path, value)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, float) and not isfinite(value):
            return path, value
        parts = [(path + step, part) for step, part in parts_of(value)]
        pending += reversed(parts)
    return None


def is_too_deep(text: bytes) -> bool:
    """Tell whether lists and mappings are nested too deep in JSON.

    Pairs of brackets with nothing between them are taken out again and again; each time makes the
    text a level less deep.
    """
    if len(text.translate(None, _NO_BRACKETS)) <= 2 * MAX_NESTING:
        return False
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = text.translate(_ALIKE, _NEITHER).replace(b'""', b"")
    if b'"' in brackets:  # some stand in strings
        brackets = b"".join(brackets.split(b'"')[::2])
    for _ in range(MAX_NESTING):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


def deep_path(value: Any) -> str | None:
    """Return the path to the first part that is nested too deep; None where there is none."""
    pending = [(value, "$", 0)]
    while pending:
        part, path, depth = pending.pop()
        part = part.value if isinstance(part, Opaque) else part
        if depth == MAX_NESTING and has_parts(part):
            return path
        pending += [(inner, path + step, depth + 1) for step, inner in parts_of(part)]
    return None


def refuse_depth(role: str, path: str, hidden: Hidden) -> NoReturn:
    """Raise ValidationError for a value that is nested too deep."""
    path, _ = cut(path, hidden)
    raise ValidationError(
        f"the {role} is nested deeper than {MAX_NESTING} levels at {path}", path
    ) from None


def refuse_altered(role: str, value: Any, copy: Any, hidden: Hidden) -> None:
    """Raise ValidationError, unless all that differs is the zone in which a time is told."""
    difference = _difference(value, copy, "$")
    if difference is None:
        return
    where, before, after = difference
    path, is_hidden = cut(where, hidden)
    if is_hidden:
        raise ValidationError(f"the {role} would not survive being stored at {path}", path)
    raise ValidationError(
        f"the {role} would not survive being stored: {path} is {_short(before)} and would be "
        f"read back as {_short_copy(after)}",
        path,
    )


def _difference(value: Any, copy: Any, path: str) -> tuple[str, Any, Any] | None:
    """Return the path of the first part that differs, and both parts.

    Python calls times of a repeated or a skipped hour unequal to every time in another zone;
    such a time differs from itself in UTC in name only.
    """
    if isinstance(value, datetime | set | frozenset) and _in_utc(value) == _in_utc(copy):
        return None
    if type(value) is not type(copy):
        return path, value, copy
    in_name_only = isinstance(value, dict)
    for step, before, after in _children(value, copy):
        if _differ(before, after):
            in_name_only = True
            difference = _difference(before, after, path + step)
            if difference is not None:
                return difference
    return None if in_name_only else (path, value, copy)


def _differ(value: Any, copy: Any) -> bool:
    try:
        return bool(value != copy)
    except ArithmeticError:  # a signalling NaN
        return True


def _in_utc(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, set | frozenset):
        return frozenset(map(_in_utc, value))
    parts = [_in_utc(part) for _, part in _bare_parts_of(value)]
    return (type(value), *parts) if parts else value


def _children(value: Any, copy: Any) -> list[tuple[str, Any, Any]]:
    """Return the parts of two values of one type, side by side."""
    if isinstance(value, set | frozenset):
        return []
    if isinstance(value, dict):
        items = {_in_utc(key): item for key, item in value.items()}
        keys = [*items, *(key for key in copy if key not in items)]
        return [(f".{key}", items.get(key, UNSET), copy.get(key, UNSET)) for key in keys]
    parts, copies = _bare_parts_of(value), _bare_parts_of(copy)
    if len(parts) != len(copies):
        return []
    return [(step, part, other) for (step, part), (_, other) in zip(parts, copies, strict=True)]


def _bare_parts_of(value: Any) -> list[tuple[str, Any]]:
    return [
        (step, part.value if isinstance(part, Opaque) else part) for step, part in parts_of(value)
    ]


def refuse_nul(role: str, value: Any, hidden: Hidden) -> None:
    """Raise ValidationError for a NUL character in plain JSON."""
    found = _nul_in(value, "$")
    if found is not None:
        path, _ = cut(found, hidden)
        raise ValidationError(f"the {role} has a NUL character at {path}", path)


def _nul_in(value: Any, path: str) -> str | None:
    if isinstance(value, str):
        return path if "\0" in value else None
    for step, part in parts_of(value):
        found = _nul_in(part, path + step)
        if found is not None:
            return found
    return None


def _short_copy(value: Any) -> str:
    """Return what to call what a part became; a plain mapping no longer hides its secrets."""
    return f"a {type(value).__name__}" if isinstance(value, dict | list) else _short(value)


def _short(value: Any) -> str:
    text = "absent" if value is UNSET else f"{value!r} ({type(value).__name__})"
    return text if len(text) <= 80 else text[:79] + "…"
