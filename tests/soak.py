"""How much of the soak is run: its seeds, as the environment says."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

SCALE = "HOLDFAST_SOAK_SCALE"
SEEDS = "HOLDFAST_SOAK_SEEDS"
MAX_SCALE = 1_000
MAX_SEEDS = 100_000


class BadInputError(Exception):
    """The environment asks for a soak that there is not; nothing was run."""


def scale() -> float:
    """Return how many times the usual soak is run."""
    text = os.environ.get(SCALE, "1")
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= MAX_SCALE:
        raise BadInputError(
            f"SCALE={text!r:.80} is no number above 0 and up to {MAX_SCALE}. Like SCALE=10, ten "
            "times as much, or SCALE=0.1, a tenth. Nothing was run."
        )
    return found


def scaled(count: int) -> range:
    """Return as many numbers, from 0, as the soak needs that usually needs so many."""
    return range(max(1, round(count * scale())))


def seeds(count: int) -> Sequence[int]:
    """Return the seeds that were asked for, or as many as the soak needs."""
    return named_seeds() or scaled(count)


def named_seeds() -> list[int]:
    """Return the seeds that were asked for by number, if any."""
    text = os.environ.get(SEEDS, "")
    if not text:
        return []
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part.strip())
        numbers = range(0) if match is None else range(int(match[1]), int(match[2] or match[1]) + 1)
        if not 0 < len(numbers) <= MAX_SEEDS:
            raise BadInputError(
                f"SEEDS={text!r:.80} is no list of seeds: {part!r:.40} is neither a whole number "
                f"from 0 nor a range of up to {MAX_SEEDS:,}. Like SEEDS=17 or SEEDS=3,20-29. "
                "Nothing was run."
            )
        found.update(numbers)
    return sorted(found)
