"""Thousands of runs of the simulation, none of which breaks a promise."""

from __future__ import annotations

import os

import pytest

from holdfast.testing import simulate

CHUNK = 1_000
CHUNKS = 20
MANY_CHUNKS = 500 * int(os.environ.get("HOLDFAST_SOAK_SCALE", "1"))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_breaks_a_promise(chunk: int) -> None:
    """Whatever crashes, is lost or comes in between; and enough of each was seen."""
    first = chunk * CHUNK
    report = simulate(seeds=range(first, first + CHUNK))
    assert report.runs == CHUNK


@pytest.mark.soak
@pytest.mark.parametrize("chunk", range(CHUNKS, MANY_CHUNKS))
def test_none_of_many_seeds_breaks_a_promise(chunk: int) -> None:
    """As of the first ones."""
    test_no_seed_breaks_a_promise(chunk)
