"""Puts an object back as it was: a collection's contents, attributes, slots.

Past every method of its class, since what a class forbids, or does besides, is not asked for here.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from types import MemberDescriptorType
from typing import Any

import msgspec

from holdfast.errors import DefinitionError


def expect_restorable(subject: object, copy: object) -> None:
    """Raise DefinitionError for an object that could not be put back, or is no object to change."""
    name = type(subject).__name__
    if copy is subject or not (_refill(subject) or _has_attributes(subject)):
        raise DefinitionError(f"a {name} does not change; begin takes an object that does")
    if not (_refill(subject) or _is_made_of_attributes(type(subject))):
        raise DefinitionError(
            f"a {name} could not be put back where a commit fails, since its class alone knows "
            "what it holds; begin takes a list, dict, set, deque, bytearray, or an object of "
            "attributes"
        )


def restore(subject: Any, before: Any) -> None:
    """Give an object the contents of a copy of it."""
    refill = _refill(subject)
    if refill is not None:
        refill(subject, before)
    if hasattr(subject, "__dict__"):
        vars(subject).clear()
        vars(subject).update(vars(before))
    for slot in _slots(type(subject)):
        _restore_slot(slot, subject, before)


def _refill(subject: object) -> Callable[[Any, Any], None] | None:
    """Return how to put back the contents of a collection; None for what is none."""
    return next((_REFILLS[base] for base in type(subject).__mro__ if base in _REFILLS), None)


def _refill_list(subject: Any, before: Any) -> None:
    list.__setitem__(subject, slice(None), list.__getitem__(before, slice(None)))


def _refill_bytes(subject: Any, before: Any) -> None:
    bytearray.__setitem__(subject, slice(None), bytes(before))


def _refill_set(subject: Any, before: Any) -> None:
    set.clear(subject)
    set.update(subject, set.__or__(before, set()))


def _refill_deque(subject: Any, before: Any) -> None:
    deque.clear(subject)
    deque.extend(subject, deque.__iter__(before))


def _refill_dict(subject: Any, before: Any) -> None:
    dict.clear(subject)
    for key, value in dict.items(before):
        dict.__setitem__(subject, key, value)


def _refill_default_dict(subject: Any, before: Any) -> None:
    _refill_dict(subject, before)
    subject.default_factory = before.default_factory


def _refill_ordered_dict(subject: Any, before: Any) -> None:
    OrderedDict.clear(subject)
    for key, value in OrderedDict.items(before):
        OrderedDict.__setitem__(subject, key, value)


_REFILLS: dict[type, Callable[[Any, Any], None]] = {
    OrderedDict: _refill_ordered_dict,
    bytearray: _refill_bytes,
    defaultdict: _refill_default_dict,
    deque: _refill_deque,
    dict: _refill_dict,
    list: _refill_list,
    set: _refill_set,
}


def _has_attributes(subject: object) -> bool:
    return hasattr(subject, "__dict__") or any(True for _ in _slots(type(subject)))


def _is_made_of_attributes(cls: type) -> bool:
    """Tell whether a class holds nothing else: what does has a way of its own to be pickled."""
    plain: Any = object
    reduced = cls.__reduce_ex__ is plain.__reduce_ex__ and cls.__reduce__ is plain.__reduce__
    return reduced or issubclass(cls, msgspec.Struct)


def _slots(cls: type) -> Iterator[MemberDescriptorType]:
    """Iterate over the slots of a class, whatever their names were mangled to."""
    for base in cls.__mro__:
        if "__slots__" in vars(base):
            for part in vars(base).values():
                if isinstance(part, MemberDescriptorType):
                    yield part


def _restore_slot(slot: MemberDescriptorType, subject: Any, before: Any) -> None:
    try:
        slot.__set__(subject, slot.__get__(before))
    except AttributeError:  # it was empty
        if _is_filled(slot, subject):
            slot.__delete__(subject)


def _is_filled(slot: MemberDescriptorType, subject: Any) -> bool:
    try:
        slot.__get__(subject)
    except AttributeError:
        return False
    return True
