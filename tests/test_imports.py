"""The import contract: a module knows only what lies below it, drivers stay where they serve."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

# Lowest first. A module belongs to the layer with the longest name that is its own or a parent's.
LAYERS = [
    {"holdfast.errors", "holdfast.record"},
    {"holdfast.machine"},
    {
        "holdfast.stores.contract",
        "holdfast.stores.fork",
        "holdfast.stores.outcomes",
        "holdfast.stores.rows",
        "holdfast.service.attempts",
        "holdfast.service.batch",
        "holdfast.service.call",
        "holdfast.service.commit",
        "holdfast.service.contention",
        "holdfast.service.decide",
        "holdfast.service.decided",
        "holdfast.service.draft",
        "holdfast.service.handling",
        "holdfast.service.hooks",
        "holdfast.service.keys",
        "holdfast.service.lockstep",
        "holdfast.service.origin",
        "holdfast.service.plan",
        "holdfast.service.reads",
        "holdfast.service.records",
        "holdfast.service.requests",
        "holdfast.service.retry",
        "holdfast.service.runner",
        "holdfast.service.settle",
        "holdfast.service.settle_each",
        "holdfast.service.settle_one",
        "holdfast.service.within",
    },
    {"holdfast.stores"},
    {"holdfast.service"},
    {"holdfast"},
    {"holdfast.web", "holdfast.cli", "holdfast.ext", "holdfast.testing"},
    {"holdfast.examples"},
]
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Nothing imports these from outside but the examples; only the command line shows the examples, and
# runs the simulation.
CLOSED = {"holdfast.cli", "holdfast.testing", "holdfast.web"}

# Where a package may be imported. What is left of the standard library may be anywhere.
DRIVERS = {
    "click": {"holdfast.cli", "holdfast.examples"},
    "django": {"holdfast.ext.django", "holdfast.examples"},
    "msgspec": {"holdfast"},
    "psycopg": {"holdfast.stores.postgres"},
    "pytest": {"holdfast.testing"},
    "rich": {"holdfast.cli", "holdfast.examples"},
    "sqlalchemy": {"holdfast.ext.sqlalchemy", "holdfast.examples"},
    "sqlite3": {"holdfast.ext.sqlalchemy", "holdfast.stores", "holdfast.testing"},
    "typing_extensions": {"holdfast"},
}
STANDARD = (sys.stdlib_module_names | {"annotationlib"}) - DRIVERS.keys()  # The one is 3.14's.


def modules() -> dict[str, str]:
    """The text of every module of the package, by dotted name."""
    paths = {path.relative_to(SOURCE): path for path in SOURCE.rglob("*.py")}
    return {
        ".".join(short.with_suffix("").parts).removesuffix(".__init__"): path.read_text("utf-8")
        for short, path in paths.items()
    }


MODULES = modules()


def test_the_whole_package_is_examined() -> None:
    """Every layer that holds the library together was found where the contract looks for it."""
    assert {"holdfast", "holdfast.errors", "holdfast.machine", "holdfast.service"} <= set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    """Imports run downward, wherever in the module they stand."""
    assert list(violations(module, MODULES[module])) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("holdfast.errors", "import holdfast.machine"),
        ("holdfast.machine.graph", "from holdfast import Machine"),
        ("holdfast.machine.graph", "def draw(): import click"),
        ("holdfast.machine.graph", "import sqlite3"),
        ("holdfast.machine.graph", "import surely_not_a_dependency"),
        ("holdfast.service.service", "from holdfast.testing import store"),
        ("holdfast.stores.contract", "from holdfast.stores.sqlite import SQLiteStore"),
        ("holdfast.stores.contract", "from holdfast.service import plan, service"),
        ("holdfast.stores.sqlite", "from holdfast.service.service import Service"),
        ("holdfast.ext.django", "import holdfast.web.app"),
        ("holdfast.ext.django", "import sqlalchemy"),
        ("holdfast.ext.django", "from holdfast.examples import order"),
        ("holdfast.cli", "from holdfast import testing"),
        ("holdfast.web", "from holdfast.testing.simulation import simulate"),
    ],
)
def test_an_import_that_points_upward_is_found(module: str, source: str) -> None:
    """The contract refuses each kind of violation."""
    assert len(list(violations(module, source))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("holdfast", "from holdfast.service import Service"),
        ("holdfast.cli.run", "import click, rich.progress\nfrom holdfast.cli import tables"),
        ("holdfast.cli.demo", "from holdfast.examples import order"),
        ("holdfast.cli.simulate", "from holdfast.testing.simulation import simulate"),
        ("holdfast.examples.order", "from holdfast import Machine\nimport rich"),
        ("holdfast.machine.graph", "import json, msgspec\nfrom holdfast.record import Context"),
        ("holdfast.service.plan", "from holdfast.stores.contract import Load"),
        ("holdfast.service.service", "from holdfast.service import plan, runner"),
        ("holdfast.stores.sqlite", "import sqlite3"),
        ("holdfast.testing.stores", "from holdfast import open_store"),
    ],
)
def test_an_import_that_points_downward_is_allowed(module: str, source: str) -> None:
    """The contract accepts what the layout means."""
    assert list(violations(module, source)) == []


def test_importing_the_package_loads_no_driver() -> None:
    """`import holdfast` leaves what takes long to import to those who use it."""
    script = "import sys, holdfast; print(*sorted(sys.modules))"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    late = {
        "asyncio",
        "click",
        "django",
        "hashlib",
        "psycopg",
        "random",
        "rich",
        "sqlalchemy",
        "sqlite3",
        "holdfast.cli",
        "holdfast.testing",
    }
    assert "holdfast" in loaded
    assert late.isdisjoint(loaded)


def violations(module: str, source: str) -> Iterator[str]:
    """Each import of the module that the contract forbids, as a sentence."""
    for target in imported(source):
        if not allowed(module, target):
            yield f"{module} must not import {target}"


def imported(source: str) -> Iterator[str]:
    """The dotted names that a module imports; of `from x import y` that is always `x.y`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(module: str, target: str) -> bool:
    package = target.partition(".")[0]
    if package != "holdfast":
        homes = DRIVERS.get(package, set())
        return package in STANDARD or any(within(module, home) for home in homes)
    ours, theirs = layer(module), layer(target)
    if ours in {theirs, "holdfast.examples"}:
        return True
    if theirs == "holdfast.examples" or within(target, "holdfast.testing.simulation"):
        return ours == "holdfast.cli"
    return theirs not in CLOSED and RANKS[theirs] <= RANKS[ours]


def layer(name: str) -> str:
    return max((known for known in RANKS if within(name, known)), key=len)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")
