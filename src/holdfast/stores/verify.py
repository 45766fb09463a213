"""Verifies a store: recomputes the digests of its log, and holds the entities against the log.

It finds every edit of the log that does not recompute the chain of the entity's digests, gaps in
the versions or in the positions, what was erased without a record of it, rows of entities that are
not what the log leads to, text that is none, and a store whose guards of the log are gone. With an
anchor, which is what an earlier verification saw, it also finds a log that was rewritten, reordered
or cut off up to the anchored position. It cannot find what was changed consistently after that,
and of purged transitions it knows the digest only.
Columns that only schedule work are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256

from msgspec import Struct

from holdfast.machine.canonical import format_time
from holdfast.stores.chain import NO_UTF8, Chain, is_text
from holdfast.stores.contract import MAX_PAGE, EntityRow, LogRow, Store

MAX_LISTED = 100
"""The most findings that a report lists; all are counted."""

_BEFORE_ALL = -(2**63)


class Anchor(Struct, frozen=True):
    """What a verification saw of the log; kept elsewhere, it bears witness later."""

    position: int
    """The position of the last transition seen."""
    count: int
    """How many transitions there were."""
    digest: str
    """SHA-256, hexadecimal, over the digests of all of them in order."""
    url: str
    """The store that was verified."""
    at: str
    """When."""


class Finding(Struct, frozen=True):
    """Something that a store without interference does not hold."""

    problem: str
    machine: str | None = None
    id: str | None = None
    version: int | None = None
    position: int | None = None


class Report(Struct, frozen=True):
    """What a verification saw."""

    url: str
    transitions: int
    purged: int
    """How many of the transitions are stubs, whose digests cannot be recomputed."""
    entities: int
    """How many entities have a row, deleted ones included."""
    found: int
    """How many findings there are, listed or not."""
    findings: tuple[Finding, ...]
    """The first of them, at most MAX_LISTED."""
    anchored: int | None
    """The position up to which the log was held against an anchor; None without an anchor."""
    anchor: Anchor
    """What this verification saw, for the next one."""

    @property
    def sound(self) -> bool:
        """True where nothing was found."""
        return self.found == 0


def verify(
    store: Store, *, anchor: Anchor | None = None, progress: Callable[[int], object] | None = None
) -> Report:
    """Read the whole store and report what is wrong with it.

    May run while others write. Holds a few hundred bytes for every entity in memory, and pages
    of the log one at a time. `progress` is called with the number of transitions read so far.
    Raises StoreError where the store cannot be read.
    """
    verification = _Verification(store.as_stored(), anchor, progress)
    verification.read_log()
    verification.hold_against_anchor()
    verification.compare_entities()
    verification.look_at_store()
    return Report(
        store.url,
        verification.count,
        verification.purged,
        verification.entities,
        verification.found,
        tuple(verification.findings),
        None if anchor is None else anchor.position,
        Anchor(
            max(verification.position, 0),
            verification.count,
            verification.digest.hexdigest(),
            store.url,
            format_time(datetime.now(UTC)),
        ),
    )


class _Verification:
    """A verification on its way through the log and then the entities."""

    def __init__(
        self, store: Store, anchor: Anchor | None, progress: Callable[[int], object] | None
    ) -> None:
        self.store = store
        self.anchor = anchor
        self.progress = progress
        self.position = _BEFORE_ALL
        self.count = 0
        self.purged = 0
        self.entities = 0
        self.digest = sha256()
        self.chains: dict[tuple[str, str], Chain] = {}
        self.ahead: dict[tuple[str, str], EntityRow] = {}
        self.findings: list[Finding] = []
        self.found = 0
        self.anchor_is_due = anchor is not None

    def read_log(self) -> None:
        """Follow the log from where it was left to its end."""
        while rows := self.store.read_log(after=self.position, limit=MAX_PAGE):
            for row in rows:
                self._follow(row)
            if self.progress is not None:
                self.progress(self.count)

    def hold_against_anchor(self) -> None:
        """Compare what was read with what the anchor saw, once it is time to."""
        anchor = self.anchor
        if anchor is None or not self.anchor_is_due:
            return
        self.anchor_is_due = False
        seen = self.count, self.digest.hexdigest()
        if self.position < anchor.position and self.count < anchor.count:
            self._find(
                f"the log ends at position {max(self.position, 0)}; the anchor saw it reach "
                f"{anchor.position} at {anchor.at}, so it was cut off, or is another log"
            )
        elif seen != (anchor.count, anchor.digest):
            self._find(
                f"the log up to position {anchor.position} is not what the anchor saw at "
                f"{anchor.at}, so it was rewritten, or is another log"
            )

    def compare_entities(self) -> None:
        """Hold every entity's row against the log, and look for the rows that are missing."""
        for row in self._entities():
            self.entities += 1
            if is_text(row.machine, row.id):
                self._meet(row)
            else:
                self._find(NO_UTF8, row.machine, row.id, row.version)
        for (machine, id), chain in self.chains.items():
            if not chain.seen:
                self._find("the entity has no row, and the log has", machine, id, chain.version)
        # An entity that is ahead was written meanwhile; then the log has caught up by now.
        self.read_log()
        for row in self.ahead.values():
            logged = self.chains[row.machine, row.id].version
            self._find(
                f"the entity is at version {row.version}, and its log ends at {logged}",
                row.machine,
                row.id,
                row.version,
            )

    def _entities(self) -> Iterator[EntityRow]:
        after, limit = ("", ""), MAX_PAGE
        while rows := self.store.entities(after=after, limit=limit):
            last = rows[-1].machine, rows[-1].id
            if len(rows) == limit and not is_text(*last):
                limit *= 2  # until a page ends with a name that the next can begin after
                continue
            yield from rows
            after, limit = last, MAX_PAGE
            if not is_text(*last):
                return

    def look_at_store(self) -> None:
        """Ask the store itself what is wrong with it."""
        for flaw in self.store.flaws():
            self._find(flaw)

    def _follow(self, row: LogRow) -> None:
        if self.anchor is not None and row.seq > self.anchor.position:
            self.hold_against_anchor()
        expected = max(self.position, 0) + 1
        if row.seq > expected:  # a position is given out with its row, or taken back with it
            missing = f"{expected}" if row.seq == expected + 1 else f"{expected} to {row.seq - 1}"
            self._find(
                f"there is nothing at position {missing}: it was deleted or moved",
                position=expected,
            )
        self.position = row.seq
        self.count += 1
        self.purged += row.kind == "purged"
        self.digest.update(row.digest.encode())
        name = row.machine, row.id
        chain = self.chains.get(name)
        if chain is None:
            chain = self.chains[name] = Chain()
        problem = chain.problem_of(row) if is_text(row.machine, row.id) else NO_UTF8
        if problem is None and row.kind == "purged" and chain.kind not in ("", "purged"):
            problem = self._purged_in_part(row)
        if problem is not None:
            self._find(problem, *name, row.version, row.seq)
        chain.follow(row)
        waiting = self.ahead.get(name)
        if waiting is not None and waiting.version == row.version:
            del self.ahead[name]
            self._compare(waiting, chain)

    def _purged_in_part(self, row: LogRow) -> str | None:
        """Return what is wrong with a purged row after one that is not, unless it is by now."""
        [first] = self.store.history(row.machine, row.id, limit=1)
        return None if first.kind == "purged" else "is purged, and what is before it is not"

    def _meet(self, row: EntityRow) -> None:
        chain = self.chains.setdefault((row.machine, row.id), Chain())
        chain.seen = True
        if row.version > chain.version:
            self.ahead[row.machine, row.id] = row
        elif row.version < chain.version:
            self._find(
                f"the entity is at version {row.version}, and its log at {chain.version}",
                row.machine,
                row.id,
                row.version,
            )
        else:
            self._compare(row, chain)

    def _compare(self, row: EntityRow, chain: Chain) -> None:
        if chain.kind == "purged":
            problem = "the entity was erased, and no purge is recorded"
            self._find(problem, row.machine, row.id, row.version)
        names = chain.differences(row)
        if names:
            self._find(
                f"the entity's {', '.join(names)} is not what the log leads to",
                row.machine,
                row.id,
                row.version,
            )

    def _find(
        self,
        problem: str,
        machine: str | None = None,
        id: str | None = None,
        version: int | None = None,
        position: int | None = None,
    ) -> None:
        self.found += 1
        if len(self.findings) < MAX_LISTED:
            self.findings.append(Finding(problem, _shown(machine), _shown(id), version, position))


def _shown(name: str | None) -> str | None:
    """Return a name that can be written anywhere: bytes that are no UTF-8 as `\\xff`."""
    if name is None or is_text(name):
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
