"""Workers on PostgreSQL lose nothing they acknowledged: killed, cut off, or with a server gone."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace
from tests import soak
from tests.crash.checker import violations
from tests.crash.line import FATES, line_to
from tests.crash.outcomes import UNKNOWN
from tests.crash.place import DISTURBED_SECONDS
from tests.crash.postgres import PostgresPlace
from tests.crash.supervisor import MAX_SECONDS, Supervisor
from tests.crash.told import LOST, PATIENCE_SECONDS, Record, Told
from tests.servers.databases import Database
from tests.servers.postgres import PostgresServer
from tests.simulation.bugs import BUGS
from tests.simulation.planting import planted
from tests.stores.postgres.accounts import migrated
from tests.stores.scenes import play

SEEDS = soak.seeds(80)
LEAST = {
    "kills": 15,
    "acknowledged": 25,
    "reads": 10,
    "duplicates": 1,
    "unanswered, written": 1,
    UNKNOWN: 1,
    "killed at commit": 1,
    "killed at committed": 1,
    "sessions ended": 1,
    "rows locked": 1,
    "rows locked crosswise": 1,
    "immediate restarts": 1,
    "fast restarts": 1,
    **{name: 1 for _, name, _ in FATES},
}
"""How often at least each thing is seen while 15 workers are killed."""

FOUND_BY_LOST_ANSWERS = {
    "a lost acknowledgement taken for a commit": LOST,
    "a lost acknowledgement taken for a failure": r"was refused .*, and version \d+ holds it",
    "a lost commit looked up, not sent again": f"is in the log twice|{LOST}",
}
"""Bugs, and what the harness says of what each does.

Who looks up takes what comes later for lost, and the same state of another write for its own.
"""


class Plan(Struct, frozen=True):
    """What is to go wrong in a run."""

    kills: int = 15
    away: tuple[float, float] = DISTURBED_SECONDS
    """For how many seconds the server is away, at least and at most."""
    often: dict[str, int] = {}
    bug: str = ""
    """Which is planted in the code."""


SHORT = Plan()
LONG = Plan(kills=40, often={"sessions ended": 9, "immediate restarts": 2})
AWAY_FOR_LONG = replace(LONG, away=(5.0, 60.0))
EVERY = 8
"""Every so many seeds the server is away for long."""


def test_killed_workers_lose_nothing(
    own_postgres_server: PostgresServer, tmp_path: Path, record_property: Record
) -> None:
    """At named points and at random ones, while sessions end and the server crashes."""
    told = disturbed(own_postgres_server, tmp_path, 1, SHORT)
    told.keep(record_property).expect_sound(LEAST)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_loses_anything(
    own_postgres_server: PostgresServer, tmp_path: Path, record_property: Record, seed: int
) -> None:
    """As of the first."""
    plan = LONG if seed % EVERY else AWAY_FOR_LONG
    told = disturbed(own_postgres_server, tmp_path, seed, plan)
    told.keep(record_property).expect_sound({**LEAST, **plan.often, "backends ended": 5})


@pytest.mark.soak
@pytest.mark.parametrize("bug", FOUND_BY_LOST_ANSWERS)
def test_a_planted_bug_is_found(
    own_postgres_server: PostgresServer, tmp_path: Path, bug: str
) -> None:
    """What the line loses shows it, and the checker says what the bug does."""
    told = disturbed(own_postgres_server, tmp_path, 1, replace(SHORT, bug=bug))
    told.expect_violation(FOUND_BY_LOST_ANSWERS[bug])


def disturbed(server: PostgresServer, journals: Path, seed: int, plan: Plan) -> Told:
    """Disturb workers in a process of its own, and return what it told."""
    database = Database(server, server.create_database())
    url = migrated(database, "application")
    seconds = PATIENCE_SECONDS + plan.away[1]
    text = msgspec.json.encode(plan).decode()
    told = play(scene, server.folder, url, journals, seed, text, seconds=seconds)
    print(told)
    return msgspec.json.decode(told, type=Told)


def scene(folder: str, url: str, journals: str, seed: str, text: str) -> None:
    """Disturb workers on a database, check what they were told, and tell what was seen."""
    plan = msgspec.json.decode(text, type=Plan)
    with line_to(url) as line:
        place = PostgresPlace(PostgresServer(Path(folder)), url, line, plan.away)
        supervisor = Supervisor(place, Path(journals), int(seed))
        with planted(*BUGS[plan.bug].changes) if plan.bug else nullcontext():
            supervisor.disturb(plan.kills, MAX_SECONDS + plan.away[1], plan.often)
        found = supervisor.violations + violations(place, Path(journals), supervisor.counts)
        supervisor.counts.update(place.counts())
    Told(found, supervisor.counts).show()
