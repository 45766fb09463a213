"""Commits that are all or none: the order of them, and that each is there as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from holdfast.testing.history.model import Entry, Named
from holdfast.testing.history.order import Bound, Order, earlier, later

MAX_ROUNDS = 8
"""How often what one entity tells of another is taken up again."""


class Commits:
    """The commits of several entries, from what each was written after to what it was before."""

    def __init__(
        self, commits: Sequence[Sequence[Entry]], logs: Mapping[Named, Sequence[Entry]]
    ) -> None:
        self._commits = commits
        commit_of = {entry: place for place, commit in enumerate(commits) for entry in commit}
        graph: TopologicalSorter[int] = TopologicalSorter(dict.fromkeys(range(len(commits)), ()))
        for named in {(entry.machine, entry.id): None for entry in commit_of}:
            places = [commit_of[entry] for entry in logs[named] if entry in commit_of]
            for before, place in pairwise(places):
                if before != place:
                    graph.add(place, before)
        self._crossing: list[int] = []
        self._in_order: list[int] = []
        try:
            self._in_order += graph.static_order()
        except CycleError as error:
            self._crossing += error.args[1][1:]

    def faults(self) -> Iterator[str]:
        """Tell of commits of which each was written before another one, and none so at a moment."""
        if self._crossing:
            names = ", ".join(str(self._commits[place][0].name) for place in self._crossing)
            yield f"the commits of {names} were each written before the other"

    def tighten(self, orders: Mapping[Named, Order]) -> None:
        """Let what is known of one entry of a commit be known of all, and all that follows."""
        for _ in range(MAX_ROUNDS):
            for order in orders.values():
                order.narrow()
            self._spread(self._in_order, orders, lambda order: order.earliest, later)
            self._spread(reversed(self._in_order), orders, lambda order: order.latest, earlier)
            if not [order for order in orders.values() if order.settle()]:
                return

    def _spread(
        self,
        places: Iterable[int],
        orders: Mapping[Named, Order],
        of: Callable[[Order], list[Bound]],
        stricter: Callable[[Bound, Bound], Bound],
    ) -> None:
        """Give all entries of a commit the strictest bound of any, on to the next commits."""
        reached: dict[Named, Bound] = {}
        for place in places:
            of_entity = [((e.machine, e.id), e.version) for e in self._commits[place]]
            known = [(named, version) for named, version in of_entity if named in orders]
            bounds = [of(orders[named])[version] for named, version in known]
            bounds += [reached[named] for named, _ in known if named in reached]
            if not bounds:
                continue
            bound = reduce(stricter, bounds)
            for named, version in known:
                of(orders[named])[version] = reached[named] = bound
