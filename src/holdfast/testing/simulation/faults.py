"""What may go wrong at a request, how often, and what a run is made of: all drawn from its seed."""

from __future__ import annotations

from itertools import accumulate
from random import Random

from msgspec import Struct
from msgspec.structs import asdict, replace

from holdfast.errors import StoreError
from holdfast.service.requests import Ask, Commit, Sleep

NONE = ""


class StoreAwayError(StoreError):
    """The store is away, because the simulation has it so."""


class Faults(Struct, frozen=True, kw_only=True):
    """How often each thing goes wrong, of a thousand requests at which it can.

    A run draws from never to five times as often, so that some see much of one and none of others.
    """

    crash_before: int = 12
    """The process ends: every plan in it is dropped, and its request was not carried out."""
    crash_after: int = 12
    """The process ends once the request was carried out."""
    crash_late: int = 8
    """The process ends while its commit is under way, and arrives later."""
    drop_before: int = 8
    """One caller gives up, and its plan is dropped before its request was carried out."""
    drop_after: int = 8
    """One caller gives up, once its request was carried out."""
    unavailable: int = 12
    """The store refuses; nothing is written."""
    lost_before: int = 40
    """The connection is lost while committing, and nothing was written."""
    lost_after: int = 40
    """The connection is lost while committing, and all was written."""
    lost_late: int = 20
    """The connection is lost while committing, and the commit is carried out later."""


ALL = Faults()
CALM = Faults(**dict.fromkeys(asdict(ALL), 0))
LATE = frozenset({"crash_late", "lost_late"})
COMMIT_ONLY = frozenset({"lost_before", "lost_after"}) | LATE
STORE_ONLY = COMMIT_ONLY | {"unavailable"}
KINDS = tuple(asdict(ALL))


def drawn_faults(random: Random, usual: Faults) -> Faults:
    """Return the faults of one run: each kind is left out in some, and frequent in others.

    Source: A. Groce et al., Swarm Testing, ISSTA 2012.
    """
    rates = {
        kind: int(rate * random.choice((0, 0, 1, 1, 2, 5))) for kind, rate in asdict(usual).items()
    }
    return replace(usual, **rates)


class Fates:
    """Draws what happens at each request."""

    def __init__(self, random: Random, faults: Faults) -> None:
        self._random = random
        rates = asdict(faults)
        self._of_commits = _Table({kind: rates[kind] for kind in KINDS})
        self._of_reads = _Table({k: rates[k] for k in KINDS if k not in COMMIT_ONLY})
        self._of_sleeps = _Table({k: rates[k] for k in KINDS if k not in STORE_ONLY})

    def draw(self, ask: Ask) -> str:
        """Return the kind of fault that a request meets; empty for none."""
        if isinstance(ask, Commit):
            table = self._of_commits
        else:
            table = self._of_sleeps if isinstance(ask, Sleep) else self._of_reads
        return table.at(self._random.random() * 1_000)


class _Table:
    def __init__(self, rates: dict[str, int]) -> None:
        self._bounds = list(zip(accumulate(rates.values()), rates, strict=True))
        self._total = sum(rates.values())

    def at(self, point: float) -> str:
        if point >= self._total:
            return NONE
        return next(kind for bound, kind in self._bounds if point < bound)
