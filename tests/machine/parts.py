"""What the tests of parts share: states that hold them, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from holdfast import (
    Command,
    Machine,
    State,
    ValidationError,
)


class Keep(Command):
    pass


def holder_of(cls: Any) -> Any:
    """Return a state with a part of a class."""
    return msgspec.defstruct("Holder", [("part", cls)], bases=(State,), frozen=True, tag=True)


def refusal(call: Callable[..., object], *arguments: Any) -> tuple[str, str | None]:
    """Return what a refused call says, and the path."""
    with pytest.raises(ValidationError) as raised:
        call(*arguments)
    return str(raised.value), raised.value.path


def one_state(cls: type, first: Any = None) -> Machine[Any, Any, Any]:
    """Return a machine of one state, which begins as the first, and which every command keeps."""
    machine: Machine[Any, Any, Any] = Machine("kept", state=cls, command=Keep)

    def keep(state: Any, command: Keep) -> Any:
        return state or first

    keep.__annotations__ |= {"state": cls | None, "return": cls}
    machine.on(keep)
    return machine
