"""Transactions on plain objects in memory: all or nothing, whatever the object is made of."""

from __future__ import annotations

import array
import copy
import random
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Generic, TypeVar

import attrs
import msgspec
import pydantic
import pytest

from holdfast import CommandRejectedError, DefinitionError, TransactionClosedError, begin

T = TypeVar("T")


class Attributes:
    kind = "shared"

    def __init__(self) -> None:
        self.items = [1]
        self.name = "a"


class Slots:
    __slots__ = ("__hidden", "empty", "items")

    def __init__(self) -> None:
        self.items = [1]
        self.__hidden = "a"

    def hide(self, value: str) -> None:
        self.__hidden = value

    @property
    def hidden(self) -> str:
        return self.__hidden


class MoreSlots(Slots):
    __slots__ = ("more", "__dict__")  # noqa: RUF023 (in no order, on purpose)


class Closed(Generic[T]):
    """An object that its own methods do not let change."""

    def __init__(self) -> None:
        vars(self)["items"] = [1]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(name)


@dataclass(frozen=True)
class Frozen:
    items: list[int] = dataclass_field(default_factory=lambda: [1])


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    items: list[int] = dataclass_field(default_factory=lambda: [1])


@attrs.frozen
class FrozenAttrs:
    items: list[int] = attrs.field(factory=lambda: [1])


class Struct(msgspec.Struct):
    items: list[int] = msgspec.field(default_factory=lambda: [1])
    name: str = "a"


class Validated(pydantic.BaseModel, validate_assignment=True, extra="allow"):
    name: str = "a"
    number: int = 1


class NamedList(list[int]):
    name = "none"


class NamedDict(dict[str, int]):
    def clear(self) -> None:
        raise TypeError("it is never cleared")


def change_attributes(subject: Any) -> None:
    subject.items.append(2)
    subject.name = "b"
    subject.extra = 5
    subject.kind = "own"


def change_slots(subject: Any) -> None:
    subject.items = [2]
    subject.hide("b")
    subject.empty = 5


def change_more_slots(subject: Any) -> None:
    change_slots(subject)
    subject.more = 5
    subject.loose = 5


def add_item(subject: Any) -> None:
    subject.items.append(2)


def change_struct(subject: Any) -> None:
    subject.items.append(2)
    subject.name = "b"


def change_model(subject: Any) -> None:
    subject.name = "b"
    subject.extra = 5
    vars(subject).pop("number")


def change_list(subject: Any) -> None:
    subject.append(2)
    subject.name = "b"


def change_dict(subject: Any) -> None:
    dict.update(subject, b=1)
    dict.pop(subject, "a")
    subject.name = "b"


def change_default_dict(subject: Any) -> None:
    subject["b"].append(1)
    subject.default_factory = None


def shown(subject: Any) -> Any:
    """Return a copy of all that an object holds, in its order."""
    names = ("items", "empty", "hidden", "more", "default_factory", "model_fields_set")
    parts = {name: getattr(subject, name, None) for name in names}
    if isinstance(subject, dict):
        parts["items"] = list(subject.items())
    elif isinstance(subject, list | set | deque | bytearray):
        parts["items"] = list(subject)
    return copy.deepcopy((parts, dict(vars(subject)) if hasattr(subject, "__dict__") else None))


CASES: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
    (Attributes, change_attributes),
    (Slots, change_slots),
    (MoreSlots, change_more_slots),
    (Closed, add_item),
    (Frozen, add_item),
    (FrozenSlots, add_item),
    (FrozenAttrs, add_item),
    (Struct, change_struct),
    (Validated, change_model),
    (lambda: [1, 2], lambda subject: subject.reverse()),
    (lambda: NamedList([1]), change_list),
    (lambda: NamedDict(a=1), change_dict),
    (lambda: {"b": [1], "a": [2]}, lambda subject: subject.update(a=subject.pop("b"))),
    (lambda: OrderedDict(a=1, b=2), lambda subject: subject.move_to_end("a")),
    (lambda: defaultdict(list, a=[1]), change_default_dict),
    (lambda: Counter("aab"), lambda subject: subject.update("bcd")),
    (lambda: {1, 2}, lambda subject: subject.symmetric_difference_update({2, 3})),
    (lambda: deque([1, 2], maxlen=2), lambda subject: subject.append(3)),
    (lambda: bytearray(b"ab"), lambda subject: subject.extend(b"c")),
]


@pytest.mark.parametrize(("make", "change"), CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_commit_that_fails_leaves_the_object_as_it_was(
    make: Callable[[], Any], change: Callable[[Any], object], error: type[BaseException]
) -> None:
    """Attributes, slots, contents and their order; and the error is the one that was raised."""
    subject = make()
    before, fails = shown(subject), False

    def apply(target: Any, operation: str) -> None:
        change(target)
        if fails:
            assert shown(target) != before
            raise error("boom")

    transaction = begin(subject, verify=lambda _, __: True, apply=apply)
    transaction.prepare("change")
    assert shown(subject) == before
    fails = True

    with pytest.raises(error, match="boom"):
        transaction.commit()

    assert shown(subject) == before


@pytest.mark.parametrize(("make", "change"), CASES, ids=range(len(CASES)))
def test_a_commit_changes_the_object_itself(
    make: Callable[[], Any], change: Callable[[Any], object]
) -> None:
    """As where the operation is carried out by hand."""
    subject, other = make(), make()
    transaction: Any = begin(subject, verify=lambda _, __: True, apply=lambda it, _: change(it))
    transaction.prepare("change")
    change(other)

    assert transaction.commit() is subject
    assert shown(subject) == shown(other)


@pytest.mark.parametrize(
    "subject",
    [5, "text", (1, 2), None, frozenset([1]), int, len, random],
    ids=["int", "str", "tuple", "None", "frozenset", "class", "function", "module"],
)
def test_what_does_not_change_is_refused(subject: Any) -> None:
    """At the beginning."""
    with pytest.raises((DefinitionError, TypeError), match=r"does not change|cannot pickle"):
        begin(subject, verify=lambda _, __: True, apply=lambda _, __: None)


@pytest.mark.parametrize(
    "subject", [array.array("i", [1]), random.Random(), ValueError("a"), memoryview(b"a")], ids=type
)
def test_what_could_not_be_put_back_is_refused(subject: Any) -> None:
    """At the beginning, not where the commit fails."""
    says = "could not be put back|does not change|cannot pickle"
    with pytest.raises((DefinitionError, TypeError), match=says):
        begin(subject, verify=lambda _, __: True, apply=lambda _, __: None)


class Account:
    def __init__(self, balance: int) -> None:
        self.balance = balance

    def withdraw(self, amount: int) -> None:
        self.balance -= amount
        if amount == 13:
            raise RuntimeError("boom")


def covers(account: Account, amount: int) -> bool:
    return account.balance >= amount


def test_what_holds_no_more_at_the_commit_is_refused() -> None:
    """Of two that were both verified on the same balance, the second finds it changed."""
    account = Account(10)
    first = begin(account, verify=covers, apply=Account.withdraw)
    second = begin(account, verify=covers, apply=Account.withdraw)
    first.prepare(10)
    second.prepare(1)
    second.prepare(9)
    first.commit()

    with pytest.raises(CommandRejectedError, match="was refused; nothing was changed"):
        second.commit()
    assert account.balance == 0
    with pytest.raises(TransactionClosedError):
        second.commit()


def test_what_was_staged_without_rules_is_committed_without_them() -> None:
    """On purpose, here as there."""
    account = Account(10)
    transaction = begin(account, verify=covers, apply=Account.withdraw)
    transaction.prepare_only(15)
    account.balance = 5

    assert transaction.commit().balance == -10


@pytest.mark.parametrize("stage", ["prepare", "prepare_only"])
def test_what_could_not_be_staged_leaves_nothing_behind(stage: str) -> None:
    """Neither what came before it in the same call, nor half of itself."""
    account = Account(100)
    transaction = begin(account, verify=covers, apply=Account.withdraw)
    transaction.prepare(90)

    with pytest.raises(RuntimeError, match="boom"):
        getattr(transaction, stage)(-20, 5, 13)
    with pytest.raises(CommandRejectedError):
        transaction.prepare(1, 10)

    transaction.prepare(10)
    assert transaction.commit().balance == 0


def test_staging_does_not_copy_the_object_every_time() -> None:
    """It costs as much as the operation, whatever the object holds."""

    class Counted(list[int]):
        copies = 0

        def __deepcopy__(self, memo: dict[int, Any]) -> Counted:
            Counted.copies += 1
            return Counted(self)

    transaction = begin(Counted(), verify=lambda _, __: None, apply=Counted.append)
    for number in range(100):
        transaction.prepare(number)

    assert transaction.commit() == [*range(100)]
    assert Counted.copies < 5


def test_an_object_that_holds_what_cannot_be_copied_is_refused_as_it_is() -> None:
    """By the error of the copy."""
    subject = Attributes()
    vars(subject)["lock"] = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        begin(subject, verify=lambda _, __: True, apply=lambda _, __: None)
