"""What is asked of a service, as plans: entities as they are, as they were, and how many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from holdfast.errors import DecodeError, NotFoundError, QueryError
from holdfast.machine.canonical import format_time
from holdfast.machine.definition import Machine
from holdfast.record import Page, Record, Transition
from holdfast.service.call import check_id, check_time, is_count
from holdfast.service.records import decode_transition, record_from, record_of
from holdfast.service.requests import Load, Plan, Read
from holdfast.stores.contract import MAX_BATCH, MAX_PAGE, EntityRow, Key, Store

S = TypeVar("S")
C = TypeVar("C")
D = TypeVar("D")


class Reads(Generic[S, C, D]):
    """The verbs that write nothing. What they do is said at `Service`."""

    def __init__(self, machine: Machine[S, C, D]) -> None:
        self.machine = machine

    def get(self, id: str) -> Plan[Record[S]]:
        """Load one live entity."""
        id = check_id(id)
        [loaded] = yield Load([Key(self.machine.name, id)])
        if loaded.entity is None or loaded.entity.state_type is None:
            raise NotFoundError(self.machine.name, id)
        return record_from(self.machine, loaded.entity)

    def get_many(self, ids: Iterable[str]) -> Plan[dict[str, Record[S]]]:
        """Draw the ids, and return the plan that loads live entities, as of one moment."""
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise QueryError(f"get_many takes several ids, not {ids!r:.80}; for one there is get")
        ids = list(ids)
        if len(ids) > MAX_BATCH:
            raise QueryError(f"get_many takes at most {MAX_BATCH:,} ids, not {len(ids):,}")
        wanted = dict.fromkeys(check_id(id) for id in ids)
        return self._get_many([Key(self.machine.name, id) for id in wanted])

    def history(self, id: str, *, after: int, limit: int | None) -> Plan[list[Transition[S, C]]]:
        """Read an entity's transitions, a page at a time."""
        id = check_id(id)
        if not is_count(after) or not (limit is None or is_count(limit)):
            raise QueryError(
                "history takes after= and limit= from 0, whole and below 2**63; not "
                f"{after!r:.80} and {limit!r:.80}"
            )
        found: list[Transition[S, C]] = []
        while limit is None or len(found) < limit:
            wanted = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(found))
            page = yield from self._history_page(id, after, wanted)
            found += page
            if len(page) < wanted:
                break
            after = page[-1].version
        return found

    def at(self, id: str, version: int | None, time: Any) -> Plan[Record[S]]:
        """Read an entity as it was."""
        if (version is None) == (time is None):
            raise QueryError("at() takes either version= or time=")
        if version is not None and not is_count(version):
            raise QueryError(f"a version is a number from 0, not {version!r}")
        name = self.machine.name
        id = check_id(id)
        text = None if time is None else format_time(check_time("time", time))

        def query(store: Store) -> Any:
            return store.transition_at(name, id, version=version, time=text)

        applied = yield Read(query)
        when = f"version {version}" if time is None else f"{time.isoformat()}"
        if applied is None:
            raise NotFoundError(name, id, f"did not exist at {when}")
        if applied.row.kind in ("deletion", "purged"):
            raise NotFoundError(name, id, f"{_PAST[applied.row.kind]} at {when}")
        return record_of(self.machine, applied)

    def find(
        self,
        state: type[S] | str | Sequence[type[S] | str] | None,
        *,
        limit: int,
        after: str | None,
    ) -> Plan[Page[S]]:
        """Draw the states, and return the plan that reads a page of live entities."""
        states = self._state_names(state)
        if not is_count(limit) or not 1 <= limit <= MAX_PAGE:
            raise QueryError(f"limit is from 1 to {MAX_PAGE:,}, not {limit!r:.80}")
        return self._find(states, limit, "" if after is None or after == "" else check_id(after))

    def count(self) -> Plan[dict[str, int]]:
        """Count live entities by state."""
        name = self.machine.name
        counts: dict[str, int] = yield Read(lambda store: store.count(name))
        return counts

    def allowed(self, id: str) -> Plan[tuple[type[C], ...]]:
        """Load an entity and ask the machine what it takes."""
        [loaded] = yield Load([Key(self.machine.name, check_id(id))])
        row: EntityRow | None = loaded.entity
        if row is None or row.state_type is None:
            return self.machine.allowed(None)
        return self.machine.allowed(record_from(self.machine, row).state)

    def _get_many(self, wanted: Sequence[Key]) -> Plan[dict[str, Record[S]]]:
        found = yield Load(wanted)
        rows = [loaded.entity for loaded in found if loaded.entity is not None]
        live = [row for row in rows if row.state_type is not None]
        return {record.id: record for record in self._records(live, "leave it out of the ids")}

    def _find(self, states: list[str] | None, limit: int, after: str) -> Plan[Page[S]]:
        name = self.machine.name

        def query(store: Store) -> Any:
            return store.find(name, state_types=states, after=after, limit=limit + 1)

        rows = yield Read(query)
        records = self._records(rows[:limit], "find(limit=n) ends before it, find(after=id) after")
        return Page(records, rows[limit - 1].id if len(rows) > limit else None)

    def _records(self, rows: Sequence[EntityRow], advice: str) -> list[Record[S]]:
        """Return the records of live entities; raises DecodeError, which says how to go on."""
        records: list[Record[S]] = []
        for row in rows:
            try:
                records.append(record_from(self.machine, row))
            except DecodeError as error:
                raise DecodeError(
                    f"{error}; {len(records)} before it can be read: {advice}"
                ) from error.__cause__
        return records

    def _history_page(self, id: str, after: int, limit: int) -> Plan[list[Transition[S, C]]]:
        name = self.machine.name
        rows = yield Read(lambda store: store.history(name, id, after=after, limit=limit))
        return [decode_transition(self.machine, row) for row in rows]

    def _state_names(
        self, state: type[S] | str | Sequence[type[S] | str] | None
    ) -> list[str] | None:
        if state is None:
            return None
        if not isinstance(state, str | type | Iterable):
            raise QueryError(
                f"state= is a state of {self.machine.name} or several, not {state!r:.80}"
            )
        wanted = [state] if isinstance(state, str | type) else list(state)
        names = self.machine.state_codec.names
        known = {*names.values()}
        found = [str.__str__(o) if isinstance(o, str) else _name_in(names, o) for o in wanted]
        for name in found:
            if name not in known:
                names_known = ", ".join(sorted(known))
                raise QueryError(f"{name} is no state of {self.machine.name}; use {names_known}")
        return list(dict.fromkeys(found))


def _name_in(names: Mapping[type, str], state: Any) -> str:
    """Return the name of a state; of what is none, how it is written."""
    known = isinstance(state, type) and state in names
    return names[state] if known else f"{state!r:.80}"


_PAST = {"deletion": "was deleted", "purged": "is purged"}
