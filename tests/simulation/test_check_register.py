"""The search for a linearization of a register, held against trying every order."""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from holdfast.testing import RegisterOperation, check_register
from holdfast.testing.history import register

Told = Literal["done", "refused", "unknown"]


def write(
    value: float, began: float, ended: float | None = None, told: Told = "done"
) -> RegisterOperation:
    """Return a write."""
    return RegisterOperation(
        client="w", kind="write", value=value, began=began, ended=ended, told=told
    )


def read(value: float | None, began: float, ended: float, told: Told = "done") -> RegisterOperation:
    """Return a read that was answered."""
    return RegisterOperation(
        client="r", kind="read", value=value, began=began, ended=ended, told=told
    )


def cas(
    expected: float, value: int, began: float, ended: float, told: Told = "done"
) -> RegisterOperation:
    """Return a compare-and-set."""
    return RegisterOperation(
        client="s", kind="cas", value=value, expected=expected, began=began, ended=ended, told=told
    )


SOUND = {
    "nothing": [],
    "in order": [write(1, 1, 2), read(1, 3, 4), write(2, 5, 6), read(2, 7, 8)],
    "the initial value": [read(None, 1, 2)],
    "at once, either is the last": [write(1, 1, 5), write(2, 1, 5), read(1, 6, 7)],
    "at once, read on the way": [write(1, 1, 9), write(2, 1, 9), read(2, 2, 3), read(1, 4, 5)],
    "a lost write, seen late": [write(1, 1, None, "unknown"), read(None, 2, 3), read(1, 4, 5)],
    "a lost write, never seen": [write(1, 1, None, "unknown"), read(None, 2, 3)],
    "a refused write": [write(1, 1, 2, "refused"), read(None, 3, 4)],
    "a lost read": [write(1, 1, 2), read(7, 3, 4, "unknown")],
    "compared and set": [write(1, 1, 2), cas(1, 2, 3, 4), read(2, 5, 6)],
    "compared, and refused": [write(1, 1, 2), cas(3, 2, 3, 4, "refused"), read(1, 5, 6)],
    "no number": [write(float("nan"), 1, 2), read(float("nan"), 3, 4)],
    "no number compared and set": [write(float("nan"), 1, 2), cas(float("nan"), 2, 3, 4)],
    "lost writes of one value, each seen": [
        write(1, 0, None, "unknown"),
        write(1, 0, None, "unknown"),
        write(2, 1, 2),
        read(1, 3, 4),
        write(3, 5, 6),
        read(1, 7, 8),
    ],
}
BAD = {
    "a stale read": [write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)],
    "a read from nowhere": [read(1, 1, 2)],
    "a read that goes back": [write(1, 1, 9), read(1, 2, 3), read(None, 4, 5)],
    "two readers who disagree": [
        write(1, 1, 20), write(2, 1, 20),
        read(1, 2, 3), read(2, 4, 5), read(1, 6, 7),
    ],
    "a refused write that is seen": [write(1, 1, 2, "refused"), read(1, 3, 4)],
    "set though another value was there": [write(1, 1, 2), cas(3, 2, 3, 4)],
    "refused though the value was there": [write(1, 1, 2), cas(1, 2, 3, 4, "refused")],
    "refused though it was no number": [
        write(float("nan"), 1, 2), cas(float("nan"), 2, 3, 4, "refused"),
    ],
    "no number where there was one": [write(1, 1, 2), read(float("nan"), 3, 4)],
    "a lost write that is seen twice": [
        write(1, 0, None, "unknown"), write(2, 1, 2), read(1, 3, 4), write(3, 5, 6), read(1, 7, 8),
    ],
}  # fmt: skip


@pytest.mark.parametrize("history", SOUND.values(), ids=SOUND.keys())
def test_a_linearizable_history_passes(history: list[RegisterOperation]) -> None:
    """There is an order that explains every answer."""
    assert check_register(history) == []


@pytest.mark.parametrize("history", BAD.values(), ids=BAD.keys())
def test_what_no_order_explains_is_told(history: list[RegisterOperation]) -> None:
    """By the first answer that nothing explains."""
    [fault] = check_register(history)
    assert "nothing explains the" in fault


def test_it_agrees_with_trying_every_order() -> None:
    """On histories that were drawn, of which about half are linearizable."""
    found = [_agrees(Random(seed)) for seed in range(1_500)]
    assert 300 < sum(found) < 1_200


def test_eight_clients_at_once_are_enough_and_more_are_refused() -> None:
    """The search is bounded."""
    at_once = [write(n, 1, 10) for n in range(8)]
    assert check_register([*at_once, read(5, 11, 12)]) == []
    assert check_register([*at_once, read(9, 11, 12)]) != []
    with pytest.raises(ValueError, match="more than 8 operations"):
        check_register([*at_once, write(8, 2, 3)])


def test_many_writes_without_an_answer_are_no_hindrance() -> None:
    """Only those need be tried to have taken effect that somebody saw."""
    history = [write(100 + n, 0, None, "unknown") for n in range(40)]
    for n in range(30):
        history += [write(n, 4 * n + 1, 4 * n + 2), read(n, 4 * n + 3, 4 * n + 4)]
    history += [read(100 + n, 200 + n, 200.5 + n) for n in range(40)]
    assert check_register(history) == []
    assert check_register([*history, read(139, 241, 242)]) == []
    [fault] = check_register([*history, read(110, 241, 242)])
    assert "nothing explains the read of 110 by r, 241 to 242" in fault


def test_the_search_as_a_whole_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only for each answer, for there may be many; more of them are given more."""
    monkeypatch.setattr(register, "MAX_STEPS", 2_000)
    monkeypatch.setattr(register, "MAX_STEPS_PER_OPERATION", 10)
    at_once = [write(m, 10 * n, 10 * n + 5) for n in range(40) for m in range(4)]
    assert check_register(at_once[:40]) == []
    with pytest.raises(ValueError, match="too many operations at once or without an answer"):
        check_register(at_once)
    monkeypatch.setattr(register, "MAX_STEPS_PER_OPERATION", 100)
    assert check_register(at_once) == []


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (
            write(1, 1, None),
            "the write of 1 by w, 1 to no answer, done was told done .* no `ended`",
        ),
        (write(1, 1, None, "refused"), "was told refused and has no `ended`"),
        (read(1, 2, 1), "the read of 1 by r, 2 to 1, done has an `ended` that is not after"),
        (read(1, 1, float("nan")), "has an `ended` that is not after"),
        (replace(read(1, 1, 2), told="ok"), "was told none of done, refused, unknown"),
        (replace(read(1, 1, 2), kind="look"), "is none of read, write, cas"),
        (replace(write(1, 1, 2), expected=3), "compares nothing and has `expected`"),
    ],
)
def test_an_operation_that_contradicts_itself_is_refused(
    operation: RegisterOperation, words: str
) -> None:
    """Also where nothing would be asked of it."""
    with pytest.raises(ValueError, match=words):
        check_register([operation])


def _agrees(random: Random) -> bool:
    operations = [_drawn(random) for _ in range(random.randint(2, 5))]
    sound = check_register(operations) == []
    assert sound == _some_order_explains(operations), operations
    return sound


def _drawn(random: Random) -> RegisterOperation:
    began = random.randint(0, 10)
    ended = began + random.randint(1, 6)
    kind = random.randint(0, 2)
    value = random.choice((1, 2))
    if kind == 0:
        return read(random.choice((None, 1, 2)), began, ended)
    if kind == 1:
        told: Told = random.choice(("done", "done", "unknown"))
        return write(value, began, None if told == "unknown" else ended, told)
    answer: Told = random.choice(("done", "refused"))
    return cas(random.choice((1, 2)), value, began, ended, answer)


def _some_order_explains(operations: list[RegisterOperation]) -> bool:
    lost = [o for o in operations if o.told == "unknown"]
    rest = [o for o in operations if o.told != "unknown"]
    subsets = [[o for n, o in enumerate(lost) if mask >> n & 1] for mask in range(2 ** len(lost))]
    return any(_explains(order) for subset in subsets for order in permutations([*rest, *subset]))


def _explains(order: tuple[RegisterOperation, ...]) -> bool:
    value: Any = None
    for place, operation in enumerate(order):
        for later in order[place + 1 :]:
            if later.ended is not None and later.ended < operation.began:
                return False
        if operation.kind == "read" and operation.value != value:
            return False
        if operation.kind == "cas" and (operation.expected == value) != (operation.told == "done"):
            return False
        if operation.kind == "write" or (operation.kind == "cas" and operation.told == "done"):
            value = operation.value
    return True
