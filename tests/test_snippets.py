"""Every Python block and every command of the documents runs, and shows what it says."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from holdfast.stores.sql import load_script

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

ROOT = Path(__file__).parents[1]
POSTGRES = ROOT / "docs" / "postgresql.md"
DOCUMENTS = [ROOT / "README.md", *sorted({*(ROOT / "docs").glob("**/*.md")} - {POSTGRES})]
BLOCK = re.compile(r"^( *)```(python|console|sql)(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)
FILE = re.compile(r"# ([\w/]+)\.py\n")
MAKE = re.compile(r"make (demo|test)\b")
COMPLETION = re.compile(r"_HOLDFAST_COMPLETE=\w+ holdfast\b")
ERROR = re.compile("^Error: ", re.MULTILINE)
COMMAND = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_document_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    """Pasted in order into one empty folder, the blocks of a document work."""
    command = [sys.executable, "-W", "error", __file__, str(path)]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_document_on_postgresql_runs(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """On a server where nothing is made beforehand but two databases and the roles."""
    server = own_postgres_server
    with server.connect() as connection:
        for statement in ("CREATE DATABASE trial", "CREATE DATABASE accounts"):
            connection.execute(statement.encode())
        connection.execute(load_script("postgres", "roles").encode())
    urls = {
        "TRIAL_URL": server.url("trial"),
        "ADMIN_URL": server.url("accounts"),
        "DEPLOY_URL": server.url("accounts", user="deploy", password="secret"),
        "DATABASE_URL": server.url("accounts", user="shop", password="secret"),
    }
    command = [sys.executable, "-W", "error", __file__, str(POSTGRES)]
    env = {**os.environ, **urls}
    done = subprocess.run(
        command, cwd=tmp_path, check=False, capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_may_be_pasted_twice(tmp_path: Path) -> None:
    """What a newcomer runs again, in the folder of the first time, works again."""
    for _ in range(2):
        command = [sys.executable, "-W", "error", __file__, str(ROOT / "README.md")]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def run(path: Path) -> None:
    """Run a document's blocks in this process, as one module in the current folder."""
    sys.path[0] = str(Path.cwd())
    sys.modules["document"] = module = ModuleType("document")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    document = path.read_text("utf-8")
    for block in BLOCK.finditer(document):
        _, language, options, text = block.groups()
        assert not options, f"A block has no options, so that it always runs: {options!r}"
        if language == "console":
            run_commands(textwrap.dedent(text))
        elif language == "sql":
            run_statements(textwrap.dedent(text))
        elif file := FILE.match(text):
            vars(module).update(names_of_file(file[1], text))
        else:
            above = "\n" * document.count("\n", 0, block.start(4))
            code = compile(above + textwrap.dedent(text), path, "exec", dont_inherit=True)
            exec(code, vars(module))


def names_of_file(name: str, text: str) -> dict[str, object]:
    """Save a block that opens with `# name.py` as that file, and import it from there."""
    path = Path(f"{name}.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    importlib.invalidate_caches()
    return vars(importlib.import_module(name.replace("/", ".")))


def run_commands(text: str) -> None:
    """Run the commands, and compare what they print where that is shown.

    A command that fails shows an error, or its exit code after `echo $?`. What completion makes is
    for a shell of its own.
    """
    commands, code = COMMAND.findall(text), 0
    for (command, shown), (following, _) in pairwise([*commands, ("", "")]):
        if MAKE.match(command):
            continue
        is_completion = COMPLETION.search(command)
        called = is_completion[0] if is_completion else command
        shell = ["bash", "-c", f"(exit {code})\n{called}"]
        done = subprocess.run(shell, check=False, capture_output=True, text=True)
        code, printed = done.returncode, done.stdout + done.stderr
        told = f"$ {command}\n{printed}\nexit code {code}"
        assert (code != 0) == bool(ERROR.search(shown)) or following == "echo $?", told
        assert not shown or same(shown, printed), told
        assert printed or not is_completion, told


def run_statements(text: str) -> None:
    """Run SQL as an administrator of the database that the document is about."""
    import psycopg

    with psycopg.connect(os.environ["ADMIN_URL"], autocommit=True) as connection:
        connection.execute(text.encode())


def same(shown: str, printed: str) -> bool:
    """Whether the outputs are equal; `...` in what is shown stands for anything."""
    return doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
