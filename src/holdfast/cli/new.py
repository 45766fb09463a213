"""The verb `new`: writes the package of a machine that works, to begin one's own from."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

import click

from holdfast.cli.exits import Exit, Failure
from holdfast.cli.output import after, program, write, write_facts

FILES = {
    "__init__.py": "what the command line finds",
    "model.py": "the states and the commands: begin here",
    "machine.py": "the handlers: which command leads where",
    "stand_in.py": "the service, with a bank that only pretends",
    "test_machine.py": "the rules, without a store",
    "test_machine_store.py": "the same, durable",
}
"""The files of a package, and what each is for."""

_NAME = re.compile("[a-z][a-z0-9_]{0,29}")


@click.command()
@click.argument("name")
def new(*, name: str) -> None:
    """Write the package of a machine into a new folder NAME, here.

    NAME is the name of the package and of its machine: lower-case letters, digits and _, up to
    30. What is written is a small machine that works, with its tests: something is submitted,
    approved by somebody else, and paid; a payment can fail and be tried again. It passes pytest,
    mypy --strict, pyright and ruff as it is. Make it yours from model.py on.

    Exit codes: 0 written, 2 not begun: the name cannot be taken, or is taken, 5 the files cannot
    be written; nothing is left then.
    """
    _expect_usable(name)
    _write(Path(name), _render(name))
    with after(f"{name}/ is written"):
        write(f"{name}/ is written:")
        write_facts({f"  {file}": purpose for file, purpose in FILES.items()})
        write(_NEXT.substitute(name=name, holdfast=program()), end="")


_NEXT = Template("""
Next, in this folder:
  pytest $name
  $holdfast graph $name:service
  $holdfast send $name:service first Submit amount=4200 account=A-7 by=ann
  $holdfast send $name:service first Approve by=bob
  $holdfast list $name:service
""")


def _render(name: str) -> dict[str, str]:
    folder = files("holdfast.cli") / "templates"
    return {
        file: Template((folder / f"{file}.txt").read_text("utf-8")).substitute(name=name)
        for file in FILES
    }


def _expect_usable(name: str) -> None:
    if not _NAME.fullmatch(name) or iskeyword(name):
        raise _unusable(
            name, "take up to 30 lower-case letters, digits and _, a letter first, no keyword"
        )
    for path in (Path(name), Path(f"{name}.py")):
        if path.exists() or path.is_symlink():
            raise _unusable(name, f"{path.absolute()} exists; take another, or move that away")
    if name in sys.stdlib_module_names or find_spec(name) is not None:
        raise _unusable(name, "it would hide a module that is installed; take another")
    if name in _names_within():
        raise _unusable(name, "the package needs this name for something else; take another")


def _names_within() -> set[str]:
    """Return the names beside which the machine's variable, named as the package, stands."""
    names = {*dir(builtins), *(Path(file).stem for file in FILES)}
    for text in _render("_").values():
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.arg(arg=name):
                    names.add(name)
                case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                    names.update(alias.name for alias in aliases)
                case _:
                    pass
    return names


def _write(path: Path, texts: dict[str, str]) -> None:
    """Write the package aside and move it into place, so that it is there whole or not at all."""
    try:
        with TemporaryDirectory(prefix=f".{path}.", dir=Path.cwd()) as aside:
            folder = Path(aside) / path
            folder.mkdir()
            for file, text in texts.items():
                (folder / file).write_text(text, "utf-8")
            folder.rename(path)
    except OSError as error:
        raise Failure(f"cannot write {path}/: {error.strerror or error}", Exit.FAILED) from error


def _unusable(name: str, reason: str) -> Failure:
    return Failure(f"NAME {name!r} cannot be used: {reason}", Exit.USAGE)
