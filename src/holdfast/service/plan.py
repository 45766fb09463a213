"""What a service does, written once as plans; runners make them blocking, async or batched."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Generic, TypeVar, cast

from holdfast.errors import (
    BatchError,
    DecodeError,
    DefinitionError,
    NotFoundError,
    QueryError,
    ValidationError,
)
from holdfast.machine.canonical import format_time
from holdfast.machine.definition import Machine
from holdfast.record import Change, Page, Record, Request, Transition
from holdfast.service.batch import Batch, batches, draw_whole, expect_requests
from holdfast.service.call import (
    Call,
    check_checkpoint,
    check_commandless,
    check_id,
    check_request,
    check_time,
    is_count,
)
from holdfast.service.contention import HotSpot
from holdfast.service.decide import Answer, Binding, Group, change, decide, decide_awaiting
from holdfast.service.records import decode_transition, record_from, record_of
from holdfast.service.requests import Begin, Load, Plan, Read
from holdfast.service.retry import Retry, is_positive
from holdfast.service.settle import USUAL, Terms, settle, settle_each
from holdfast.stores.contract import MAX_BATCH, MAX_PAGE, Checkpoint, EntityRow, Key, Store

S = TypeVar("S")
C = TypeVar("C")
D = TypeVar("D")

BeforeCommit = Callable[[list[Any]], object]


class Plans(Generic[S, C, D]):
    """The verbs of a service as plans. What they do is said at `Service`."""

    def __init__(self, machine: Machine[S, C, D], deps: D, retry: Retry) -> None:
        if not isinstance(retry, Retry):
            raise DefinitionError(f"retry= is a Retry(attempts=…), not {retry!r:.80}")
        machine.compile()
        if machine.deps is not None and deps is None:
            raise DefinitionError(
                f"{machine.name} takes deps: Service({machine.name}, store, deps=…)"
            )
        if isinstance(deps, Coroutine):
            raise DefinitionError(f"{machine.name}: deps= is a coroutine; await it, and pass that")
        self.machine = machine
        self.binding = Binding(machine, deps, retry)

    def handle(self, request: Request[C], timeout: float | None) -> Plan[Record[S] | Exception]:
        """Apply one command; answers with its error, which a plan could not raise unchanged.

        A StopIteration that a handler lets slip would become a RuntimeError in a plan.
        """
        call, timeout_seconds = self.checked(request, timeout)
        group = Group(call.id, (call,))
        terms = USUAL if timeout_seconds is None else Terms(timeout_seconds=timeout_seconds)
        answers = yield from settle(self.binding, (group,), terms)
        return answers[0]

    def checked(
        self, request: Request[C], timeout: float | None, within: contextvars.Context | None = None
    ) -> tuple[Call, float | None]:
        """Return the call and its timeout in seconds; raises ValidationError."""
        if timeout is not None and not is_positive(timeout):
            raise ValidationError(f"timeout is a number of seconds above 0, not {timeout!r:.80}")
        return check_request(self.machine, request, within), timeout

    def handle_many(
        self,
        requests: Iterable[tuple[str, C] | Request[C]],
        *,
        atomic: bool = False,
        checkpoint: Checkpoint | None = None,
        answer_errors: bool = False,
        before_commit: BeforeCommit | None = None,
        within: contextvars.Context | None = None,
    ) -> Plan[list[Record[S] | Exception]]:
        """Return the plan that applies many commands; those of one commit are drawn here."""
        whole = atomic or checkpoint is not None
        if before_commit is not None and not whole:
            raise ValidationError("before_commit= goes with atomic or a checkpoint")
        if answer_errors and (atomic or checkpoint is None):
            raise ValidationError("answer_errors= goes with a checkpoint, and not with atomic")
        if checkpoint is not None:
            checkpoint = check_checkpoint(checkpoint)
        requests = expect_requests(requests)
        if not whole:
            return self._handle_in_batches(batches(self.machine, requests, within))
        batch = Batch(self.machine, draw_whole(requests), within)
        tell = None if before_commit is None else _telling(batch, before_commit, within)
        terms = Terms(atomic, checkpoint, answer_errors, before_commit=tell)
        return self._handle_at_once(batch, terms)

    def preview(self, request: Request[C]) -> Plan[Change[S, C] | Exception]:
        """Decide one command and write nothing; answers with its error."""
        call = check_request(self.machine, request)
        _, tokens = yield Begin(1)
        loaded = yield Load([Key(self.machine.name, call.id)])
        groups = (Group(call.id, (call,)),)
        if self.machine.is_async:
            [decision] = yield from decide_awaiting(self.binding, groups, loaded, tokens)
        else:
            [decision] = decide(self.binding, groups, loaded, tokens)
        return change(self.machine, loaded[0], call, decision)

    def purge(
        self,
        id: str,
        metadata: Mapping[str, Any] | None,
        within: contextvars.Context | None = None,
    ) -> Plan[None]:
        """Erase an entity."""
        call = check_commandless(id, metadata, within)
        group = Group(call.id, (call,))
        answers = yield from settle(self.binding, (group,))
        if isinstance(answers[0], Exception):
            raise answers[0]

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

    def contention(self, limit: int) -> list[HotSpot]:
        """Return the entities that met the most conflicts; raises QueryError."""
        if not is_count(limit):
            raise QueryError(f"contention takes a limit from 0, not {limit!r:.80}")
        return self.binding.contention.hottest(limit)

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

    def _handle_in_batches(self, cut: Iterable[Batch]) -> Plan[list[Record[S] | Exception]]:
        answers: list[Answer | None] = []
        for batch in cut:
            settled = yield from settle_each(self.binding, batch.groups)
            batch.take(chain.from_iterable(settled))
            answers += batch.answers
        return cast("list[Record[S] | Exception]", answers)

    def _handle_at_once(self, batch: Batch, terms: Terms) -> Plan[list[Record[S] | Exception]]:
        if not (terms.atomic and batch.errors):
            batch.take((yield from settle(self.binding, batch.groups, terms)))
        machine = self.binding.machine
        failures = {
            place: error
            for place, error in batch.errors.items()
            if not terms.tolerates(machine, error)
        }
        if failures:
            raise BatchError(
                f"{len(failures)} of {len(batch.answers)} commands failed; nothing was written",
                failures,
            )
        return cast("list[Record[S] | Exception]", batch.answers)

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


def check_fit(machine: object, store: object) -> None:
    """Raise DefinitionError for what is no machine or no store."""
    if not isinstance(machine, Machine):
        raise DefinitionError(f"a service binds a Machine, not {machine!r:.80}")
    if not isinstance(store, Store):
        advice = f"; open it: open_store({store!r:.80})" if isinstance(store, str) else ""
        raise DefinitionError(
            f"{machine.name}: the store is what open_store returns, not {store!r:.80}{advice}"
        )


def _telling(
    batch: Batch, before_commit: BeforeCommit, within: contextvars.Context | None
) -> Callable[[list[Answer]], object]:
    """Return the hook for the answers of a batch, those of refused requests among them."""

    def tell(settled: list[Answer]) -> object:
        batch.take(settled)
        if within is None:
            return before_commit(batch.answers.copy())
        return within.run(before_commit, batch.answers.copy())

    return tell


_PAST = {"deletion": "was deleted", "purged": "is purged"}
