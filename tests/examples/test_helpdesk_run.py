"""A whole event log through `holdfast run`: the real one where it is at hand, and a sample."""

from __future__ import annotations

import gzip
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast import Service, Transition, open_store
from holdfast.examples.helpdesk.convert import convert
from holdfast.examples.helpdesk.machine import ticket
from holdfast.examples.helpdesk.model import TicketCommand, TicketState
from holdfast.examples.helpdesk.report import LONGEST
from holdfast.examples.helpdesk.sample import write_sample

pytestmark = pytest.mark.filterwarnings("always:.*a generated sample stands in")

ROOT = Path(__file__).parents[2]
REAL_LOG = ROOT.parent / "shared" / "data" / "helpdesk.xes.gz"
README = ROOT / "src" / "holdfast" / "examples" / "helpdesk" / "README.md"
SCRIPTS = Path(sys.executable).parent
TARGET = "holdfast.examples.helpdesk:service"

# What becomes of each activity: its command, and the state that it leads to unless it adds to one.
ACTIVITIES: dict[str, tuple[str, str | None]] = {
    "Insert ticket": ("Insert", "Inserted"),
    "Assign seriousness": ("AssignSeriousness", "Triaged"),
    "Take in charge ticket": ("TakeInCharge", "InCharge"),
    "Wait": ("Wait", "Waiting"),
    "Create SW anomaly": ("CreateAnomaly", "InRepair"),
    "Resolve SW anomaly": ("ResolveAnomaly", "Repaired"),
    "RESOLVED": ("JudgeAnomaly", None),
    "INVALID": ("JudgeAnomaly", None),
    "DUPLICATE": ("JudgeAnomaly", None),
    "VERIFIED": ("JudgeAnomaly", None),
    "Require upgrade": ("RequireUpgrade", "AwaitingUpgrade"),
    "Schedule intervention": ("ScheduleIntervention", "Scheduled"),
    "Resolve ticket": ("Resolve", "Resolved"),
    "Closed": ("Close", "Closed"),
}
BEGINNINGS = {"Insert ticket", "Assign seriousness", "Take in charge ticket"}
NAME = "concept:name"
NOT_BEGUN, CLOSED, NO_ANOMALY = "which does not exist", "in state Closed", "no anomaly is open"

# What is known of the real log.
REFUSED = {
    (NOT_BEGUN, "Resolve ticket"): 4,
    (NOT_BEGUN, "Closed"): 3,
    (NOT_BEGUN, "Wait"): 1,
    (NOT_BEGUN, "Create SW anomaly"): 1,
    (NOT_BEGUN, "Resolve SW anomaly"): 1,
    (CLOSED, "Closed"): 14,
    (CLOSED, "VERIFIED"): 1,
    (NO_ANOMALY, "Resolve SW anomaly"): 3,
}
STATES = {"InCharge": 1, "Waiting": 8, "AwaitingUpgrade": 3, "Resolved": 10, "Closed": 4555}

Event = dict[str, str]


class Log:
    """A log as read by this test, and not by the example; places in a ticket count from 1."""

    def __init__(self, path: Path, stream: Path, *, real: bool) -> None:
        self.tickets = scan(path)
        self.stream = stream
        self.real = real

    @property
    def lines(self) -> list[tuple[str, int]]:
        """The ticket and the place of each event in the order of the file."""
        return [(id, place) for id in self.tickets for place in range(1, len(self.tickets[id]) + 1)]

    @cached_property
    def refused(self) -> dict[tuple[str, int], str]:
        """Why each event that contradicts its ticket's lifecycle does."""
        return {
            (id, place): reason
            for id, events in self.tickets.items()
            for place, reason in contradictions([event[NAME] for event in events])
        }

    def applied(self, id: str) -> list[tuple[int, Event]]:
        """A ticket's events, with their places, but for those that contradict its lifecycle."""
        events = enumerate(self.tickets[id], 1)
        return [(place, event) for place, event in events if (id, place) not in self.refused]


def scan(path: Path) -> dict[str, list[Event]]:
    """Read a log line by line: every attribute of every event."""
    tickets: dict[str, list[Event]] = {}
    events: list[Event] | None = None
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            found = re.search(r'key="(.*)" value="(.*)" />', line)
            if "<trace>" in line:
                events = None
            elif "<event>" in line and events is not None:
                events.append({})
            elif found and events:
                events[-1][found[1]] = found[2]
            elif found and found[1] == NAME:
                events = tickets[found[2]] = []
    return tickets


def contradictions(activities: Sequence[str]) -> Iterator[tuple[int, str]]:
    """What cannot have happened as recorded: the rules of the example, told by activities."""
    begun = closed = False
    anomalies = 0
    for place, activity in enumerate(activities, 1):
        if not begun and activity not in BEGINNINGS:
            yield place, NOT_BEGUN
        elif closed and activity != "Take in charge ticket":
            yield place, CLOSED
        elif activity == "Resolve SW anomaly" and not anomalies:
            yield place, NO_ANOMALY
        else:
            begun, closed = True, activity == "Closed"
            anomalies += (activity == "Create SW anomaly") - (activity == "Resolve SW anomaly")


class Run:
    """A folder in which a stream was run into `tickets.db`."""

    def __init__(self, folder: Path, stream: Path) -> None:
        self.folder = folder
        self.rejects = folder / f"{stream.stem}.rejected"
        options = ["--rejected", self.rejects]
        self.command = [SCRIPTS / "holdfast", "run", TARGET, stream, *options]

    def finish(self) -> dict[str, Any]:
        """Run to the end, and return the summary; the exit code says that lines were rejected."""
        summary: dict[str, Any] = json.loads(call(self.command, self.folder, code=1))
        return summary

    def rejected(self) -> list[dict[str, Any]]:
        """The entries, but for the mark of the run, which is of the folder's own store."""
        entries = [json.loads(line) for line in self.rejects.read_text("utf-8").splitlines()]
        assert len({entry.pop("input") for entry in entries}) <= 1
        return entries

    def service(self) -> Service[TicketState, TicketCommand, None]:
        return Service(ticket, open_store(f"sqlite:///{self.folder}/tickets.db"))

    def written(self) -> int:
        """How many transitions are committed, as another process sees it; 0 before the first."""
        try:
            return int(self.select("SELECT count(*) FROM transition")[0][0])
        except sqlite3.OperationalError:
            return 0

    def content(self) -> tuple[list[Any], list[Any]]:
        """All that is stored but for what differs from run to run: tokens and clocks."""
        entities = self.select(
            "SELECT id, version, state_type, state, created_at, updated_at, entered_version "
            "FROM entity ORDER BY id"
        )
        transitions = self.select(
            "SELECT seq, id, version, kind, from_type, to_type, command, state, metadata, key, at "
            "FROM transition ORDER BY seq"
        )
        return entities, transitions

    def select(self, query: str) -> list[Any]:
        connection = sqlite3.connect(f"file:{self.folder}/tickets.db?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


def call(command: Sequence[object], folder: Path, *, code: int = 0) -> str:
    """Run a command and return what it printed; one that ends otherwise fails the test."""
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, check=False, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["sample", "full"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A small made-up log, and one of full size: the real one, or another made-up one."""
    folder = tmp_path_factory.mktemp("log")
    path, real = folder / "log.xes.gz", False
    if request.param == "sample":
        write_sample(path)
    elif REAL_LOG.exists():
        path, real = REAL_LOG, True
    else:
        warnings.warn(f"{REAL_LOG} is absent: a generated sample stands in", stacklevel=1)
        write_sample(path, tickets=4_580)
    convert(path, folder / "stream.ndjson")
    return Log(path, folder / "stream.ndjson", real=real)


@pytest.fixture(scope="module")
def run(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The log, run once without interruption."""
    run = Run(tmp_path_factory.mktemp("run"), log.stream)
    run.finish()
    return run


def test_every_event_is_applied_or_rejected(log: Log, run: Run) -> None:
    """None is lost, none counts twice."""
    assert run.written() + len(run.rejected()) == len(log.lines)


def test_what_is_rejected_contradicts_the_lifecycle(log: Log, run: Run) -> None:
    """Exactly the contradictions that the raw log holds are refused, each for its reason."""
    rejected = {log.lines[line["line"] - 1]: line["reason"] for line in run.rejected()}
    assert rejected.keys() == log.refused.keys()
    assert [key for key, reason in log.refused.items() if reason not in rejected[key]] == []
    counts = Counter(
        (reason, log.tickets[id][place - 1][NAME]) for (id, place), reason in log.refused.items()
    )
    print(*(f"{n:4} {activity}: {why}" for (why, activity), n in counts.items()), sep="\n")
    assert counts == REFUSED if log.real else counts.keys() == REFUSED.keys()


def test_histories_equal_the_log_event_by_event(log: Log, run: Run) -> None:
    """But for what was rejected, everything that was recorded comes back, in its order."""
    service = run.service()
    with service.store:
        for id in log.tickets:
            found = [recorded(transition) for transition in service.history(id)]
            assert found == [expected(place, event) for place, event in log.applied(id)]


def recorded(transition: Transition[TicketState, TicketCommand]) -> dict[str, Any]:
    return {
        "command": msgspec.to_builtins(transition.command),
        "metadata": transition.metadata,
        "at": transition.at,
        "key": transition.key,
    }


def expected(place: int, event: Event) -> dict[str, Any]:
    """What the history should say of an event of the raw log."""
    rest = dict(event)
    activity, by, at = (rest.pop(f) for f in (NAME, "org:resource", "time:timestamp"))
    command = {"$type": ACTIVITIES[activity][0]}
    if activity in ("Take in charge ticket", "Resolve ticket"):
        command["operator"] = by
    elif activity == "Assign seriousness":
        command["seriousness"] = rest["seriousness_2"]
    elif activity.isupper():
        command["verdict"] = activity
    return {
        "command": command,
        "metadata": {"by": by, **rest},
        "at": datetime.fromisoformat(at),
        "key": f"event-{place}",
    }


def test_the_report_shows_where_the_tickets_are(log: Log, run: Run) -> None:
    """The histogram of states is that of the last activities; tickets all rejected are in none."""
    lasts = [
        [state for _, event in log.applied(id) if (state := ACTIVITIES[event[NAME]][1])]
        for id in log.tickets
    ]
    counts = Counter(states[-1] for states in lasts if states)
    shown = report(run)
    print(shown)
    found = re.findall(r"^(\w+) +([\d,]+)$", shown, re.MULTILINE)
    assert {state: number(count) for state, count in found} == counts
    assert not log.real or counts == STATES


def test_the_report_shows_the_longest_lifecycles(log: Log, run: Run) -> None:
    """They are the tickets with the most applied events, the longest in days first."""
    sizes = []
    for id in log.tickets:
        times = [datetime.fromisoformat(event["time:timestamp"]) for _, event in log.applied(id)]
        if times:
            sizes.append((-len(times), times[0] - times[-1], id))
    longest = [(id, str(-size)) for size, _, id in sorted(sizes)[:LONGEST]]
    assert re.findall(r"^(Case \d+) +(\d+) ", report(run), re.MULTILINE) == longest


def test_the_report_shows_the_rate(run: Run) -> None:
    """It counts what is in the store."""
    assert re.search(rf"^{run.written():,} transitions .* a second$", report(run), re.MULTILINE)


def report(run: Run) -> str:
    module = "holdfast.examples.helpdesk.report"
    return call([sys.executable, "-m", module, "sqlite:///tickets.db"], run.folder)


def test_a_second_run_applies_nothing(run: Run) -> None:
    """The stream is known to have been read to its end."""
    before, rejected = run.content(), run.rejected()
    assert run.finish()["applied"] == 0
    assert run.content() == before
    assert run.rejected() == rejected


def test_the_store_verifies(run: Run) -> None:
    """Every digest fits, every state is the one that its log ends in."""
    call([SCRIPTS / "holdfast", "verify", "sqlite:///tickets.db"], run.folder)


@pytest.mark.parametrize("log", ["full"], indirect=True, scope="module")
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_was_not(
    log: Log, run: Run, tmp_path: Path
) -> None:
    """Started anew after each SIGKILL, it applies every line once and rejects every line once."""
    killed = Run(tmp_path, log.stream)
    for kill in range(5):
        kill_at(killed, len(log.lines) * (1 + 2 * kill) // 20, delay_seconds=0.01 * kill)
    killed.finish()
    assert killed.content() == run.content()
    assert killed.rejected() == run.rejected()
    call([SCRIPTS / "holdfast", "verify", "sqlite:///tickets.db"], tmp_path)


def kill_at(run: Run, written: int, *, delay_seconds: float) -> None:
    """Start a run, and kill it once it has written so many transitions, and a moment later."""
    with subprocess.Popen(
        [str(part) for part in run.command], cwd=run.folder, stderr=subprocess.PIPE
    ) as process:
        while run.written() < written and process.poll() is None:
            time.sleep(0.002)
        time.sleep(delay_seconds)
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL, process.stderr and process.stderr.read()


def test_of_a_later_export_only_what_is_new_is_applied(log: Log, run: Run, tmp_path: Path) -> None:
    """A log in which the tickets have gone on ends like one that was complete from the first."""
    half = tmp_path / "half.ndjson"
    places = [place <= len(log.tickets[id]) // 2 for id, place in log.lines]
    lines = log.stream.read_bytes().splitlines(keepends=True)
    half.write_bytes(b"".join(line for line, early in zip(lines, places, strict=True) if early))
    Run(tmp_path, half).finish()
    later = Run(tmp_path, log.stream)
    early = later.written()
    assert 0 < early < run.written()
    assert later.finish()["applied"] == run.written() - early
    assert later.content()[0] == run.content()[0]


@pytest.mark.parametrize("log", ["full"], indirect=True, scope="module")
def test_the_numbers_of_the_readme_are_those_of_the_log(log: Log) -> None:
    """Each row of its tables counts right."""
    row = re.compile(r"^\| ([\w ,]+) \| ([\w ,]+) \|", re.MULTILINE)
    rows = row.findall(README.read_text("utf-8"))
    told = {text: number(count) for count, text in rows if count[0].isdigit()}
    states = {state: number(count) for state, count in rows if count[0].isdigit()}
    assert told.keys() == counted(log).keys()
    assert not log.real or (told, states) == (counted(log), STATES)


def counted(log: Log) -> dict[str, int]:
    """What the README counts, by its words for it."""
    all_pairs = [pair for events in log.tickets.values() for pair in pairwise(events)]
    tickets = [[event for _, event in log.applied(id)] for id in log.tickets]
    pairs = [pair for events in tickets for pair in pairwise(events)]
    follows = Counter((before[NAME], after[NAME]) for before, after in pairs)
    lives = [[event[NAME] for event in events] for events in tickets]
    every = Counter(tuple(event[NAME] for event in events) for events in log.tickets.values())
    refused = Counter(log.refused.values())
    closed_twice = sum(
        log.tickets[id][place - 1][NAME] == "Closed"
        for (id, place), reason in log.refused.items()
        if reason == CLOSED
    )
    return {
        "tickets": len(log.tickets),
        "events": len(log.lines),
        "activities": len({activity for life in every for activity in life}),
        "different sequences of activities": len(every),
        "tickets that are triaged, taken in charge, resolved and closed, and nothing else": every[
            "Assign seriousness", "Take in charge ticket", "Resolve ticket", "Closed"
        ],
        "events that equal the one before in everything, the second included": sum(
            before == after for before, after in all_pairs
        ),
        "work before the ticket began": refused[NOT_BEGUN],
        "closing a closed ticket": closed_twice,
        "a verdict on a closed ticket": refused[CLOSED] - closed_twice,
        "resolving an anomaly that is not open": refused[NO_ANOMALY],
        "taking a closed ticket in charge": follows["Closed", "Take in charge ticket"],
        "resolving a resolved ticket": follows["Resolve ticket", "Resolve ticket"],
        "resolving a ticket that nobody took": sum(
            "Resolve ticket" in life
            and "Take in charge ticket" not in life[: life.index("Resolve ticket")]
            for life in lives
        ),
        "taking charge of a ticket that was never entered": sum(
            life[:1] == ["Take in charge ticket"] for life in lives
        ),
        "assigning the seriousness again at once": follows[
            "Assign seriousness", "Assign seriousness"
        ],
        "an event recorded twice": sum(before == after for before, after in pairs),
        "a verdict, in capitals": sum(activity.isupper() for life in lives for activity in life),
    }


def number(text: str) -> int:
    return int(text.replace(",", ""))
