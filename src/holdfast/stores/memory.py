"""The store in memory: for tests and trials, as strict as the others, gone with the process."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from datetime import UTC
from typing import Any, TypeVar, cast

from holdfast.errors import StoreError
from holdfast.machine.canonical import format_time, parse_time
from holdfast.stores.contract import (
    Applied,
    Check,
    Checkpoint,
    Clock,
    EntityRow,
    KeptBack,
    Key,
    Loaded,
    LogRow,
    Outcome,
    Store,
    Write,
    all_or_none,
    expect_batch,
    judge,
)
from holdfast.stores.fork import follow_forks
from holdfast.stores.tables import Committed, Tables
from holdfast.stores.turns import Taken, Turns

T = TypeVar("T")

PATIENCE_SECONDS = 5.0
"""How long a thread waits for the transactions of others."""


class MemoryStore(Store):
    """Keeps records and the log in this object; safe for threads, not shared between processes."""

    url = "memory://"

    def __init__(self, *, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._turns = Turns(self.url)
        self._tables = Tables()
        self._committed: Committed | None = None  # and not yet written, or not to the end
        self._unusable: str | None = None
        follow_forks(self)

    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        """See `Store.load`."""
        expect_batch(keys)
        return self._alone(self._load, keys)

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
        expect_batch(writes, checks)
        return self._alone(self._commit, writes, checks, checkpoint, atomic)

    def transact(self, act: Callable[[Store], T], *, timeout_seconds: float | None = None) -> T:
        """See `Store.transact`."""
        return cast("T", self._alone(self._transact, act))

    def history(self, machine: str, id: str, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.history`."""

        start = max(after, 0)

        def read() -> list[LogRow]:
            places = self._tables.places.get((machine, id), [])
            return [self._tables.log[place] for place in places[start : start + limit]]

        return self._alone(read)

    def transition_at(
        self, machine: str, id: str, *, version: int | None = None, time: str | None = None
    ) -> Applied | None:
        """See `Store.transition_at`."""

        def read() -> Applied | None:
            row = self._tables.at((machine, id), version, time or "")
            return None if row is None else self._tables.with_origin(row)

        return self._alone(read)

    def find(
        self,
        machine: str,
        *,
        state_types: Sequence[str] | None = None,
        after: str = "",
        limit: int,
    ) -> list[EntityRow]:
        """See `Store.find`."""

        def read() -> list[EntityRow]:
            found: list[EntityRow] = []
            order = self._tables.order
            for place in range(bisect_right(order, (machine, after)), len(order)):
                row = self._tables.entities[order[place]]
                if row.machine != machine or len(found) == limit:
                    break
                if row.state_type is not None and (
                    state_types is None or row.state_type in state_types
                ):
                    found.append(row)
            return found

        return self._alone(read)

    def count(self, machine: str) -> dict[str, int]:
        """See `Store.count`."""

        def read() -> dict[str, int]:
            rows = [row for row in self._tables.entities.values() if row.machine == machine]
            counts = Counter(row.state_type for row in rows if row.state_type is not None)
            return dict(sorted(counts.items()))

        return self._alone(read)

    def entities(self, *, after: tuple[str, str] = ("", ""), limit: int) -> list[EntityRow]:
        """See `Store.entities`."""

        def read() -> list[EntityRow]:
            order = self._tables.order
            start = bisect_right(order, after)
            return [self._tables.entities[name] for name in order[start : start + limit]]

        return self._alone(read)

    def read_log(self, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.read_log`."""
        start = max(after, 0)
        return self._alone(lambda: self._tables.log[start : start + limit])

    def checkpoint(self, name: str) -> int | None:
        """See `Store.checkpoint`."""
        return self._alone(self._tables.checkpoints.get, name)

    def migrate(self) -> None:
        """See `Store.migrate`; there is nothing to do."""
        self._alone(lambda: None)

    def close(self) -> None:
        """See `Store.close`."""
        try:
            self.finish()
        finally:
            self._unusable = "is closed; open it again with open_store"

    def before_fork(self) -> None:
        """Nothing to let go of."""

    def after_fork_in_parent(self) -> None:
        """Nothing to take up again."""

    def after_fork_in_child(self) -> None:
        """Refuse to go on as a copy that the parent never sees."""
        self._turns = Turns(self.url)
        self.under_way.clear()
        self._unusable = "was opened before a fork and stayed with the parent process"

    def _alone(self, act: Callable[..., T], *given: Any) -> T:
        """Do something while no other thread does."""
        done: T | Taken = self._turns.take(PATIENCE_SECONDS, self._use, act, given)
        if isinstance(done, Taken):
            raise StoreError(
                f"{self.url} has been in a transaction of another thread for "
                f"{PATIENCE_SECONDS:g} s; nothing was done, try again later"
            )
        return done

    def _use(self, act: Callable[..., T], given: tuple[Any, ...]) -> T:
        if self._unusable is not None:
            raise StoreError(f"{self.url} {self._unusable}")
        if self._committed is not None:  # an interrupt came before it was written
            self._write(self._committed)
        return act(*given)

    def _load(self, keys: Sequence[Key]) -> list[Loaded]:
        now = self._clock().astimezone(UTC)
        tables = self._tables
        loaded: list[Loaded] = []
        for key in keys:
            entity = tables.entities.get((key.machine, key.id))
            applied = tables.applied(key.machine, key.id, key.keys) if key.keys else {}
            then = now if entity is None else max(now, parse_time(entity.updated_at))
            loaded.append(Loaded(entity, then, applied))
        return loaded

    def _commit(
        self,
        writes: Sequence[Write],
        checks: Sequence[Check],
        checkpoint: Checkpoint | None,
        atomic: bool,  # noqa: FBT001 (parameters are passed on by place)
    ) -> list[Outcome]:
        tables = self._tables
        outcomes = tables.judge(writes)
        outcomes += [tables.holds(check) for check in checks]
        is_late = False
        if checkpoint is not None:
            outcomes.append(judge(checkpoint, tables.checkpoints.get(checkpoint.name), writes))
            is_late = not outcomes[-1].applied
        settled = all_or_none(writes, outcomes) if atomic or checks or is_late else None
        if settled is not None:
            return settled
        due = [
            write
            for write, outcome in zip(writes, outcomes, strict=False)
            if outcome.applied and not outcome.found
        ]
        committed = tables.prepare(due, checkpoint, format_time(self._clock()))
        # From here on it is committed: an interrupt leaves it to the next use to write it.
        self._committed = committed
        self._write(committed)
        return outcomes

    def _transact(self, act: Callable[[Store], T]) -> T:
        within = copy(self)
        within._turns = Turns(self.url)
        mark = self._tables.mark()
        try:
            result = act(within)
            if self._unusable is not None:  # forked, in the midst of it
                raise StoreError(f"{self.url} {self._unusable}")
            self._tables.keep(mark)
        except KeptBack as kept:
            self._tables.undo(mark)
            return cast("T", kept.result)
        except BaseException:
            self._tables.undo(mark)
            raise
        finally:
            within._unusable = "was joined to a transaction that is over"
        return result

    def _write(self, committed: Committed) -> None:
        self._tables.write(committed)
        self._committed = None
