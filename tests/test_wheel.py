"""The built wheel, installed in an empty environment, is all that a user needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
UV = [sys.executable, "-m", "uv", "--quiet"]
RESOLUTIONS = {
    "locked": ["--constraints", str(ROOT / "requirements" / "dev.txt")],
    "lowest": ["--resolution", "lowest"],
}
PROGRAM = """
from holdfast import Command, Machine, Service, State, open_store

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


def test_an_installed_wheel_works(environment: Path, tmp_path: Path) -> None:
    """With locked and with the lowest allowed dependencies, a machine and the command line run."""
    python, holdfast = str(environment / "python"), str(environment / "holdfast")
    assert run([python, "-I", "-c", PROGRAM], tmp_path) == "1 Pending(total=4200)\n"
    assert "0.1.0" in run([holdfast, "--version"], tmp_path)
    assert "history" in run([holdfast, "--help"], tmp_path)


def run(command: Sequence[str], folder: Path) -> str:
    """What a command prints; one that fails fails the test, with its message."""
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
