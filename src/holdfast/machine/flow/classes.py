"""Makes the classes of a flow's states and commands: each has one value for its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import defstruct
from msgspec.structs import astuple

from holdfast.machine.members import TAG_FIELD
from holdfast.machine.model import State

EVENT = [("event", str | None, None)]
"""What a command records beside its name: the event that triggered it, if one did."""
INITIAL = [("initial", bool | None, None)]
"""Says that the initial state is written down, which is no transition to it."""


def make_class(base: type, name: str, flow: type, fields: Iterable[Any] = ()) -> Any:
    """Return a class of states or commands that are stored under a name."""

    def reduced(member: Any) -> tuple[Any, ...]:
        return _again, (flow, base, str(name), astuple(member))

    return defstruct(
        str(name),
        fields,
        bases=(base,),
        module=flow.__module__,
        namespace={"__reduce__": reduced},
        tag=str(name),
        tag_field=TAG_FIELD,
        frozen=True,
        forbid_unknown_fields=True,
    )


def _again(flow: Any, base: type, name: str, values: Sequence[Any]) -> Any:
    """Return a state or a command out of a pickle, which finds no class by its name.

    It is what the flow declares by now, or what it gave up.
    """
    compiled = flow.compiled
    declared = (compiled.states if base is State else compiled.commands).get(name)
    taken = 0 if declared is None else len(declared.__struct_fields__)
    if declared is None or any(value is not None for value in values[taken:]):
        return compiled.machine.former.class_of(base, name)(*values)
    return declared(*values[:taken])
