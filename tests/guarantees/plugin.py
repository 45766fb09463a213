"""Writes down what ran, for the records, and tells at the end of a soak what did not."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests import soak
from tests.guarantees.records import ROOT, Ran, Session, lines_of

RECORDS = "HOLDFAST_RECORDS"
"""Names the file that the records are written to; its stem is the name of the session."""


class Recorder:
    """Takes the reports of the tests as they come in, from whatever process ran them."""

    def __init__(self, path: Path | None, *, tells: bool) -> None:
        self.ran: list[Ran] = []
        self._tells = tells
        self._path = path
        self._began = time.monotonic()
        self._session = _session("" if path is None else path.stem)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write down a test that ran or that did not, at once."""
        if report.when != "call" and report.outcome == "passed":
            return
        told: dict[str, Any] = dict(report.user_properties)
        ran = Ran(report.nodeid, report.outcome, round(report.duration, 2))
        ran.postgres, ran.seen = told.get("postgres"), told.get("seen", {})
        if isinstance(report.longrepr, tuple):
            ran.reason = report.longrepr[2].removeprefix("Skipped: ")
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            told_last = report.longreprtext if crash is None else crash.message.partition("\n")[0]
            last = told_last.strip().splitlines()[-1]
            ran.reason = last.removeprefix("Failed: ")[:200]
        self.ran.append(ran)
        self._write(ran)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write down when and by what they were run, which is known at the end."""
        self._session.interrupted = exitstatus == pytest.ExitCode.INTERRUPTED
        self._session.seconds = round(time.monotonic() - self._began)
        self._write(self._session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell what ran and what did not."""
        for line in summary(self.ran) if self._tells else ():
            terminalreporter.write_line(line)

    def _write(self, line: Ran | Session) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(lines_of([line]))


def summary(ran: list[Ran]) -> list[str]:
    """Return what the tests with figures saw, and why which of all did not run."""
    lines: list[str] = []
    for test in dict.fromkeys(_function(each) for each in ran):
        of_it = [each for each in ran if _function(each) == test]
        passed = [each for each in of_it if each.outcome == "passed"]
        lines += [f"{test}: {len(passed)} of {len(of_it)} passed"]
        lines += [f"    {what}: {count:,}" for what, count in _seen(passed).items()]
        lines += [f"    did not run: {reason}" for reason in _reasons(of_it)]
        failed = [each for each in of_it if each.outcome == "failed"]
        lines += [f"    FAILED{each.test.removeprefix(test)}: {each.reason}" for each in failed]
    return ["", "What ran, and what did not:", *lines] if lines else ["Nothing ran."]


def _function(ran: Ran) -> str:
    return ran.test.partition("[")[0]


def _seen(passed: list[Ran]) -> Mapping[str, int]:
    names = sorted({name for each in passed for name in each.seen})
    return {name: sum(each.seen.get(name, 0) for each in passed) for name in names}


def _reasons(ran: list[Ran]) -> list[str]:
    """Return why some did not run, each reason with the number of tests."""
    reasons = [each.reason for each in ran if each.outcome == "skipped"]
    return [f"{reason} ({reasons.count(reason)})" for reason in dict.fromkeys(reasons)]


def _session(name: str) -> Session:
    return Session(
        name=name,
        began=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        holdfast=version("holdfast"),
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        system=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count() or 0,
        scale=soak.scale(),
    )


def _commit() -> str:
    """Return the commit that is checked out, and whether there is more than that."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(git, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def register(config: pytest.Config) -> None:
    """Have this process record what it is told, where that is asked for or a soak is run.

    The runs of pytest that tests start are no part of it, and are not asked.
    """
    path = os.environ.pop(RECORDS, None)
    is_soak = config.getoption("markexpr") == "soak"
    if not hasattr(config, "workerinput") and (path or is_soak):
        recorder = Recorder(Path(path) if path else None, tells=is_soak)
        config.pluginmanager.register(recorder)
