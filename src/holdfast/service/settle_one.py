"""Settles a call that is alone: most meet nobody, so that their first attempt is all of it.

What meets somebody goes on as any other does.
"""

from __future__ import annotations

from holdfast.service.attempts import Attempts
from holdfast.service.call import Call
from holdfast.service.commit import commit_again, conflict_of
from holdfast.service.decide import Answer, Binding, Group
from holdfast.service.draft import Draft
from holdfast.service.handling import answer
from holdfast.service.requests import Begin, Commit, Load, Plan
from holdfast.service.settle import Begun, settle, tell_stale
from holdfast.stores.contract import CommitUncertainError, Key

_BEGIN = Begin(1)


def settle_one(binding: Binding, call: Call) -> Plan[list[Answer]]:
    """Apply a call; answers with its record or its error, alone.

    Takes neither a breaker, nor handlers that are awaited, nor hooks.
    """
    machine = binding.machine
    started, tokens = yield _BEGIN
    keys = () if call.key is None else (call.key,)
    [loaded] = yield Load((Key(machine.name, call.id, keys),))
    draft = Draft.of(machine, call.id, loaded)
    try:
        if call.within is None:
            record = answer(binding, draft, call, tokens[0])
        else:
            record = call.within.run(answer, binding, draft, call, tokens[0])
    except Exception as error:  # noqa: BLE001 (it is the answer)
        answers: list[Answer] = [error]
        attempts = Attempts(binding.retry, machine.name, call.id, started)
        yield from tell_stale(binding, (Group(call.id, (call,)),), answers, attempts)
        return answers
    writes = draft.writes()
    if writes:
        asked = Commit(writes)
        try:
            [outcome] = yield asked
        except CommitUncertainError as error:
            attempts = Attempts(binding.retry, machine.name, call.id, started)
            [outcome] = yield from commit_again(binding.retry, asked, error, attempts)
        if not outcome.applied:
            late = Begun(started, tokens, conflict_of(writes[0], outcome))
            return (yield from settle(binding, (Group(call.id, (call,)),), begun=late))
    return [record]
