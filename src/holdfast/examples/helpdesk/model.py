"""States and commands of a help desk's tickets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from holdfast import Command, Meta, State

Name = Annotated[str, Meta(min_length=1)]
Verdict = Literal["RESOLVED", "INVALID", "DUPLICATE", "VERIFIED"]


@dataclass(frozen=True)
class Facts:
    """What is known of a ticket whatever its state."""

    seriousness: str | None = None
    reopened: int = 0
    open_anomalies: int = 0
    verdict: Verdict | None = None


class Inserted(State):
    """Entered, not yet looked at."""

    facts: Facts


class Triaged(State):
    """Its seriousness is assigned; nobody has taken charge."""

    facts: Facts


class InCharge(State):
    """Somebody works on it."""

    facts: Facts
    operator: str


class Waiting(State):
    """Nothing can be done for now, with somebody in charge or with nobody yet."""

    facts: Facts
    operator: str | None


class InRepair(State):
    """The developers look for the anomalies in the software that were reported for it."""

    facts: Facts
    operator: str | None


class Repaired(State):
    """Every anomaly reported for it is resolved; the customer has to get the new version."""

    facts: Facts
    operator: str | None


class AwaitingUpgrade(State):
    """A new version of the product will solve it."""

    facts: Facts
    operator: str | None


class Scheduled(State):
    """Somebody is going to the customer."""

    facts: Facts
    operator: str


class Resolved(State):
    """Solved; from `at` runs the time after which it is closed."""

    facts: Facts
    operator: str
    at: datetime


class Closed(State):
    """Over, unless somebody takes charge again."""

    facts: Facts
    operator: str


class Insert(Command):
    pass


class AssignSeriousness(Command):
    seriousness: Name


class TakeInCharge(Command):
    operator: Name


class Wait(Command):
    pass


class CreateAnomaly(Command):
    pass


class ResolveAnomaly(Command):
    pass


class JudgeAnomaly(Command):
    """What the developers' own tracker says of an anomaly."""

    verdict: Verdict


class RequireUpgrade(Command):
    pass


class ScheduleIntervention(Command):
    pass


class Resolve(Command):
    operator: Name


class Close(Command):
    pass


Untaken = Inserted | Triaged
Taken = InCharge | Waiting | InRepair | Repaired | AwaitingUpgrade | Scheduled
TicketState = Untaken | Taken | Resolved | Closed
TicketCommand = (
    Insert
    | AssignSeriousness
    | TakeInCharge
    | Wait
    | CreateAnomaly
    | ResolveAnomaly
    | JudgeAnomaly
    | RequireUpgrade
    | ScheduleIntervention
    | Resolve
    | Close
)
