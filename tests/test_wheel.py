"""The built wheel, installed in an empty environment, is all that a user needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

from holdfast.cli import app

ROOT = Path(__file__).parents[1]
UV = [sys.executable, "-m", "uv", "--quiet"]
RESOLUTIONS = {
    "locked": ["--constraints", str(ROOT / "requirements" / "dev.txt")],
    "lowest": ["--resolution", "lowest"],
}
PROGRAM = """
from holdfast import Command, Flow, Machine, Service, State, open_store

class Pending(State):
    total: int

class Place(Command):
    total: int

order = Machine("order", state=Pending, command=Place)

@order.on
def place(state: None, command: Place) -> Pending:
    return Pending(total=command.total)

with open_store("sqlite:///shop.db") as store:
    record = Service(order, store).handle("o-1", Place(total=4200))

print(record.version, record.state)

class Parcel(Flow):
    packed = Flow.state(initial=True)
    sent = Flow.state()
    send = Flow.event(packed.to(sent))

with open_store("sqlite:///shop.db") as store:
    parcel = Parcel(None, store=store, id="p-1", record_initial=True)
    print(parcel.trigger("send").version, parcel.current_state)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive that this checkout makes."""
    folder = tmp_path_factory.mktemp("dist")
    backend = ["--no-build-isolation", "--python", sys.executable]
    run([*UV, "build", *backend, "--out-dir", str(folder)], ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(params=RESOLUTIONS)
def environment(wheel: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The scripts of an environment that holds the wheel and what it declares, nothing else."""
    scripts = tmp_path / "env" / "bin"
    install = ["pip", "install", "--python", str(scripts / "python"), str(wheel)]
    run([*UV, "venv", "--python", sys.executable, str(scripts.parent)], tmp_path)
    run([*UV, *install, *RESOLUTIONS[request.param]], tmp_path)
    return scripts


def test_the_wheel_holds_the_whole_package(wheel: Path) -> None:
    """The SQL and the typing marker are in the wheel as the code is, and nothing else is."""
    package = ROOT / "src" / "holdfast"
    there = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {path.relative_to(package.parent).as_posix() for path in there}
    assert {".py", ".sql"} <= {Path(name).suffix for name in held}
    assert "holdfast/py.typed" in held


LINES = """
{"id": "claim-1", "command": {"$type": "Submit", "amount": 1, "account": "A", "by": "ann"}}
{"id": "claim-1", "command": {"$type": "Approve", "by": "bob"}}
"""
VERBS = {
    "--version": tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"],
    "new claim": "claim/ is written:",
    "send claim:service c-1 Submit amount=1 account=A by=ann --table": "allowed  Approve, Withdraw",
    "send claim:service c-1 Approve by=bob --preview --table": "version  2, not written",
    "run claim:service lines.ndjson --table": "applied          2\n",
    "list claim:service --table": "claim-1   Approved          2   20",
    "show claim:service c-1 --table": "state    Submitted\n",
    "history claim:service claim-1 --table": "Submitted →",
    "graph claim:service": "Submitted --> Approved : Approve\n",
    "check claim:service --table": "pairs without a handler       15\n",
    "simulate --seeds 3": "3, no promise broken",
    "migrate sqlite:///claim.db": "has the tables that this code needs",
    "verify sqlite:///claim.db --anchor anchor --table": "anchor              anchor was not",
    "demo --orders 3": "on one file, ",
}
"""Every verb, and a part of what it prints."""


def test_an_installed_wheel_works(environment: Path, tmp_path: Path) -> None:
    """With locked and with the lowest allowed dependencies, a machine and every verb run."""
    python, holdfast = str(environment / "python"), str(environment / "holdfast")
    assert run([python, "-I", "-c", PROGRAM], tmp_path) == "1 Pending(total=4200)\n2 sent\n"
    (tmp_path / "lines.ndjson").write_text(LINES)
    for verb, shown in VERBS.items():
        assert shown in run([holdfast, *verb.split()], tmp_path)


def test_every_verb_is_tried() -> None:
    """One that is added is tried too."""
    assert {call.split()[0] for call in VERBS} == {"--version", *app.VERBS}


def run(command: Sequence[str], folder: Path) -> str:
    """What a command prints; one that fails fails the test, with its message."""
    # Only what the environment holds is to be found.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
