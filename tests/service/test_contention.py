"""The hottest entities of a process, counted in bounded memory with a known error."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.service import contention
from holdfast.service.contention import MAX_TRACKED, Contention, HotSpot


def counted(ids: list[str]) -> Contention:
    """Return the counts of a stream of conflicts."""
    found = Contention()
    for id in ids:
        found.record(id)
    return found


def test_the_hottest_come_first() -> None:
    """Ties are broken by id, so that the answer is always the same."""
    found = counted(["b", "a", "c", "b", "c", "b"])
    assert found.hottest(10) == [HotSpot("b", 3, 0), HotSpot("c", 2, 0), HotSpot("a", 1, 0)]
    assert [spot.id for spot in found.hottest(2)] == ["b", "c"]
    assert [spot.id for spot in counted(["b", "a"]).hottest(10)] == ["a", "b"]


def test_nothing_conflicted_yet() -> None:
    """A new process has no hot spots."""
    assert counted([]).hottest(10) == []


def test_memory_is_bounded() -> None:
    """However many entities conflict, no more than a thousand are tracked."""
    found = counted([str(number) for number in range(3 * MAX_TRACKED)])
    assert len(found.hottest(10 * MAX_TRACKED)) == MAX_TRACKED


def test_a_hot_entity_is_found_in_any_crowd() -> None:
    """Among many that conflict once, the one that conflicts often stands first."""
    ids = [f"cold {number}" for number in range(5_000)]
    for place in range(0, 5_000, 10):
        ids.insert(place, "hot")
    [hottest] = counted(ids).hottest(1)
    assert hottest.id == "hot"
    assert hottest.conflicts - hottest.overcounted <= 500 <= hottest.conflicts


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=st.lists(st.sampled_from("abcdefghij"), max_size=200), tracked=st.integers(1, 6))
def test_counts_are_wrong_by_no_more_than_is_told(
    monkeypatch: pytest.MonkeyPatch, stream: list[str], tracked: int
) -> None:
    """The bounds of the space-saving algorithm, for every stream.

    A count is never too low, and too high by `overcounted` at most; that is at most the length of
    the stream by the number of places; and who conflicts more often than that is not missing.
    """
    monkeypatch.setattr(contention, "MAX_TRACKED", tracked)
    true = Counter(stream)

    spots = counted(stream).hottest(100)

    assert len(spots) == min(len(true), tracked)
    for spot in spots:
        assert spot.conflicts - spot.overcounted <= true[spot.id] <= spot.conflicts
        assert 0 <= spot.overcounted <= len(stream) / tracked
    assert sum(spot.conflicts for spot in spots) == len(stream)
    often = {id for id, count in true.items() if count > len(stream) / tracked}
    assert often <= {spot.id for spot in spots}
    if len(true) <= tracked:
        assert {spot.id: spot.conflicts for spot in spots} == true


def test_threads_count_together() -> None:
    """No conflict is lost between them."""
    found = Contention()

    def record() -> None:
        for number in range(1_000):
            found.record(str(number % 7))

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(spot.conflicts for spot in found.hottest(10)) == 4_000
