"""How states, commands and metadata become JSON text and come back; the encoding is for ever.

Datetimes are written in UTC with six fraction digits, so that they sort as text; sets and keys
are sorted. A value is accepted only if its text decodes to an equal value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from math import isfinite
from operator import or_
from typing import Any, Generic, NoReturn, TypeVar, cast

import msgspec
from msgspec import UNSET

from holdfast.errors import DefinitionError, ValidationError
from holdfast.machine.canonical import encode_canonically, needs_help, parts_of, secrets_in
from holdfast.machine.members import (
    MASK,
    TAG_FIELD,
    Outline,
    decode_part,
    expect_encodable,
    is_foreign,
)

T = TypeVar("T")

MAX_VALUE_BYTES = 1024 * 1024
"""The largest encoded state or command."""
MAX_METADATA_BYTES = 64 * 1024
"""The largest encoded metadata of one transition."""

_JSON = msgspec.json.Encoder(order="deterministic")
_MAPPING = msgspec.json.Decoder(dict[str, Any])
_FAILURES = (TypeError, ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError)
_ESCAPED_NUL = b"\\u0000"
_WHERE = re.compile(r"(?: - at (?:`key` in )?`\$[^`]*`)+$")
_PATH = re.compile(r"`\$([^`]*)`")


class Codec(Generic[T]):
    """Encodes and decodes the members of one union."""

    def __init__(self, role: str, members: Sequence[type]) -> None:
        self.role = role
        self.names: dict[type, str] = {member: tag_of(member) for member in members}
        self._secrets: dict[str | None, frozenset[str]] = {}
        self._encoders: dict[type, Callable[[T], bytes]] = {}
        outlines: list[Outline] = []
        try:
            for member in members:
                self._add(member, outlines)
            structs = {outline.cls: outline.struct for outline in outlines}
            union = reduce(or_, [structs.get(member, member) for member in members])
            decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union, dec_hook=decode_part)
        except (TypeError, NameError) as error:
            for member in members:
                expect_encodable(member)
            raise DefinitionError(
                f"the {role} union cannot be encoded: {error}; every name in an annotation must "
                "exist when the machine is first used"
            ) from error
        self._hidden = frozenset(name for names in self._secrets.values() for name in names)
        self._decode: Callable[[str | bytes], T] = decoder.decode
        if outlines:
            self._decode = _fill_in(decoder.decode, {each.struct: each for each in outlines})

    def _add(self, member: type, outlines: list[Outline]) -> None:
        outline = Outline(member, tag=member.__name__) if is_foreign(member) else None
        cls = member if outline is None else outline.struct
        encode = encode_canonically if needs_help(cls) else _JSON.encode
        if outline is not None:
            outlines.append(outline)
            encode = _draw_first(encode, outline)
        self._encoders[member] = encode
        for tag, names in secrets_in(cls).items():
            self._secrets[tag] = self._secrets.get(tag, frozenset()) | names

    def encode(self, value: T) -> tuple[str, T]:
        """Return the JSON text of a member, and the equal value that the text decodes to.

        Raises ValidationError, with the path, for what could not be read back as it is.
        """
        encode = self._encoders[type(value)]
        return _encode_checked(
            self.role, value, encode, self._decode, MAX_VALUE_BYTES, hidden=self._hidden
        )

    def decode(self, text: str | bytes) -> T:
        """Return the member that the text encodes; raises msgspec.DecodeError."""
        try:
            return self._decode(text)
        except _FAILURES as error:
            _, path = _split(error)
            if _is_hidden(path, self._hidden):
                raise msgspec.ValidationError(f"the value is not valid - at `{path}`") from None
            raise

    def redact(self, text: str) -> str:
        """Return the JSON text of a member with `***` in place of the values of secret fields."""
        if not self._secrets:
            return text
        try:
            stored = msgspec.json.decode(text)
            return msgspec.json.encode(_masked(stored, self._secrets)).decode()
        except _FAILURES:  # damaged text may hold a secret as well
            return f'"{MASK}"'

    def parse(self, data: str | bytes | Mapping[str, Any]) -> T:
        """Return the member that somebody else's JSON encodes, constraints checked.

        Raises ValidationError.
        """
        if isinstance(data, Mapping):
            data, _ = _encode_mapping(self.role, data, MAX_VALUE_BYTES)
        try:
            return self.decode(data)
        except _FAILURES as error:
            _refuse(self.role, error, self._hidden)


def encode_metadata(metadata: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the JSON text of metadata, and the equal mapping that the text decodes to.

    Raises ValidationError, with the path, for what is not JSON.
    """
    if type(metadata) is not dict and not isinstance(metadata, Mapping):
        raise ValidationError(f"metadata is a mapping, not {type(metadata).__name__}", "$")
    return _encode_mapping("metadata", metadata, MAX_METADATA_BYTES)


def decode_metadata(text: str | None) -> dict[str, Any]:
    """Return the metadata that the text encodes; empty where there is none."""
    return {} if text is None else _MAPPING.decode(text)


def tag_of(member: type) -> str:
    """Return the name under which the values of a member are stored."""
    config = getattr(member, "__struct_config__", None)
    return member.__name__ if config is None else cast("str", config.tag)


def _encode_mapping(
    role: str, mapping: Mapping[str, Any], limit: int
) -> tuple[str, dict[str, Any]]:
    return _encode_checked(role, dict(mapping), _JSON.encode, _MAPPING.decode, limit)


def _encode_checked(
    role: str,
    value: T,
    encode: Callable[[T], bytes],
    decode: Callable[[bytes], T],
    limit: int,
    *,
    hidden: frozenset[str] = frozenset(),
) -> tuple[str, T]:
    try:
        text = encode(value)
    except _FAILURES as error:
        _refuse(role, error, hidden, _blame(encode, value, error))
    try:
        copy = decode(text)
    except _FAILURES as error:
        lost = _not_finite(value, "$")
        if lost is not None:
            refused = ValueError(f"{lost[1]} is no number that JSON can hold")
            _refuse(role, refused, hidden, lost[0])
        _refuse(role, error, hidden)
    try:
        altered = copy != value
    except ArithmeticError:  # a signalling NaN
        altered = True
    if altered:
        _refuse_altered(role, value, copy, hidden)
    if _ESCAPED_NUL in text:
        _refuse_nul(role, msgspec.json.decode(text), "$")
    if len(text) > limit:
        raise ValidationError(f"the {role} takes {len(text):,} bytes; the limit is {limit:,}", "$")
    return text.decode(), copy


def _draw_first(encode: Callable[[Any], bytes], outline: Outline) -> Callable[[Any], bytes]:
    """Return how to encode values of a foreign class; their parts are encoded as they are."""

    def encode_outline(value: Any) -> bytes:
        return encode(outline.draw(value) if type(value) is outline.cls else value)

    return encode_outline


def _fill_in(
    decode: Callable[[str | bytes], Any], outlines: Mapping[type, Outline]
) -> Callable[[str | bytes], Any]:
    """Return how to decode members of a union of which some are outlines."""

    def decode_and_fill(text: str | bytes) -> Any:
        value = decode(text)
        outline = outlines.get(type(value))
        if outline is None:
            return value
        try:
            return outline.fill(value)
        except ValueError as error:
            raise msgspec.ValidationError(str(error)) from error

    return decode_and_fill


def _masked(value: Any, secrets: Mapping[str | None, frozenset[str]]) -> Any:
    if isinstance(value, list):
        return [_masked(item, secrets) for item in value]
    if not isinstance(value, dict):
        return value
    tag = value.get(TAG_FIELD)
    names = secrets.get(tag if isinstance(tag, str) else None, ())
    return {name: MASK if name in names else _masked(item, secrets) for name, item in value.items()}


def _blame(encode: Callable[[Any], bytes], value: Any, error: Exception) -> str:
    """Return the path to the smallest part that cannot be encoded."""
    path = "$"
    while not isinstance(error, RecursionError):
        for step, part in parts_of(value):
            try:
                encode(part)
            except _FAILURES as cause:
                path, value, error = path + step, part, cause
                break
        else:
            break
    return path


def _not_finite(value: Any, path: str) -> tuple[str, float] | None:
    """Return the path to the first NaN or infinity, which JSON writes as null; and itself."""
    if isinstance(value, float):
        return None if isfinite(value) else (path, value)
    parts = (_not_finite(part, path + step) for step, part in parts_of(value))
    return next((found for found in parts if found), None)


def _refuse(
    role: str, error: Exception, hidden: frozenset[str] = frozenset(), path: str | None = None
) -> NoReturn:
    message, where = _split(error)
    path = path or where
    if _is_hidden(path, hidden):
        raise ValidationError(f"the {role} is not valid at {path}", path) from None
    raise ValidationError(f"the {role} is not valid at {path}: {message}", path) from error


def _split(error: Exception) -> tuple[str, str]:
    """Return what an error says, and the path at its end; of nested paths the outer is the last."""
    text = str(error)
    where = _WHERE.search(text)
    if where is None:
        return text, "$"
    return text[: where.start()], "$" + "".join(reversed(_PATH.findall(where[0])))


def _is_hidden(path: str, hidden: frozenset[str]) -> bool:
    """Tell whether a path leads to or through a field that has the name of a secret one."""
    return bool(hidden) and not hidden.isdisjoint(re.split(r"[.\[]", path))


def _refuse_altered(role: str, value: Any, copy: Any, hidden: frozenset[str]) -> None:
    """Raise ValidationError, unless all that differs is the zone in which a time is told."""
    difference = _difference(value, copy, "$")
    if difference is not None:
        path, before, after = difference
        if _is_hidden(path, hidden):
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
    parts = [_in_utc(part) for _, part in parts_of(value)]
    return (type(value), *parts) if parts else value


def _children(value: Any, copy: Any) -> list[tuple[str, Any, Any]]:
    """Return the parts of two values of one type, side by side."""
    if isinstance(value, set | frozenset):
        return []
    if isinstance(value, dict):
        items = {_in_utc(key): item for key, item in value.items()}
        keys = [*items, *(key for key in copy if key not in items)]
        return [(f".{key}", items.get(key, UNSET), copy.get(key, UNSET)) for key in keys]
    parts, copies = list(parts_of(value)), list(parts_of(copy))
    if len(parts) != len(copies):
        return []
    return [(step, part, other) for (step, part), (_, other) in zip(parts, copies, strict=True)]


def _refuse_nul(role: str, value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_nul(role, key, path)
            _refuse_nul(role, item, f"{path}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _refuse_nul(role, item, f"{path}[{i}]")
    elif isinstance(value, str) and "\0" in value:
        raise ValidationError(f"the {role} has a NUL character at {path}", path)


def _short_copy(value: Any) -> str:
    """Return what to call what a part became; a plain mapping no longer hides its secrets."""
    return f"a {type(value).__name__}" if isinstance(value, dict | list) else _short(value)


def _short(value: Any) -> str:
    text = "absent" if value is UNSET else f"{value!r} ({type(value).__name__})"
    return text if len(text) <= 80 else text[:79] + "…"
