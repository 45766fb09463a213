"""Notes the commits of a worker whose outcome was not known, and how each was found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from holdfast.stores.contract import Outcome, Store, Write
from holdfast.stores.outcomes import CommitUncertainError

S = TypeVar("S", bound=Store)
UNKNOWN = "outcomes unknown"
FOUND = "unknown outcomes resolved: stored"
NOT_FOUND = "unknown outcomes resolved: not stored"


def observed(store: S, note: Callable[[str], object]) -> S:
    """Return a store that notes of each commit that its outcome is unknown, and once it is known.

    One that is sent again in parts, and not as a whole, is not counted as known.
    """
    commit = store.commit
    unknown: set[frozenset[str]] = set()

    def ask(writes: Sequence[Write], *given: Any, **options: Any) -> list[Outcome]:
        tokens = frozenset(token for write in writes for token in _tokens(write))
        try:
            outcomes = commit(writes, *given, **options)
        except CommitUncertainError:
            if tokens not in unknown:
                note(UNKNOWN)
                unknown.add(tokens)
            raise
        for known in [each for each in unknown if each <= tokens]:
            unknown.discard(known)
            note(FOUND if _was_found(known, writes, outcomes) else NOT_FOUND)
        return outcomes

    store.commit = ask  # type: ignore[method-assign]
    return store


def _was_found(known: frozenset[str], writes: Sequence[Write], outcomes: Sequence[Outcome]) -> bool:
    """Whether some write of a commit had been stored the first time."""
    pairs = zip(writes, outcomes, strict=False)  # outcomes of checks follow
    return any(outcome.found and known & _tokens(write) for write, outcome in pairs)


def _tokens(write: Write) -> set[str]:
    return {row.token for row in write.log if row.token is not None}
