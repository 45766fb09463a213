"""The store in memory: for tests and trials, as strict as the others, gone with the process."""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from holdfast.errors import StoreError
from holdfast.machine.canonical import format_time, parse_time
from holdfast.stores.contract import (
    Applied,
    Check,
    Checkpoint,
    Clock,
    EntityRow,
    Key,
    Loaded,
    LogRow,
    Outcome,
    Store,
    Write,
    all_or_none,
    judge,
    seal,
)
from holdfast.stores.fork import follow_forks


class MemoryStore(Store):
    """Keeps records and the log in this object; safe for threads, not shared between processes."""

    url = "memory://"

    def __init__(self, *, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._entities: dict[tuple[str, str], EntityRow] = {}
        self._order: list[tuple[str, str]] = []
        self._log: list[LogRow] = []
        self._versions: dict[tuple[str, str], list[int]] = {}  # indexes into the log
        self._keys: dict[tuple[str, str, str], int] = {}
        self._checkpoints: dict[str, int] = {}
        self._unusable: str | None = None
        follow_forks(self)

    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        """See `Store.load`."""
        with self._held():
            now = self._clock().astimezone(UTC)
            return [self._load(key, now) for key in keys]

    def commit(
        self,
        writes: Sequence[Write],
        *,
        checks: Sequence[Check] = (),
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        timeout_seconds: float | None = None,
    ) -> list[Outcome]:
        """See `Store.commit`."""
        recorded_at = format_time(self._clock())
        sealed = [seal(write, recorded_at) for write in writes]
        with self._held():
            outcomes = [self._judge(write) for write in sealed]
            outcomes += [self._checked(check) for check in checks]
            is_late = False
            if checkpoint is not None:
                outcomes.append(judge(checkpoint, self._checkpoints.get(checkpoint.name), sealed))
                is_late = not outcomes[-1].applied
            settled = all_or_none(sealed, outcomes) if atomic or checks or is_late else None
            if settled is not None:
                return settled
            due = [
                write
                for write, outcome in zip(sealed, outcomes, strict=False)
                if outcome.applied and not outcome.found
            ]
            self._expect_new_keys(due)
            for write in due:
                self._store(write)
            if checkpoint is not None:
                self._checkpoints[checkpoint.name] = checkpoint.position
            return outcomes

    def history(self, machine: str, id: str, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.history`."""
        with self._held():
            rows = [self._log[index] for index in self._versions.get((machine, id), ())]
        return [row for row in rows if row.version > after][:limit]

    def transition_at(
        self, machine: str, id: str, *, version: int | None = None, time: str | None = None
    ) -> Applied | None:
        """See `Store.transition_at`."""
        with self._held():
            for index in reversed(self._versions.get((machine, id), ())):
                row = self._log[index]
                if row.version == version or (time is not None and row.at <= time):
                    return self._with_origin(row)
        return None

    def find(
        self,
        machine: str,
        *,
        state_types: Sequence[str] | None = None,
        after: str = "",
        limit: int,
    ) -> list[EntityRow]:
        """See `Store.find`."""
        found: list[EntityRow] = []
        with self._held():
            for name in self._order[bisect_right(self._order, (machine, after)) :]:
                row = self._entities[name]
                if row.machine != machine or len(found) == limit:
                    break
                if row.state_type is not None and (
                    state_types is None or row.state_type in state_types
                ):
                    found.append(row)
        return found

    def count(self, machine: str) -> dict[str, int]:
        """See `Store.count`."""
        with self._held():
            rows = [row for row in self._entities.values() if row.machine == machine]
        counts = Counter(row.state_type for row in rows if row.state_type is not None)
        return dict(sorted(counts.items()))

    def entities(self, *, after: tuple[str, str] = ("", ""), limit: int) -> list[EntityRow]:
        """See `Store.entities`."""
        with self._held():
            start = bisect_right(self._order, after)
            return [self._entities[name] for name in self._order[start : start + limit]]

    def read_log(self, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.read_log`."""
        with self._held():
            start = max(after, 0)
            return self._log[start : start + limit]

    def checkpoint(self, name: str) -> int | None:
        """See `Store.checkpoint`."""
        with self._held():
            return self._checkpoints.get(name)

    def migrate(self) -> None:
        """See `Store.migrate`; there is nothing to do."""
        self._held()

    def close(self) -> None:
        """See `Store.close`."""
        self._unusable = "is closed; open it again with open_store"

    def before_fork(self) -> None:
        """Nothing to let go of."""

    def after_fork_in_parent(self) -> None:
        """Nothing to take up again."""

    def after_fork_in_child(self) -> None:
        """Refuse to go on as a copy that the parent never sees."""
        self._lock = threading.Lock()
        self._unusable = "was opened before a fork and stayed with the parent process"

    def _held(self) -> threading.Lock:
        if self._unusable is not None:
            raise StoreError(f"{self.url} {self._unusable}")
        return self._lock

    def _load(self, key: Key, now: datetime) -> Loaded:
        entity = self._entities.get((key.machine, key.id))
        applied: dict[str, Applied] = {}
        for text in key.keys:
            index = self._keys.get((key.machine, key.id, text))
            if index is not None:
                applied[text] = self._with_origin(self._log[index])
        if entity is not None:
            now = max(now, parse_time(entity.updated_at))
        return Loaded(entity, now, applied)

    def _with_origin(self, row: LogRow) -> Applied:
        rows = [self._log[i] for i in self._versions[row.machine, row.id]]
        lives = [r.at for r in rows[: row.version] if r.from_type is None and r.kind != "purged"]
        previous = rows[row.version - 2].state if row.version > 1 else None
        return Applied(row, lives[-1] if lives else row.at, previous)

    def _judge(self, write: Write) -> Outcome:
        """Tell what becomes of a write that is tried now."""
        entity = write.entity
        row = self._entities.get((entity.machine, entity.id))
        version = 0 if row is None else row.version
        if version == write.expected:
            return Outcome(True, entity.version)
        if write.log and write.log[0].token is not None:
            first = write.log[0]
            stored = self._versions.get((first.machine, first.id), [])[first.version - 1 :]
            if stored and self._log[stored[0]].token == first.token:
                return Outcome(True, version, found=True)
        return Outcome(False, version, deleted=_is_gone(row))

    def _checked(self, check: Check) -> Outcome:
        row = self._entities.get((check.machine, check.id))
        version = 0 if row is None else row.version
        if version == check.version:
            return Outcome(True, version)
        return Outcome(False, version, deleted=_is_gone(row))

    def _expect_new_keys(self, writes: Sequence[Write]) -> None:
        """Raise StoreError where a key is in the log already, as a unique index would."""
        rows = [row for write in writes for row in write.log if row.key is not None]
        keys = Counter((row.machine, row.id, row.key) for row in rows)
        for key, times in keys.items():
            if times > 1 or key in self._keys:
                raise StoreError(
                    f"cannot write {self.url}: {key[0]} {key[1]!r} has used the key {key[2]!r}; "
                    "nothing was written"
                )

    def _store(self, write: Write) -> None:
        name = (write.entity.machine, write.entity.id)
        if name not in self._entities:
            insort(self._order, name)
        self._entities[name] = write.entity
        versions = self._versions.setdefault(name, [])
        if write.purge:
            for index in versions:
                self._log[index] = _stub(self._log[index])
        for row in write.log:
            versions.append(len(self._log))
            if row.key is not None:
                self._keys[*name, row.key] = len(self._log)
            self._log.append(replace(row, seq=len(self._log) + 1))


def _is_gone(row: EntityRow | None) -> bool:
    """Whether a row is that of a deleted entity."""
    return row is not None and row.state_type is None


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
        token=None,
    )
