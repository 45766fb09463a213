"""What the tests of the command line stand on: a shop in a folder, and ways to call `holdfast`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from holdfast import AsyncService, Service
from holdfast.cli.app import app

SHOP = """
import os
import holdfast
from holdfast import Command, CommandRejectedError, Machine, Service, State, open_store

class Pending(State):
    total: int

class Paid(State):
    total: int

class Place(Command):
    total: int

class Pay(Command):
    card: str = ""

class Cancel(Command):
    reason: str

order = Machine("order", state=Pending | Paid, command=Place | Pay | Cancel)

@order.on
def place(state: None, command: Place) -> Pending:
    return Pending(total=command.total)

@order.on
def pay(state: Pending, command: Pay) -> Paid:
    if command.card == "unplugged":
        raise ConnectionError("no line to the bank")
    return Paid(total=state.total)

@order.on
def cancel(state: Pending | Paid, command: Cancel) -> None:
    if isinstance(state, Paid):
        raise CommandRejectedError("paid orders stay: " + command.reason)

orders = Service(order, open_store("sqlite:///shop.db"))
"""

PLAIN = [sys.executable, "-P", "-c", "from holdfast.cli import main; main()"]
"""The command as installed; with -P the current folder is not importable by itself."""


class Done(NamedTuple):
    """A call of the command that ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """What it wrote, read as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Done]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, now the current one, but for a module `shop` with the service `orders`."""
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _close_stores(module: ModuleType) -> None:
    """Close what a module has opened: a target that fails at its first use is given to nobody."""
    for value in vars(module).values():
        if isinstance(value, Service | AsyncService):
            value.store.close()


@pytest.fixture
def cli(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command in this process, in the folder of the shop; modules there are read anew."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def call(*arguments: str, stdin: str | bytes = "", columns: int = 80) -> Done:
        before = set(sys.modules)
        runner = CliRunner(env={"COLUMNS": str(columns)})
        result = runner.invoke(app, arguments, input=stdin)
        for name in set(sys.modules) - before:
            if not name.startswith(("holdfast", "rich")) and is_in(shop, name):
                _close_stores(sys.modules.pop(name))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return call


def is_in(folder: Path, name: str) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)


def spawn(folder: Path, *arguments: str, **options: Any) -> Done:
    """Call the command in a process of its own."""
    done = subprocess.run(
        [*PLAIN, *arguments],
        cwd=folder, check=False, capture_output=True, text=True, timeout=60, **options,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def request(id: str, command: str, **fields: Any) -> dict[str, Any]:
    """A line of a stream; what belongs to the line and not to the command is named by `line_`."""
    line = {name[5:]: value for name, value in fields.items() if name.startswith("line_")}
    rest = {name: value for name, value in fields.items() if not name.startswith("line_")}
    return {"id": id, "command": {"$type": command, **rest}, **line}


def write_stream(path: Path, lines: Iterable[object]) -> str:
    """Write requests, or whatever else the lines are, and return the name of the file."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
    return path.name


KEYS = ("done_before", "applied", "already_applied", "rejected")


def summary(done: Any) -> tuple[int, ...]:
    [line] = done.lines
    return tuple(line[key] for key in KEYS)


def rejects(folder: Path, pattern: str = "*.rejected-*.ndjson") -> list[Any]:
    """The entries of all files of rejected lines."""
    return [
        json.loads(line)
        for path in sorted(folder.glob(pattern))
        for line in path.read_text("utf-8").splitlines()
    ]


def states(cli: Cli) -> dict[str, str]:
    return {line["id"]: line["state_type"] for line in cli("list", "shop:orders", "--all").lines}


GOOD = request("good", "Place", total=1)
