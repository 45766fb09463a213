"""The lending library: what is done at its desk is done whole or not at all, on either database."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from holdfast import GuardFailedError, InvalidTransitionError, Service, open_store
from holdfast.examples.lending import Desk, LoanFlow, open_library

ROOT = Path(__file__).parents[2]
README = ROOT / "src" / "holdfast" / "examples" / "lending" / "README.md"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database: each test runs on both kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/library.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def desk(url: str) -> Iterator[Desk]:
    """Return the desk of a library with three books, of one of which there are two copies."""
    with open_library(url, clerk="mira") as desk:
        for title, copies in (("Emma", 2), ("Ulysses", 1), ("Persuasion", 1)):
            desk.buy(title, copies)
        yield desk


def out(desk: Desk) -> list[tuple[str, str]]:
    """Return which books are lent, and to whom."""
    return [(title, reader) for title, reader, _ in desk.out()]


def test_books_are_lent_until_no_copy_is_left(desk: Desk) -> None:
    """One that comes back can be lent again."""
    first = desk.lend("Emma", "ada")
    desk.lend("Emma", "bob")
    with pytest.raises(GuardFailedError, match="every copy is lent"):
        desk.lend("Emma", "cleo")
    assert out(desk) == [("Emma", "ada"), ("Emma", "bob")]
    desk.take_back(first)
    desk.lend("Emma", "cleo")
    assert out(desk) == [("Emma", "bob"), ("Emma", "cleo")]


def test_a_reader_has_two_books_at_most(desk: Desk) -> None:
    """Of several, what cannot be lent leaves nothing behind, and the rest is lent."""
    assert desk.lend_all(["Emma", "Ulysses", "Persuasion"], "ada") == ["Persuasion"]
    with pytest.raises(GuardFailedError, match="ada has 2 books already"):
        desk.lend("Persuasion", "ada")
    desk.lend("Persuasion", "bob")
    assert len(out(desk)) == 3


def test_two_desks_do_not_lend_the_same_copy(desk: Desk, url: str) -> None:
    """The later one is refused, although a copy was there when it looked the book up."""
    with (
        open_library(url, clerk="nils") as other,
        before_next_flush(lambda: other.lend("Ulysses", "bob")),
        pytest.raises(GuardFailedError, match="every copy is lent"),
    ):
        desk.lend("Ulysses", "ada")
    assert out(desk) == [("Ulysses", "bob")]


def test_two_desks_count_what_comes_back(postgres_url: str) -> None:
    """Neither overwrites what the other has counted."""
    with (
        open_library(postgres_url, clerk="mira") as desk,
        open_library(postgres_url, clerk="nils") as other,
    ):
        desk.buy("Emma", 2)
        numbers = [desk.lend("Emma", reader) for reader in ("ada", "bob")]
        with before_next_flush(lambda: other.take_back(numbers[1])):
            desk.take_back(numbers[0])
        assert [desk.lend("Emma", reader) for reader in ("cleo", "dan")] == [3, 4]


@contextmanager
def before_next_flush(act: Callable[[], object]) -> Generator[None]:
    """Do something while another desk is about to write."""
    due = [act]

    def flushes(*_: object) -> None:
        if due:
            due.pop()()

    event.listen(Session, "before_flush", flushes)
    try:
        yield
    finally:
        event.remove(Session, "before_flush", flushes)
    assert not due


def test_a_lost_book_may_be_found(desk: Desk, url: str) -> None:
    """Who did what, and why, is in the log of the store."""
    number = desk.lend("Ulysses", "ada")
    desk.give_up(number, "left in a train")
    assert out(desk) == []
    with pytest.raises(InvalidTransitionError):
        desk.give_up(number, "again")
    desk.take_back(number)
    desk.lend("Ulysses", "bob")
    with open_store(url) as store:
        history = Service(LoanFlow.machine, store, deps=object()).history(str(number))
    assert [(each.to_state, each.actor, each.reason) for each in history] == [
        ("lent", "mira", None),
        ("lost", "mira", "left in a train"),
        ("returned", "mira", None),
    ]


def test_readers_are_told_of_what_was_committed(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """And of nothing that was refused or undone."""
    with caplog.at_level(logging.INFO):
        desk.lend_all(["Ulysses"], "ada")
        desk.lend_all(["Ulysses", "Emma"], "bob")
    assert [record.message for record in caplog.records] == [
        "to ada: 'Ulysses' is lent",
        "to bob: 'Emma' is lent",
    ]


def test_the_readme_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """Its blocks, pasted in order into an empty folder, work."""
    runner = ROOT / "tests" / "test_snippets.py"
    command = [sys.executable, "-W", "error", str(runner), str(README)]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_draws_the_flow_and_names_every_module() -> None:
    """The diagram and the table of files are those of the code."""
    text = README.read_text("utf-8")
    drawn = re.search(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert drawn is not None
    assert drawn[1] == LoanFlow.graph().mermaid()
    modules = {path.name for path in README.parent.glob("*.py")} - {"__init__.py"}
    assert modules == set(re.findall(r"`(\w+\.py)`", text))
