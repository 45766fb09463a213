"""The last transition of a model's instances, as columns of a query."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, select

from holdfast.ext.sqlalchemy.identity import Terms
from holdfast.ext.sqlalchemy.tables import id_as_text, transitions


class MostRecentTransition:
    """The last transition of each instance: every attribute is a scalar expression.

    NULL where there was no transition. Each is a subquery of its own, which an index answers.
    """

    def __init__(self, ids: Any, terms: Terms, name: str | None = None) -> None:
        self._ids = ids
        self._terms = terms
        self._prefix = "" if name is None else f"{name}_"
        self._picked: dict[str, ColumnElement[Any]] = {}

    @property
    def version(self) -> ColumnElement[int]:
        """The version that it made."""
        return self._pick("version", lambda log: log.version)

    @property
    def kind(self) -> ColumnElement[str]:
        """What it was: a command, a deletion, staged, or purged."""
        return self._pick("kind", lambda log: log.kind)

    @property
    def from_state(self) -> ColumnElement[str | None]:
        """The name of the state before; NULL where there was no entity."""
        return self._pick("from_state", lambda log: log.from_type)

    @property
    def to_state(self) -> ColumnElement[str | None]:
        """The name of the state after; NULL for a deletion."""
        return self._pick("to_state", lambda log: log.to_type)

    @property
    def metadata(self) -> ColumnElement[Any]:
        """What was recorded with it, as JSON."""
        return self._pick("metadata", lambda log: log.metadata)

    @property
    def actor(self) -> ColumnElement[str | None]:
        """Who did it: `by` in the metadata."""
        return self._pick("actor", lambda log: log.metadata["by"].as_string())

    @property
    def reason(self) -> ColumnElement[str | None]:
        """Why: `reason` in the metadata."""
        return self._pick("reason", lambda log: log.metadata["reason"].as_string())

    @property
    def key(self) -> ColumnElement[str | None]:
        """The idempotency key that it was made with."""
        return self._pick("key", lambda log: log.key)

    @property
    def at(self) -> ColumnElement[datetime]:
        """When it happened."""
        return self._pick("at", lambda log: log.at)

    @property
    def recorded_at(self) -> ColumnElement[datetime]:
        """When it was written."""
        return self._pick("recorded_at", lambda log: log.recorded_at)

    def _pick(self, name: str, of: Callable[[Any], ColumnElement[Any]]) -> ColumnElement[Any]:
        """Return the subquery that reads one column, under a name of its own.

        It is the same one each time: PostgreSQL would not take another for what it groups by.
        """
        found = self._picked.get(name)
        if found is not None:
            return found
        # Another thread may have been faster.
        return self._picked.setdefault(name, self._read(of).label(f"{self._prefix}{name}"))

    def _read(self, of: Callable[[Any], ColumnElement[Any]]) -> ColumnElement[Any]:
        log = transitions(self._terms.schema)
        own = log.c.machine == self._terms.machine.name
        same = log.c.id == id_as_text(self._ids, self._terms)
        last = select(of(log.c)).where(own, same).order_by(log.c.version.desc()).limit(1)
        # The condition has the query select from the model, where it does not do so by itself.
        read = last.correlate_except(log).scalar_subquery()
        return case((self._ids.is_not(None), read))
