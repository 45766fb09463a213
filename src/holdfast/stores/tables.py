"""What the store in memory keeps: rows, the log, and what finds them; for one thread at a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from holdfast.stores.contract import (
    Applied,
    Check,
    Checkpoint,
    EntityRow,
    LogRow,
    Outcome,
    Write,
    WriteRefusedError,
)
from holdfast.stores.digests import seal

K = TypeVar("K")
V = TypeVar("V")


class Committed(Struct, frozen=True):
    """What a commit writes, and where in the log."""

    start: int
    rows: list[LogRow]
    writes: list[Write]
    checkpoint: Checkpoint | None


class Mark:
    """What the tables held of all that was written since; see `Tables.mark`."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.log: dict[int, LogRow] = {}
        self.entities: dict[tuple[str, str], EntityRow | None] = {}
        self.places: dict[tuple[str, str], list[int]] = {}
        self.births: dict[tuple[str, str], list[int] | None] = {}
        self.checkpoints: dict[str, int | None] = {}


class Tables:
    """Entities by name and in order, their log, and their keys."""

    def __init__(self) -> None:
        self.entities: dict[tuple[str, str], EntityRow] = {}
        self.order: list[tuple[str, str]] = []
        self.log: list[LogRow] = []
        self.places: dict[tuple[str, str], list[int]] = {}  # in the log, of version 1 and so on
        self.checkpoints: dict[str, int] = {}
        self._births: dict[tuple[str, str], list[int]] = {}  # their versions, unless purged
        self._keys: dict[tuple[str, str, str], int] = {}
        self._marks: list[Mark] = []

    def mark(self) -> Mark:
        """Take note of what is written from here on, so that it can be undone."""
        mark = Mark(len(self.log))
        self._marks.append(mark)
        return mark

    def keep(self, mark: Mark) -> None:
        """Keep what was written since a mark, and forget the mark and those made after it."""
        del self._marks[self._marks.index(mark) :]

    def undo(self, mark: Mark) -> None:
        """Undo what was written since a mark; done again, it comes to the same."""
        for row in self.log[mark.rows :]:
            if row.key is not None:
                self._keys.pop((row.machine, row.id, row.key), None)
        del self.log[mark.rows :]
        for place, stored in mark.log.items():
            self.log[place] = stored
        for name, entity in mark.entities.items():
            _put_back(self.entities, name, entity)
            self.places[name] = mark.places[name]
            _put_back(self._births, name, mark.births[name])
            place = bisect_left(self.order, name)
            if entity is None and self.order[place : place + 1] == [name]:
                del self.order[place]
        for reader, position in mark.checkpoints.items():
            _put_back(self.checkpoints, reader, position)
        self.keep(mark)

    def version(self, name: tuple[str, str]) -> int:
        """Return the version of an entity's row, 0 where there is none."""
        row = self.entities.get(name)
        return 0 if row is None else row.version

    def applied(self, machine: str, id: str, keys: Sequence[str]) -> dict[str, Applied]:
        """Return what those of the keys made that were used."""
        places = {key: self._keys.get((machine, id, key)) for key in keys}
        return {
            key: self.with_origin(self.log[place])
            for key, place in places.items()
            if place is not None
        }

    def with_origin(self, row: LogRow) -> Applied:
        """Add to a log row when its entity was created, and the state before."""
        places = self.places[row.machine, row.id]
        births = self._births.get((row.machine, row.id), [])
        life = bisect_right(births, row.version)
        created_at = self.log[places[births[life - 1] - 1]].at if life else row.at
        previous = self.log[places[row.version - 2]].state if row.version > 1 else None
        return Applied(row, created_at, previous)

    def at(self, name: tuple[str, str], version: int | None, time: str) -> LogRow | None:
        """Return the log row of a version, or, without one, the last at or before a time."""
        places = self.places.get(name, [])
        if version is None:  # an entity's times never fall
            version = bisect_right(places, time, key=lambda place: self.log[place].at)
        return self.log[places[version - 1]] if 0 < version <= len(places) else None

    def judge(self, writes: Sequence[Write]) -> list[Outcome]:
        """Tell what becomes of writes that are tried now, one after the other."""
        outcomes: list[Outcome] = []
        made: dict[tuple[str, str], int] = {}
        for write in writes:
            name = (write.entity.machine, write.entity.id)
            version = made[name] if name in made else self.version(name)
            if version == write.expected:
                made[name] = write.entity.version
                outcomes.append(Outcome(True, write.entity.version))
            elif self._is_stored(write):
                outcomes.append(Outcome(True, version, found=True))
            else:
                outcomes.append(self._late(name, version))
        return outcomes

    def _is_stored(self, write: Write) -> bool:
        """Tell whether a write that comes too late is in the log already."""
        if not write.log or write.log[0].token is None:
            return False
        first = write.log[0]
        stored = self.at((first.machine, first.id), first.version, "")
        return stored is not None and stored.token == first.token

    def _late(self, name: tuple[str, str], version: int) -> Outcome:
        row = self.entities.get(name)
        return Outcome(False, version, deleted=row is not None and row.state_type is None)

    def holds(self, check: Check) -> Outcome:
        """Tell whether an entity is at a version."""
        name = (check.machine, check.id)
        version = self.version(name)
        return Outcome(True, version) if version == check.version else self._late(name, version)

    def prepare(
        self, writes: Sequence[Write], checkpoint: Checkpoint | None, recorded_at: str
    ) -> Committed:
        """Return what a commit will write; raises WriteRefusedError, and changes nothing."""
        sealed = [seal(write, recorded_at) for write in writes]
        keys: set[tuple[str, str, str]] = set()
        rows: list[LogRow] = []
        for write in sealed:
            version = write.expected
            for row in write.log:
                version += 1
                if row.version != version:
                    raise WriteRefusedError(_refusal(row, f"version {row.version} out of order"))
                if row.key is not None:
                    key = (row.machine, row.id, row.key)
                    if key in keys or key in self._keys:
                        raise WriteRefusedError(_refusal(row, f"the key {row.key!r} twice"))
                    keys.add(key)
                rows.append(replace(row, seq=len(self.log) + len(rows) + 1))
        return Committed(len(self.log), rows, sealed, checkpoint)

    def write(self, committed: Committed) -> None:
        """Carry out a commit; done again from its beginning, it comes to the same."""
        for mark in self._marks:
            self._note(mark, committed)
        self.log[committed.start :] = committed.rows
        place = committed.start
        for write in committed.writes:
            self._write_entity(write, place)
            place += len(write.log)
        if committed.checkpoint is not None:
            self.checkpoints[committed.checkpoint.name] = committed.checkpoint.position

    def _note(self, mark: Mark, committed: Committed) -> None:
        """Take note of what a commit is about to change, unless it was noted before."""
        for write in committed.writes:
            name = (write.entity.machine, write.entity.id)
            if name not in mark.entities:
                births = self._births.get(name)
                mark.places[name] = self.places.get(name, []).copy()
                mark.births[name] = None if births is None else births.copy()
                mark.entities[name] = self.entities.get(name)
            if write.purge:
                for place in self.places[name]:
                    if place < mark.rows:
                        mark.log.setdefault(place, self.log[place])
        if committed.checkpoint is not None:
            reader = committed.checkpoint.name
            mark.checkpoints.setdefault(reader, self.checkpoints.get(reader))

    def _write_entity(self, write: Write, start: int) -> None:
        """Write an entity's row, and enter its log rows, which begin at a place."""
        name = (write.entity.machine, write.entity.id)
        if not write.expected:
            place = bisect_left(self.order, name)
            if self.order[place : place + 1] != [name]:
                self.order.insert(place, name)
        self.entities[name] = write.entity
        places = self.places.setdefault(name, [])
        if write.purge:
            self._births[name] = []
            for place in places[: write.expected]:
                self.log[place] = _stub(self.log[place])
        places[write.expected :] = range(start, start + len(write.log))
        for place, row in enumerate(write.log, start):
            if row.key is not None:
                self._keys[*name, row.key] = place
            if row.from_type is None and row.to_type is not None:
                births = self._births.setdefault(name, [])
                if not births or births[-1] < row.version:
                    births.append(row.version)


def _put_back(table: dict[K, V], key: K, value: V | None) -> None:
    """Give a table the value that it had before, None for none."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _refusal(row: LogRow, what: str) -> str:
    return f"{row.machine} {row.id!r} would have {what}; nothing was written"


def _stub(row: LogRow) -> LogRow:
    """Return what a purge leaves of a row."""
    return replace(
        row,
        kind="purged",
        from_type=None,
        to_type=None,
        command_type=None,
        command=None,
        events=None,
        state=None,
        metadata=None,
    )
