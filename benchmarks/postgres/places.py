"""Databases for those who are measured, each with one of its own on the same server."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from tests.servers.databases import Databases

from holdfast import open_store


@contextmanager
def empty_place(databases: Databases) -> Generator[str]:
    """Give the URL of an empty database."""
    database = databases.take()
    yield database.url()
    databases.give_back(database)


@contextmanager
def place(databases: Databases) -> Generator[str]:
    """Give the URL of a store, with its tables."""
    with empty_place(databases) as url:
        with open_store(url) as store:
            store.migrate()
        yield url
