"""Targets: what may be named, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Cli, spawn

MORE = """

class Kiosk:
    service = orders
    order = order

def make():
    return Service(order, open_store("sqlite:///shop.db"))

def needy(url):
    return orders

def confused():
    return order

def failing():
    raise ValueError("no configuration")

def leaving():
    raise SystemExit(7)

def cancelled():
    import asyncio
    raise asyncio.CancelledError

async def awaiting():
    return orders

def undefined():
    broken = Machine("broken", state=Pending, command=Place)
    return Service(broken, orders.store)
"""


@pytest.fixture
def more(shop: Path) -> Path:
    """A shop with more to name."""
    path = shop / "shop.py"
    path.write_text(path.read_text("utf-8") + MORE, "utf-8")
    (shop / "shop.db").touch()
    (shop / "torn.py").write_text("def half(\n", "utf-8")
    (shop / "exiting.py").write_text("raise SystemExit(0)\n", "utf-8")
    (shop / "clicking.py").write_text("import click\nraise click.exceptions.Exit(0)\n", "utf-8")
    (shop / "needing.py").write_text("import surely_not_there\n", "utf-8")
    (shop / "package").mkdir()
    (shop / "package" / "__init__.py").touch()
    (shop / "package" / "inner.py").write_text("from shop import orders\n", "utf-8")
    return shop


@pytest.mark.parametrize(
    "target", ["shop:orders", "shop:make", "shop:Kiosk.service", "package.inner:orders"]
)
def test_a_service_is_named_itself_or_by_what_returns_it(cli: Cli, more: Path, target: str) -> None:
    """A module of the current folder and an attribute of it name a service."""
    done = cli("list", target)
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize("target", ["shop:order", "shop:confused", "shop:orders", "shop:make"])
@pytest.mark.parametrize("verb", ["graph", "check"])
def test_a_machine_is_enough_for_what_needs_no_store(
    cli: Cli, more: Path, verb: str, target: str
) -> None:
    """`graph` and `check` take machines and services alike."""
    done = cli(verb, target)
    assert (done.code, done.err) == (0, "")
    assert "Pending" in done.out


NO_MODULE = "there is no module nowhere in "


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop", "write it as module:attribute, like shop:orders"),
        (":orders", "write it as module:attribute"),
        ("shop:", "write it as module:attribute"),
        ("shop.py:orders", "it takes a module, not a file; try shop:orders"),
        ("./package/inner.py:orders", "not a file; try package.inner:orders"),
        ("nowhere:orders", NO_MODULE),
        ("nowhere.inner:orders", NO_MODULE),
        ("package.missing:orders", "there is no module package.missing in "),
        ("shop:order", "it is a Machine, not a Service"),
        ("shop:Paid", "it is a Paid, not a Service"),
        ("shop:missing", "it has no missing, and it has orders"),
        ("shop:Kiosk.missing", "it has no missing, and it has service"),
        ("shop:confused", "it returned a Machine, not a Service"),
        ("shop:needy", "takes no arguments: missing a required argument: 'url'"),
        ("shop:failing", "calling shop:failing failed: ValueError: no configuration (at shop.py:"),
        ("shop:leaving", "calling shop:leaving failed: SystemExit: 7 (at shop.py:"),
        ("shop:cancelled", "calling shop:cancelled failed: CancelledError (at shop.py:"),
        ("shop:awaiting", "it is a coroutine function, and nothing awaits a TARGET"),
        ("exiting:x", "importing exiting failed: SystemExit: 0 (at exiting.py:1 in <module>)"),
        ("clicking:x", "importing clicking failed: Exit: 0 (at clicking.py:2 in <module>)"),
        ("shop:undefined", "broken has no handler; add functions with @broken.on"),
        ("torn:half", "importing torn failed: SyntaxError: '(' was never closed"),
        (
            "needing:x",
            "importing needing failed: ModuleNotFoundError: No module named 'surely_not_there' "
            "(at needing.py:1 in <module>)",
        ),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    cli: Cli, more: Path, target: str, said: str
) -> None:
    """The line says what is wrong with the target, and where; the exit code is 2."""
    done = cli("list", target)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: ")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_traceback_is_shown_on_request(cli: Cli, more: Path) -> None:
    """The line comes after the traceback then."""
    done = cli("--traceback", "list", "shop:failing")
    assert done.code == 2
    assert done.err.startswith("Traceback (most recent call last):")
    assert 'raise ValueError("no configuration")' in done.err
    assert done.err.splitlines()[-1].startswith("Error: calling shop:failing failed")


def test_modules_are_found_in_the_current_folder(more: Path) -> None:
    """The installed command finds what `python -m` would find."""
    assert spawn(more, "list", "shop:orders").code == 0


def test_the_current_folder_comes_before_what_is_installed(more: Path) -> None:
    """A module of one's own is not hidden by another of its name."""
    (more / "rich.py").write_text("from shop import orders\n", "utf-8")
    assert spawn(more, "list", "rich:orders").code == 0


@pytest.mark.parametrize("verb", ["list", "show", "history", "verify"])
def test_a_look_makes_no_store(cli: Cli, shop: Path, verb: str) -> None:
    """From the wrong folder, or with a wrong path, nothing is made and it is said."""
    done = cli(verb, "shop:orders", *(["o-1"] if verb in ("show", "history") else []))
    assert done.code == 4
    assert "sqlite:///shop.db does not exist; check the path, or the folder" in done.err
    assert not (shop / "shop.db").exists()
