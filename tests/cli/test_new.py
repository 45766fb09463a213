"""The verb `new`: what it writes is sound as written, whole or not there, and hides nothing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.cli.conftest import Cli

from holdfast.cli.new import FILES

ROOT = Path(__file__).parents[2]
LONGEST = "a" * 30
CHECKS = {
    "pytest": ["-W", "error", "-p", "no:cacheprovider"],
    "mypy": ["--strict", "--config-file=", "--no-incremental"],
    "pyright": ["--pythonpath", sys.executable],
    "ruff": ["check", "--no-cache"],
}


def check(folder: Path, name: str, tool: str, *options: str) -> None:
    """Run a tool on a package, where no setting of this repository reaches it."""
    command = [sys.executable, "-m", tool, *CHECKS[tool], *options, name]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("tool", CHECKS)
def test_what_is_written_passes_every_check(cli: Cli, tmp_path: Path, tool: str) -> None:
    """Tests, types and lint find nothing to say about a package as it was written."""
    assert cli("new", "refund").code == 0
    check(tmp_path, "refund", tool)


@pytest.mark.parametrize("name", ["q", "zeal_9", LONGEST])
@pytest.mark.parametrize("rules", ["default", "own"])
def test_what_is_written_is_in_form_whatever_its_name(
    cli: Cli, tmp_path: Path, name: str, rules: str
) -> None:
    """The rules of ruff, and ours, leave the shortest and the longest name as they are."""
    if rules == "own":
        (tmp_path / "ruff.toml").write_text(f"extend = '{ROOT}/pyproject.toml'\nsrc = ['.']\n")
    assert cli("new", name).code == 0
    check(tmp_path, name, "ruff")
    command = [sys.executable, "-m", "ruff", "format", "--no-cache", "--diff", name]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_package_may_lie_within_another(cli: Cli, tmp_path: Path) -> None:
    """It imports its own modules by where they stand, so its tests pass where it is moved to."""
    assert cli("new", "refund").code == 0
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    shutil.move("refund", "app/refund")
    check(tmp_path, "app/refund", "pytest")


def test_the_package_has_the_recommended_files(cli: Cli, tmp_path: Path) -> None:
    """The folder holds what the help says, is as open as any other, and nothing is left over."""
    before = {path.name for path in tmp_path.iterdir()}
    assert cli("new", "refund").code == 0
    assert {path.name for path in tmp_path.iterdir()} == before | {"refund"}
    assert {path.name for path in (tmp_path / "refund").iterdir()} == set(FILES)
    (tmp_path / "other").mkdir()
    assert (tmp_path / "refund").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_machine_is_sound_and_named_as_the_package(cli: Cli) -> None:
    """The other verbs find it under the package's name."""
    assert cli("new", "refund").code == 0
    [found] = cli("check", "refund:service").lines
    assert (found["machine"], found["sound"]) == ("refund", True)


def test_what_to_do_next_can_be_done(cli: Cli, tmp_path: Path) -> None:
    """Each command that is told works, in the order in which they are told."""
    told = cli("new", "refund").out.partition("Next, in this folder:\n")[2].split("\n")
    commands = [line.split() for line in told if line]
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    assert len(commands) >= 3
    for command in commands:
        run(tmp_path, command, {**os.environ, **path})


def run(folder: Path, command: list[str], env: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Order", "lower-case letters"),
        ("1st", "lower-case letters"),
        ("an-order", "lower-case letters"),
        ("app/order", "lower-case letters"),
        ("..", "lower-case letters"),
        ("", "lower-case letters"),
        ("größe", "lower-case letters"),
        ("order\n", "lower-case letters"),
        (LONGEST + "a", "up to 30"),
        ("class", "no keyword"),
        ("json", "would hide a module"),
        ("holdfast", "would hide a module"),
        ("click", "would hide a module"),
        ("state", "needs this name"),
        ("withdraw", "needs this name"),
        ("url", "needs this name"),
        ("model", "needs this name"),
        ("list", "needs this name"),
        ("shop", "exists"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(
    cli: Cli, tmp_path: Path, name: str, reason: str
) -> None:
    """The reason is told in one line, and nothing is written."""
    before = sorted(tmp_path.iterdir())
    done = cli("new", name)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: NAME ")
    assert done.err.count("\n") == 1
    assert reason in done.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "dangling link"])
def test_what_exists_is_left_as_it_is(cli: Cli, tmp_path: Path, kind: str) -> None:
    """Whatever has the name keeps it."""
    path = tmp_path / "refund"
    if kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
    if kind == "folder":
        (path / "model.py").write_text("mine")
    done = cli("new", "refund")
    assert done.code == 2
    assert f"{path} exists" in done.err
    assert [p.read_text() for p in (path, path / "model.py") if p.is_file()] in ([], ["mine"])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["refund", "shop.py"]


def test_nothing_is_left_where_the_disk_is_full(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package is there whole or not at all."""
    written: list[str] = []
    write_text = Path.write_text

    def fill(self: Path, data: str, encoding: str | None = None) -> int:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(self.name)
        return write_text(self, data, encoding)

    monkeypatch.setattr(Path, "write_text", fill)
    done = cli("new", "refund")
    assert (done.code, done.out) == (5, "")
    assert done.err == "Error: cannot write refund/: No space left on device\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["shop.py"]
