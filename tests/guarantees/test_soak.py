"""A soak says what it cannot do: before it begins, and at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import soak
from tests.guarantees.plugin import summary
from tests.guarantees.records import ROOT, Ran


@pytest.mark.parametrize("text", ["ten", "0", "-1", "nan", "inf", "1e9", "", "1,5"])
def test_a_scale_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """With what would be one."""
    monkeypatch.setenv(soak.SCALE, text)
    with pytest.raises(soak.BadInputError, match=r"SCALE=.* no number above 0 .*Like SCALE=10"):
        soak.scaled(100)


@pytest.mark.parametrize("text", ["abc", "-1", "1.5", "3,", "9-2", "1-2-3", "0-9999999"])
def test_seeds_that_are_none_are_told(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """With what would be some."""
    monkeypatch.setenv(soak.SEEDS, text)
    with pytest.raises(soak.BadInputError, match=r"SEEDS=.* no list of seeds.*Like SEEDS=17"):
        soak.seeds(100)


def test_seeds_are_as_many_as_the_scale_says_or_as_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At least one of each kind; what is named counts alone."""
    for text, expected in [("1", 10), ("2.5", 25), ("0.1", 1), ("0.001", 1)]:
        monkeypatch.setenv(soak.SCALE, text)
        assert list(soak.seeds(10)) == list(range(expected))
    monkeypatch.setenv(soak.SEEDS, "17, 3-5,4")
    assert soak.seeds(10) == [3, 4, 5, 17]


@pytest.mark.parametrize("name", [soak.SCALE, soak.SEEDS])
def test_nothing_runs_where_the_soak_is_asked_for_wrongly(name: str) -> None:
    """One line says why, and pytest ends with the code of a usage error."""
    command = [sys.executable, "-m", "pytest", "-m", "soak", "-n0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/crash"],
        cwd=ROOT,
        env={**os.environ, name: "?"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Nothing was run." in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_end_of_a_soak_tells_what_ran_and_what_did_not() -> None:
    """Figures are those of what passed; what failed is named, with its seed."""
    ran = [
        Ran("t.py::kills[0]", "passed", 1.0, None, {"kills": 1_000}),
        Ran("t.py::kills[1]", "passed", 1.0, None, {"kills": 50}),
        Ran("t.py::kills[2]", "failed", 1.0, None, {"kills": 7}, "it lost something"),
        Ran("t.py::cuts[0]", "skipped", 0.0, reason="nobody may mount here: no power was cut"),
        Ran("t.py::cuts[1]", "skipped", 0.0, reason="nobody may mount here: no power was cut"),
    ]
    assert summary(ran)[2:] == [
        "t.py::kills: 2 of 3 passed",
        "    kills: 1,050",
        "    FAILED[2]: it lost something",
        "t.py::cuts: 0 of 2 passed",
        "    did not run: nobody may mount here: no power was cut (2)",
    ]
    assert summary([]) == ["Nothing ran."]


def test_a_part_that_cannot_run_is_on_record_with_its_reason(tmp_path: Path) -> None:
    """Given a part without the right to mount, and one without a server."""
    (tmp_path / "conftest.py").write_text("from tests.guarantees.plugin import register\n"
        "def pytest_configure(config): register(config)\n")  # fmt: skip
    (tmp_path / "test_parts.py").write_text(PARTS)
    records = tmp_path / "records" / "soak.jsonl"
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    options = ["-m", "soak", "-n2", "-p", "no:cacheprovider", "-c", os.devnull]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "HOLDFAST_RECORDS": str(records)},
        check=False,
        capture_output=True,
        text=True,
    )
    text = records.read_text("utf-8")
    for told in ("did not run: nobody may mount (1)", "FAILED: There is no server.", "n: 3"):
        assert told in done.stdout, done.stdout + done.stderr
    for told in ("nobody may mount", "There is no server.", '"seen":{"n":3}', '"type":"session"'):
        assert told in text


PARTS = """
import pytest
pytestmark = pytest.mark.soak

@pytest.fixture
def server():
    pytest.fail("There is no server.", pytrace=False)

def test_power(): pytest.skip("nobody may mount")
def test_server(server): pass
def test_kills(record_property): record_property("seen", {"n": 3})
"""
