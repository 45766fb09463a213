"""What may happen to a ticket, told ticket by ticket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from holdfast import CommandRejectedError, Context, InvalidTransitionError
from holdfast.examples.helpdesk.machine import ticket
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
    JudgeAnomaly,
    Repaired,
    RequireUpgrade,
    Resolve,
    ResolveAnomaly,
    Resolved,
    ScheduleIntervention,
    TakeInCharge,
    TicketCommand,
    TicketState,
    Wait,
    Waiting,
)

MONDAY = datetime(2013, 7, 1, 9, tzinfo=UTC)
SOLVED: list[TicketCommand] = [AssignSeriousness("high"), TakeInCharge("ann"), Resolve("ann")]


def live(*commands: TicketCommand) -> TicketState | None:
    """Where the commands lead, one a day from Monday on."""
    state: TicketState | None = None
    for day, command in enumerate(commands):
        context = Context(MONDAY + timedelta(days=day))
        state = ticket.step(state, command, None, context)
    return state


def test_every_state_can_be_reached_and_every_command_is_taken_somewhere() -> None:
    """Nothing in the machine is dead."""
    assert ticket.check().sound


def test_a_ticket_is_triaged_taken_resolved_and_closed() -> None:
    """The path of half of all tickets keeps who solved what."""
    assert live(*SOLVED) == Resolved(Facts("high"), "ann", MONDAY + timedelta(days=2))
    assert live(*SOLVED, Close()) == Closed(Facts("high"), "ann")


@pytest.mark.parametrize("first", [Insert(), AssignSeriousness("low"), TakeInCharge("ann")])
def test_a_ticket_begins_in_one_of_three_ways(first: TicketCommand) -> None:
    """It may be inserted, triaged or taken at once."""
    assert live(first) is not None


@pytest.mark.parametrize("first", [Wait(), Resolve("ann"), CreateAnomaly(), Close()])
def test_nothing_else_happens_to_a_ticket_that_does_not_exist(first: TicketCommand) -> None:
    """Work on a ticket that nobody entered is refused."""
    with pytest.raises(InvalidTransitionError, match="which does not exist"):
        live(first)


def test_taking_charge_again_hands_a_ticket_over() -> None:
    """The last who took charge has it."""
    assert live(TakeInCharge("ann"), TakeInCharge("bob")) == InCharge(Facts(), "bob")


def test_the_seriousness_may_be_corrected_under_way() -> None:
    """Whoever is in charge stays in charge."""
    state = live(*SOLVED[:2], AssignSeriousness("low"))
    assert state == InCharge(Facts("low"), "ann")


def test_a_ticket_that_waits_remembers_who_is_in_charge() -> None:
    """Waiting takes nobody's charge away, and needs nobody in charge."""
    assert live(TakeInCharge("ann"), Wait(), Wait()) == Waiting(Facts(), "ann")
    assert live(Insert(), Wait()) == Waiting(Facts(), None)


def test_an_intervention_is_scheduled_by_who_is_in_charge() -> None:
    """Nobody goes to a customer for a ticket that nobody has."""
    with pytest.raises(InvalidTransitionError):
        live(AssignSeriousness("low"), ScheduleIntervention())


def test_resolving_again_renews_the_resolution() -> None:
    """The term after which a ticket is closed runs from the last time."""
    state = live(*SOLVED, Resolve("bob"))
    assert state == Resolved(Facts("high"), "bob", MONDAY + timedelta(days=3))


@pytest.mark.parametrize(
    "again", [TakeInCharge("bob"), AssignSeriousness("low"), Wait(), RequireUpgrade()]
)
def test_work_on_a_resolved_ticket_reopens_it(again: TicketCommand) -> None:
    """How often that happened is kept."""
    state = live(*SOLVED, again)
    assert state is not None
    assert state.facts.reopened == 1


def test_taking_charge_reopens_a_closed_ticket() -> None:
    """It can be resolved and closed once more."""
    state = live(*SOLVED, Close(), TakeInCharge("bob"), Resolve("bob"), Close())
    assert state == Closed(Facts("high", reopened=1), "bob")


@pytest.mark.parametrize("late", [Close(), JudgeAnomaly("VERIFIED"), Wait(), Resolve("ann")])
def test_nothing_else_happens_to_a_closed_ticket(late: TicketCommand) -> None:
    """Work after the closing is refused until somebody takes charge."""
    with pytest.raises(InvalidTransitionError, match="allowed: TakeInCharge"):
        live(*SOLVED, Close(), late)


def test_only_a_resolved_ticket_is_closed() -> None:
    """What nobody resolved stays open."""
    with pytest.raises(InvalidTransitionError):
        live(*SOLVED[:2], Close())


def test_a_ticket_is_repaired_when_each_of_its_anomalies_is_resolved() -> None:
    """Two anomalies take two resolutions."""
    reported: list[TicketCommand] = [CreateAnomaly(), CreateAnomaly()]
    assert live(AssignSeriousness("low"), *reported, ResolveAnomaly()) == InRepair(
        Facts("low", open_anomalies=1), None
    )
    assert live(AssignSeriousness("low"), *reported, ResolveAnomaly(), ResolveAnomaly()) == (
        Repaired(Facts("low"), None)
    )


def test_an_anomaly_is_resolved_once() -> None:
    """What was not reported, or is resolved already, cannot be resolved."""
    with pytest.raises(CommandRejectedError, match="no anomaly is open"):
        live(TakeInCharge("ann"), CreateAnomaly(), ResolveAnomaly(), ResolveAnomaly())


def test_the_developers_verdict_is_noted_and_moves_nothing() -> None:
    """The last verdict is kept, in repair, before an upgrade and after the resolution."""
    reported: list[TicketCommand] = [TakeInCharge("ann"), CreateAnomaly()]
    verdict = JudgeAnomaly("DUPLICATE")
    facts = Facts(open_anomalies=1, verdict="DUPLICATE")
    assert live(*reported, verdict) == InRepair(facts, "ann")
    assert live(*reported, RequireUpgrade(), verdict) == AwaitingUpgrade(facts, "ann")
    state = live(*reported, Resolve("ann"), JudgeAnomaly("INVALID"), verdict)
    assert state == Resolved(facts, "ann", MONDAY + timedelta(days=2))


def test_there_is_no_verdict_without_an_anomaly() -> None:
    """A resolved ticket that needed no repair gets none."""
    with pytest.raises(CommandRejectedError, match="no anomaly is open"):
        live(*SOLVED, JudgeAnomaly("INVALID"))
