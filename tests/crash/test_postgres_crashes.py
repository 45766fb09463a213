"""Workers on PostgreSQL lose nothing they acknowledged: killed, cut off, or with a server gone."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from tests.crash.checker import violations
from tests.crash.postgres import PostgresPlace
from tests.crash.supervisor import Supervisor
from tests.crash.told import PATIENCE_SECONDS, Told
from tests.servers.databases import Database
from tests.servers.postgres import PostgresServer
from tests.stores.postgres.accounts import migrated
from tests.stores.scenes import play

KILLS = 15
MANY_KILLS = 40
SEEDS = range(25 * int(os.environ.get("HOLDFAST_SOAK_SCALE", "1")))
LEAST = {
    "kills": KILLS,
    "acknowledged": 25,
    "reads": 10,
    "duplicates": 1,
    "unanswered, written": 1,
    "killed at commit": 1,
    "killed at committed": 1,
    "sessions ended": 1,
    "rows locked": 1,
    "crashes": 1,
    "absences": 1,
}
"""How often at least each thing is seen while 15 workers are killed."""


def test_killed_workers_lose_nothing(own_postgres_server: PostgresServer, tmp_path: Path) -> None:
    """At named points and at random ones, while sessions end and the server crashes."""
    disturbed(own_postgres_server, tmp_path, 1, KILLS).expect_sound(LEAST)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_loses_anything(
    own_postgres_server: PostgresServer, tmp_path: Path, seed: int
) -> None:
    """As of the first."""
    disturbed(own_postgres_server, tmp_path, seed, MANY_KILLS).expect_sound(LEAST)


def disturbed(server: PostgresServer, journals: Path, seed: int, kills: int) -> Told:
    """Disturb workers in a process of its own, and return what it told."""
    database = Database(server, server.create_database())
    url = migrated(database, "application")
    told = play(scene, server.folder, url, journals, seed, kills, seconds=PATIENCE_SECONDS)
    print(told)
    return msgspec.json.decode(told, type=Told)


def scene(folder: str, url: str, journals: str, seed: str, kills: str) -> None:
    """Disturb workers on a database, check what they were told, and tell what was seen."""
    place = PostgresPlace(PostgresServer(Path(folder)), url)
    supervisor = Supervisor(place, Path(journals), int(seed))
    supervisor.disturb(int(kills))
    found = supervisor.violations + violations(place, Path(journals), supervisor.counts)
    Told(found, supervisor.counts).show()
