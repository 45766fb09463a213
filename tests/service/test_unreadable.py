"""What other code has written and this code cannot read: said, stepped over, erased."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.orders import CountingStore

from holdfast import (
    Command,
    DecodeError,
    Machine,
    NotFoundError,
    Service,
    State,
    open_store,
)
from holdfast.stores.contract import Store


class Old(State, tag="Draft"):
    text: str
    author: str = ""


class New(State, tag="Draft"):
    text: str


class Write(Command):
    text: str
    author: str = ""


before = Machine("paper", state=Old, command=Write)
since = Machine("paper", state=New, command=Write)


@before.on
def write_old(state: Old | None, command: Write) -> Old:
    return Old(text=command.text, author=command.author)


@since.on
def write_new(state: New | None, command: Write) -> New:
    return New(text=command.text)


@pytest.fixture(params=["memory://", "sqlite:///{}/papers.db"], ids=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with open_store(request.param.format(tmp_path)) as store:
        papers = Service(since, store)
        papers.handle_many([(id, Write(text="readable")) for id in "acd"])
        Service(before, store).handle("b", Write(text="long gone", author="ann"))
        yield store


@pytest.fixture
def papers(store: Store) -> Service[New, Write, None]:
    return Service(since, store)


def test_the_error_names_the_entity_and_the_usual_causes(papers: Service[New, Write, None]) -> None:
    """A renamed or removed field is the usual one; newer code is the other."""
    with pytest.raises(DecodeError, match=r"paper 'b' at version 1 .*`author`.*") as caught:
        papers.get("b")
    assert "renamed, removed" in str(caught.value)
    assert "newer code" in str(caught.value)


def test_a_page_with_it_tells_how_to_go_on(papers: Service[New, Write, None]) -> None:
    """And going on so misses nothing else."""
    with pytest.raises(DecodeError, match=r"'b'.*; 1 before it.*limit=n.*after=id"):
        papers.find()
    readable = [*papers.find(limit=1), *papers.find(after="b")]
    assert [record.id for record in readable] == ["a", "c", "d"]
    with pytest.raises(DecodeError, match=r"'b'.*leave it out"):
        papers.get_many(["a", "b", "c"])
    assert list(papers.get_many(["a", "c"])) == ["a", "c"]


def test_a_failure_tells_what_state_it_is_in(store: Store) -> None:
    """By its name; and it may be any that a failure hook is for."""
    machine = Machine("paper", state=New, command=Write)
    machine.on(write_new)
    told: list[tuple[str, str | None]] = []
    machine.on_failure(from_=New)(lambda change: told.append((change.id, change.from_state)))
    with pytest.raises(DecodeError):
        Service(machine, store).handle("b", Write(text="x"))
    assert told == [("b", "Draft")]


def test_it_can_be_purged(store: Store, papers: Service[New, Write, None]) -> None:
    """Erasing needs no reading."""
    papers.purge("b", metadata={"by": "the law"})
    with pytest.raises(NotFoundError):
        papers.get("b")
    assert [entry.kind for entry in papers.history("b")] == ["purged", "deletion"]
    assert all("long gone" not in str(row) for row in store.read_log(limit=9))


def test_it_can_be_purged_though_others_wrote_meanwhile(store: Store) -> None:
    """Nor does erasing again, after a conflict."""
    counting = CountingStore(store)
    papers = Service(since, counting)
    other = Service(before, store)
    counting.before_commit = [
        lambda: other.handle("b", Write(text="more", author="ann")),
        lambda: None,
    ]
    papers.purge("b")
    assert counting.commits == [1, 1]
    assert [entry.version for entry in papers.history("b")] == [1, 2, 3]
    assert all("ann" not in str(row) for row in store.read_log(limit=9))
