"""The same order in other libraries, each written as its own documentation would write it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol

from benchmarks.order import Cancel, Pack, Pair, Pay, Place, Return, Ship

Calls = list[tuple[Callable[..., object], tuple[Any, ...]]]
"""Functions with the arguments to call them with, each to be called once."""
Prepare = Callable[[Pair, int], Calls]
"""Brings that many orders into a pair's state and returns the calls that apply its command."""

TRIGGERS: dict[type, str] = {
    Place: "place",
    Pay: "pay",
    Pack: "pack",
    Ship: "ship",
    Return: "take_back",
    Cancel: "cancel",
}
"""What each command's method is called there."""


class Orders(Protocol):
    """Orders in a database."""

    def handle(self, id: str) -> object:
        """Move an order on, round the circle of its commands."""
        ...

    def close(self) -> None:
        """Close the database."""
        ...


Open = Callable[[str, Sequence[str]], Orders]
"""Makes a database at a path or a URL, with orders of these ids in it."""

STEP_RIVALS = {
    "transitions": "transitions_order",
    "python-statemachine": "statemachine_order",
    "automat": "automat_order",
}


STORE_RIVALS = {
    "eventsourcing": "eventsourcing_order",
    "xstate-statemachine": "xstate_order",
}


SERVER_RIVALS = {
    "eventsourcing": "eventsourcing_order",
    "dbos": "dbos_order",
}


def find_step_rivals() -> tuple[dict[str, Prepare], list[str]]:
    """Return what prepares each library that is installed, and the names of those that are not."""
    return _find(STEP_RIVALS, "prepare")


def find_store_rivals(names: Sequence[str]) -> tuple[dict[str, Open], list[str]]:
    """Return what opens each library's database, and the names of those that are not installed."""
    return _find({name: STORE_RIVALS[name] for name in names}, "Orders")


def find_server_rivals() -> tuple[dict[str, Open], list[str]]:
    """Return what opens each library on a PostgreSQL, and the names of those not installed."""
    return _find(SERVER_RIVALS, "ServerOrders")


def _find(modules: dict[str, str], attribute: str) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    absent: list[str] = []
    for name, module in modules.items():
        try:
            found[name] = getattr(import_module(f"benchmarks.rivals.{module}"), attribute)
        except ModuleNotFoundError:
            absent.append(name)
    return found, absent
