"""Event logs of tickets: reading them, making them up, converting them to commands."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from holdfast.examples.helpdesk.convert import COMMANDS, convert
from holdfast.examples.helpdesk.machine import ticket
from holdfast.examples.helpdesk.sample import CHOICES, RARE, write_sample
from holdfast.examples.helpdesk.xes import LogError, read_tickets

EVENT = """<event>
  <string key="concept:name" value="{}" /> <string key="org:resource" value="ann" />
  <date key="time:timestamp" value="2013-07-01T09:00:00+02:00" />
  <string key="seriousness_2" value="high" /> <string key="customer" value="Smith &amp; Co" />
</event>"""


def log_of(path: Path, *events: str) -> Path:
    """A log with one ticket, `Case 1`."""
    name = '<string key="concept:name" value="Case 1" />'
    path.write_text(f"<log><trace>{name}{''.join(events)}</trace></log>", "utf-8")
    return path


def test_an_event_becomes_a_command_with_who_when_and_all_that_was_recorded(
    tmp_path: Path,
) -> None:
    """A line is what `holdfast run` reads; the key is the event's place in its ticket."""
    log = log_of(tmp_path / "log.xes", EVENT.format("Assign seriousness"))
    assert convert(log, tmp_path / "stream") == 1
    assert json.loads((tmp_path / "stream").read_bytes()) == {
        "id": "Case 1",
        "command": {"$type": "AssignSeriousness", "seriousness": "high"},
        "metadata": {"by": "ann", "seriousness_2": "high", "customer": "Smith & Co"},
        "at": "2013-07-01T09:00:00+02:00",
        "key": "event-1",
    }


@pytest.mark.parametrize("activity", COMMANDS)
def test_the_machine_takes_what_each_activity_becomes(activity: str, tmp_path: Path) -> None:
    """The command of a line is one of the machine's."""
    convert(log_of(tmp_path / "log.xes", EVENT.format(activity)), tmp_path / "stream")
    line = json.loads((tmp_path / "stream").read_bytes())
    assert type(ticket.parse_command(line["command"])) in ticket.commands


@pytest.mark.parametrize(
    ("log", "complaint"),
    [
        (EVENT.format("Have lunch"), "Case 1: no event is known that is 'Have lunch'"),
        (EVENT.format("Wait").replace("time:timestamp", "time"), "Case 1: .* no time:timestamp"),
        (
            EVENT.format("Assign seriousness").replace("seriousness_2", "s"),
            "Case 1: an event 'Assign seriousness' has no seriousness_2",
        ),
        ("</trace><trace>", "no concept:name"),
        ("</log>", "no XES"),
    ],
)
def test_a_log_that_cannot_be_converted_says_where_and_why(
    log: str, complaint: str, tmp_path: Path
) -> None:
    """The ticket is named where there is one."""
    path = log_of(tmp_path / "log.xes", log)
    with pytest.raises(LogError, match=complaint):
        convert(path, tmp_path / "stream")


@pytest.mark.parametrize("encoding", ["gbk", "utf-7", "klingon"])
def test_a_log_in_an_encoding_that_is_not_read_is_said_to_be_one(
    encoding: str, tmp_path: Path
) -> None:
    """By its name, and by the program's one kind of error."""
    path = tmp_path / "log.xes"
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?><log></log>'.encode())
    with pytest.raises(LogError, match=r"it is no XES, or not all of it: .*encoding"):
        convert(path, tmp_path / "stream")


def test_a_log_that_was_cut_off_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    """Half a download is an error, however much of it can be read."""
    log = tmp_path / "log.xes.gz"
    write_sample(log, tickets=20)
    whole = log.read_bytes()
    log.write_bytes(whole[:-500])
    with pytest.raises(LogError, match="not all of it"):
        convert(log, tmp_path / "stream")
    assert os.listdir(tmp_path) == ["log.xes.gz"]
    log.write_bytes(whole)
    assert convert(log, tmp_path / "stream") > 0
    converted = (tmp_path / "stream").read_bytes()
    log.write_bytes(whole[:-500])
    with pytest.raises(LogError, match="not all of it"):
        convert(log, tmp_path / "stream")
    assert (tmp_path / "stream").read_bytes() == converted


def test_a_conversion_goes_into_a_pipe_too(tmp_path: Path) -> None:
    """What is no file is written as it is."""
    log = tmp_path / "log.xes.gz"
    write_sample(log, tickets=20)
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.examples.helpdesk.convert", str(log), "/dev/stderr"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == f"{len(done.stderr.splitlines()):,} commands written to /dev/stderr\n"


def test_a_report_on_what_is_no_store_makes_none(tmp_path: Path) -> None:
    """A path that was mistyped is told."""
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.examples.helpdesk.report", "sqlite:///nope.db"],
        cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "sqlite:///nope.db does not exist" in done.stderr
    assert os.listdir(tmp_path) == []


def test_the_sample_has_the_shape_of_the_real_log(tmp_path: Path) -> None:
    """It has its activities, its attributes, times that do not fall, and some that are equal."""
    write_sample(tmp_path / "log.xes.gz", tickets=300)
    tickets = [events for _, events in read_tickets(tmp_path / "log.xes.gz")]
    events = [event for events in tickets for event in events]
    assert {event.activity for event in events} == set(COMMANDS)
    assert {tuple(event.attributes) for event in events} == {tuple(CHOICES)}
    pairs = [pair for own in tickets for pair in pairwise(own)]
    assert all(before.time <= after.time for before, after in pairs)
    assert any(before.time == after.time for before, after in pairs)


def test_a_sample_is_made_anew_from_its_seed(tmp_path: Path) -> None:
    """The same seed makes the same bytes, another one others."""
    made = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(tmp_path / name, tickets=50, seed=seed)
        made[name] = gzip.decompress((tmp_path / name).read_bytes())
        assert (tmp_path / name).read_bytes() == (tmp_path / "a").read_bytes() or seed == 2
    assert made["a"] == made["b"] != made["c"]


def test_a_small_sample_has_the_rare_tickets_nevertheless(tmp_path: Path) -> None:
    """What contradicts the lifecycle is in it, so that its refusal is tried."""
    write_sample(tmp_path / "log.xes.gz", tickets=0)
    tickets = read_tickets(tmp_path / "log.xes.gz")
    assert [tuple(event.activity for event in events) for _, events in tickets] == list(RARE)


def test_reading_needs_the_memory_of_one_ticket(tmp_path: Path) -> None:
    """A log that is ten times as long takes no more of it."""
    peaks = []
    for tickets in (60, 600):
        write_sample(tmp_path / "log.xes.gz", tickets=tickets)
        tracemalloc.start()
        assert sum(1 for _ in read_tickets(tmp_path / "log.xes.gz")) == tickets
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize("module", ["convert", "sample", "report"])
def test_a_command_that_fails_says_so_without_a_traceback(module: str, tmp_path: Path) -> None:
    """A path that cannot be read or written is a sentence on stderr and exit code 1."""
    arguments = {
        "convert": ["absent.xes.gz", "stream"],
        "sample": ["absent/log.xes.gz"],
        "report": ["sqlite:///absent/tickets.db"],
    }
    command = [sys.executable, "-m", f"holdfast.examples.helpdesk.{module}", *arguments[module]]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "absent" in done.stderr
    assert "Traceback" not in done.stderr
