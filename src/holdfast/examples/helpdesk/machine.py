"""The machine of a ticket: what may happen to it when, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace

from holdfast import CommandRejectedError, Context, Machine
from holdfast.examples.helpdesk.model import (
    AssignSeriousness,
    AwaitingUpgrade,
    Close,
    Closed,
    CreateAnomaly,
    Facts,
    InCharge,
    InRepair,
    Insert,
    Inserted,
    JudgeAnomaly,
    Repaired,
    RequireUpgrade,
    Resolve,
    ResolveAnomaly,
    Resolved,
    Scheduled,
    ScheduleIntervention,
    TakeInCharge,
    Taken,
    TicketCommand,
    TicketState,
    Triaged,
    Untaken,
    Wait,
    Waiting,
)

ticket = Machine("ticket", state=TicketState, command=TicketCommand)

# A ticket begins by being inserted, triaged or taken, and by nothing else.


@ticket.on
def insert(state: None, command: Insert) -> Inserted:
    return Inserted(facts=Facts())


@ticket.on
def begin_triaged(state: None, command: AssignSeriousness) -> Triaged:
    return Triaged(facts=Facts(seriousness=command.seriousness))


@ticket.on
def begin_in_charge(state: None, command: TakeInCharge) -> InCharge:
    return InCharge(facts=Facts(), operator=command.operator)


# Who has a ticket and how serious it is may change at any time; a resolved one is reopened by it.


@ticket.on
def triage(state: Untaken | Waiting | Resolved, command: AssignSeriousness) -> Triaged:
    return Triaged(facts=replace(carried(state), seriousness=command.seriousness))


@ticket.on
def triage_again(state: InCharge, command: AssignSeriousness) -> InCharge:
    facts = replace(state.facts, seriousness=command.seriousness)
    return InCharge(facts=facts, operator=state.operator)


@ticket.on
def take_in_charge(state: Untaken | Taken | Resolved | Closed, command: TakeInCharge) -> InCharge:
    return InCharge(facts=carried(state), operator=command.operator)


# What a ticket waits for.


@ticket.on
def wait(state: Untaken | Taken | Resolved, command: Wait) -> Waiting:
    return Waiting(facts=carried(state), operator=operator_of(state))


@ticket.on
def require_upgrade(state: Triaged | Taken | Resolved, command: RequireUpgrade) -> AwaitingUpgrade:
    return AwaitingUpgrade(facts=carried(state), operator=operator_of(state))


@ticket.on
def schedule_intervention(state: InCharge, command: ScheduleIntervention) -> Scheduled:
    return Scheduled(facts=state.facts, operator=state.operator)


# Anomalies of the software: several can be open for one ticket, each is resolved once.


@ticket.on
def create_anomaly(state: Triaged | Taken, command: CreateAnomaly) -> InRepair:
    facts = replace(state.facts, open_anomalies=state.facts.open_anomalies + 1)
    return InRepair(facts=facts, operator=operator_of(state))


@ticket.on
def resolve_anomaly(state: Taken, command: ResolveAnomaly) -> InRepair | Repaired:
    left = state.facts.open_anomalies - 1
    if left < 0:
        raise CommandRejectedError("no anomaly is open")
    facts = replace(state.facts, open_anomalies=left)
    if left:
        return InRepair(facts=facts, operator=state.operator)
    return Repaired(facts=facts, operator=state.operator)


@ticket.on
def judge_in_repair(state: InRepair, command: JudgeAnomaly) -> InRepair:
    return InRepair(facts=judged(state.facts, command), operator=state.operator)


@ticket.on
def judge_before_upgrade(state: AwaitingUpgrade, command: JudgeAnomaly) -> AwaitingUpgrade:
    return AwaitingUpgrade(facts=judged(state.facts, command), operator=state.operator)


@ticket.on
def judge_resolved(state: Resolved, command: JudgeAnomaly) -> Resolved:
    return Resolved(facts=judged(state.facts, command), operator=state.operator, at=state.at)


# The end. Resolving again is legitimate: the time until it is closed begins anew.


@ticket.on
def resolve(state: Triaged | Taken | Resolved, command: Resolve, context: Context) -> Resolved:
    return Resolved(facts=state.facts, operator=command.operator, at=context.now)


@ticket.on
def close(state: Resolved, command: Close) -> Closed:
    return Closed(facts=state.facts, operator=state.operator)


def carried(state: TicketState) -> Facts:
    """Return the facts to go on with; leaving `Resolved` or `Closed` counts as a reopening."""
    if isinstance(state, Resolved | Closed):
        return replace(state.facts, reopened=state.facts.reopened + 1)
    return state.facts


def operator_of(state: TicketState) -> str | None:
    """Return who is in charge, or was when it was resolved."""
    return None if isinstance(state, Untaken) else state.operator


def judged(facts: Facts, command: JudgeAnomaly) -> Facts:
    """Return the facts with the verdict; there is none without an anomaly."""
    if not facts.open_anomalies:
        raise CommandRejectedError("no anomaly is open")
    return replace(facts, verdict=command.verdict)
