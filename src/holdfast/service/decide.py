"""Decides: from entities as loaded and the commands for them, to the writes and the answers."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from msgspec import Struct

from holdfast.machine.definition import Machine
from holdfast.record import Change, Record
from holdfast.service.call import Call
from holdfast.service.contention import Contention
from holdfast.service.decided import Decided
from holdfast.service.draft import Draft
from holdfast.service.handling import answer
from holdfast.service.records import AnyMachine, decode_state
from holdfast.service.requests import Decide, Plan
from holdfast.service.retry import Retry
from holdfast.stores.contract import Key, Loaded, OnCommit, Shield, Write

Answer = Record[Any] | Exception
"""What a command comes to, if the write succeeds."""


class Binding:
    """A machine with what its handlers take and how conflicts are answered."""

    def __init__(self, machine: Machine[Any, Any, Any], deps: Any, retry: Retry) -> None:
        self.machine = machine
        self.deps = deps
        self.retry = retry
        self.is_plain = retry.breaker is None and not machine.is_async and machine.hooks is None
        """Whether a first attempt asks nothing but the store, and calls nobody but handlers."""
        self.contention = Contention()
        self.is_joined = False
        """Whether it is the caller who commits what is written."""
        self.on_commit: OnCommit | None = None
        """Takes what is to be called once the caller has committed."""
        self.shield: Shield | None = None
        """Is called around failure hooks."""
        self.busy: Container[tuple[str, str]] = ()
        """Machines and ids that a hook may not send commands to: it runs before they are written.
        """
        self.blocks = False
        """Whether handlers hold a thread that serves callers who await."""

    @property
    def is_heard(self) -> bool:
        """Whether what is to follow a commit follows it."""
        return not self.is_joined or self.on_commit is not None

    def joined(
        self,
        on_commit: OnCommit | None = None,
        busy: Container[tuple[str, str]] = (),
        shield: Shield | None = None,
    ) -> Binding:
        """Return the same for calls in a transaction of their caller's: a conflict ends them."""
        once = Retry(attempts=1, on_conflict=self.retry.on_conflict)
        binding = Binding(self.machine, self.deps, once)
        binding.contention = self.contention
        binding.is_joined = True
        binding.on_commit = on_commit
        binding.busy = busy
        binding.shield = shield
        return binding


class Group(Struct, frozen=True):
    """The calls for one entity, in the order they are to be applied."""

    id: str
    calls: Sequence[Call]


def keys_of(machine: str, groups: Sequence[Group]) -> list[Key]:
    """Return what is to be loaded for the calls of each group."""
    loaded = []
    for group in groups:
        keys: dict[str, None] = {}
        for call in group.calls:
            if call.key is not None:
                keys[call.key] = None
        loaded.append(Key(machine, group.id, tuple(keys)))
    return loaded


class Decision(Struct, frozen=True):
    """The answers to some commands, and the writes that make them true."""

    answers: list[Answer]
    writes: list[Write]
    failed: bool
    """Whether some of the answers are errors."""
    decided: Sequence[Decided | None] = ()
    """What each answer rests on, where the machine has hooks; None where an earlier one does."""


def decide(
    binding: Binding,
    groups: Sequence[Group],
    loaded: Sequence[Loaded],
    tokens: Sequence[str],
    together: Container[str] = (),
) -> list[Decision]:
    """Decide the calls of every group on its entity as loaded.

    `together` has the ids of the groups where all are written or none is.
    """
    decisions = []
    drawn = iter(tokens)
    for group, entity in zip(groups, loaded, strict=True):
        draft = Draft.of(binding.machine, group.id, entity, together)
        decisions.append(_decide(binding, draft, group.calls, drawn))
    return decisions


def _decide(
    binding: Binding, draft: Draft, calls: Sequence[Call], tokens: Iterator[str]
) -> Decision:
    """Decide commands for one entity in order. What one raises is its answer, and no other's."""
    answers: list[Answer] = []
    decided: list[Decided | None] = []
    failed = False
    for call, token in zip(calls, tokens, strict=False):
        try:
            if call.within is None:
                answers.append(answer(binding, draft, call, token))
            else:
                answers.append(call.within.run(answer, binding, draft, call, token))
        except Exception as error:  # noqa: BLE001 (it is this command's answer)
            answers.append(error)
            failed = True
        if binding.machine.hooks is not None:
            decided.append(_decided(binding, draft, call, answers[-1]))
    return Decision(answers, draft.writes(), failed, decided)


def decide_awaiting(
    binding: Binding,
    groups: Sequence[Group],
    loaded: Sequence[Loaded],
    tokens: Sequence[str],
    together: Container[str] = (),
) -> Plan[list[Decision]]:
    """Decide as `decide` does, where handlers are awaited."""
    decisions = []
    drawn = iter(tokens)
    for group, entity in zip(groups, loaded, strict=True):
        draft = Draft.of(binding.machine, group.id, entity, together)
        answers: list[Answer] = []
        decided: list[Decided | None] = []
        failed = False
        for call in group.calls:
            try:
                answers.append((yield Decide(binding, draft, call, next(drawn))))
            except Exception as error:  # noqa: BLE001 (it is this command's answer)
                answers.append(error)
                failed = True
            if binding.machine.hooks is not None:
                decided.append(_decided(binding, draft, call, answers[-1]))
        decisions.append(Decision(answers, draft.writes(), failed, decided))
    return decisions


def _decided(binding: Binding, draft: Draft, call: Call, answer: Answer) -> Decided | None:
    """Return what an answer rests on; None for a purge, and for the answer to an earlier call."""
    if call.purge:
        return None
    if call.choose is not None:
        call = draft.chosen or call.choose.likely(draft, call)
    if isinstance(answer, Exception):
        return draft.failed(call, binding.deps)
    last = draft.decided[-1] if draft.decided else None
    return last if last is not None and last.call is call else None


def join(decisions: Sequence[Decision]) -> Decision:
    """Return several decisions as one."""
    if len(decisions) == 1:
        return decisions[0]
    answers: list[Answer] = []
    writes: list[Write] = []
    decided: list[Decided | None] = []
    for decision in decisions:
        answers += decision.answers
        writes += decision.writes
        decided += decision.decided
    return Decision(answers, writes, any(decision.failed for decision in decisions), decided)


def change(
    machine: AnyMachine, loaded: Loaded, call: Call, decision: Decision
) -> Change[Any, Any] | Exception:
    """Return what a decided call would change, or what refused it."""
    [answer] = decision.answers
    if isinstance(answer, Exception):
        return answer
    row = loaded.entity
    before = None if row is None or row.state is None else decode_state(machine, row)
    after = None if answer.deleted else answer.state
    return Change(
        machine.name,
        call.id,
        answer.version,
        before,
        call.command,
        after,
        call.metadata,
        answer.updated_at,
        machine.name_of(before),
        None if after is None else machine.name_of(after),
    )
