"""The errors: a tree as its docstring draws it, messages that help, facts that can be passed on."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from holdfast import (
    BatchError,
    CheckpointConflictError,
    CircuitOpenError,
    CommandRejectedError,
    DecodeError,
    DefinitionError,
    GuardFailedError,
    HandlerCancelledError,
    HoldfastError,
    InvalidTransitionError,
    KeyReusedError,
    NotFoundError,
    OutcomeUnknownError,
    QueryError,
    RejectedError,
    RetriesExhaustedError,
    StoreError,
    TransactionClosedError,
    ValidationError,
    VersionConflictError,
    errors,
)
from holdfast.errors import entity_name

CONFLICT = VersionConflictError("order", "o-1", 3, 5)

SAMPLES: dict[str, HoldfastError] = {
    "HoldfastError": HoldfastError("something"),
    "DefinitionError": DefinitionError("place (order.py:3): no annotation"),
    "RejectedError": RejectedError("no"),
    "InvalidTransitionError": InvalidTransitionError("order", "Paid", "Pay", ["Note"], "o-1"),
    "GuardFailedError": GuardFailedError("order", "o-1", "enough_stock", "2 left"),
    "CommandRejectedError": CommandRejectedError("closed on Sundays"),
    "ValidationError": ValidationError("the state is not valid at $.total: no", "$.total"),
    "KeyReusedError": KeyReusedError("order", "o-1", "k", 2, "by another command"),
    "VersionConflictError": CONFLICT,
    "RetriesExhaustedError": RetriesExhaustedError(CONFLICT, 10, "10 are allowed"),
    "CheckpointConflictError": CheckpointConflictError("order", "stream", 3, 5),
    "CircuitOpenError": CircuitOpenError("order", "o-2", CONFLICT, 0.25),
    "NotFoundError": NotFoundError("order", "o-1"),
    "HandlerCancelledError": HandlerCancelledError("the handler was cancelled"),
    "TransactionClosedError": TransactionClosedError("committed before"),
    "BatchError": BatchError(
        "2 of 9 commands failed", {3: NotFoundError("order", "a"), 7: RejectedError("no")}
    ),
    "DecodeError": DecodeError("unknown field"),
    "QueryError": QueryError("limit"),
    "StoreError": StoreError("disk full"),
    "OutcomeUnknownError": OutcomeUnknownError("who knows"),
}


def tree_as_drawn() -> dict[str, str | None]:
    """Return each error of the module's docstring with the one that it hangs under."""
    assert errors.__doc__ is not None
    drawn: dict[str, str | None] = {}
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        found = re.fullmatch(r"    ((?:[│├└─ ]{4})*)(\w+Error)( .*)?", line)
        if found:
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = above[depth - 1] if depth else None
    return drawn


def tree_as_it_is() -> dict[str, str | None]:
    """Return each error class of the module with its parent among them."""
    classes = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, HoldfastError)
    ]
    return {
        cls.__name__: next((b.__name__ for b in cls.__mro__[1:] if b in classes), None)
        for cls in classes
    }


def test_the_tree_is_as_it_is_drawn() -> None:
    """Every error is in the docstring, under its parent, and nothing else is."""
    assert tree_as_drawn() == tree_as_it_is()
    assert tree_as_drawn()["RetriesExhaustedError"] == "VersionConflictError"


def test_every_error_has_a_sample_here() -> None:
    """The tests below leave none out."""
    assert set(SAMPLES) == set(tree_as_it_is())
    assert all(type(error).__name__ == name for name, error in SAMPLES.items())


def facts(error: BaseException) -> Any:
    """Return all that an error says: its type, message, arguments and attributes, all the way."""
    attributes = {name: facts_of(value) for name, value in vars(error).items()}
    return type(error), str(error), [facts_of(part) for part in error.args], attributes


def facts_of(value: Any) -> Any:
    if isinstance(value, BaseException):
        return facts(value)
    if isinstance(value, dict):
        return {key: facts_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [facts_of(item) for item in value]
    return value


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(name: str, protocol: int) -> None:
    """Workers and pools pass errors between processes."""
    error = SAMPLES[name]
    assert facts(pickle.loads(pickle.dumps(error, protocol))) == facts(error)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_notes_of_an_error_survive_pickling_and_copying(name: str) -> None:
    """They tell whose command it was."""
    error = copy.copy(SAMPLES[name])
    error.add_note("Pay on order 'o-1': nothing written")

    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert other.__notes__ == ["Pay on order 'o-1': nothing written"]


@pytest.mark.parametrize("name", SAMPLES)
def test_an_error_survives_copying(name: str) -> None:
    """A copy says the same."""
    assert facts(copy.copy(SAMPLES[name])) == facts(SAMPLES[name])
    assert facts(copy.deepcopy(SAMPLES[name])) == facts(SAMPLES[name])


def test_an_error_raised_in_another_process_arrives() -> None:
    """As `multiprocessing` raises it: the same type, message and attributes."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for error in SAMPLES.values():
            arrived = pool.submit(raise_it, error).exception()
            assert arrived is not None
            assert facts(arrived)[:3] == facts(error)[:3]
            for attribute, value in vars(error).items():
                assert facts_of(getattr(arrived, attribute)) == facts_of(value)


def raise_it(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "InvalidTransitionError",
            "Pay cannot be applied to order 'o-1', in state Paid; allowed: Note",
        ),
        ("GuardFailedError", "guard enough_stock refused order 'o-1': 2 left"),
        ("CommandRejectedError", "closed on Sundays"),
        ("ValidationError", "the state is not valid at $.total: no"),
        (
            "KeyReusedError",
            "key 'k' was used for order 'o-1' at version 2 by another command; nothing was "
            "written, use a new key for a new request",
        ),
        (
            "VersionConflictError",
            "order 'o-1' is at version 5, not 3; nothing was written, load it and decide again",
        ),
        (
            "RetriesExhaustedError",
            "order 'o-1' changed under every one of 10 attempts (10 are allowed); the last "
            "expected version 3 and found 5; nothing was written, try later or raise the limits "
            "of Retry",
        ),
        (
            "CircuitOpenError",
            "order 'o-2' was not tried: the circuit breaker is open, last because order 'o-1' is "
            "at version 5, not 3; nothing was written, load it and decide again; try again in "
            "0.250 s",
        ),
        ("NotFoundError", "order 'o-1' does not exist"),
        ("BatchError", "2 of 9 commands failed (2 sub-exceptions)"),
    ],
)
def test_a_message_tells_what_happened_to_what_and_what_to_do(name: str, message: str) -> None:
    """Messages are read by people who do not know the code."""
    assert str(SAMPLES[name]) == message


def test_messages_tell_what_does_not_exist_and_what_takes_nothing() -> None:
    """Both are said in words."""
    assert str(InvalidTransitionError("order", None, "Pay", ["Place"], "o-1")) == (
        "Pay cannot be applied to order 'o-1', which does not exist; allowed: Place"
    )
    assert str(InvalidTransitionError("order", "Closed", "Pay", [])) == (
        "Pay cannot be applied to a order, in state Closed; allowed: no command at all"
    )
    assert str(VersionConflictError("order", "o-1", 3, 0)).startswith(
        "order 'o-1' does not exist, and was expected at version 3; nothing was written"
    )
    assert str(VersionConflictError("order", "o-1", 0, 3)).startswith(
        "order 'o-1' is at version 3, and was expected not to exist; nothing was written"
    )
    assert str(GuardFailedError("order", "o-1", "open")) == "guard open refused order 'o-1'"
    assert str(NotFoundError("order", "o-1", "was deleted at version 3")) == (
        "order 'o-1' was deleted at version 3"
    )


def test_a_conflict_keeps_its_gap_through_a_pickle() -> None:
    """Of an entity that was deleted meanwhile the versions do not tell it."""
    gone = VersionConflictError("order", "o-1", 3, 0, gap=1)
    again = pickle.loads(pickle.dumps(RetriesExhaustedError(gone, 2, "2 are allowed")))
    assert (again.gap, again.conflict.gap, again.actual) == (1, 1, 0)


def test_a_long_id_is_shortened_in_messages() -> None:
    """The attribute has it whole."""
    id = "x" * 500
    error = NotFoundError("order", id)
    assert error.id == id
    assert len(str(error)) < 120
    assert "xxx'… does not exist" in str(error)
    assert entity_name("order", "x" * 80) == f"order '{'x' * 80}'"


def test_facts_are_attributes() -> None:
    """Nobody has to parse a message."""
    invalid = InvalidTransitionError("order", "Paid", "Pay", ["Note", "Remove"], "o-1")
    assert (invalid.machine, invalid.id, invalid.state) == ("order", "o-1", "Paid")
    assert (invalid.command, invalid.allowed) == ("Pay", ("Note", "Remove"))
    assert (CONFLICT.machine, CONFLICT.id) == ("order", "o-1")
    assert (CONFLICT.expected, CONFLICT.actual, CONFLICT.gap) == (3, 5, 2)
    exhausted = RetriesExhaustedError(CONFLICT, 10, "10 are allowed")
    assert (exhausted.machine, exhausted.id, exhausted.gap) == ("order", "o-1", 2)
    assert (exhausted.attempts, exhausted.conflict) == (10, CONFLICT)
    open_ = CircuitOpenError("order", "o-2", CONFLICT, 0.25)
    assert (open_.id, open_.conflict, open_.retry_in_seconds) == ("o-2", CONFLICT, 0.25)
    guard = GuardFailedError("order", "o-1", "enough_stock", "2 left")
    assert (guard.guard, guard.reason) == ("enough_stock", "2 left")
    reused = KeyReusedError("order", "o-1", "k", 2, "by another command")
    assert (reused.machine, reused.id, reused.key, reused.version) == ("order", "o-1", "k", 2)
    missing = NotFoundError("order", "o-1")
    assert (missing.machine, missing.id, missing.detail) == ("order", "o-1", "does not exist")
    assert ValidationError("no", "$.a").path == "$.a"
    assert ValidationError("no").path is None


def test_the_branches_tell_what_a_caller_can_do() -> None:
    """What can be sent again is no rejection, what was rejected is no conflict."""
    for name in ("InvalidTransitionError", "CommandRejectedError", "ValidationError"):
        assert isinstance(SAMPLES[name], RejectedError)
    for name in ("VersionConflictError", "RetriesExhaustedError", "CircuitOpenError"):
        assert not isinstance(SAMPLES[name], RejectedError)
    assert isinstance(SAMPLES["RetriesExhaustedError"], VersionConflictError)
    assert isinstance(SAMPLES["OutcomeUnknownError"], StoreError)
    assert not isinstance(SAMPLES["CircuitOpenError"], StoreError)


def test_a_refusal_is_told_of_its_entity_once() -> None:
    """`on` names the entity that a machine's own error could not know."""
    unnamed = InvalidTransitionError("order", "Paid", "Pay", ["Note"])
    named = unnamed.on("o-1")
    assert (unnamed.id, named.id) == (None, "o-1")
    assert type(named) is InvalidTransitionError
    assert "order 'o-1'" in str(named)


def test_a_batch_error_is_a_group_of_its_failures() -> None:
    """`except*` and `split` take it apart; the indexes are in `failures`."""
    error = SAMPLES["BatchError"]
    assert isinstance(error, BatchError)
    assert list(error.failures) == [3, 7]
    assert list(error.exceptions) == list(error.failures.values())
    missing, rest = error.split(NotFoundError)
    assert missing is not None
    assert rest is not None
    assert [str(e) for e in missing.exceptions] == ["order 'a' does not exist"]
    assert [str(e) for e in rest.exceptions] == ["no"]
    with pytest.raises(HoldfastError):
        raise error
