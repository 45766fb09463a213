"""The hooks of a call: those in the transaction that writes, those after it, those of a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, cast

from msgspec import Struct

from holdfast.errors import (
    DecodeError,
    DefinitionError,
    GuardFailedError,
    StoreError,
    entity_name,
)
from holdfast.machine.codec import tag_of
from holdfast.machine.hooks import Hook
from holdfast.record import Change
from holdfast.service.call import Call
from holdfast.service.decide import Answer, Binding
from holdfast.service.decided import Decided
from holdfast.service.origin import is_own_refusal
from holdfast.service.records import decode_transition
from holdfast.service.requests import Commit, Notify, Plan, Read, World
from holdfast.service.runner import run
from holdfast.service.within import Within, innermost, inside
from holdfast.stores.contract import Check, KeptBack, LogRow, Outcome, Shield, Store
from holdfast.stores.outcomes import TransientError

W = TypeVar("W", bound=World)


class HookRaised(Struct, frozen=True):
    """What a hook in the transaction raised: nothing was written."""

    decided: Decided
    error: Exception

    def among(self, answers: Sequence[Answer], decided: Sequence[Decided | None]) -> Undone:
        """Return the answers of calls, where that of the hook's own call is its error."""
        return Undone(
            [
                self.error if each is self.decided else answer
                for answer, each in zip(answers, decided, strict=True)
            ],
            self.error,
        )


class Undone(list[Answer]):
    """The answers of calls of which nothing was written, because a hook raised an error."""

    def __init__(self, answers: Sequence[Answer], error: Exception) -> None:
        super().__init__(answers)
        self.error = error


class StoppedError(Exception):
    """Carries a StopIteration out of the plan that met it, and could not raise it unchanged."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__(error)
        self.error = error


class CommitWithHooks(Commit, frozen=True, kw_only=True):
    """A commit whose hooks run in its transaction; answers with HookRaised where one raised."""

    is_heard: bool
    """Whether anybody tells of the commit."""
    before: Sequence[tuple[Hook, Decided]]
    after: Sequence[tuple[Hook, Decided]]
    sooner: list[Callable[[], None]]
    """What services that were called before the write leave to be done after the commit."""
    later: list[Callable[[], None]]
    """What those leave that were called after the write."""

    @property
    def is_whole(self) -> bool:
        """Whether it must be a commit of its own."""
        return True

    def perform(self, world: World) -> Any:
        """Answer as `Commit` does, or with HookRaised."""

        def act(joined: Store) -> list[Outcome]:
            return run(self.plan(world.store, joined), on_store(world, joined.bare()))

        return world.store.transact(act, timeout_seconds=self.timeout_seconds)

    def plan(self, store: Store, joined: Store) -> Plan[list[Outcome]]:
        """Return what is done in the transaction; raises KeptBack where nothing is to stay."""
        here = Within(store, joined, is_heard=self.is_heard)
        try:
            return (yield from self._write(here))
        finally:
            here.is_over = True

    def _write(self, here: Within) -> Plan[list[Outcome]]:
        if self.before and (yield from self._is_in_time()):
            here.busy = frozenset(self.entities)
            yield from self._call(self.before, here)
            here.busy = frozenset()
        called_before = len(here.due)
        outcomes: list[Outcome] = yield Commit(
            self.writes, self.checks, self.atomic, self.checkpoint
        )
        if not all(outcome.applied and not outcome.found for outcome in outcomes):
            raise KeptBack(outcomes)
        yield from self._call(self.after, here)
        # They stay where this is found to be committed after all.
        self.sooner[:], self.later[:] = here.due[:called_before], here.due[called_before:]
        return outcomes

    def _is_in_time(self) -> Plan[bool]:
        """Hold what is to be written; tell whether nothing has come too late already."""
        rows = [(write.entity, write.expected) for write in self.writes]
        checks = [Check(row.machine, row.id, expected) for row, expected in rows]
        held: list[Outcome] = yield Commit((), checks=[*checks, *self.checks])
        checkpoint = self.checkpoint
        if checkpoint is not None:
            position = (yield Read(lambda store: store.checkpoint(checkpoint.name))) or 0
            if position != (checkpoint.after or 0):
                return False
        return all(outcome.applied for outcome in held)

    def _call(self, hooks: Sequence[tuple[Hook, Decided]], here: Within) -> Plan[None]:
        for hook, decided in hooks:
            facts = yield from _facts(hook, decided)
            try:
                yield Notify(partial(inside, here, hook.call), facts, decided.call.within)
            except TransientError:  # of a service that it called: the store begins anew
                raise
            except Exception as error:  # noqa: BLE001 (it reaches its caller as it is)
                raise KeptBack(HookRaised(decided, error)) from None


def on_store(world: W, store: Store) -> W:
    """Return the same world with another store."""
    own = object.__new__(type(world))  # `copy` takes several times as long
    own.__dict__.update(world.__dict__)
    own.store = store
    return own


def with_hooks(binding: Binding, asked: Commit, decided: Sequence[Decided | None]) -> Commit:
    """Return a commit with the hooks that run in its transaction, where there are any."""
    made = [each for each in decided if each is not None and not each.failed]
    if not binding.is_heard:
        _expect_nothing_late(made)
    before = [(hook, each) for each in made for hook in each.hooks["before"]]
    after = [(hook, each) for each in made for hook in each.hooks["after"]]
    if not (before or after):
        return asked
    return CommitWithHooks(
        asked.writes,
        asked.checks,
        asked.atomic,
        asked.checkpoint,
        asked.timeout_seconds,
        is_heard=binding.is_heard,
        before=before,
        after=after,
        sooner=[],
        later=[],
    )


def _expect_nothing_late(made: Sequence[Decided]) -> None:
    """Raise DefinitionError where hooks are to follow a commit that nobody tells of."""
    late = next((hook for each in made for hook in each.hooks["after_commit"]), None)
    if late is not None:
        raise DefinitionError(
            f"{late.location} is to run after the commit, which is the caller's; nothing was "
            "written: join with on(connection, on_commit=…), which takes a function and calls it "
            "after that"
        )


def after_commit(
    binding: Binding, decided: Sequence[Decided | None], committed: Commit | None = None
) -> Plan[None]:
    """Call what is to be called after the commit, or leave it to whoever commits."""
    sooner, later = (
        (committed.sooner, committed.later) if isinstance(committed, CommitWithHooks) else ((), ())
    )
    _hand_over(binding, sooner)
    for each in decided:
        if each is not None and not each.failed:
            for hook in each.hooks["after_commit"]:
                yield from _follow(binding, hook, each)
    _hand_over(binding, later)


def _hand_over(binding: Binding, due: Sequence[Callable[[], None]]) -> None:
    for function in due:
        if binding.on_commit is None:
            function()
        else:
            binding.on_commit(function)


def _follow(binding: Binding, hook: Hook, decided: Decided) -> Plan[None]:
    """Call a hook after the commit, or leave it to whoever commits."""
    try:
        facts = yield from _facts(hook, decided)
    except (StoreError, DecodeError):  # the transition is written, whatever can be read of it
        _report(hook, decided.change, "was not called, for the transition could not be read")
        return
    if facts["transition"] is _GONE:
        return
    reported = partial(_reported, hook, decided.change)
    if binding.on_commit is None:
        yield Notify(reported, facts, decided.call.within)
    else:
        # Whoever calls it may undo what it did where it answers False.
        binding.on_commit(cast("Callable[[], None]", partial(reported, facts)))


def after_failure(
    binding: Binding, decided: Sequence[Decided | None], answers: Sequence[Answer]
) -> Plan[None]:
    """Call the failure hooks of the calls that are answered with an error."""
    for each, answer in zip(decided, answers, strict=True):
        if each is None or not isinstance(answer, Exception) or _begins_anew(binding, answer):
            continue
        error = answer.error if isinstance(answer, StoppedError) else answer
        for hook in _failure_hooks(each, error):
            facts = {"deps": each.deps, "change": each.change, "error": error}
            reported, shield = partial(_reported, hook, each.change), binding.shield
            called = reported if shield is None else partial(_shielded, shield, reported)
            yield Notify(called, facts, each.call.within)


def _begins_anew(binding: Binding, error: Exception) -> bool:
    """Whether the transaction was undone for others' sake that a hook sent its commands in.

    The store begins it anew, and the hook with it.
    """
    return binding.is_joined and isinstance(error, TransientError) and innermost() is not None


def _shielded(shield: Shield, call: Callable[..., bool], facts: dict[str, Any]) -> object:
    return shield(partial(call, facts))


def tried_blindly(binding: Binding, call: Call) -> Decided | None:
    """Return what failure hooks are told of a call whose entity could not be loaded."""
    if call.purge:
        return None
    machine = binding.machine
    if call.choose is not None:
        call = call.choose.likely(None, call)
    at = call.at or datetime.now(UTC)
    aim = machine.aim_of(type(call.command))
    to_state = None if aim is None else tag_of(aim)
    change = Change(
        machine.name, call.id, 0, None, call.command, None, call.metadata, at, None, to_state
    )
    return Decided(
        machine, binding.deps, call, change, failed=True, has_before=False, has_after=False
    )


def _failure_hooks(decided: Decided, error: Exception) -> Iterator[Hook]:
    if isinstance(error, GuardFailedError) and is_own_refusal(
        decided.machine, decided.call.id, error
    ):
        yield from decided.hooks["on_guard_failure"]
    yield from decided.hooks["on_failure"]


_GONE = object()
"""Stands for a transition that was purged before its hooks ran."""


def _facts(hook: Hook, decided: Decided) -> Plan[dict[str, Any]]:
    """Return what a hook may take; the transition is read where it takes one."""
    change = decided.change
    facts: dict[str, Any] = {"deps": decided.deps, "change": change, "transition": None}
    if "transition" in hook.parameters:
        row: LogRow | None = yield Read(
            lambda store: store.written(change.machine, change.id, change.version)
        )
        facts["transition"] = _GONE
        if row is not None and row.kind != "purged":
            facts["transition"] = decode_transition(decided.machine, row)
    return facts


def _reported(hook: Hook, change: Change[Any, Any], facts: dict[str, Any]) -> bool:
    """Call a hook whose errors undo nothing, and log them; tell whether it raised none."""
    try:
        hook.call(**facts)
    except Exception:  # noqa: BLE001 (it is logged)
        _report(hook, change, "raised; the others run on")
        return False
    return True


def _report(hook: Hook, change: Change[Any, Any], what: str) -> None:
    """Log the error that is being handled."""
    import logging

    logging.getLogger("holdfast").exception(
        "%s of %s at version %s %s",
        hook.location,
        entity_name(change.machine, change.id),
        change.version,
        what,
    )
