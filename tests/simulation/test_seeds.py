"""Thousands of runs of the simulation, none of which breaks a promise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests import soak

from holdfast.testing import simulate

CHUNK = 1_000
CHUNKS = 20
MANY_CHUNKS = soak.scaled(500)


ONCE_BROKEN = {36_477: "keys answer the last attempt of an atomic batch, whose hook saw the first"}


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_what_was_mended_stays_so(seed: int) -> None:
    """As long as the seed draws it."""
    assert simulate(seeds=[seed]).runs == 1


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_breaks_a_promise(
    chunk: int, record_property: Callable[[str, object], None]
) -> None:
    """Whatever crashes, is lost or comes in between; and enough of each was seen."""
    first = chunk * CHUNK
    report = simulate(seeds=range(first, first + CHUNK))
    record_property("seen", {"seeds": report.runs, **report.counts})
    assert report.runs == CHUNK


@pytest.mark.soak
@pytest.mark.parametrize("chunk", MANY_CHUNKS)
def test_none_of_many_seeds_breaks_a_promise(
    chunk: int, record_property: Callable[[str, object], None]
) -> None:
    """As of the first ones, with other seeds."""
    test_no_seed_breaks_a_promise(CHUNKS + chunk, record_property)
