"""A store in the transactions of a host, as an ORM is: it finds another store there to ask."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from holdfast.stores.contract import Applied, EntityRow, Key, Loaded, LogRow, Store

T = TypeVar("T")


class HostedStore(Store):
    """Reads as the store does that it finds where its host is, whichever that is at each verb."""

    @abstractmethod
    def _read(self, ask: Callable[[Store], T]) -> T:
        """Ask the store that is found."""

    def load(self, keys: Sequence[Key]) -> list[Loaded]:
        """See `Store.load`."""
        return self._read(lambda store: store.load(keys))

    def history(self, machine: str, id: str, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.history`."""
        return self._read(lambda store: store.history(machine, id, after=after, limit=limit))

    def written(self, machine: str, id: str, version: int) -> LogRow | None:
        """See `Store.written`."""
        return self._read(lambda store: store.written(machine, id, version))

    def transition_at(
        self, machine: str, id: str, *, version: int | None = None, time: str | None = None
    ) -> Applied | None:
        """See `Store.transition_at`."""
        return self._read(
            lambda store: store.transition_at(machine, id, version=version, time=time)
        )

    def find(
        self,
        machine: str,
        *,
        state_types: Sequence[str] | None = None,
        after: str = "",
        limit: int,
    ) -> list[EntityRow]:
        """See `Store.find`."""
        return self._read(
            lambda store: store.find(machine, state_types=state_types, after=after, limit=limit)
        )

    def count(self, machine: str) -> dict[str, int]:
        """See `Store.count`."""
        return self._read(lambda store: store.count(machine))

    def entities(self, *, after: tuple[str, str] = ("", ""), limit: int) -> list[EntityRow]:
        """See `Store.entities`."""
        return self._read(lambda store: store.entities(after=after, limit=limit))

    def read_log(self, *, after: int = 0, limit: int) -> list[LogRow]:
        """See `Store.read_log`."""
        return self._read(lambda store: store.read_log(after=after, limit=limit))

    def checkpoint(self, name: str) -> int | None:
        """See `Store.checkpoint`."""
        return self._read(lambda store: store.checkpoint(name))
