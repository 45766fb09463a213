"""Outlines: msgspec classes that stand for others while JSON is read.

An outline has the fields and constraints of its class, and forbids what it does not know. The value
is then built as the class itself would be: by its constructor. Members of foreign classes get
an outline with the tag of a State; parts that msgspec reads as it should get none.
"""

from __future__ import annotations

import sys
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET
from typing_extensions import is_typeddict

from holdfast.errors import DefinitionError
from holdfast.machine.composition import Parts, contents_of, nest_at_will, parts_in
from holdfast.machine.fields import MemberField, secrets_of, value_of
from holdfast.machine.hints import class_of, classes_in, is_named_tuple, swap
from holdfast.machine.members import TAG_FIELD, is_foreign, is_model, is_plain


class UnfitError(msgspec.ValidationError):
    """A class refused what JSON describes; the path leads to the value of that class."""

    def __init__(self, message: str, path: str = "") -> None:
        self.message = message
        self.path = path
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message} - at `${self.path}`" if self.path else self.message


class Outline:
    """A msgspec class with the fields of another."""

    def __init__(self, kind: Any, parts: Parts, tag: str | None) -> None:
        self.cls: Any = class_of(kind)
        self.fields = [field for field, _ in parts]
        self.struct: Any = _named_tuple(self.cls) if is_named_tuple(self.cls) else self._made(tag)
        self._deep: frozenset[str] = frozenset()
        self._fill: Callable[[Any], Any] = lambda part: part

    def _made(self, tag: str | None) -> Any:
        config = getattr(self.cls, "__struct_config__", None)
        try:
            return msgspec.defstruct(
                self.cls.__name__,
                [_specification(field) for field in self.fields],
                module=self.cls.__module__,
                frozen=True,
                kw_only=True,
                tag=config.tag if config else tag,
                tag_field=config.tag_field if config else tag and TAG_FIELD,
                array_like=bool(config and config.array_like),
                forbid_unknown_fields=True,
            )
        except ValueError as error:
            raise DefinitionError(f"{self.cls.__name__} cannot be stored: {error}") from error

    def link(self, hints: dict[str, Any], deep: Iterable[str], fill: Callable[[Any], Any]) -> None:
        """Take the types of the fields, and how to fill those of them that hold outlines."""
        type.__setattr__(self.struct, "__annotations__", hints)
        self._deep = frozenset(deep)
        self._fill = fill

    def draw(self, value: Any) -> Any:
        """Return the outline of a value."""
        return self.struct(**{field.name: value_of(value, field) for field in self.fields})

    def fill(self, drawn: Any) -> Any:
        """Return the value that an outline is of, as its class builds it; raises UnfitError."""
        given = {}
        for field in self.fields:
            part = getattr(drawn, field.name)
            if part is not UNSET:
                deep = field.name in self._deep
                given[field.argument] = _at(f".{field.stored}", self._fill, part) if deep else part
        return self._build(given)

    def _build(self, given: dict[str, Any]) -> Any:
        if is_typeddict(self.cls):
            return given
        try:
            if is_model(self.cls):
                # The types were checked when it was read. Of JSON, as what pydantic alone knows
                # still is, strict types would take nothing.
                return self.cls.model_validate(given, strict=False)
            return self.cls(**given)
        except RecursionError:
            raise
        except Exception as error:  # noqa: BLE001 (a constructor may raise what it likes)
            raise _told(self.cls, error) from (None if _may_quote(self.cls, error) else error)


class Outlines:
    """The outlines for the members of a union, and for what they are made of."""

    def __init__(self, members: Sequence[type]) -> None:
        self.parts: dict[Any, Parts] = parts_in(members)
        """All classes with fields that the members are made of."""
        contents = contents_of(self.parts)
        by_kind = {kind: Outline(kind, self.parts[kind], None) for kind in _altered(contents)}
        tagged = {
            cls: Outline(cls, self.parts[cls], cls.__name__) for cls in members if is_foreign(cls)
        }
        self.of_member: dict[type, Outline] = tagged
        """The outlines of foreign members."""
        self._structs = {kind: outline.struct for kind, outline in by_kind.items()}
        self._by_struct = {each.struct: each for each in (*by_kind.values(), *tagged.values())}
        self.stands_for = {outline.struct: outline.cls for outline in by_kind.values()}
        """The classes that outlines of parts stand for."""
        self.builds_natively = not tagged and all(
            _is_built_natively(class_of(kind)) for kind in by_kind
        )
        """Whether msgspec builds all values as their classes would."""
        self.nest_at_will = nest_at_will(contents)
        """Whether the types do not bound how deep lists and mappings are nested."""
        for kind, outline in (*by_kind.items(), *tagged.items()):
            self._link(kind, outline)

    def type_of(self, hint: Any) -> Any:
        """Return a type with outlines in place of the classes that need them."""
        return swap(hint, lambda kind: self._structs.get(kind, kind))

    def member_type(self, member: type) -> Any:
        """Return what a member is read as: its outline, or itself."""
        outline = self.of_member.get(member)
        return self._structs.get(member, member) if outline is None else outline.struct

    def fill(self, drawn: Any) -> Any:
        """Return the value that was read, with what each outline in it stands for."""
        outline = self._by_struct.get(type(drawn))
        if outline is not None:
            return outline.fill(drawn)
        kind = type(drawn)
        if kind is list or kind is tuple:
            return kind([_at(f"[{i}]", self.fill, part) for i, part in enumerate(drawn)])
        if kind is set or kind is frozenset:
            return kind([_at("[...]", self.fill, part) for part in drawn])
        if kind is dict:
            return {key: _at("[...]", self.fill, part) for key, part in drawn.items()}
        return drawn

    def expect_encodable(self) -> None:
        """Raise DefinitionError, with its name, for a field whose type cannot be encoded."""
        for kind, parts in reversed(self.parts.items()):
            for field, hint in parts:
                try:
                    msgspec.json.Decoder(self.type_of(hint))
                except TypeError as error:
                    raise DefinitionError(
                        f"{class_of(kind).__name__}.{field.name} cannot be encoded: {error}; a "
                        "field that is a union of several classes may list State and Command "
                        "classes only"
                    ) from error

    def _link(self, kind: Any, outline: Outline) -> None:
        known = {f.name: Any if f.opaque else hint for f, hint in self.parts[kind]}
        deep = [
            name
            for name, hint in known.items()
            if not self._structs.keys().isdisjoint(classes_in(hint))
        ]
        hints = {name: self.type_of(hint) for name, hint in known.items()}
        outline.link(hints, deep, self.fill)


def _at(step: str, fill: Callable[[Any], Any], part: Any) -> Any:
    try:
        return fill(part)
    except UnfitError as error:
        error.path = f"{step}{error.path}"
        raise


def _altered(contents: Mapping[Any, set[Any]]) -> set[Any]:
    """Return the classes that need an outline, or are made of one that does."""
    altered: set[Any] = set()
    found = {kind for kind in contents if _is_lax(class_of(kind))}
    while found:
        altered |= found
        found = {
            kind for kind in contents.keys() - altered if not altered.isdisjoint(contents[kind])
        }
    return altered


def _is_lax(cls: Any) -> bool:
    """Tell whether msgspec would drop what a class does not know, or pass by its constructor."""
    if is_named_tuple(cls):
        return False
    config = getattr(cls, "__struct_config__", None)
    return config is None or not config.forbid_unknown_fields


def _is_built_natively(cls: Any) -> bool:
    """Tell whether msgspec builds a class as its constructor would, and tells no secret of it."""
    return not is_foreign(cls) or (is_plain(cls) and not secrets_of(cls))


def _named_tuple(cls: Any) -> Any:
    defaults = list(cls._field_defaults.values())
    return namedtuple(cls.__name__, cls._fields, defaults=defaults, module=cls.__module__)


def _specification(field: MemberField) -> tuple[str, Any, Any]:
    if field.required:
        return field.name, Any, msgspec.field(name=field.stored)
    return field.name, Any, msgspec.field(default=UNSET, name=field.stored)


def _is_pydantic(error: Exception) -> bool:
    known = getattr(sys.modules.get("pydantic_core"), "ValidationError", ())
    return isinstance(error, known)


def _may_quote(cls: Any, error: Exception) -> bool:
    """Tell whether an error may show values that are not meant to be seen."""
    return _is_pydantic(error) or bool(secrets_of(cls))


def _told(cls: Any, error: Any) -> UnfitError:
    """Return what was wrong without the value, and where; of several faults the first."""
    if _is_pydantic(error):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in first["loc"])
        if path or not secrets_of(cls):
            return UnfitError(str(first["msg"]), path)
    if secrets_of(cls):
        return UnfitError(f"{cls.__name__} does not take these values")
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return UnfitError(text or type(error).__name__)
