"""What holds for every value: it comes back as it was from one text, or is refused with a path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.machine.rich import BERLIN, CODEC, Color, Do, Leaf, Part, Place, Rank, Tree, sample

from holdfast import ValidationError
from holdfast.machine.codec import decode_metadata, encode_metadata
from holdfast.service.call import check_text

T = TypeVar("T")

sound_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
odd_texts = st.text(st.sampled_from("\0\ud800\udfff\\u0"), max_size=4)
zones = st.sampled_from([UTC, BERLIN, timezone(timedelta(hours=-11)), timezone(timedelta(0, 3208))])
sound_times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=zones)  # noqa: DTZ001
summer_times = st.datetimes(datetime(2024, 3, 31), datetime(2024, 11, 1), timezones=zones)  # noqa: DTZ001
odd_times = st.datetimes()
sound_numbers = st.floats(allow_nan=False, allow_infinity=False)
odd_numbers = st.sampled_from([float("nan"), float("inf"), float("-inf")])
sound_amounts = st.decimals(allow_nan=False)


def json_of(texts: st.SearchStrategy[str], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return what JSON may hold, with some that is odd."""
    return st.recursive(
        st.none() | st.booleans() | st.integers() | sound_numbers | texts | odd,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    )


sound_json = json_of(sound_texts, st.nothing())
odd_json = json_of(
    sound_texts | odd_texts,
    odd_numbers
    | odd_times
    | st.tuples(st.integers())
    | st.dictionaries(st.integers(), st.none(), min_size=1, max_size=1),
)


def leaves_of(
    texts: st.SearchStrategy[str], numbers: st.SearchStrategy[float], anything: Any
) -> st.SearchStrategy[Leaf]:
    return st.builds(
        Leaf,
        text=texts,
        number=st.integers(),
        ratio=numbers,
        maybe=st.none() | numbers,
        data=st.binary(max_size=6),
        words=st.frozensets(texts, max_size=4),
        numbers=st.frozensets(st.integers(), max_size=4),
        scores=st.dictionaries(texts, st.lists(numbers, max_size=2), max_size=2),
        size=st.sampled_from(["s", "m"]),
        positive=st.integers(1, 5),
        anything=anything,
    )


def trees_of(
    texts: st.SearchStrategy[str], times: st.SearchStrategy[datetime], previous: Any
) -> st.SearchStrategy[Tree]:
    parts = st.builds(
        Part,
        text=texts,
        at=st.none() | times,
        amounts=st.lists(sound_amounts, max_size=2).map(tuple),
    )
    return st.builds(
        Tree,
        at=times,
        times=st.frozensets(times, max_size=3),
        by_time=st.dictionaries(times, st.sampled_from(Color), max_size=2),
        by_number=st.dictionaries(st.integers(), st.uuids(), max_size=3),
        by_color=st.dictionaries(st.sampled_from(Color), st.frozensets(st.sampled_from(Color))),
        groups=st.frozensets(st.frozensets(texts, max_size=3), max_size=3),
        mixed=st.frozensets(st.integers() | texts | st.none(), max_size=4),
        parts=st.lists(parts, max_size=2),
        part_set=st.frozensets(parts, max_size=2),
        place=st.none() | st.builds(Place, name=texts, ranks=st.frozensets(st.sampled_from(Rank))),
        pair=st.tuples(st.dates(), st.times()),
        span=st.timedeltas(),
        command=st.none() | st.builds(Do, note=texts, at=times),
        previous=st.none() | previous,
        either=st.none() | st.integers() | times,
        tags=st.dictionaries(texts, times, max_size=2),
    )


sound_leaves = leaves_of(sound_texts, sound_numbers, sound_json)
sound_trees = trees_of(sound_texts, sound_times | summer_times, sound_leaves)
odd_leaves = leaves_of(sound_texts | odd_texts, sound_numbers | odd_numbers, odd_json)
odd_trees = trees_of(sound_texts | odd_texts, sound_times | odd_times, sound_leaves | odd_leaves)
deep_trees = st.builds(
    lambda tree, inner: msgspec.structs.replace(tree, previous=inner), sound_trees, sound_trees
)

thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def attempt(call: Callable[..., T], *arguments: Any) -> T | None:
    """Return what a call returns, or None where it refuses, having seen that it names a path."""
    try:
        return call(*arguments)
    except ValidationError as error:
        if error.path is None or not error.path.startswith("$"):
            raise AssertionError("a refusal without a path") from error
        return None


@thorough
@given(sound_leaves | sound_trees | deep_trees)
def test_a_sound_value_comes_back_as_it_was(value: Leaf | Tree) -> None:
    """Its text is a fixpoint: what it decodes to is equal, and has the same text."""
    text, copy = CODEC.encode(value)

    assert told_in_utc(value) == told_in_utc(copy)
    assert CODEC.decode(text) == copy
    assert CODEC.encode(copy) == (text, copy)


@thorough
@given(odd_leaves | odd_trees)
def test_an_odd_value_comes_back_as_it_was_or_is_refused_with_its_path(value: Leaf | Tree) -> None:
    """There is no third way: no other error, and no text that says something else."""
    encoded = attempt(CODEC.encode, value)
    if encoded is not None:
        text, copy = encoded
        assert told_in_utc(value) == told_in_utc(copy)
        assert CODEC.encode(copy) == encoded
        assert "\0" not in json.dumps(json.loads(text), ensure_ascii=False)
        text.encode()


@thorough
@given(st.dictionaries(sound_texts, sound_json, max_size=3))
def test_sound_metadata_come_back_as_they_were(metadata: dict[str, Any]) -> None:
    """Metadata are JSON, and keep the rules of states."""
    text, copy = encode_metadata(metadata)

    assert copy == metadata == decode_metadata(text)
    assert encode_metadata(copy) == (text, copy)


@thorough
@given(st.dictionaries(sound_texts | odd_texts, odd_json, max_size=3))
def test_odd_metadata_come_back_as_they_were_or_are_refused(metadata: dict[str, Any]) -> None:
    """What is not JSON is not made to look like it."""
    encoded = attempt(encode_metadata, metadata)
    assert encoded is None or encoded[1] == metadata


@thorough
@given(st.binary(max_size=40) | odd_texts | odd_json)
def test_parsing_what_comes_from_outside_fails_in_one_way_only(data: Any) -> None:
    """It is a member, or refused with a path."""
    attempt(CODEC.parse, data)


@thorough
@given(sound_texts | odd_texts | st.text(max_size=30))
def test_an_id_is_text_that_every_store_keeps(text: str) -> None:
    """It is not empty, has no NUL and no lone surrogate, and has a largest size."""
    size = len(text.encode("utf-8", "surrogatepass"))
    surrogates = any("\ud800" <= character <= "\udfff" for character in text)
    sound = 0 < size <= 20 and "\0" not in text and not surrogates
    try:
        assert check_text("id", text, 20) == text
    except ValidationError:
        assert not sound
    else:
        assert sound


def told_in_utc(value: Any) -> Any:
    """Return a value's types and parts, so that equal moments of different zones are equal."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, frozenset):
        return frozenset(map(told_in_utc, value))
    if isinstance(value, dict):
        return {told_in_utc(key): told_in_utc(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), *map(told_in_utc, value)
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return type(value), *(told_in_utc(getattr(value, name)) for name in names)
    return type(value), value


def test_the_text_is_the_same_in_every_process() -> None:
    """Sets and dicts iterate in an order that the hash seed decides; the text does not."""
    texts = {encoded_under(seed) for seed in ("0", "1", "2")}

    assert texts == {CODEC.encode(sample())[0]}


def encoded_under(seed: str) -> str:
    code = (
        "import sys; from tests.machine.rich import BERLIN, CODEC, sample; "
        "sys.stdout.buffer.write(CODEC.encode(sample())[0].encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return done.stdout.decode()
