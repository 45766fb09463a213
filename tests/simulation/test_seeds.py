"""Twenty thousand runs of the simulation, none of which breaks a promise."""

from __future__ import annotations

import pytest

from holdfast.testing import simulate

CHUNK = 1_000
CHUNKS = range(20)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_no_seed_breaks_a_promise(chunk: int) -> None:
    """Whatever crashes, is lost or comes in between; and enough of each was seen."""
    first = chunk * CHUNK
    report = simulate(seeds=range(first, first + CHUNK))
    assert report.runs == CHUNK
