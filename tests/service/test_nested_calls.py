"""Handlers that send commands to the service that runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any

import pytest

from holdfast import (
    BatchError,
    Checkpoint,
    Command,
    DefinitionError,
    Machine,
    Record,
    Service,
    State,
    Transaction,
    open_store,
    transact,
)
from holdfast.stores.contract import Store


class Folder(State):
    papers: int = 0


class Put(Command):
    papers: int = 1
    into: tuple[str, ...] = ()
    """The folders that the handler itself sends a command to."""
    way: str = "handle"


class Cabinet:
    """Gives handlers the service that runs them."""

    service: Any
    before: Callable[[], object] = staticmethod(lambda: None)

    def send(self, ids: tuple[str, ...], way: str) -> None:
        self.before()
        back = ("a",) if way == "back" else ()
        commands = [(id, Put(into=back)) for id in ids]
        if way == "atomic":
            self.service.handle_many(commands, atomic=True)
        elif way == "prepare":
            with self.service.begin() as transaction:
                for id, command in commands:
                    transaction.prepare(id, command)
        elif way == "many":
            for answer in self.service.handle_many(commands):
                if isinstance(answer, Exception):
                    raise answer
        else:
            for id, command in commands:
                self.service.handle(id, command)


folder = Machine("folder", state=Folder, command=Put, deps=Cabinet)


@folder.on
def put(state: Folder | None, command: Put, deps: Cabinet) -> Folder:
    deps.send(command.into, command.way)
    return Folder(papers=(state.papers if state else 0) + command.papers)


@pytest.fixture(params=["memory://", "sqlite:///{}/folders.db"], ids=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with open_store(request.param.format(tmp_path)) as store:
        yield store


@pytest.fixture
def folders(store: Store) -> Service[Folder, Put, Cabinet]:
    cabinet = Cabinet()
    cabinet.service = Service(folder, store, deps=cabinet)
    service: Service[Folder, Put, Cabinet] = cabinet.service
    return service


@pytest.mark.parametrize("way", ["handle", "many", "atomic", "prepare"])
def test_a_handler_may_not_send_a_command_to_its_own_entity(
    folders: Service[Folder, Put, Cabinet], store: Store, way: str
) -> None:
    """It would always come too late itself, having written its own conflict each time."""
    folders.handle("a", Put())
    with pytest.raises((DefinitionError, BatchError)) as caught:
        folders.handle("a", Put(into=("a",), way=way))
    error = caught.value
    [told] = error.exceptions if isinstance(error, BatchError) else [error]
    assert isinstance(told, DefinitionError)
    assert "folder 'a' sent a command to that entity itself" in str(told)
    assert len(store.read_log(limit=99)) == 1
    assert folders.handle("a", Put()).version == 2


def test_nor_from_a_batch(folders: Service[Folder, Put, Cabinet], store: Store) -> None:
    """All or nothing, or each for itself."""
    batch = [("a", Put()), ("b", Put(into=("b",)))]
    with pytest.raises(BatchError) as caught:
        folders.handle_many(batch, atomic=True)
    assert {n: type(e) for n, e in caught.value.failures.items()} == {1: DefinitionError}
    assert store.read_log(limit=99) == []
    _, refused = folders.handle_many(batch)
    assert isinstance(refused, DefinitionError)
    assert folders.count_by_state() == {"Folder": 1}


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")], ids="".join)
def test_nor_to_an_entity_that_is_written_in_the_same_commit(
    folders: Service[Folder, Put, Cabinet], store: Store, order: tuple[str, str]
) -> None:
    """The batch would come too late itself, having written its own conflict each time."""
    commands = {"a": Put(), "b": Put(into=("a",))}
    batch = [(id, commands[id]) for id in order]
    with pytest.raises(BatchError) as caught:
        folders.handle_many(batch, atomic=True)
    assert [*caught.value.failures] == [order.index("b")]
    assert "to folder 'a', which is written in the same commit" in str(caught.value.exceptions[0])
    with pytest.raises(BatchError):
        folders.handle_many(batch, checkpoint=Checkpoint("reader", 2))
    assert store.read_log(limit=99) == []


def test_nor_to_an_entity_of_the_same_transaction(
    folders: Service[Folder, Put, Cabinet], store: Store
) -> None:
    """Whether it was only read there, or is to be changed."""
    runs = 0

    def work(transaction: Transaction[Folder, Put]) -> None:
        nonlocal runs
        runs += 1
        transaction.prepare("c", Put())
        transaction.read("a")
        transaction.prepare("b", Put(into=("a",)))

    folders.handle("a", Put())
    with pytest.raises(DefinitionError, match="folder 'a', which is written in the same commit"):
        transact(folders, work)
    assert (runs, len(store.read_log(limit=99))) == (1, 1)


def test_each_for_itself_a_batch_is_no_hindrance(
    folders: Service[Folder, Put, Cabinet],
) -> None:
    """The entity that was overtaken is decided again, and it alone."""
    answers = folders.handle_many([("a", Put()), ("b", Put(into=("a",)))])
    assert [answer.version for answer in answers if isinstance(answer, Record)] == [2, 1]


def test_a_call_for_another_entity_is_a_call_as_any(
    folders: Service[Folder, Put, Cabinet],
) -> None:
    """And leaves the refusal standing: the outer entity's handler is still running."""
    folders.handle("a", Put(into=("b", "c")))
    assert [record.version for record in folders.find()] == [1, 1, 1]
    with pytest.raises(DefinitionError):
        folders.handle("a", Put(into=("b", "a")))
    assert folders.get("a").version == 1


def test_nor_through_the_handler_of_another(
    folders: Service[Folder, Put, Cabinet], store: Store
) -> None:
    """From `a` to `b` and back to `a`; what `b` was sent before that is not written either."""
    folders.handle("a", Put())
    with pytest.raises(DefinitionError, match="folder 'a' sent a command to that entity itself"):
        folders.handle("a", Put(into=("b",), way="back"))
    assert [row.id for row in store.read_log(limit=99)] == ["a"]


def test_what_a_handler_has_started_may_send_commands_once_it_has_ended(
    folders: Service[Folder, Put, Cabinet],
) -> None:
    """The context variables that a thread inherits from a handler do not outlive it."""
    kept: list[Context] = []
    folders.plans.binding.deps.before = lambda: kept.append(copy_context())
    folders.handle("a", Put())
    kept[0].run(folders.handle, "a", Put())
    assert folders.get("a").version == 2
