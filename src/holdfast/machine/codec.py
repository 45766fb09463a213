"""How states, commands and metadata become JSON text and come back; the encoding is for ever.

Datetimes are written in UTC with six fraction digits, so that they sort as text; sets and keys
are sorted. A value is accepted only if its text decodes to an equal value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar

import msgspec

from holdfast.errors import DefinitionError, ValidationError
from holdfast.machine.canonical import encode_canonically, needs_help
from holdfast.machine.outlines import Outline, Outlines
from holdfast.machine.redaction import Redaction
from holdfast.machine.refusals import (
    FAILURES,
    Hidden,
    blame,
    cut,
    deep_path,
    is_too_deep,
    refuse,
    refuse_altered,
    refuse_depth,
    refuse_nul,
    refuse_unread,
    split,
)

T = TypeVar("T")

MAX_VALUE_BYTES = 1024 * 1024
"""The largest encoded state or command."""
MAX_METADATA_BYTES = 64 * 1024
"""The largest encoded metadata of one transition."""

_JSON = msgspec.json.Encoder(order="deterministic")
_MAPPING = msgspec.json.Decoder(dict[str, Any])
_ESCAPED_NUL = b"\\u0000"
_SHORT = 200
"""What takes so few bytes is neither too large nor nested too deep."""


class _Terms(msgspec.Struct, frozen=True):
    """What values are held to."""

    role: str
    limit: int
    hidden: Hidden = frozenset()
    nest_at_will: bool = True
    """Whether no type bounds how deep lists and mappings are nested."""


class Encoding(Generic[T]):
    """Encodes values of some classes, each by its encoder, where the text decodes to an equal one.

    Raises ValidationError, with the path, for what could not be read back as it is.
    """

    def __init__(
        self,
        encoders: Mapping[type, Callable[[T], bytes]],
        decode: Callable[[str | bytes], T],
        terms: _Terms,
    ) -> None:
        self._encoders = encoders
        self._decode = decode
        self._terms = terms

    def encode(self, value: T) -> tuple[str, T]:
        """Return the JSON text of a value, and the equal value that the text decodes to."""
        terms = self._terms
        try:
            text = self._encoders[type(value)](value)
            if len(text) > _SHORT and (terms.nest_at_will or len(text) > terms.limit):
                _expect_bounded(value, text, terms)
            copy = self._decode(text)
            if copy == value and _ESCAPED_NUL not in text:
                return text.decode(), copy
        except (*FAILURES, RecursionError):
            pass
        return self._encode_step_by_step(value)

    def _encode_step_by_step(self, value: T) -> tuple[str, T]:
        """Encode what seems to be unacceptable, and tell what of it is."""
        role, hidden = self._terms.role, self._terms.hidden
        encode = self._encoders[type(value)]
        try:
            text = encode(value)
        except FAILURES as error:
            refuse(role, error, hidden, blame(encode, value))
        except RecursionError:
            path = deep_path(value)
            if path is None:  # it is the caller who has used up the stack
                raise
            refuse_depth(role, path, hidden)
        if len(text) > _SHORT:
            _expect_bounded(value, text, self._terms)
        try:
            copy = self._decode(text)
        except FAILURES as error:
            refuse_unread(role, value, error, hidden)
        try:
            altered = copy != value
        except ArithmeticError:  # a signalling NaN
            altered = True
        if altered:
            refuse_altered(role, value, copy, hidden)
        if _ESCAPED_NUL in text:
            refuse_nul(role, msgspec.json.decode(text), hidden)
        return text.decode(), copy


class Codec(Encoding[T]):
    """Encodes and decodes the members of one union."""

    def __init__(self, role: str, members: Sequence[type]) -> None:
        self.role = role
        self.names: dict[type, str] = {member: tag_of(member) for member in members}
        self._refuse_unknown: Callable[[str | bytes], object] | None
        try:
            outlines = Outlines(members)
            self._refuse_unknown, decode = _decoders(members, outlines)
        except (TypeError, NameError, RecursionError) as error:
            raise DefinitionError(
                f"the {role} union cannot be encoded: {error}; every name in an annotation must "
                "exist when the machine is first used"
            ) from error
        self._redaction = Redaction(outlines)
        self._hidden = self._redaction.names
        super().__init__(
            {member: _encoder(member, outlines) for member in members},
            decode,
            _Terms(role, MAX_VALUE_BYTES, self._hidden, outlines.nest_at_will),
        )

    def decode(self, text: str | bytes) -> T:
        """Return the member that the text encodes; raises msgspec.DecodeError."""
        try:
            value = self._decode(text)
            if self._refuse_unknown is not None:
                written = self._encoders[type(value)](value)
                if written != (text.encode() if isinstance(text, str) else text):
                    self._refuse_unknown(text)  # else it was read whole
            return value
        except msgspec.DecodeError as error:
            path, is_hidden = cut(split(error)[1], self._hidden)
            if is_hidden:
                raise msgspec.ValidationError(f"the value is not valid - at `{path}`") from None
            raise
        except RecursionError:
            if is_too_deep(text.encode() if isinstance(text, str) else text):
                raise msgspec.ValidationError("the value is nested too deep") from None
            raise
        except Exception as error:  # a constructor's own
            raise msgspec.ValidationError(str(error) or type(error).__name__) from error

    def read(self, value: Any) -> T:
        """Return the member that values describe as JSON would; raises msgspec.DecodeError."""
        try:
            return self.decode(encode_canonically(value))
        except FAILURES as error:
            if isinstance(error, msgspec.DecodeError):
                raise
            path, _ = cut(blame(encode_canonically, value), self._hidden)
            raise msgspec.ValidationError(f"JSON cannot hold the value - at `{path}`") from None
        except RecursionError:
            if deep_path(value) is None:
                raise
            raise msgspec.ValidationError("the value is nested too deep") from None

    def redact(self, text: str) -> str:
        """Return the JSON text of a member with `***` in place of the values of secret fields.

        Of what cannot be decoded no value is shown, as any may be a secret under an older name.
        """
        if not self._hidden:
            return text
        try:
            self.decode(text)
        except msgspec.DecodeError:
            return self._redaction.mask_all(text)
        return self._redaction.mask(text)

    def parse(self, data: str | bytes | Mapping[str, Any]) -> T:
        """Return the member that somebody else's JSON encodes, constraints checked.

        Raises ValidationError.
        """
        if isinstance(data, Mapping):
            terms = msgspec.structs.replace(self._terms, nest_at_will=True)
            data, _ = _encoding_of_mappings(terms).encode(dict(data))
        try:
            _expect_shallow(data, self._terms)
            return self.decode(data)
        except FAILURES as error:
            refuse(self.role, error, self._hidden)


def _decoders(
    members: Sequence[type], outlines: Outlines
) -> tuple[Callable[[str | bytes], Any] | None, Callable[[str | bytes], Any]]:
    """Return how to refuse what members do not know, where decoding does not; and how to decode.

    Where outlines serve only to refuse, msgspec builds the values by itself, which is faster.
    """
    kinds = [outlines.member_type(member) for member in members]
    try:
        read = msgspec.json.Decoder(reduce(or_, kinds)).decode
    except TypeError:
        outlines.expect_encodable()
        raise
    if kinds == [*members]:
        return None, read
    if outlines.builds_natively:
        return read, msgspec.json.Decoder(reduce(or_, members)).decode
    return None, _fill_in(read, outlines.fill)


def _fill_in(
    read: Callable[[str | bytes], Any], fill: Callable[[Any], Any]
) -> Callable[[str | bytes], Any]:
    return lambda text: fill(read(text))


def _encoder(member: type, outlines: Outlines) -> Callable[[Any], bytes]:
    kind = outlines.member_type(member)
    helped = needs_help(kind, outlines.stands_for)
    outline = outlines.of_member.get(member)
    if outline is None:
        return encode_canonically if helped else _JSON.encode
    helped = helped or any(field.opaque for field in outline.fields)
    return _draw_first(encode_canonically if helped else _JSON.encode, outline)


def _draw_first(encode: Callable[[Any], bytes], outline: Outline) -> Callable[[Any], bytes]:
    """Return how to encode values of a foreign class; their parts are encoded as they are."""

    def encode_outline(value: Any) -> bytes:
        return encode(outline.draw(value) if type(value) is outline.cls else value)

    return encode_outline


def _encoding_of_mappings(terms: _Terms) -> Encoding[dict[str, Any]]:
    return Encoding({dict: _JSON.encode}, _MAPPING.decode, terms)


_METADATA = _encoding_of_mappings(_Terms("metadata", MAX_METADATA_BYTES))


def encode_metadata(metadata: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the JSON text of metadata, and the equal mapping that the text decodes to.

    What is empty is as good as none, and has no text. Raises ValidationError, with the path, for
    what is not JSON.
    """
    if type(metadata) is not dict and not isinstance(metadata, Mapping):
        raise ValidationError(f"metadata is a mapping, not {type(metadata).__name__}", "$")
    given = dict(metadata)
    return _METADATA.encode(given) if given else (None, {})


def decode_metadata(text: str | None) -> dict[str, Any]:
    """Return the metadata that the text encodes; empty where there is none."""
    return {} if text is None else _MAPPING.decode(text)


def tag_of(member: type) -> str:
    """Return the name under which the values of a member are stored."""
    config = getattr(member, "__struct_config__", None)
    name: str = member.__name__ if config is None else config.tag
    return name


def _expect_bounded(value: object, text: bytes, terms: _Terms) -> None:
    """Raise ValidationError for what takes too many bytes or is nested too deep."""
    if terms.nest_at_will and is_too_deep(text):
        refuse_depth(terms.role, deep_path(value) or "$", terms.hidden)
    if len(text) > terms.limit:
        raise ValidationError(
            f"the {terms.role} takes {len(text):,} bytes; the limit is {terms.limit:,}", "$"
        )


def _expect_shallow(data: str | bytes, terms: _Terms) -> None:
    """Raise ValidationError for somebody else's JSON that is nested too deep."""
    if terms.nest_at_will and len(data) > _SHORT:
        text = data.encode() if isinstance(data, str) else data
        if is_too_deep(text):
            try:
                path = deep_path(msgspec.json.decode(text))
            except RecursionError:
                path = None
            refuse_depth(terms.role, path or "$", terms.hidden)
