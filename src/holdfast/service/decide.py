"""Decides: from entities as loaded and the commands for them, to the writes and the answers."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from msgspec import Struct

from holdfast.machine.definition import Machine
from holdfast.record import Change, Record
from holdfast.service.call import Call
from holdfast.service.contention import Contention
from holdfast.service.draft import Draft
from holdfast.service.handling import answer
from holdfast.service.records import AnyMachine, decode_state
from holdfast.service.requests import Decide, Plan
from holdfast.service.retry import Retry
from holdfast.stores.contract import Key, Loaded, Write

Answer = Record[Any] | Exception
"""What a command comes to, if the write succeeds."""


class Binding:
    """A machine with what its handlers take and how conflicts are answered."""

    def __init__(self, machine: Machine[Any, Any, Any], deps: Any, retry: Retry) -> None:
        self.machine = machine
        self.deps = deps
        self.retry = retry
        self.contention = Contention()
        self.is_joined = False
        """Whether it is the caller who commits what is written."""
        self.blocks = False
        """Whether handlers hold a thread that serves callers who await."""

    def joined(self) -> Binding:
        """Return the same for calls in a transaction of their caller's: a conflict ends them."""
        once = Retry(attempts=1, on_conflict=self.retry.on_conflict)
        binding = Binding(self.machine, self.deps, once)
        binding.contention = self.contention
        binding.is_joined = True
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
        draft = Draft(binding.machine, group.id, entity, together)
        decisions.append(_decide(binding, draft, group.calls, drawn))
    return decisions


def _decide(
    binding: Binding, draft: Draft, calls: Sequence[Call], tokens: Iterator[str]
) -> Decision:
    """Decide commands for one entity in order. What one raises is its answer, and no other's."""
    answers: list[Answer] = []
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
    return Decision(answers, draft.writes(), failed)


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
        draft = Draft(binding.machine, group.id, entity, together)
        answers: list[Answer] = []
        failed = False
        for call in group.calls:
            try:
                answers.append((yield Decide(binding, draft, call, next(drawn))))
            except Exception as error:  # noqa: BLE001 (it is this command's answer)
                answers.append(error)
                failed = True
        decisions.append(Decision(answers, draft.writes(), failed))
    return decisions


def join(decisions: Sequence[Decision]) -> Decision:
    """Return several decisions as one."""
    if len(decisions) == 1:
        return decisions[0]
    answers: list[Answer] = []
    writes: list[Write] = []
    for decision in decisions:
        answers += decision.answers
        writes += decision.writes
    return Decision(answers, writes, any(decision.failed for decision in decisions))


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
    )
