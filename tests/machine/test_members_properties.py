"""What holds for every value of a member: its text does not tell which kind declared it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.machine.kinds import CLASSES, CODECS, FOREIGN, KINDS, Color, Draft, Place, Rank, Ship

from holdfast import ValidationError

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
zones = st.sampled_from([UTC, timezone(timedelta(hours=-11))])
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=zones)  # noqa: DTZ001
numbers = st.floats(allow_nan=False, allow_infinity=False)
ships = st.builds(Ship, to=texts, at=times)
contents = st.fixed_dictionaries(
    {
        "text": texts,
        "number": st.integers(-(2**63), 2**63 - 1),
        "ratio": numbers,
        "data": st.binary(max_size=6),
        "at": times,
        "times": st.frozensets(times, max_size=3),
        "by_time": st.dictionaries(times, st.sampled_from(Color), max_size=2),
        "by_number": st.dictionaries(st.integers(-9, 9), st.uuids(), max_size=3),
        "by_color": st.dictionaries(st.sampled_from(Color), st.frozensets(st.sampled_from(Rank))),
        "amounts": st.lists(st.decimals(allow_nan=False, allow_infinity=False), max_size=2).map(
            tuple
        ),
        "pair": st.tuples(st.dates(), st.times()),
        "span": st.timedeltas(),
        "size": st.sampled_from(["s", "m"]),
        "positive": st.integers(1, 5),
        "anything": st.none() | texts | st.lists(numbers) | st.dictionaries(texts, st.integers()),
        "place": st.none() | st.builds(Place, name=texts, since=times),
        "command": ships,
        "either": st.none() | st.builds(Draft, text=texts) | ships,
        "tags": st.dictionaries(texts, times, max_size=2),
    }
)
ODD: dict[str, st.SearchStrategy[Any]] = {
    "text": st.sampled_from(["\0", "a\0", "\ud800", 5, None]),
    "ratio": st.sampled_from([float("nan"), float("inf"), "1"]),
    "at": st.datetimes(),
    "positive": st.integers(-5, 0),
    "size": st.just("l"),
    "anything": st.sampled_from([float("nan"), (1, 2), {1: None}, ["\0"]]),
    "place": st.builds(Place, name=texts, since=st.datetimes()),
    "by_color": st.just({"green": frozenset()}),
}

thorough = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)


@thorough
@given(contents)
def test_a_value_has_one_text_whichever_kind_declared_it(content: dict[str, Any]) -> None:
    """It is that of a State, and comes back as an equal value of its own kind."""
    expected, _ = CODECS["state"].encode(CLASSES["state"](**content))

    for kind in FOREIGN:
        value = CLASSES[kind](**content)
        text, copy = CODECS[kind].encode(value)
        assert text == expected, kind
        assert copy == value == CODECS[kind].decode(text)
        assert type(copy) is type(value)
        assert CODECS[kind].encode(copy) == (text, copy)


@thorough
@given(contents, st.sampled_from(sorted(ODD)), st.data())
def test_an_odd_value_is_refused_with_one_path_whichever_kind_declared_it(
    content: dict[str, Any], name: str, data: st.DataObject
) -> None:
    """Constraints, types and what JSON cannot hold: the path is that of a State."""
    content = {**content, name: data.draw(ODD[name])}
    paths = {kind: refused(kind, content) for kind in KINDS}

    assert paths["state"] is not None
    assert paths["state"].startswith(f"$.{name}")
    assert set(paths.values()) == {paths["state"]}


def refused(kind: str, content: dict[str, Any]) -> str | None:
    cls = CLASSES[kind]
    build = cls.model_construct if kind == "pydantic" else cls
    with pytest.raises(ValidationError) as raised:
        CODECS[kind].encode(build(**content))
    return raised.value.path
